//! Tests of `tokenry session` and `tokenry password`.

use serde_json::{Value, json};

use crate::{
    Serve,
    canned::{answer, server},
    refusal, rows, run, text, tokenry,
};

const EMAIL: &str = "bob@example.com";
const SESSION: &str = r#"{"token":"tk_us_new","tokenId":"01","userId":"C58521fd8a5d9b5cc21987501;bob","expiryType":"SlidingTtl","expiresAt":"2030-01-01T00:00:00Z","scope":"read"}"#;

/// Runs a command with a token and this input, against a server that sends this response. Returns
/// the result and the request.
fn exchange(arguments: &[&str], input: &str, response: &str) -> (crate::Ran, String) {
    let (url, sent) = server(1, response);
    let home = tempfile::tempdir().unwrap();
    let mut command = tokenry(home.path(), arguments);
    command
        .env("TOKENRY_URL", url)
        .env("TOKENRY_TOKEN", "tk_sf_own");
    let ran = run(command, input);
    (ran, sent.join().unwrap())
}

fn body(request: &str) -> Value {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {request}"))
}

#[test]
fn a_session_is_created_with_the_password_and_without_a_token() {
    let made = answer("201 Created", SESSION);
    let create = ["session", "create", EMAIL];
    let (ran, request) = exchange(&create, "correct horse\n", &made);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let shown = [
        ["token", "tk_us_new"],
        ["tokenId", "01"],
        ["userId", "C58521fd8a5d9b5cc21987501;bob"],
        ["expiryType", "SlidingTtl"],
        ["expiresAt", "2030-01-01T00:00:00Z"],
        ["scope", "read"],
    ];
    assert_eq!(rows(&ran.stdout), shown);
    assert!(
        request.starts_with("POST /api/auth/sessions HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        !request.to_lowercase().contains("authorization"),
        "{request}"
    );
    assert_eq!(
        body(&request),
        json!({"email": EMAIL, "password": "correct horse"})
    );

    let options = [
        "--ecosystem",
        "C58521fd8a5d9b5cc21987501",
        "--name",
        "phone",
        "--expiry-type",
        "FixedTtl",
        "--ttl",
        "1m",
        "--max-ttl",
        "90",
        "--output",
        "json",
    ];
    let (ran, request) = exchange(&[&create[..], &options].concat(), "correct horse\n", &made);
    assert_eq!((ran.code, ran.stdout.trim_end()), (0, SESSION));
    let expected = json!({
        "email": EMAIL,
        "password": "correct horse",
        "ecosystemId": "C58521fd8a5d9b5cc21987501",
        "name": "phone",
        "expiryType": "FixedTtl",
        "ttl": 60,
        "maxTtl": 90,
    });
    assert_eq!(body(&request), expected);
}

#[test]
fn a_scope_or_metadata_of_a_session_needs_the_token_of_the_console() {
    let made = answer("201 Created", SESSION);
    for (option, value, field, sent) in [
        ("--scope", "orders:read", "scope", json!("orders:read")),
        ("--metadata", "plan=pro", "metadata", json!({"plan": "pro"})),
    ] {
        let create = ["session", "create", EMAIL, option, value];
        let (ran, request) = exchange(&create, "correct horse\n", &made);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(
            request.contains("authorization: Bearer tk_sf_own\r\n"),
            "{request}"
        );
        assert_eq!(body(&request)[field], sent);

        let home = tempfile::tempdir().unwrap();
        let command = tokenry(
            home.path(),
            &[&create[..], &["--url", "http://127.0.0.1:1"]].concat(),
        );
        let line = refusal(command, 2, "correct horse");
        assert!(line.starts_with("no token: "), "{line}");
    }
}

#[test]
fn a_user_has_a_session_for_each_log_in_and_revokes_it() {
    let serve = Serve::start();
    let (user, password) = (serve.user_id.as_str(), "correct horse\n");
    serve.ok_with(
        password,
        &["user", "put", user, "--email", EMAIL, "--password"],
    );
    let create = ["session", "create", EMAIL];
    let phone = serve.json_with(password, &[&create[..], &["--name", "phone"]].concat());
    assert_eq!(
        (text(&phone, "userId"), text(&phone, "scope")),
        (user.into(), "read write".into())
    );
    let fixed = [
        "--expiry-type",
        "fixed-ttl",
        "--ttl",
        "2h",
        "--max-ttl",
        "1d",
    ];
    let laptop = serve.json_with(password, &[&create[..], &fixed].concat());
    assert_eq!(laptop["expiryType"], "FixedTtl");

    // Each session is a separate token of the user.
    let whoami = serve.json_with(&text(&phone, "token"), &["whoami", "--token-file", "-"]);
    assert_eq!(
        (&whoami["sub"], &whoami["expiry_type"]),
        (&json!(user), &json!("SlidingTtl"))
    );
    serve.ok_with(&text(&phone, "token"), &["revoke"]);
    let introspect =
        |session: &Value| run(serve.command(&["introspect"]), &text(session, "token")).code;
    assert_eq!((introspect(&phone), introspect(&laptop)), (4, 0));

    let line = refusal(serve.command(&create), 3, "mistaken\n");
    assert!(
        line.starts_with("Unauthorized: wrong email address or password"),
        "{line}"
    );
    let command = serve.command(&[&create[..], &["--ttl", "15d"]].concat());
    let line = refusal(command, 2, password);
    assert_eq!(line, "InvalidParams: ttl: field must be at most 1209600");

    // Only a server token may choose the scope.
    let chosen = [
        &create[..],
        &["--scope", "orders:read", "--metadata", "plan=pro"],
    ]
    .concat();
    refusal(serve.command(&chosen), 2, password);
    let server = serve.json(&["server-token", "create", &serve.ecosystem_id]);
    let mut command = serve.command(&[&chosen[..], &["--output", "json"]].concat());
    command.env("TOKENRY_TOKEN", text(&server, "token"));
    let ran = run(command, password);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let session: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&session["scope"], &session["metadata"]),
        (&json!("orders:read"), &json!({"plan": "pro"}))
    );
}

#[test]
fn a_password_is_changed_with_the_token_of_its_user() {
    let change = ["password", "change"];
    let input = "correct horse\nbattery staple\n";
    let done = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    let (ran, request) = exchange(&change, input, done);
    let told = "The password is changed. All other tokens of the user are revoked.\n";
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, told, "")
    );
    assert!(
        request.starts_with("POST /api/auth/password HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("authorization: Bearer tk_sf_own\r\n"),
        "{request}"
    );
    let sent = json!({"currentPassword": "correct horse", "newPassword": "battery staple"});
    assert_eq!(body(&request), sent);

    let wrong = r#"{"errorType":"Forbidden","errors":[{"in":"body","path":"currentPassword","message":"wrong password"}]}"#;
    let wrong = answer("403 Forbidden", wrong);
    let (ran, _) = exchange(&change, input, &wrong);
    let line = "Forbidden: currentPassword: wrong password\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (3, line));
    let (ran, _) = exchange(&["password", "change", "--output", "json"], input, &wrong);
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    let problem = json!({"in": "body", "path": "currentPassword", "message": "wrong password"});
    assert_eq!(error["error"]["errors"], json!([problem]));
    assert_eq!(error["error"]["status"], 403);
}

#[test]
fn a_changed_password_ends_all_tokens_but_the_one_that_changed_it() {
    let serve = Serve::start();
    let (user, old) = (serve.user_id.as_str(), "correct horse");
    serve.ok_with(old, &["user", "put", user, "--email", EMAIL, "--password"]);
    let (own, other) = (serve.token(&[]), serve.token(&[]));
    let change = |input: &str| {
        let mut command = serve.command(&["password", "change"]);
        command.env("TOKENRY_TOKEN", &own);
        run(command, input)
    };
    let ran = change("wrong horse\nbattery staple\n");
    let line = "Forbidden: currentPassword: wrong password\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (3, line));
    let ran = change("correct horse\nshort\n");
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.stderr.starts_with("InvalidParams: newPassword: "),
        "{ran:?}"
    );
    let is_active = |token: &str| run(serve.command(&["introspect"]), token).code == 0;
    assert!(is_active(&other));

    let ran = change("correct horse\nbattery staple\n");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!((is_active(&own), is_active(&other)), (true, false));
    let log_in = |password| run(serve.command(&["log-in", EMAIL]), password).code;
    assert_eq!((log_in("correct horse"), log_in("battery staple")), (3, 0));
}

#[test]
fn a_session_is_created_with_the_token_in_a_file() {
    let made = answer("201 Created", SESSION);
    let create = ["session", "create", EMAIL, "--token-file", "-"];
    let (ran, request) = exchange(&create, "tk_sf_server\ncorrect horse\n", &made);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        request
            .to_lowercase()
            .contains("authorization: bearer tk_sf_server\r\n"),
        "{request}"
    );
    assert_eq!(
        body(&request),
        json!({"email": EMAIL, "password": "correct horse"})
    );
}
