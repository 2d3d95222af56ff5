//! Runs the Lambda binary, and checks the error message if the binary cannot start.

use std::process::Command;

fn refusal(handler: Option<&str>, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_functions"));
    command.env_clear().envs(variables.iter().copied());
    if let Some(handler) = handler {
        command.env("_HANDLER", handler);
    }
    let output = command.output().expect("cannot run the binary");
    let line = String::from_utf8(output.stderr).expect("the error message is not UTF-8");
    assert!(!output.status.success(), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[test]
fn an_unknown_handler_gives_a_one_line_error() {
    assert_eq!(
        refusal(Some("mint"), &[]),
        "no function is named \"mint\"\n"
    );
    assert_eq!(refusal(None, &[]), "no function is named \"\"\n");
}

#[test]
fn a_missing_or_invalid_variable_gives_a_one_line_error_with_its_name() {
    let line = refusal(Some("introspect-token"), &[]);
    assert_eq!(line, "TOKENRY_IDENTITY_TABLE is not set\n");
    let variables = [
        ("TOKENRY_IDENTITY_TABLE", "identity"),
        ("TOKENRY_LOG", "loud"),
    ];
    let line = refusal(Some("introspect-token"), &variables);
    assert!(
        line.starts_with("TOKENRY_LOG is not one of off, error"),
        "{line}"
    );
}
