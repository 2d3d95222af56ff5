//! Tests with a server that sends prepared responses: responses that a real Tokenry server sends
//! only in rare failures, and responses of other servers.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    thread::{self, JoinHandle},
};

use crate::{refusal, run, tokenry};

/// Starts a server that answers this number of requests, each with this response. Returns the
/// server's URL, and a handle that returns the requests.
pub(crate) fn server(requests: usize, answer: &str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.to_owned();
    let sent = thread::spawn(move || {
        let mut sent = String::new();
        for stream in listener.incoming().take(requests) {
            let mut stream = stream.unwrap();
            sent.push_str(&request(&mut stream));
            stream.write_all(answer.as_bytes()).unwrap();
        }
        sent
    });
    (url, sent)
}

/// Reads a request with its body.
fn request(stream: &mut impl Read) -> String {
    let mut request = String::new();
    loop {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the request has no end: {request}");
        request.push_str(&String::from_utf8_lossy(&buffer[..length]));
        let Some((head, body)) = request.split_once("\r\n\r\n") else {
            continue;
        };
        let expected = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if body.len() >= expected {
            return request;
        }
    }
}

pub(crate) fn answer(head: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn command(url: &str, arguments: &[&str]) -> Command {
    let home = tempfile::tempdir().unwrap();
    let mut command = tokenry(home.path(), arguments);
    command
        .env("TOKENRY_URL", url)
        .env("TOKENRY_TOKEN", "wrong");
    command
}

#[test]
fn each_status_has_an_exit_code_and_a_message() {
    let structured =
        r#"{"errorType":"Kind","errors":[{"path":"p","message":"m"},{"message":"n"}]}"#;
    let theirs = "returned 404 Not Found, which is not from Tokenry: check the API's address";
    for (head, body, code, said) in [
        (
            "503 Service Unavailable\r\nretry-after: 7",
            structured,
            5,
            "Kind: p: m; n (retry in 7 s)",
        ),
        (
            "503 Service Unavailable",
            r#"{"message":"x"}"#,
            5,
            "returned 503 Service Unavailable",
        ),
        ("504 Gateway Timeout", "", 5, "returned 504 Gateway Timeout"),
        (
            "500 Internal Server Error\r\nx-request-id: 1f",
            structured,
            1,
            "Kind: p: m; n (request 1f)",
        ),
        (
            "429 Too Many Requests",
            r#"{"message":"x"}"#,
            3,
            "returned 429 Too Many Requests",
        ),
        ("413 Payload Too Large", structured, 2, "Kind: p: m; n"),
        ("404 Not Found", r#"{"message":"Not Found"}"#, 1, theirs),
        ("404 Not Found", "<html>tk_\n</html>", 1, theirs),
        (
            "404 Not Found\r\ncontent-type: text/plain",
            "404\nnot found",
            1,
            theirs,
        ),
        (
            "200 OK",
            "<html>tk_</html>",
            1,
            "the response is not from Tokenry: check the API's address",
        ),
        (
            "200 OK",
            "",
            1,
            "the response is not from Tokenry: check the API's address",
        ),
        (
            "200 OK",
            "{}",
            1,
            "the response is not from Tokenry: check the API's address",
        ),
        (
            "404 Not Found\r\ncontent-type: text/plain; charset=utf-8",
            "\u{1b}[2J x does not exist.",
            4,
            "\\u{1b}[2J x does not exist.",
        ),
    ] {
        let (url, _sent) = server(1, &answer(head, body));
        let line = refusal(command(&url, &["ecosystem", "create"]), code, "");
        assert!(
            line.trim_start_matches(&format!("{url} ")) == said,
            "{line}"
        );
    }
    let (url, _sent) = server(1, "SSH-2.0-OpenSSH\r\n");
    let line = refusal(command(&url, &["ecosystem", "create"]), 1, "");
    assert!(
        line.starts_with(&format!("the request to {url} failed: ")),
        "{line}"
    );
}

#[test]
fn an_error_as_json_contains_no_token_and_no_control_character() {
    let body = r#"{"errorType":"InvalidParams","errors":[{"in":"body","path":"tk_uf_secret",
        "message":"\u001b[2J\u009b tk_uf_secret"}]}"#;
    let (url, _sent) = server(1, &answer("400 Bad Request", body));
    let create = ["ecosystem", "create", "--output", "json"];
    let line = refusal(command(&url, &create), 2, "");
    assert!(!line.contains("secret"), "{line}");
    assert!(line.chars().all(|c| !c.is_control()), "{line}");
    let error: serde_json::Value = serde_json::from_str(&line).unwrap();
    let problem = &error["error"]["errors"][0];
    let shown = r"\u{1b}[2J\u{9b} ***";
    assert_eq!(
        (&problem["path"], &problem["message"]),
        (&"***".into(), &shown.into())
    );
}

#[test]
fn a_redirect_is_not_followed() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    target.set_nonblocking(true).unwrap();
    let location = format!("http://{}/secret", target.local_addr().unwrap());
    for status in ["301 Moved Permanently", "307 Temporary Redirect"] {
        let (url, sent) = server(1, &answer(&format!("{status}\r\nlocation: {location}"), ""));
        let line = refusal(command(&url, &["ecosystem", "create"]), 1, "");
        assert!(
            line.starts_with(&format!("{url} returned {status}, ")),
            "{line}"
        );
        assert!(
            sent.join()
                .unwrap()
                .contains("authorization: Bearer wrong\r\n")
        );
    }
    assert!(target.accept().is_err(), "the client followed the redirect");
}

#[test]
fn output_contains_no_character_that_controls_the_terminal() {
    let list = "{\n\t\"tokens\":[{\"tokenId\":\"a\",\"name\":\"\\u001b[2J\\u009b\\n\u{9b}\u{7f}\u{202e}\u{2028}é\",
        \"expiryType\":\"Infinite\",\"createdAt\":\"b\",\"lastUsedAt\":null,\"expiresAt\":null}],\"cursor\":null}";
    let (url, _sent) = server(2, &answer("200 OK", list));
    let arguments = ["user", "list-tokens", "C58521fd8a5d9b5cc21987501;bob"];
    let ran = run(command(&url, &arguments), "");
    assert_eq!(ran.code, 0);
    let name = r"\u{1b}[2J\u{9b}\n\u{9b}\u{7f}\u{202e}\u{2028}é";
    assert!(ran.stdout.contains(name), "{ran:?}");
    let ran = run(command(&url, &[&arguments[..], &["--json"]].concat()), "");
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 1));
    let name = r#""name":"\u001b[2J\u009b\n\u009b\u007f\u202e\u2028é""#;
    assert!(ran.stdout.contains(name), "{ran:?}");
    assert!(!ran.stdout.trim_end().contains(char::is_control), "{ran:?}");
}

#[test]
fn a_list_with_the_same_cursor_twice_is_an_error() {
    let (url, _sent) = server(2, &answer("200 OK", r#"{"tokens":[],"cursor":"again"}"#));
    let line = refusal(
        command(
            &url,
            &["user", "list-tokens", "C58521fd8a5d9b5cc21987501;bob"],
        ),
        1,
        "",
    );
    assert_eq!(
        line,
        "the API's list does not end: it returned the same cursor twice"
    );
}

#[test]
fn requests_have_the_path_query_and_headers_that_the_api_requires() {
    let user = "C58521fd8a5d9b5cc21987501;auth0|a+b";
    let arguments = ["user", "create-token", user, "--name", "a&b c"];
    let minted = r#"{"token":"t","tokenId":"a","expiryType":"FixedTtl","expiresAt":"b"}"#;
    let (url, sent) = server(1, &answer("200 OK", minted));
    assert_eq!(
        run(command(&format!("{url}/stage/"), &arguments), "").code,
        0
    );
    let sent = sent.join().unwrap();
    let line = "POST /stage/api/users/C58521fd8a5d9b5cc21987501%3Bauth0%7Ca%2Bb/tokens?name=a%26b+c HTTP/1.1\r\n";
    assert!(sent.starts_with(line), "{sent}");
    assert!(sent.contains("content-length: 0\r\n"), "{sent}");

    // If an endpoint accepts the e-mail address in the body, the console does not send the address
    // in the query.
    let (url, sent) = server(1, &answer("200 OK", r#"{"data":[{}]}"#));
    run(
        command(&url, &["email-token", "delete", "a@example.com"]),
        "",
    );
    assert!(
        sent.join()
            .unwrap()
            .starts_with("DELETE /_/user-token HTTP/1.1\r\n")
    );
}

#[test]
fn a_secret_is_printed_even_if_the_rest_of_the_response_cannot_be_parsed() {
    let minted = r#"{"token":"tk_new","tokenId":"01","expiryType":"Rolling","expiresAt":null}"#;
    let (url, _server) = server(1, &answer("200 OK", minted));
    let user = "C58521fd8a5d9b5cc21987501;bob";
    let ran = run(command(&url, &["user", "create-token", user]), "");
    assert_eq!((ran.code, ran.stdout.trim()), (0, minted));
}

#[test]
fn durations_have_units_and_expiry_types_have_any_case() {
    let user = "C58521fd8a5d9b5cc21987501;bob";
    for (ttl, kind, sent) in [
        ("90", "Infinite", "expiryType=Infinite&ttl=90"),
        ("90s", "infinite", "expiryType=Infinite&ttl=90"),
        ("15m", "fixed-ttl", "expiryType=FixedTtl&ttl=900"),
        ("12h", "SLIDING_TTL", "expiryType=SlidingTtl&ttl=43200"),
        ("7d", "slidingttl", "expiryType=SlidingTtl&ttl=604800"),
    ] {
        let (url, request) = server(1, &answer("503 Service Unavailable", ""));
        let options = ["--expiry-type", kind, "--ttl", ttl];
        let create = ["user", "create-token", user];
        let ran = run(command(&url, &[&create[..], &options].concat()), "");
        assert_eq!(ran.code, 5, "{ran:?}");
        let request = request.join().unwrap();
        assert!(request.contains(&format!("?{sent} HTTP/1.1")), "{request}");
    }

    for (arguments, sent) in [
        (
            &["user", "create-token", user, "--max-ttl", "1d"][..],
            "tokens?maxTtl=86400 HTTP",
        ),
        (
            &[
                "shortcode",
                "create",
                "--user-id",
                user,
                "--ttl",
                "2m",
                "--token-ttl",
                "1h",
                "--token-expiry-type",
                "Sliding-Ttl",
            ],
            r#""shortCodeTtl":120,"tokenExpiryType":"SlidingTtl","tokenTtl":3600}"#,
        ),
        (
            &[
                "ecosystem",
                "update",
                "C58521fd8a5d9b5cc21987501",
                "--when-full",
                "revokeOldest",
            ],
            r#"{"whenFull":"revoke-oldest"}"#,
        ),
    ] {
        let (url, request) = server(1, &answer("503 Service Unavailable", ""));
        let ran = run(command(&url, arguments), "");
        assert_eq!(ran.code, 5, "{ran:?}");
        let request = request.join().unwrap();
        assert!(request.contains(sent), "{request}");
    }

    let too_large = "18446744073709551615m";
    for ttl in [
        "", "m", "15M", "1w", "1.5h", "-1", "15 m", "1h30m", "0x5", too_large,
    ] {
        let option = format!("--ttl={ttl}");
        let ran = run(command("", &["user", "create-token", user, &option]), "");
        assert_eq!(ran.code, 2);
        let expected =
            ": must be a number of seconds, or a number with a unit: 90s, 15m, 12h or 7d\n";
        assert!(ran.stderr.contains(expected), "{ttl}: {ran:?}");
    }
}

/// Logs in at a server that answers the log-in with this body. Returns the home directory and the
/// result.
fn log_in(whoami: &str) -> (tempfile::TempDir, crate::Ran) {
    let (url, sent) = server(1, &answer("200 OK", whoami));
    let home = tempfile::tempdir().unwrap();
    let ran = run(
        tokenry(home.path(), &["login", "--url", &url]),
        "tk_si_own\n",
    );
    sent.join().unwrap();
    (home, ran)
}

#[test]
fn a_response_to_a_log_in_cannot_control_the_terminal() {
    let whoami = r#"{"active":true,"holder":"server","ecosystem_id":"\u001b[2J\u202e"}"#;
    let (_home, ran) = log_in(whoami);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout
            .starts_with(r"The server token of \u{1b}[2J\u{202e} for "),
        "{ran:?}"
    );
}

#[test]
fn a_web_page_does_not_count_as_a_revocation_or_a_deletion() {
    let page = answer("200 OK", "<html></html>");
    let theirs = "the response is not from Tokenry: check the API's address";
    let ecosystem = "C58521fd8a5d9b5cc21987501";
    let user = format!("{ecosystem};bob");
    for arguments in [
        &["revoke"][..],
        &["user", "delete", &user],
        &["user", "revoke-token", &user, "--all"],
        &["ecosystem", "delete", ecosystem, "--yes"],
    ] {
        let (url, sent) = server(1, &page);
        let line = refusal(command(&url, arguments), 1, "tk_uf_secret\n");
        assert_eq!(line, theirs, "{arguments:?}");
        sent.join().unwrap();
    }

    // The profile stays, because the token is still valid.
    let (home, ran) = log_in(r#"{"active":true,"holder":"account"}"#);
    assert_eq!(ran.code, 0, "{ran:?}");
    let line = refusal(tokenry(home.path(), &["logout", "--revoke"]), 5, "");
    assert!(line.starts_with("cannot reach "), "{line}");
    assert_eq!(run(tokenry(home.path(), &["logout"]), "").code, 0);
}

#[test]
fn a_command_that_sends_no_token_rejects_the_option_token_file() {
    let user = "C58521fd8a5d9b5cc21987501;bob";
    for arguments in [
        &["revoke", "--token-file", "-"][..],
        &["shortcode", "consume", "--token-file", "-"],
        &["log-in", user, "--token-file", "-"],
    ] {
        let line = refusal(
            command("http://127.0.0.1:1", arguments),
            2,
            "tk_uf_secret\n",
        );
        assert!(line.contains("--token-file"), "{arguments:?}: {line}");
    }
}
