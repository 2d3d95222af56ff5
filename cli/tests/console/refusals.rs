//! Tests that each failure has an exit code and one line of error output, without a secret.

use std::{io::pipe, net::TcpListener, process::Command};

use crate::{Serve, refusal, run, text, tokenry};

#[test]
fn the_exit_code_is_2_if_the_api_rejects_a_value() {
    let serve = Serve::start();
    let line = serve.refusal(
        2,
        &[
            "user",
            "create-token",
            &serve.user_id,
            "--ttl",
            "0",
            "--name",
            "",
        ],
    );
    assert_eq!(
        line,
        "InvalidParams: ttl: field must be a positive number; \
         name: field must be 1 to 64 characters, none of them a control character"
    );
}

#[test]
fn the_exit_code_is_2_if_an_argument_is_invalid() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [
        &["user"][..],
        &["user", "get"],
        &["user", "get", "bob"],
        &[
            "user",
            "get",
            "C58521fd8a5d9b5cc21987501;bob",
            "--timeout",
            "0",
        ],
        &["user", "revoke-token", "C58521fd8a5d9b5cc21987501;bob"],
        &[
            "user",
            "get",
            "C58521fd8a5d9b5cc21987501;bob",
            "--timeout",
            "25h",
        ],
        // An empty token id, for example from an unset variable, must not revoke all tokens.
        &["user", "revoke-token", "C58521fd8a5d9b5cc21987501;bob", ""],
        &[
            "user",
            "revoke-token",
            "C58521fd8a5d9b5cc21987501;bob",
            "..",
        ],
        &["ecosystem", "delete", ""],
        &["shortcode", "create"],
        &[
            "user",
            "create-token",
            "C58521fd8a5d9b5cc21987501;bob",
            "--expiry-type",
            "Never",
        ],
        &[
            "email-token",
            "create",
            "a@example.com",
            "--expiration-date",
            "tomorrow",
        ],
    ] {
        let ran = run(tokenry(home.path(), arguments), "");
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(
            ran.stderr.starts_with("error: ") || arguments.len() == 1,
            "{ran:?}"
        );
    }
}

#[test]
fn an_error_names_the_next_step() {
    let home = tempfile::tempdir().unwrap();
    let user = "C58521fd8a5d9b5cc21987501;bob";
    for (arguments, step) in [
        (&["user", "revoke-token", user][..], "<TOKEN_ID|--all>"),
        (
            &["shortcode", "create"],
            "<--user-id <USER_ID>|--environment-id <ENVIRONMENT_ID>>",
        ),
        (
            &["user", "get", "bob"],
            "such as 'C58521fd8a5d9b5cc21987501;bob'",
        ),
        (
            &["ecosystem", "get", "x"],
            "such as C58521fd8a5d9b5cc21987501",
        ),
        (
            &["environment", "delete", "x"],
            "such as E58521fd8a5d9b5cc21987501",
        ),
        (
            &["token", "get", "x", "y"],
            "such as C58521fd8a5d9b5cc21987501, or",
        ),
        (
            &["token", "get", user, "y"],
            "such as 01KDVDXH5GQ3T8Z6W2R9M4N7PB",
        ),
    ] {
        let ran = run(tokenry(home.path(), arguments), "");
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains(step), "{ran:?}");
    }

    let serve = Serve::start();
    let user = serve.user_id.as_str();
    let with = |token: &str| {
        let mut command = serve.command(&["user", "put", user]);
        command.env("TOKENRY_TOKEN", token);
        refusal(command, 3, "")
    };
    let ecosystem = serve.ecosystem_id.as_str();
    let create = ["server-token", "create", ecosystem, "--scope", "read"];
    let server = text(&serve.json(&create), "token");
    let forbidden = "Forbidden: the token does not allow this";
    assert_eq!(
        with(&server),
        format!("{forbidden} (it lacks the scope tokenry:users:write)")
    );
    assert_eq!(
        with(&serve.token(&[])),
        format!("{forbidden} (`tokenry whoami` shows the token)")
    );

    serve.ok(&[
        "ecosystem",
        "update",
        ecosystem,
        "--max-tokens-per-user",
        "1",
    ]);
    assert_eq!(
        serve.refusal(3, &["user", "create-token", user]),
        "Conflict: user has the most tokens allowed (revoke a token with `tokenry user \
         revoke-token`, or change the limit with `tokenry ecosystem update`)"
    );
}

#[test]
fn an_error_does_not_repeat_a_secret_argument() {
    let home = tempfile::tempdir().unwrap();
    let (user, secret) = ("C58521fd8a5d9b5cc21987501;bob", "tk_uf_secret");
    for arguments in [
        &["introspect", secret][..],
        &["revoke", secret],
        &["login", secret],
        &["login", &format!("--token={secret}")],
        &["login", &format!("--{secret}")],
        &["user", "get", secret],
        &["user", secret],
        &[secret],
        &["shortcode", "consume", "secret"],
        &["log-in", "a@example.com", "secret"],
        &["session", "create", "a@example.com", "secret"],
        &["session", "create", "a@example.com", "--password=secret"],
        &["password", "change", "secret"],
        &["logout", "secret"],
        &["logout", "--profile", "./tk_uf_secret.json"],
        &["whoami", secret, "--output", "json"],
        &["user", "put", user, "--password", "secret"],
        &["user", "put", user, "--password=secret"],
        &["introspect", "--token-file", secret],
        &["user", "get", user, "--profile", "./tk_uf_secret.json"],
    ] {
        let ran = run(tokenry(home.path(), arguments), "");
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(!ran.stderr.contains("secret"), "{ran:?}");
    }
}

#[test]
fn the_exit_code_is_3_if_the_token_is_wrong() {
    let serve = Serve::start();
    let command = || serve.command(&["user", "get", &serve.user_id]);
    let mut wrong = command();
    wrong.env("TOKENRY_TOKEN", "wrong");
    assert_eq!(
        refusal(wrong, 3, ""),
        "Unauthorized: a valid token is required"
    );

    // The console does not send a token that contains white space or a character that is not ASCII.
    for token in ["two words", "tokén", "a\nb", " "] {
        let mut command = command();
        command.env("TOKENRY_TOKEN", token);
        assert_eq!(refusal(command, 2, ""), "TOKENRY_TOKEN is not a token");
    }
}

#[test]
fn a_token_file_or_standard_input_overrides_the_environment() {
    let serve = Serve::start();
    let file = serve.home.path().join("token");
    std::fs::write(&file, format!("{}\n", serve.account_token)).unwrap();
    let get = ["user", "get", &serve.user_id, "--token-file"];
    let with = |source: &str, input: &str| {
        let mut command = serve.command(&[&get[..], &[source]].concat());
        command.env("TOKENRY_TOKEN", "wrong");
        run(command, input).code
    };
    assert_eq!(with(file.to_str().unwrap(), ""), 0);
    assert_eq!(with("-", &serve.account_token), 0);
    assert_eq!(with("-", "another"), 3);
    assert_eq!(with("-", ""), 2);
    assert_eq!(with("/nowhere", ""), 2);

    // The second line of standard input is the token to introspect.
    let token = serve.token(&[]);
    let both = format!("{}\n{token}\n", serve.account_token);
    let told = serve.ok_with(&both, &["introspect", "--token-file", "-"]);
    assert!(told.starts_with("active        true\n"), "{told}");
    let line = serve.refusal(2, &["introspect"]);
    assert_eq!(
        line,
        "standard input does not contain the token to introspect"
    );
}

#[test]
fn the_exit_code_is_3_after_a_conflict_or_too_many_attempts() {
    let serve = Serve::start();
    serve.ok(&["user", "put", &serve.user_id, "--active=false"]);
    let line = serve.refusal(3, &["user", "create-token", &serve.user_id]);
    assert!(line.starts_with("Conflict: "), "{line}");

    for _ in 0..5 {
        let ran = run(serve.command(&["shortcode", "consume"]), "not a code\n");
        let expected = (2, "InvalidParams: shortcode: invalid shortcode\n");
        assert_eq!((ran.code, ran.stderr.as_str()), expected);
    }
    let line = refusal(serve.command(&["shortcode", "consume"]), 3, "AAAAAA\n");
    let expected = "TooManyRequests: too many failed attempts, try again later (retry in ";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn the_exit_code_is_4_if_the_short_code_is_unknown() {
    let serve = Serve::start();
    let ran = run(serve.command(&["shortcode", "consume"]), "aaa-aaa\n");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (4, "Shortcode AAAAAA does not exist.\n")
    );
}

#[test]
fn the_exit_code_is_2_if_the_address_or_the_token_is_missing() {
    let home = tempfile::tempdir().unwrap();
    let user = ["user", "get", "C58521fd8a5d9b5cc21987501;bob"];
    let line = refusal(tokenry(home.path(), &user), 2, "");
    assert!(
        line.starts_with("no token: give --token-file, set TOKENRY_TOKEN, "),
        "{line}"
    );
    let mut command = tokenry(home.path(), &user);
    command.env("TOKENRY_TOKEN", "wrong").env("TOKENRY_URL", "");
    let line = refusal(command, 2, "");
    assert!(
        line.starts_with("no address: give --url, set TOKENRY_URL, "),
        "{line}"
    );
    let line = refusal(tokenry(home.path(), &["revoke"]), 2, "wrong");
    assert!(line.starts_with("no address: "), "{line}");
}

#[test]
fn the_error_for_an_unsafe_address_does_not_repeat_the_address() {
    let home = tempfile::tempdir().unwrap();
    for url in [
        "secret",
        "ftp://127.0.0.1/secret",
        "http://secret.example.com",
        "http://127.0.0.1.secret.example.com",
        "http://localhost@secret.example.com",
        "https://ann:secret@example.com",
        "https://example.com/?token=secret",
        "https://example.com/#secret",
    ] {
        let mut command = tokenry(home.path(), &["ecosystem", "create", "--url", url]);
        command.env("TOKENRY_TOKEN", "wrong");
        let line = refusal(command, 2, "");
        assert!(line.starts_with("the API's address "), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
}

#[test]
fn the_exit_code_is_5_if_the_server_cannot_be_reached() {
    let home = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (url, said) in [
        (format!("http://{closed}"), "cannot reach http://127.0.0.1:"),
        (
            "https://tokenry.invalid".to_owned(),
            "cannot reach https://tokenry.invalid: ",
        ),
    ] {
        let mut command = tokenry(home.path(), &["ecosystem", "create", "--url", &url]);
        command.env("TOKENRY_TOKEN", "wrong");
        let line = refusal(command, 5, "");
        assert!(line.starts_with(said), "{line}");
    }
}

#[test]
fn the_exit_code_is_5_if_the_server_does_not_respond() {
    let home = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let arguments = ["ecosystem", "create", "--timeout", "1", "--url", &url];
    let mut command = tokenry(home.path(), &arguments);
    command.env("TOKENRY_TOKEN", "wrong");
    assert_eq!(
        refusal(command, 5, ""),
        format!("{url} did not respond within 1 s")
    );
}

#[test]
fn if_standard_output_is_closed_a_command_fails_only_if_a_secret_is_lost() {
    let serve = Serve::start();
    let closed = |mut command: Command| {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        command.stdout(writer);
        run(command, "")
    };
    let user = serve.user_id.as_str();
    for arguments in [
        &["user", "get", user][..],
        &["user", "get", user, "--json"],
        &["user", "list-tokens", user],
        &["user", "delete", &format!("{user}2")],
        &["completions", "bash"],
        &["--help"],
    ] {
        let ran = closed(serve.command(arguments));
        assert!(
            ran.stderr.is_empty() || ran.code == 4,
            "{arguments:?}: {ran:?}"
        );
        assert!([0, 4].contains(&ran.code), "{arguments:?}: {ran:?}");
    }
    let ran = closed(serve.command(&["user", "create-token", user]));
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.starts_with("the secret could not be printed, "),
        "{ran:?}"
    );
    assert_eq!(ran.stderr.lines().count(), 1);

    // If standard error is closed, the exit code is the same.
    let mut command = serve.command(&["user", "get", &format!("{user}2")]);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    command.stderr(writer);
    assert_eq!(run(command, "").code, 4);
}
