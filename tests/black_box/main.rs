//! Black-box tests. They check the responses that a client gets, and the database operations of
//! each request. Each endpoint has a test file, and a row in [`ROWS`].

mod addresses;
mod api;
mod authorize;
mod back_end;
mod calls;
mod change_password;
mod client_credentials;
mod consume_shortcode;
mod create_ecosystem;
mod create_email_token;
mod create_environment;
mod create_server_token;
mod create_session;
mod create_shortcode;
mod create_user_token;
mod credentials;
mod delete_ecosystem;
mod delete_email_token;
mod delete_environment;
mod delete_user;
mod descendants;
mod devices;
mod erase;
mod events;
mod expiry;
mod faults;
mod fuzz;
mod generated;
mod get_ecosystem;
mod get_email_token_value;
mod get_server_token;
mod get_user;
mod get_user_token;
mod guesses;
mod introspect_token;
mod last_use;
mod list_ecosystems;
mod list_email_tokens;
mod list_environments;
mod list_server_tokens;
mod list_user_tokens;
mod list_users;
mod lives;
mod log_in_limits;
mod log_in_with_password;
mod log_lines;
mod metadata;
mod migrate_addresses;
mod migration;
mod model;
mod not_before;
mod openapi;
mod other_routes;
mod page;
mod partitions;
mod put_user;
mod races;
mod refusals;
mod request_bodies;
mod revoke_server_token;
mod revoke_token;
mod revoke_user_token;
mod revoke_user_tokens;
mod scopes;
mod secrets_at_rest;
mod security;
mod self_service;
mod tags;
mod template;
mod token_limits;
mod token_metadata;
mod update_ecosystem;
mod update_email_token;
mod update_server_token;
mod update_user_token;
mod value_key;
mod value_key_rotation;
mod whoami;

use serde_json::{Value, json};
use tests::{Answer, Service};

use refusals::{
    BY_ITSELF, EMPTY_PAGE, FORBIDDEN, IN_PATH, INACTIVE, Needed, Open, Own, Row, Said, row,
};

const EMAIL: &str = r#"{"email":"EMAIL"}"#;

/// One row for each endpoint: a request, the expected responses to the different callers, and the
/// expected database operations of the request.
pub(crate) const ROWS: &[Row] = &[
    row(
        "create-user-token",
        "",
        IN_PATH,
        200,
        &[("BatchGetItem", 4.0), ("PutItem", 1.0)],
    ),
    row(
        "list-user-tokens",
        "",
        IN_PATH,
        200,
        &[("BatchGetItem", 4.0), ("Query", 1.0)],
    ),
    row(
        "revoke-user-tokens",
        "",
        IN_PATH,
        204,
        &[
            ("BatchGetItem", 4.0),
            ("PutItem", 1.0),
            ("Query", 1.0),
            ("TransactGetItems", 2.0),
            ("BatchWriteItem", 2.0),
        ],
    ),
    row("get-user-token", "", IN_PATH, 200, &[("BatchGetItem", 5.0)]),
    row(
        "update-user-token",
        r#"{"name":"phone"}"#,
        IN_PATH,
        200,
        &[("BatchGetItem", 5.0), ("UpdateItem", 1.0)],
    ),
    row(
        "revoke-user-token",
        "",
        IN_PATH,
        204,
        &[("BatchGetItem", 5.0), ("UpdateItem", 1.0)],
    ),
    row(
        "revoke-token",
        "token=TOKEN",
        Open {
            first: 200,
            server: 200,
            others: 200,
        },
        200,
        &[("BatchGetItem", 2.0), ("UpdateItem", 1.0)],
    ),
    row(
        "introspect-token",
        "token=TOKEN",
        Needed {
            foreign: INACTIVE,
            server: INACTIVE,
            user: FORBIDDEN,
        },
        200,
        &[("BatchGetItem", 5.0)],
    ),
    row(
        "whoami",
        "",
        Needed {
            foreign: Said(200, ""),
            server: Said(200, ""),
            user: Said(200, ""),
        },
        200,
        &[("BatchGetItem", 2.0)],
    ),
    row(
        "metadata",
        "",
        Open {
            first: 200,
            server: 200,
            others: 200,
        },
        200,
        &[],
    ),
    row(
        "create-ecosystem",
        "",
        // If another account sends this request, the new ecosystem belongs to that account.
        Needed {
            foreign: Said(201, ""),
            server: FORBIDDEN,
            user: FORBIDDEN,
        },
        201,
        &[("BatchGetItem", 2.0), ("TransactWriteItems", 4.0)],
    ),
    row("get-ecosystem", "", IN_PATH, 200, &[("BatchGetItem", 3.0)]),
    row(
        "update-ecosystem",
        r#"{"maxTokensPerUser":5}"#,
        IN_PATH,
        200,
        &[("BatchGetItem", 3.0), ("PutItem", 1.0)],
    ),
    row(
        "list-ecosystems",
        "",
        // Another account gets the list of its own ecosystems.
        Needed {
            foreign: Said(200, ""),
            server: FORBIDDEN,
            user: FORBIDDEN,
        },
        200,
        &[("BatchGetItem", 2.0), ("Query", 1.0)],
    ),
    row(
        "delete-ecosystem",
        "",
        IN_PATH,
        204,
        &[("BatchGetItem", 3.0), ("TransactWriteItems", 6.0)],
    ),
    row(
        "create-environment",
        "",
        IN_PATH,
        201,
        &[("BatchGetItem", 3.0), ("TransactWriteItems", 4.0)],
    ),
    row(
        "list-environments",
        "",
        IN_PATH,
        200,
        &[("BatchGetItem", 3.0), ("Query", 1.0)],
    ),
    row(
        "delete-environment",
        "",
        BY_ITSELF,
        204,
        &[
            ("BatchGetItem", 3.0),
            ("BatchGetItem", 1.0),
            ("TransactWriteItems", 6.0),
        ],
    ),
    row(
        "list-users",
        "",
        IN_PATH,
        200,
        &[("BatchGetItem", 3.0), ("Query", 1.0)],
    ),
    row(
        "put-user",
        r#"{"admin":true}"#,
        IN_PATH,
        200,
        &[("BatchGetItem", 4.0), ("PutItem", 1.0)],
    ),
    row("get-user", "", IN_PATH, 200, &[("BatchGetItem", 4.0)]),
    row(
        "delete-user",
        "",
        IN_PATH,
        204,
        &[("BatchGetItem", 4.0), ("TransactWriteItems", 13.0)],
    ),
    row(
        "create-server-token",
        "",
        IN_PATH,
        200,
        &[("BatchGetItem", 3.0), ("PutItem", 1.0)],
    ),
    row(
        "list-server-tokens",
        "",
        IN_PATH,
        200,
        &[("BatchGetItem", 3.0), ("Query", 1.0)],
    ),
    row(
        "get-server-token",
        "",
        IN_PATH,
        200,
        &[("BatchGetItem", 4.0)],
    ),
    row(
        "update-server-token",
        r#"{"name":"phone"}"#,
        IN_PATH,
        200,
        &[("BatchGetItem", 4.0), ("UpdateItem", 1.0)],
    ),
    row(
        "revoke-server-token",
        "",
        IN_PATH,
        204,
        &[("BatchGetItem", 4.0), ("UpdateItem", 1.0)],
    ),
    row(
        "create-shortcode",
        r#"{"userId":"BOB"}"#,
        IN_PATH,
        201,
        &[("BatchGetItem", 4.0), ("TransactWriteItems", 4.0)],
    ),
    row(
        "consume-shortcode",
        r#"{"shortcode":"CODE"}"#,
        Open {
            first: 200,
            server: 404,
            others: 404,
        },
        404,
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 3.0),
            ("TransactWriteItems", 6.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    row(
        "create-email-token",
        EMAIL,
        BY_ITSELF,
        201,
        &[
            ("BatchGetItem", 2.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 3.0),
            ("TransactWriteItems", 7.0),
        ],
    ),
    row(
        "list-email-tokens",
        "",
        Needed {
            foreign: EMPTY_PAGE,
            server: EMPTY_PAGE,
            user: FORBIDDEN,
        },
        200,
        &[("BatchGetItem", 2.0), ("Query", 0.5), ("BatchGetItem", 2.0)],
    ),
    row(
        "update-email-token",
        EMAIL,
        BY_ITSELF,
        200,
        &[
            ("BatchGetItem", 2.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 3.0),
            ("TransactWriteItems", 5.0),
        ],
    ),
    row(
        "delete-email-token",
        EMAIL,
        BY_ITSELF,
        200,
        &[
            ("BatchGetItem", 2.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 3.0),
            ("TransactWriteItems", 5.0),
        ],
    ),
    Row {
        query: "?email=EMAIL",
        ..row(
            "get-email-token-value",
            "",
            BY_ITSELF,
            200,
            &[
                ("BatchGetItem", 2.0),
                ("GetItem", 1.0),
                ("BatchGetItem", 3.0),
            ],
        )
    },
    row(
        "log-in-with-password",
        r#"{"email":"EMAIL","password":"PASSWORD"}"#,
        Open {
            first: 200,
            server: 401,
            others: 200,
        },
        200,
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("TransactGetItems", 6.0),
            ("BatchGetItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    row(
        "create-session",
        r#"{"email":"EMAIL","password":"PASSWORD"}"#,
        Open {
            first: 201,
            server: 401,
            others: 201,
        },
        201,
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("TransactGetItems", 6.0),
            ("BatchGetItem", 1.0),
            ("TransactWriteItems", 4.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    row(
        "change-password",
        r#"{"currentPassword":"PASSWORD","newPassword":"another one"}"#,
        Own,
        204,
        &[
            ("BatchGetItem", 3.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("TransactWriteItems", 6.0),
        ],
    ),
];

/// Malformed credentials. Each of them gets the same 401 response, without a database read.
pub(crate) const RUBBISH: &[&[u8]] = &[
    b"|",
    b"tk_uf_",
    b"Bearer tk_uf_",
    b"Bearer  tk_uf_0000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    b"tk_xf_00000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    b"\xff\xfe",
    b"Bearer \xef\xbd\x81",
];

/// Asserts the standard 401 response with this `WWW-Authenticate` challenge.
pub(crate) fn assert_unauthorized(answer: &Answer, challenge: &str) {
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
    let errors = json!([{ "message": "a valid token is required" }]);
    let expected = json!({ "errorType": "Unauthorized", "errors": errors });
    assert_eq!(without_oauth_error(answer, "invalid_client"), expected);
}

/// Returns the body without its OAuth error code. Asserts that the code, if there is one, is
/// `code`. `tests/src/exact.yaml` says which endpoints send a code, and every response is compared
/// with it.
fn without_oauth_error(answer: &Answer, code: &str) -> Value {
    let mut body = answer.json();
    let error = body.as_object_mut().and_then(|body| body.remove("error"));
    assert!(error.is_none_or(|error| error == code), "{answer:?}");
    body
}

/// Asserts a 400 `InvalidParams` response with exactly these errors. Each error is a tuple of `in`,
/// `path` and `message`.
pub(crate) fn assert_invalid(answer: &Answer, errors: &[(&str, &str, &str)]) {
    assert_eq!(answer.status, 400, "{answer:?}");
    let errors: Vec<_> = errors
        .iter()
        .map(|(place, path, message)| json!({ "in": place, "path": path, "message": message }))
        .collect();
    let expected = json!({ "errorType": "InvalidParams", "errors": errors });
    assert_eq!(without_oauth_error(answer, "invalid_request"), expected);
}

/// Asserts the 403 response to a caller without the required right.
pub(crate) fn assert_forbidden(answer: &Answer) {
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(answer.json()["errorType"], "Forbidden");
    assert_eq!(answer.header("www-authenticate"), Some(FORBIDDEN_CHALLENGE));
}

/// Asserts the 403 response to a caller whose token lacks these scopes.
pub(crate) fn assert_scope_missing(answer: &Answer, scope: &str) {
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(answer.json()["errorType"], "Forbidden");
    let challenge = format!("{FORBIDDEN_CHALLENGE}, scope=\"{scope}\"");
    assert_eq!(answer.header("www-authenticate"), Some(&*challenge));
}

const FORBIDDEN_CHALLENGE: &str = r#"Bearer realm="tokenry", error="insufficient_scope""#;

/// Asserts a plain-text 404 response with this body.
pub(crate) fn assert_unknown(answer: &Answer, text: &str) {
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, text),
        "{answer:?}"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
}

/// Returns the method and the path of one request to each endpoint that requires a credential. The
/// user, the environment and the token whose ids are in the paths exist.
pub(crate) async fn requests(service: &Service) -> Vec<(&'static str, String)> {
    let ecosystem = service.ecosystem.id.as_str().to_owned();
    let bob = service.user("bob").await;
    let environment = service.environment(&service.ecosystem).await;
    let path = format!("/api/ecosystems/{ecosystem}/tokens");
    let token = service.manage("POST", &path, "").await.json()["tokenId"].clone();
    service.database.take_calls();
    let fill = |path: &str| {
        path.replace("{id}", &bob)
            .replace("{ecosystemId}", &ecosystem)
            .replace("{environmentId}", &environment)
            .replace(
                "{tokenId}",
                token.as_str().expect("the token id is a string"),
            )
    };
    functions::endpoints()
        .filter(|endpoint| refusals::needs_credential(endpoint.name))
        .map(|endpoint| (endpoint.method.as_str(), fill(endpoint.path)))
        .collect()
}
