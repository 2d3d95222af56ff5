//! Tests of the responses of each endpoint to the callers that the endpoint rejects. Each endpoint
//! has a row in [`ROWS`], and the row contains these responses. If an endpoint has no row, a test
//! fails and prints the name of the endpoint.

use std::collections::BTreeSet;

use functions::endpoints;
use serde_json::json;
use tests::{Answer, Call, Service};

use crate::{
    ROWS, assert_forbidden, assert_unauthorized,
    consume_shortcode::code,
    create_email_token::{BOB, PASSWORD, ask, server, token_of_user, with_bob},
};

/// An expected response: its status and its JSON body. If the expected body is empty, the test does
/// not compare the bodies.
pub(crate) struct Said(pub(crate) u16, pub(crate) &'static str);

/// The response for a resource that does not exist.
pub(crate) const UNKNOWN: Said = Said(404, "");
pub(crate) const FORBIDDEN: Said = Said(403, "");
pub(crate) const INACTIVE: Said = Said(200, r#"{"active":false}"#);
pub(crate) const EMPTY_PAGE: Said = Said(200, r#"{"cursor":null,"data":[]}"#);

/// Whether an endpoint requires a credential, and how it responds to callers that it rejects.
pub(crate) enum Refusals {
    /// A credential is required. A missing or malformed credential gets a 401. The fields are the
    /// responses to other callers.
    Needed {
        /// The response to the token of another account.
        foreign: Said,
        /// The response to a server token of another ecosystem of this account.
        server: Said,
        /// The response to the token of another user in the same ecosystem.
        user: Said,
    },
    /// Only a user's own token is accepted, and the request is about this user. A missing or
    /// malformed credential gets a 401. Accounts and servers get a 403. In this row, `good` is the
    /// status of the request with the token of the user `bob`.
    Own,
    /// No credential is required, and an invalid credential is ignored. The fields are statuses.
    Open {
        /// The status of the request without a credential. The test sends this request before all
        /// other requests.
        first: u16,
        /// The status of a request with a valid server token of another ecosystem. With this token,
        /// the request finds only users and codes of the token's ecosystem.
        server: u16,
        /// The status of a request with a malformed credential, or with the token of another
        /// account or user.
        others: u16,
    },
}

pub(crate) use Refusals::{Needed, Open, Own};

/// The database calls of a request in order, each with the capacity units that it consumes.
pub(crate) type Calls = &'static [(&'static str, f64)];

/// An endpoint's row: a request that succeeds, and what the tests expect of the endpoint.
pub(crate) struct Row {
    pub(crate) endpoint: &'static str,
    pub(crate) query: &'static str,
    /// A JSON object or a form. `BOB`, `EMAIL`, `PASSWORD`, `TOKEN` and `CODE` are replaced with
    /// values that exist.
    pub(crate) body: &'static str,
    pub(crate) refusals: Refusals,
    /// The status of the request with the account's token.
    pub(crate) good: u16,
    /// The database calls of the request. The request has the account's token, a user's own token,
    /// or no credential, as the endpoint requires.
    pub(crate) calls: Calls,
}

pub(crate) const fn row(
    endpoint: &'static str,
    body: &'static str,
    refusals: Refusals,
    good: u16,
    calls: Calls,
) -> Row {
    Row {
        endpoint,
        query: "",
        body,
        refusals,
        good,
        calls,
    }
}

/// The responses of an endpoint whose path contains an ecosystem id. Another account gets a 404, as
/// if the ecosystem in the path did not exist. A server of another ecosystem gets a 403, whether or
/// not the ecosystem in the path exists.
pub(crate) const IN_PATH: Refusals = Needed {
    foreign: UNKNOWN,
    server: FORBIDDEN,
    user: FORBIDDEN,
};

/// The responses of an endpoint whose request contains no ecosystem id. The request identifies its
/// resource by an e-mail address or an environment id.
pub(crate) const BY_ITSELF: Refusals = Needed {
    foreign: UNKNOWN,
    server: UNKNOWN,
    user: FORBIDDEN,
};

/// Returns whether an endpoint requires a credential.
pub(crate) fn needs_credential(endpoint: &str) -> bool {
    let row = ROWS.iter().find(|row| row.endpoint == endpoint);
    row.is_none_or(|row| matches!(row.refusals, Needed { .. } | Own))
}

#[test]
fn every_endpoint_has_exactly_one_row() {
    let rows: BTreeSet<_> = ROWS.iter().map(|row| row.endpoint).collect();
    let endpoints: BTreeSet<_> = endpoints().map(|endpoint| endpoint.name).collect();
    assert_eq!(rows, endpoints);
    assert_eq!(rows.len(), ROWS.len(), "each endpoint has one row");
}

/// A row's request, and a service that contains everything that the request needs.
pub(crate) struct Case<'a> {
    row: &'a Row,
    pub(crate) service: Service,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: String,
    /// A token of the user `bob`.
    own: String,
}

impl<'a> Case<'a> {
    pub(crate) async fn new(row: &'a Row) -> Self {
        let (service, bob) = with_bob().await;
        let environment = service.environment(&service.ecosystem).await;
        let (server_token, _) = service.server_token(&service.ecosystem).await;
        let minted = service.mint(&bob, "").await.json();
        let token = minted["token"]
            .as_str()
            .expect("the response contains a token");
        let (_, code) = code(&service, json!({ "userId": bob })).await;
        let email = json!({ "email": BOB });
        let made = ask(&service, "POST", &email).await;
        assert_eq!(made.status, 201, "{made:?}");
        if row.endpoint == "create-email-token" {
            let deleted = ask(&service, "DELETE", &email).await;
            assert_eq!(deleted.status, 200, "{deleted:?}");
        }

        let endpoint = endpoints().find(|endpoint| endpoint.name == row.endpoint);
        let endpoint = endpoint.expect("the endpoint of the row exists");
        let of_server = endpoint.path.starts_with("/api/ecosystems");
        let id = if of_server {
            server_token.as_str()
        } else {
            minted["tokenId"].as_str().expect("the token has an id")
        };
        let path = format!("{}{}", endpoint.path, row.query)
            .replace("{id}", &bob)
            .replace("{ecosystemId}", service.ecosystem.id.as_str())
            .replace("{environmentId}", &environment)
            .replace("{tokenId}", id)
            .replace("EMAIL", BOB);
        let body = row
            .body
            .replace("BOB", &bob)
            .replace("EMAIL", BOB)
            .replace("PASSWORD", PASSWORD)
            .replace("TOKEN", token)
            .replace("CODE", &code);
        let method = endpoint.method.as_str();
        Self {
            row,
            service,
            method,
            path,
            body,
            own: token.to_owned(),
        }
    }

    pub(crate) async fn send(&self, credential: Option<&str>) -> Answer {
        let mut request = self
            .service
            .request(self.method, &self.path)
            .body(self.body.clone());
        if let Some(credential) = credential {
            request = request.header("authorization", credential);
        }
        let content_type = match self.body.as_bytes() {
            [] => return self.service.send(request).await,
            [b'{', ..] => "application/json",
            _ => "application/x-www-form-urlencoded",
        };
        self.service
            .send(request.header("content-type", content_type))
            .await
    }

    /// Sends the request and returns the database calls that it makes.
    pub(crate) async fn calls(&self) -> Vec<Call> {
        let credential = match self.row.refusals {
            Needed { .. } => Some(&*self.service.account_token),
            Own => Some(&*self.own),
            Open { .. } => None,
        };
        self.service.database.take_calls();
        let answer = self.send(credential).await;
        assert!(answer.status < 300, "{}: {answer:?}", self.row.endpoint);
        self.service.database.take_calls()
    }

    /// Sends the request with a credential that belongs to `who`, and checks the response.
    async fn says(&self, who: &str, credential: &str, expected: &Said) {
        let answer = self.send(Some(credential)).await;
        let name = self.row.endpoint;
        assert_eq!(answer.status, expected.0, "{name}, {who}: {answer:?}");
        if expected.0 == 403 {
            assert_forbidden(&answer);
        }
        if !expected.1.is_empty() {
            let body: serde_json::Value =
                serde_json::from_str(expected.1).expect("the expected body is JSON");
            assert_eq!(answer.json(), body, "{name}, {who}");
        }
    }
}

#[tokio::test]
async fn each_caller_gets_the_response_in_the_row() {
    for row in ROWS {
        let case = Case::new(row).await;
        let service = &case.service;
        let (foreign, _) = service.another_account().await;
        let elsewhere = service.another_ecosystem().await;
        let elsewhere = server(service, &elsewhere).await;
        let eve = service.user("eve").await;
        let eve = token_of_user(service, &eve).await;
        let malformed = service.account_token.replace("tk_ai", "tk_as");

        let none = case.send(None).await;
        match &row.refusals {
            Needed {
                foreign: another_account,
                server,
                user,
            } => {
                assert_unauthorized(&none, r#"Bearer realm="tokenry""#);
                let rubbish = case.send(Some(&malformed)).await;
                assert_unauthorized(&rubbish, r#"Bearer realm="tokenry", error="invalid_token""#);
                case.says("another account", &foreign, another_account)
                    .await;
                case.says("a server of another ecosystem", &elsewhere, server)
                    .await;
                case.says("another user", &eve, user).await;
            }
            Own => {
                assert_unauthorized(&none, r#"Bearer realm="tokenry""#);
                let rubbish = case.send(Some(&malformed)).await;
                assert_unauthorized(&rubbish, r#"Bearer realm="tokenry", error="invalid_token""#);
                let own_server = server(service, &service.ecosystem).await;
                for (who, credential) in [
                    ("another account", &foreign),
                    ("a server of another ecosystem", &elsewhere),
                    ("the server of the ecosystem", &own_server),
                    ("the account", &service.account_token),
                ] {
                    case.says(who, credential, &FORBIDDEN).await;
                }
                case.says("the user", &case.own, &Said(row.good, "")).await;
                continue;
            }
            Open {
                first,
                server,
                others,
            } => {
                assert_eq!(none.status, *first, "{}: {none:?}", row.endpoint);
                case.says(
                    "a server of another ecosystem",
                    &elsewhere,
                    &Said(*server, ""),
                )
                .await;
                let others = Said(*others, "");
                for credential in [&malformed, &foreign, &eve] {
                    case.says("any other caller", credential, &others).await;
                }
            }
        }
        // The account sends the request last. If the endpoint requires a credential, this response
        // shows that the request is valid, and that the rejected requests changed nothing.
        case.says("the account", &service.account_token, &Said(row.good, ""))
            .await;
    }
}
