//! Tests of the help, and of the options that all commands that call the API have.

use std::process::Command;

use serde_json::{Value, json};

use crate::{Serve, refusal, run, text, tokenry};

/// The heading of the options in the help of a command that calls the API.
const HEADING: &str = "Options of all commands that call the API:";

/// Returns the help of a command.
fn help(arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut command = tokenry(home.path(), &[arguments, &["--help"]].concat());
    // The help must not show the content of a variable.
    for name in ["TOKENRY_URL", "TOKENRY_TOKEN", "TOKENRY_PROFILE"] {
        command.env(name, "tk_content");
    }
    let ran = run(command, "");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
    assert!(!ran.stdout.contains("tk_content"), "{ran:?}");
    ran.stdout
}

/// Returns the names of the subcommands in a help text.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_command_without_its_subcommand_prints_help_and_fails() {
    let home = tempfile::tempdir().unwrap();
    for (arguments, usage) in [
        (&[][..], "Usage: tokenry "),
        (&["user"], "Usage: tokenry user "),
    ] {
        // A variable does not count as an argument.
        for variables in [&[][..], &[("TOKENRY_URL", "http://127.0.0.1:1")]] {
            let mut command = tokenry(home.path(), arguments);
            command.envs(variables.iter().copied());
            let ran = run(command, "");
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
            assert!(ran.stderr.contains(usage), "{ran:?}");
            assert!(ran.stderr.contains("Commands:"), "{ran:?}");
            assert!(!ran.stderr.contains("error:"), "{ran:?}");
        }
    }
}

#[test]
fn only_commands_that_call_the_api_show_its_options_and_accept_them() {
    let local = [
        "serve",
        "bootstrap",
        "migrate",
        "value-key",
        "tag-key",
        "completions",
    ];
    let mut commands: Vec<Vec<String>> = vec![vec![]];
    let mut leaves = 0;
    while let Some(command) = commands.pop() {
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        let help = help(&words);
        let is_local =
            words.first().is_some_and(|first| local.contains(first)) || words == ["user", "export"];
        assert_eq!(help.contains(HEADING), !is_local, "{words:?}");
        assert_eq!(help.contains("--token-file"), !is_local, "{words:?}");
        let below = subcommands(&help);
        leaves += usize::from(below.is_empty());
        commands.extend(
            below
                .into_iter()
                .map(|name| [&command[..], &[name]].concat()),
        );
    }
    assert!(leaves > 30, "{leaves}");
    // `session create` replaces `log-in`, which still works.
    assert!(!subcommands(&help(&[])).contains(&"log-in".to_owned()));

    let home = tempfile::tempdir().unwrap();
    let user = "C58521fd8a5d9b5cc21987501;bob";
    for arguments in [
        &["--url", "http://127.0.0.1:1", "completions", "bash"][..],
        &["completions", "--url", "http://127.0.0.1:1", "bash"],
        &["completions", "bash", "--url=http://127.0.0.1:1"],
        &[
            "user",
            "--url",
            "http://127.0.0.1:1",
            "export",
            user,
            "--identity-table",
            "x",
        ],
    ] {
        let ran = run(tokenry(home.path(), arguments), "");
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        let said = "error: --url is only for commands that call the API\n";
        assert!(ran.stderr.starts_with(said), "{ran:?}");
    }
}

#[test]
fn the_options_may_stand_before_and_after_each_subcommand() {
    let serve = Serve::start();
    let file = serve.home.path().join("token");
    std::fs::write(&file, &serve.account_token).unwrap();
    let options = [
        "--url",
        &serve.url,
        "--token-file",
        file.to_str().unwrap(),
        "--output",
        "json",
    ];
    let words = ["user", "get", &serve.user_id];
    for at in 0..=words.len() {
        let (before, after) = words.split_at(at);
        let arguments = [before, &options[..], after].concat();
        let ran = run(tokenry(serve.home.path(), &arguments), "");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        let user: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(text(&user, "id"), serve.user_id);
    }
    // If an option is given twice, the last value is used.
    let twice = [&["--url", "http://127.0.0.1:1"][..], &words, &options].concat();
    assert_eq!(run(tokenry(serve.home.path(), &twice), "").code, 0);
}

#[test]
fn json_is_another_name_for_output_json() {
    let serve = Serve::start();
    let get = ["user", "get", &serve.user_id];
    let line = serve.ok(&[&get[..], &["--output", "json"]].concat());
    assert!(line.starts_with('{'), "{line}");
    assert_eq!(serve.ok(&[&get[..], &["--json"]].concat()), line);
    assert_eq!(serve.ok(&[&["--json"][..], &get].concat()), line);
    assert_eq!(serve.ok(&[&get[..], &["--output=JSON"]].concat()), line);
    let table = serve.ok(&get);
    assert_eq!(
        serve.ok(&[&get[..], &["--output", "table"]].concat()),
        table
    );
    assert!(table.starts_with("id "), "{table}");
    assert!(!help(&["user", "get"]).contains("--json"));
}

#[test]
fn with_json_an_error_is_one_line_of_json_with_the_same_exit_code() {
    let serve = Serve::start();
    let error = |code: i32, arguments: &[&str]| -> Value {
        let line = serve.refusal(code, &[arguments, &["--output", "json"]].concat());
        let error: Value = serde_json::from_str(&line).expect("the line is JSON");
        let whole = error.as_object().unwrap();
        assert_eq!(whole.keys().collect::<Vec<_>>(), ["error"], "{line}");
        assert_eq!(error["error"]["exitCode"], code, "{line}");
        error["error"].clone()
    };
    let user = serve.user_id.as_str();
    assert_eq!(
        error(2, &["user", "create-token", user, "--ttl", "0"]),
        json!({
            "message": "InvalidParams: ttl: field must be a positive number",
            "exitCode": 2,
            "status": 400,
            "errors": [{"in": "query", "path": "ttl", "message": "field must be a positive number"}],
        })
    );
    let other = format!("{};nobody", serve.ecosystem_id);
    assert_eq!(
        error(4, &["user", "get", &other]),
        json!({
            "message": format!("User with id {other} does not exist."),
            "exitCode": 4,
            "status": 404,
        })
    );
    // An error that is not a response has only the message and the exit code.
    let unreachable = error(5, &["user", "get", user, "--url", "http://127.0.0.1:1"]);
    assert_eq!(unreachable.as_object().unwrap().len(), 2, "{unreachable}");
    // This is also true for an invalid argument.
    assert_eq!(
        error(2, &["user", "get", "bob"]),
        json!({
            "message": "invalid value 'bob' for '<USER_ID>': must have the form ECOSYSTEM;NAME, \
                        such as 'C58521fd8a5d9b5cc21987501;bob' (in a shell, quote it: it contains \
                        a semicolon)",
            "exitCode": 2,
        })
    );
    let mut command = serve.command(&["--output=JSON", "whoami", "--tokenfile", "x"]);
    command.env("TOKENRY_TOKEN", "");
    assert_eq!(
        refusal(command, 2, ""),
        "{\"error\":{\"message\":\"unexpected argument '--tokenfile' found; \
         tip: a similar argument exists: '--token-file'\",\"exitCode\":2}}"
    );
    for secret in [
        &["user", "get", "tk_uf_secret"][..],
        &["user", "get", user, "--token=secret"],
        &["introspect", "secret"],
        &["introspect", "--token-file", "tk_uf_secret"],
    ] {
        let shown = error(2, secret).to_string();
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn the_error_for_an_https_address_of_a_server_without_tls_says_what_to_use() {
    let serve = Serve::start();
    let url = serve.url.replace("http://", "https://");
    let line = serve.refusal(1, &["user", "get", &serve.user_id, "--url", &url]);
    let said = format!("{url} does not use TLS: use http:// for this address");
    assert_eq!(line, said);
}

#[test]
fn the_errors_about_the_address_and_the_token_name_the_next_step() {
    let serve = Serve::start();
    let get = ["user", "get", &serve.user_id];
    let home = serve.home.path();
    let line = refusal(tokenry(home, &get), 2, "");
    assert!(line.contains("or run `tokenry login` "), "{line}");
    let line = refusal(
        tokenry(home, &[&get[..], &["--profile", "staging"]].concat()),
        2,
        "",
    );
    assert!(
        line.contains("or run `tokenry login --profile staging` "),
        "{line}"
    );
    let line = refusal(tokenry(home, &["login"]), 2, "wrong");
    assert!(!line.contains("run `tokenry login`"), "{line}");

    // A token of the profile that is revoked.
    let token = serve.token(&[]);
    let login = ["login", "--url", &serve.url];
    assert_eq!(run(tokenry(home, &login), &token).code, 0);
    serve.ok_with(&token, &["revoke"]);
    let line = refusal(tokenry(home, &["whoami"]), 3, "");
    let said = format!(
        "Unauthorized: a valid token is required (the token is from the profile {}: run `tokenry login`)",
        crate::profile(home).display()
    );
    assert_eq!(line, said);

    let local = ["whoami", "--url", "http://127.0.0.1:1"];
    let mut command = tokenry(home, &local);
    command.env("TOKENRY_TOKEN", "wrong");
    let line = refusal(command, 5, "");
    assert!(
        line.ends_with("; `tokenry serve` starts a local server"),
        "{line}"
    );
}

#[test]
fn completions_offer_the_options_only_to_commands_that_call_the_api() {
    let home = tempfile::tempdir().unwrap();
    let completions = run(tokenry(home.path(), &["completions", "bash"]), "").stdout;
    let script = home.path().join("completions");
    std::fs::write(&script, completions).unwrap();
    let offered = |words: &str| {
        // Calls the completion as bash does for these words, followed by `--<TAB>`.
        let bash = format!(
            r#"source {}
            COMP_WORDS=(tokenry {words} --) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _tokenry tokenry -- "${{COMP_WORDS[COMP_CWORD - 1]}}"
            echo "${{COMPREPLY[@]}}""#,
            script.display()
        );
        let output = Command::new("bash").args(["-c", &bash]).output();
        String::from_utf8(output.expect("bash runs").stdout).unwrap()
    };
    for (words, own, calls_api) in [
        ("serve", "--port", false),
        ("user export", "--identity-table", false),
        ("user get", "--help", true),
        ("login", "--help", true),
    ] {
        let offered = offered(words);
        assert!(offered.contains(own), "{words}: {offered}");
        assert_eq!(
            offered.contains("--token-file"),
            calls_api,
            "{words}: {offered}"
        );
    }
}
