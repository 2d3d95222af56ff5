//! Runs each command successfully, and checks its output as a table and as JSON.

use std::{io::ErrorKind, process::Command};

use serde_json::{Value, json};

use crate::{Serve, rows, run, text, tokenry};

#[test]
fn ecosystems_and_environments_are_created_and_deleted() {
    let serve = Serve::start();
    let table = serve.ok(&["ecosystem", "create"]);
    let [row] = &rows(&table)[..] else {
        panic!("{table}")
    };
    let ["id", id] = row[..] else {
        panic!("{table}")
    };

    let mut both = [id, serve.ecosystem_id.as_str()];
    both.sort_unstable();
    let list = serve.ok(&["ecosystem", "list"]);
    assert_eq!(rows(&list), [["id"], [both[0]], [both[1]]]);
    let page = serve.json(&["ecosystem", "list", "--limit", "1"]);
    assert_eq!(page["ecosystems"], json!([{ "id": both[0] }]));
    let cursor = text(&page, "cursor");
    let page = serve.json(&["ecosystem", "list", "--cursor", &cursor]);
    assert_eq!(page["ecosystems"], json!([{ "id": both[1] }]));

    let environment = text(&serve.json(&["environment", "create", id]), "id");
    let list = serve.json(&["environment", "list", id]);
    assert_eq!(
        list,
        json!({ "environments": [{ "id": environment }], "cursor": null })
    );
    assert!(
        serve
            .ok(&["environment", "create", id])
            .starts_with("id  E")
    );
    assert_eq!(
        serve.ok(&["environment", "delete", &environment, "--yes"]),
        format!("{environment} is deleted.\n")
    );
    let line = serve.refusal(4, &["environment", "delete", &environment, "--yes"]);
    assert_eq!(
        line,
        format!("Environment with id {environment} does not exist.")
    );

    // Without a terminal and without --yes, nothing is deleted.
    let line = serve.refusal(2, &["ecosystem", "delete", id]);
    let what = "with its users and their tokens";
    assert_eq!(line, format!("to delete {id} {what}, confirm with --yes"));
    serve.ok(&["ecosystem", "get", id]);
    // The API's response is empty, so `--json` prints nothing.
    assert_eq!(
        serve.ok(&["ecosystem", "delete", id, "--yes", "--json"]),
        ""
    );
    let line = serve.refusal(4, &["ecosystem", "delete", id, "--yes"]);
    assert_eq!(line, format!("Ecosystem with id {id} does not exist."));
}

/// The error message of an update command without an option that changes something.
const NOTHING: &str = "nothing to change: give at least one option; --help lists them";

#[test]
fn the_settings_of_an_ecosystem_are_shown_and_changed() {
    let serve = Serve::start();
    let id = serve.ecosystem_id.as_str();
    let new = json!({
        "id": id,
        "maxTokensPerUser": null,
        "whenFull": "reject",
        "sessionTtl": 1_209_600,
        "sessionMaxTtl": 7_776_000,
        "sessionScope": "read write",
    });
    assert_eq!(serve.json(&["ecosystem", "get", id]), new);
    let limit = ["--max-tokens-per-user", "5", "--when-full", "revoke-oldest"];
    let table = serve.ok(&[&["ecosystem", "update", id], &limit[..]].concat());
    let shown = [
        ["id", id],
        ["maxTokensPerUser", "5"],
        ["whenFull", "revoke-oldest"],
        ["sessionTtl", "1209600"],
        ["sessionMaxTtl", "7776000"],
        ["sessionScope", "read write"],
    ];
    assert_eq!(rows(&table), shown);
    // A setting without a flag keeps its value.
    let table = serve.ok(&["ecosystem", "update", id, "--max-tokens-per-user", "5"]);
    assert_eq!(rows(&table), shown);
    let line = serve.refusal(2, &["ecosystem", "update", id]);
    assert_eq!(line, NOTHING);
    let unlimited = ["ecosystem", "update", id, "--no-max-tokens-per-user"];
    assert_eq!(rows(&serve.ok(&unlimited))[1], ["maxTokensPerUser", "-"]);
    let sessions = [
        "--session-ttl=1m",
        "--session-max-ttl=90",
        "--session-scope=read",
    ];
    let update = ["ecosystem", "update", id];
    let table = serve.ok(&[&update[..], &sessions].concat());
    let changed = [
        ["sessionTtl", "60"],
        ["sessionMaxTtl", "90"],
        ["sessionScope", "read"],
    ];
    assert_eq!(rows(&table)[3..], changed);
    let table = serve.ok(&[&update[..], &["--default-sessions"]].concat());
    assert_eq!(rows(&table)[3..], shown[3..]);
    let line = serve.refusal(
        2,
        &["ecosystem", "update", id, "--max-tokens-per-user", "101"],
    );
    assert_eq!(
        line,
        "InvalidParams: maxTokensPerUser: field must be at most 100"
    );
}

#[test]
fn a_user_is_created_shown_changed_and_deleted() {
    let serve = Serve::start();
    let id = format!("{};auth0|59ad5e8843f89ba26c5b80ca", serve.ecosystem_id);
    let made = serve.json(&["user", "put", &id]);
    assert_eq!(
        made,
        json!({"id": id, "email": null, "admin": false, "active": true})
    );
    let email = ["--email", "ann@example.com", "--admin", "--active=false"];
    let changed = serve.json(&[&["user", "put", &id], &email[..]].concat());
    let ann = json!({"id": id, "email": "ann@example.com", "admin": true, "active": false});
    assert_eq!(changed, ann);
    // A field without a flag keeps its value.
    assert_eq!(serve.json(&["user", "put", &id]), ann);
    let table = serve.ok(&["user", "get", &id]);
    let shown = [
        ["id", &id],
        ["email", "ann@example.com"],
        ["admin", "true"],
        ["active", "false"],
    ];
    assert_eq!(rows(&table), shown);
    let table = serve.ok(&["user", "put", &id, "--no-email", "--admin=false"]);
    assert_eq!(rows(&table)[1..3], [["email", "-"], ["admin", "false"]]);
    assert_eq!(
        serve.ok(&["user", "delete", &id]),
        format!("{id} is deleted.\n")
    );
    let line = serve.refusal(4, &["user", "get", &id]);
    assert_eq!(line, format!("User with id {id} does not exist."));
}

#[test]
fn a_users_tokens_are_minted_listed_and_revoked() {
    let serve = Serve::start();
    let user = serve.user_id.as_str();
    let sliding = [
        "--expiry-type",
        "SlidingTtl",
        "--ttl",
        "60",
        "--max-ttl",
        "90",
        "--name",
        "laptop",
    ];
    let table = serve.ok(&[&["user", "create-token", user], &sliding[..]].concat());
    let rows_of_table = rows(&table);
    let names: Vec<_> = rows_of_table.iter().map(|row| row[0]).collect();
    assert_eq!(
        names,
        ["token", "tokenId", "expiryType", "expiresAt", "scope"]
    );
    let (token, id) = (rows_of_table[0][1], rows_of_table[1][1]);

    let told = serve.ok_with(token, &["introspect"]);
    assert_eq!(
        rows(&told)[0..3],
        [["active", "true"], ["sub", user], ["holder", "user"]]
    );
    let told = serve.json_with(token, &["introspect"]);
    assert_eq!(
        (text(&told, "jti"), text(&told, "expiry_type")),
        (id.into(), "SlidingTtl".into())
    );

    let infinite = serve.json(&["user", "create-token", user, "--expiry-type", "Infinite"]);
    let table = serve.ok(&["user", "list-tokens", user]);
    let listed = rows(&table);
    let heading = [
        "tokenId",
        "name",
        "expiryType",
        "createdAt",
        "lastUsedAt",
        "expiresAt",
        "scope",
        "disabled",
    ];
    assert_eq!(listed[0], heading);
    assert_eq!(
        listed[1][..3],
        [text(&infinite, "tokenId").as_str(), "-", "Infinite"]
    );
    assert_eq!(listed[1][5], "never");
    assert_eq!(listed[2][..3], [id, "laptop", "SlidingTtl"]);

    assert_eq!(
        serve.ok(&["user", "revoke-token", user, id]),
        format!("The token {id} of {user} is revoked.\n")
    );
    // If the token belongs to another user, it stays valid.
    let other = serve.json(&["user", "put", &format!("{};other", serve.ecosystem_id)]);
    let (other, infinite_id) = (text(&other, "id"), text(&infinite, "tokenId"));
    assert_eq!(
        serve.refusal(4, &["user", "revoke-token", &other, &infinite_id]),
        format!("Token with id {infinite_id} does not exist.")
    );
    let still = serve.json_with(infinite["token"].as_str().unwrap(), &["introspect"]);
    assert_eq!(still["active"], true);
    assert_eq!(
        serve.ok(&["user", "revoke-token", user, "--all"]),
        format!("All tokens of {user} are revoked.\n")
    );
    assert_eq!(
        serve.json(&["user", "list-tokens", user]),
        json!({"tokens": [], "cursor": null})
    );
}

#[test]
fn a_token_is_shown_changed_disabled_and_enabled() {
    let serve = Serve::start();
    let (user, ecosystem) = (serve.user_id.as_str(), serve.ecosystem_id.as_str());
    let options = [
        "--scope",
        "read orders:read",
        "--metadata",
        "plan=pro",
        "--metadata",
        "seats=3",
        "--metadata",
        "trial=false",
        "--metadata",
        "text=\"3\"",
    ];
    let create = [&["user", "create-token", user], &options[..]].concat();
    let made = serve.json(&create);
    assert_eq!(made["scope"], "read orders:read");
    let metadata = json!({"plan": "pro", "seats": 3, "trial": false, "text": "3"});
    assert_eq!(made["metadata"], metadata);
    let id = text(&made, "tokenId");
    let of_token = |command| ["token", command, user, &id].map(str::to_owned).to_vec();
    let run = |words: Vec<String>| {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        serve.json(&words)
    };
    let token = made["token"].as_str().unwrap();

    let record = run(of_token("get"));
    assert_eq!(
        (&record["state"], &record["metadata"], &record["name"]),
        (&json!("active"), &metadata, &Value::Null)
    );
    assert_eq!(run(of_token("disable"))["state"], "disabled");
    let told = crate::run(serve.command(&["introspect"]), token);
    assert_eq!(told.code, 4, "{told:?}");
    assert_eq!(run(of_token("enable"))["state"], "active");
    assert_eq!(
        serve.json_with(token, &["introspect"])["metadata"],
        metadata
    );

    let mut update = of_token("update");
    update.extend(["--name", "phone", "--scope", "read", "--no-metadata"].map(str::to_owned));
    let changed = run(update);
    assert_eq!(
        (&changed["name"], &changed["scope"], changed.get("metadata")),
        (&json!("phone"), &json!("read"), None)
    );
    let line = serve.refusal(2, &["token", "update", user, &id]);
    assert_eq!(line, NOTHING);
    assert_eq!(run(of_token("get")), changed);
    serve.ok(&["user", "revoke-token", user, &id]);
    let table = serve.ok(&["token", "get", user, &id]);
    assert!(table.contains("revoked"), "{table}");

    let made = serve.json(&[
        "server-token",
        "create",
        ecosystem,
        "--scope",
        "tokenry:introspect",
    ]);
    let shown = serve.json(&["token", "get", ecosystem, &text(&made, "tokenId")]);
    assert_eq!(shown["scope"], "tokenry:introspect");
    serve.refusal(
        2,
        &[
            "user",
            "create-token",
            user,
            "--metadata",
            "a=1",
            "--metadata",
            "a=2",
        ],
    );
}

#[test]
fn a_list_has_the_rows_of_all_pages_unless_one_page_is_requested() {
    let serve = Serve::start();
    // A page of the API has at most 100 rows.
    let path = format!("{}/api/users/{}/tokens", serve.url, serve.user_id);
    for _ in 0..101 {
        let request = ureq::post(&path).header("authorization", &serve.account_token);
        request.send_empty().expect("the server creates a token");
    }
    let list = ["user", "list-tokens", &serve.user_id];
    let whole = serve.json(&list);
    assert_eq!(whole["tokens"].as_array().unwrap().len(), 101);
    assert_eq!(whole["cursor"], Value::Null);
    assert_eq!(serve.ok(&list).lines().count(), 102);

    let first = serve.json(&[&list[..], &["--limit", "100"]].concat());
    let cursor = text(&first, "cursor");
    let table = serve.ok(&[&list[..], &["--limit", "100"]].concat());
    assert!(
        table.ends_with(&format!("\nThe next page: --cursor {cursor}\n")),
        "{table}"
    );
    let second = serve.json(&[&list[..], &["--cursor", &cursor]].concat());
    let both = [&first["tokens"], &second["tokens"]].map(|page| page.as_array().unwrap().clone());
    assert_eq!(both.concat(), *whole["tokens"].as_array().unwrap());
}

#[test]
fn a_server_token_is_minted_used_listed_and_revoked() {
    let serve = Serve::start();
    let ecosystem = serve.ecosystem_id.as_str();
    let made = serve.json(&["server-token", "create", ecosystem, "--name", "backend"]);
    let (token, id) = (text(&made, "token"), text(&made, "tokenId"));
    let with_server_token = |arguments: &[&str]| {
        let mut command = serve.command(arguments);
        command.env("TOKENRY_TOKEN", &token);
        run(command, "")
    };
    assert_eq!(with_server_token(&["user", "get", &serve.user_id]).code, 0);
    // A server token does not have the right to create an ecosystem.
    let ran = with_server_token(&["ecosystem", "create"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            3,
            "Forbidden: the token does not allow this (`tokenry whoami` shows the token)\n"
        )
    );

    let table = serve.ok(&["server-token", "list", ecosystem]);
    assert_eq!(rows(&table)[1][..2], [id.as_str(), "backend"]);
    serve.ok(&["server-token", "revoke", ecosystem, &id]);
    assert_eq!(with_server_token(&["user", "get", &serve.user_id]).code, 3);
}

#[test]
fn a_token_is_revoked_without_another_credential_and_is_not_active_afterwards() {
    let serve = Serve::start();
    let token = serve.token(&[]);
    // The only credential of the command is the token that it revokes.
    let mut command = tokenry(serve.home.path(), &["revoke"]);
    command.env("TOKENRY_URL", &serve.url);
    let ran = run(command, &token);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));

    let ran = run(serve.command(&["introspect", "--json"]), &token);
    let error = "{\"error\":{\"message\":\"the token is not active\",\"exitCode\":4}}\n";
    let expected = (4, "{\"active\":false}\n", error);
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        expected
    );
    let ran = run(serve.command(&["introspect"]), "rubbish\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (4, "active  false\n"));
}

#[test]
fn a_short_code_is_created_and_exchanged_for_its_token() {
    let serve = Serve::start();
    let create = ["shortcode", "create", "--user-id", &serve.user_id];
    let sliding = [
        "--ttl",
        "60",
        "--token-expiry-type",
        "SlidingTtl",
        "--token-ttl",
        "120",
    ];
    let made = serve.json(&[&create[..], &sliding[..]].concat());
    let code = text(&made, "shortcode");
    let got = run(
        serve.command(&["shortcode", "consume", "--json"]),
        &code.to_lowercase(),
    );
    assert_eq!(got.code, 0);
    let got: Value = serde_json::from_str(&got.stdout).unwrap();
    assert_eq!(
        (text(&got, "userId"), text(&got, "expiryType")),
        (serve.user_id.clone(), "SlidingTtl".into())
    );

    let environment = text(
        &serve.json(&["environment", "create", &serve.ecosystem_id]),
        "id",
    );
    let table = serve.ok(&["shortcode", "create", "--environment-id", &environment]);
    let made = rows(&table);
    assert_eq!(
        (made[0][0], &made[2]),
        ("shortcode", &vec!["environmentId", &environment])
    );
    // This test does not use `run` here, because `run` fails if the output contains the input. The
    // output contains the code, because the new user's name contains it. A used code is not a
    // secret.
    let mut command = tokenry(
        serve.home.path(),
        &["shortcode", "consume", "--url", &serve.url],
    );
    command.env("TOKENRY_TOKEN", "");
    let output = command.stdin(piped(made[0][1])).output().unwrap();
    let got = String::from_utf8(output.stdout).unwrap();
    let token = rows(&got)[0][1].to_owned();
    assert_eq!(
        rows(&serve.ok_with(&token, &["introspect"]))[5],
        ["environment_id", &environment]
    );
}

/// Returns a pipe that contains this line.
fn piped(line: &str) -> std::process::Stdio {
    let echo = Command::new("printf")
        .args(["%s\n", line])
        .stdout(std::process::Stdio::piped())
        .spawn();
    echo.expect("printf starts")
        .stdout
        .expect("standard output is a pipe")
        .into()
}

#[test]
fn an_email_token_is_created_read_changed_and_deleted() {
    let serve = Serve::start();
    let email = "demo@example.com";
    serve.ok(&["user", "put", &serve.user_id, "--email", email]);
    let date = ["--write=false", "--expiration-date", "2030-01-01T00:00:00Z"];
    let made = serve.json(&[&["email-token", "create", email], &date[..]].concat());
    let record = &made["data"][0];
    assert_eq!(record["write"], false);
    assert_eq!(record["expiration_date"], 1_893_456_000_000_u64);

    let table = serve.ok(&["email-token", "list"]);
    let listed = rows(&table);
    let heading = [
        "email",
        "userId",
        "tokenId",
        "write",
        "expiryType",
        "expiration_date",
        "created_at",
        "updated_at",
    ];
    assert_eq!(listed[0], heading);
    let id = record["tokenId"].as_str().unwrap();
    let expected = [
        email,
        &serve.user_id,
        id,
        "false",
        "FixedTtl",
        "2030-01-01T00:00:00Z",
    ];
    assert_eq!(listed[1][..6], expected);
    assert_eq!(
        serve.json(&["email-token", "list"])["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let table = serve.ok(&["email-token", "update", email, "--write"]);
    assert_eq!(
        rows(&table)[3..6],
        [
            ["write", "true"],
            ["expiryType", "Infinite"],
            ["expiration_date", "never"]
        ]
    );
    let value = serve.ok(&["email-token", "value", email]);
    let token = rows(&value)[0][1];
    let asked = serve.ok_with(token, &["introspect"]);
    assert_eq!(rows(&asked)[3], ["scope", "read write"]);
    let table = serve.ok(&["email-token", "delete", email]);
    assert_eq!(rows(&table)[2], ["tokenId", id]);
    serve.refusal(4, &["email-token", "value", email]);
}

#[test]
fn a_password_is_set_used_to_log_in_and_removed() {
    let serve = Serve::start();
    let (email, password) = ("demo@example.com", "  correct horse\n");
    let put = ["user", "put", &serve.user_id];
    serve.ok_with(
        password,
        &[&put[..], &["--email", email, "--password"]].concat(),
    );
    let value = serve.ok_with(password, &["log-in", email]);
    assert_eq!(value, serve.ok(&["email-token", "value", email]));
    let own = serve.user_id.split(';').next().unwrap();
    let with_id = ["log-in", email, "--ecosystem", own];
    assert_eq!(serve.ok_with(password, &with_id), value);
    let other = ["log-in", email, "--ecosystem", "C58521fd8a5d9b5cc21987501"];
    assert_eq!(run(serve.command(&other), password).code, 3);
    let log_in = |password| run(serve.command(&["log-in", email]), password);
    // White space is part of a password.
    assert_eq!(log_in("correct horse\n").code, 3);
    serve.ok(&[&put[..], &["--no-password"]].concat());
    let ran = log_in(password);
    let expected = (3, "Unauthorized: wrong email address or password\n");
    assert_eq!((ran.code, ran.stderr.as_str()), expected);
}

#[test]
fn each_shell_has_completions() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = run(tokenry(home.path(), &["completions", shell]), "");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains("create-token"), "{shell}");
    }
    // Each script calls the completion as its shell does for `tokenry user create-t<TAB>`. The
    // completions of zsh work only at a terminal, so its script checks that they are registered.
    for (shell, script, expected) in [
        (
            "bash",
            r#"source /dev/stdin
            COMP_WORDS=(tokenry user create-t) COMP_CWORD=2
            _tokenry tokenry create-t user
            echo "${COMPREPLY[@]}""#,
            "create-token\n",
        ),
        (
            "fish",
            r#"source -
            complete --do-complete "tokenry user create-t""#,
            "create-token\tMint a token for a user; the token is shown only once\n",
        ),
        (
            "zsh",
            "autoload -Uz compinit
            compinit -D -u
            source /dev/stdin
            print $_comps[tokenry]",
            "_tokenry\n",
        ),
    ] {
        let completions = tokenry(home.path(), &["completions", shell])
            .spawn()
            .unwrap()
            .stdout
            .unwrap();
        let output = Command::new(shell)
            .args(["-c", script])
            .env("HOME", home.path())
            .stdin(completions)
            .output();
        let output = match output {
            // CI has all three shells.
            Err(error) if error.kind() == ErrorKind::NotFound && shell != "bash" => continue,
            output => output.expect("the shell runs"),
        };
        let shown = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert_eq!(shown, [expected, ""], "{shell}: {output:?}");
    }
}

#[test]
fn whoami_shows_the_token_of_the_console() {
    let serve = Serve::start();
    let shown = serve.json(&["whoami"]);
    assert_eq!(
        (&shown["active"], &shown["holder"]),
        (&json!(true), &json!("account"))
    );
    assert!(!serve.ok(&["whoami"]).contains("ecosystem_id"));

    let token = serve.token(&["--expiry-type", "SlidingTtl"]);
    let table = serve.ok_with(&token, &["whoami", "--token-file", "-"]);
    assert_eq!(
        rows(&table)[..3],
        [
            ["sub", &serve.user_id],
            ["holder", "user"],
            ["scope", "read write"]
        ]
    );
    let claims = serve.json_with(&token, &["whoami", "--token-file", "-"]);
    assert_eq!(claims, serve.json_with(&token, &["introspect"]));

    let command = serve.command(&["whoami", "--token-file", "-"]);
    let line = crate::refusal(command, 3, "rubbish");
    assert_eq!(line, "Unauthorized: a valid token is required");
}

#[test]
fn users_are_listed_by_name_and_by_the_start_of_their_names() {
    let serve = Serve::start();
    let ecosystem = serve.ecosystem_id.as_str();
    let id = |name: &str| format!("{ecosystem};{name}");
    for name in ["bob", "boris", "ann"] {
        serve.ok(&["user", "put", &id(name)]);
    }
    let ids =
        |names: &[&str]| -> Value { names.iter().map(|name| json!({ "id": id(name) })).collect() };
    let all = serve.json(&["user", "list", ecosystem]);
    assert_eq!(all["users"], ids(&["ann", "bob", "boris", "demo"]));
    let some = serve.json(&["user", "list", ecosystem, "--prefix", "bo"]);
    assert_eq!(some["users"], ids(&["bob", "boris"]));
    let table = serve.ok(&["user", "list", ecosystem, "--prefix", "a"]);
    assert_eq!(rows(&table), [["id"], [id("ann").as_str()]]);
}
