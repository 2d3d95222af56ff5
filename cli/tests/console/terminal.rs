//! Tests of prompts at a pseudo-terminal.

use std::process::Command;

use rexpect::{
    process::WaitStatus,
    session::{PtySession, spawn_command},
};
use rustix::termios::{LocalModes, tcgetattr};

use crate::Serve;

/// Runs a command at a terminal with echo, and then prints whether echo is still on.
const SHELL: &str = r#"stty echo
    "$@"
    code=$?
    stty -a | tr ' ' '\n' | grep -x -e echo -e -echo
    exit $code"#;

impl Serve {
    /// Runs a command at a terminal.
    fn at_terminal(&self, arguments: &[&str]) -> PtySession {
        let mut command = Command::new("sh");
        command
            .args(["-c", SHELL, "sh", env!("CARGO_BIN_EXE_tokenry")])
            .args(arguments)
            .env("HOME", self.home.path())
            .env("TOKENRY_URL", &self.url)
            .env("TOKENRY_TOKEN", &self.account_token);
        spawn_command(command, Some(20_000)).expect("the command starts")
    }
}

/// Waits until the terminal shows this prompt and echo is off.
fn asked(session: &mut PtySession, prompt: &str) {
    session
        .exp_string(prompt)
        .expect("the terminal shows the prompt");
    let terminal = session
        .process()
        .get_file_handle()
        .expect("the process has a terminal");
    let echoes = || {
        let modes = tcgetattr(&terminal)
            .expect("the modes of the terminal can be read")
            .local_modes;
        modes.contains(LocalModes::ECHO)
    };
    for _ in 0..10_000_000 {
        if !echoes() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("echo is still on");
}

/// Returns the text that the terminal shows until the command ends, and the exit code. Checks that
/// echo is on again.
fn rest(mut session: PtySession) -> (String, i32) {
    let shown = session
        .exp_eof()
        .expect("the command ends")
        .replace('\r', "");
    let Ok(WaitStatus::Exited(_, code)) = session.process().wait() else {
        panic!("the command did not exit normally: {shown}");
    };
    let shown = shown.strip_suffix("\necho\n").expect("echo is on again");
    (shown.trim_start().to_owned(), code)
}

#[test]
fn a_secret_is_not_echoed() {
    let serve = Serve::start();
    let token = serve.token(&[]);
    let mut session = serve.at_terminal(&["introspect"]);
    asked(&mut session, "The token to introspect: ");
    session.send_line(&token).unwrap();
    let (shown, code) = rest(session);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.starts_with("active        true\n"), "{shown}");
    assert!(!shown.contains(&token), "{shown}");
}

#[test]
fn a_new_password_must_be_typed_twice() {
    let serve = Serve::start();
    let email = "demo@example.com";
    let put = [
        "user",
        "put",
        &serve.user_id,
        "--email",
        email,
        "--password",
    ];
    for (again, expected) in [("correct house", 2), ("correct horse", 0)] {
        let mut session = serve.at_terminal(&put);
        asked(&mut session, "The password: ");
        session.send_line("correct horse").unwrap();
        asked(&mut session, "The password again: ");
        session.send_line(again).unwrap();
        let (shown, code) = rest(session);
        assert_eq!(code, expected, "{shown}");
        assert!(!shown.contains("correct"), "{shown}");
    }
    serve.ok_with("correct horse", &["log-in", email]);
}

#[test]
fn an_interrupted_or_empty_prompt_stores_nothing() {
    let serve = Serve::start();
    for (typed, said, expected) in [('c', "interrupted", 130), ('m', "the token is required", 2)] {
        let mut session = serve.at_terminal(&["login"]);
        asked(&mut session, "The token: ");
        session.send_control(typed).unwrap();
        assert_eq!(rest(session), (said.to_owned(), expected));
    }
    assert!(!crate::profile(serve.home.path()).exists());
}
