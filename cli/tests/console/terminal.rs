//! Tests of prompts, widths and colours at a pseudo-terminal.

use std::{env, process::Command};

use rexpect::{
    process::WaitStatus,
    session::{PtySession, spawn_command},
};
use rustix::termios::{LocalModes, tcgetattr};
use unicode_width::UnicodeWidthStr;

use crate::{Serve, run, text};

/// Runs a command at a terminal with echo and this width, and then prints whether echo is still on.
const SHELL: &str = r#"stty echo cols "$WIDTH" rows 24
    "$@"
    code=$?
    stty -a | tr ' ' '\n' | grep -x -e echo -e -echo
    exit $code"#;

impl Serve {
    /// Runs a command at a terminal without colours.
    fn at_terminal(&self, arguments: &[&str]) -> PtySession {
        self.at_terminal_with(arguments, &[("TERM", "dumb")])
    }

    /// Runs a command at a terminal of 80 columns with these variables in its environment.
    fn at_terminal_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> PtySession {
        let mut command = Command::new("sh");
        command
            .args(["-c", SHELL, "sh", env!("CARGO_BIN_EXE_tokenry")])
            .args(arguments)
            .env_clear()
            .env("PATH", env::var_os("PATH").expect("there is a path"))
            .env("HOME", self.home.path())
            .env("TOKENRY_URL", &self.url)
            .env("TOKENRY_TOKEN", &self.account_token)
            .env("WIDTH", "80")
            .envs(variables.iter().copied());
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
    // rexpect returns each byte as a character.
    let shown: Vec<_> = shown.chars().map(|byte| byte as u8).collect();
    let shown = String::from_utf8(shown).expect("the terminal shows UTF-8");
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
fn two_different_entries_of_a_new_password_change_nothing() {
    let serve = Serve::start();
    let mut session = serve.at_terminal(&["password", "change"]);
    asked(&mut session, "The current password: ");
    session.send_line("battery staple").unwrap();
    asked(&mut session, "The new password: ");
    session.send_line("correct horse").unwrap();
    asked(&mut session, "The new password again: ");
    session.send_line("correct house").unwrap();
    let (shown, code) = rest(session);
    assert_eq!(code, 2, "{shown}");
    assert!(
        shown.ends_with("the two entries of the new password differ"),
        "{shown}"
    );
    assert!(
        !shown.contains("correct") && !shown.contains("battery"),
        "{shown}"
    );
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

#[test]
fn an_ecosystem_is_deleted_only_after_a_confirmation() {
    let serve = Serve::start();
    let id = text(&serve.json(&["ecosystem", "create"]), "id");
    let question = format!("Delete {id} with its users and their tokens? ");
    let deleted = format!("{id} is deleted.");
    for (typed, said, expected) in [
        ("", "nothing is deleted", 1),
        ("no", "nothing is deleted", 1),
        ("Yes", deleted.as_str(), 0),
    ] {
        serve.ok(&["ecosystem", "get", &id]);
        let mut session = serve.at_terminal(&["ecosystem", "delete", &id]);
        session.exp_string(&question).unwrap();
        session.send_line(typed).unwrap();
        let (shown, code) = rest(session);
        assert!(shown.ends_with(said), "{shown}");
        assert_eq!(code, expected, "{shown}");
    }
    serve.refusal(4, &["ecosystem", "get", &id]);
}

#[test]
fn a_list_fits_the_terminal_and_no_word_is_split() {
    let serve = Serve::start();
    let user = serve.user_id.as_str();
    let (name, scope) = ("the tablet of Zoë in 東京", "read orders:read orders:write");
    serve.token(&["--name", name, "--scope", scope]);
    let list = ["user", "list-tokens", user];
    let piped = serve.ok(&list);
    for (width, lines) in [
        // The table is too wide, so each token is a record.
        (40, 9),
        (105, 8),
        // The cells wrap.
        (106, 6),
        (110, 4),
        (161, 3),
        // The table has its full width.
        (162, 2),
        (300, 2),
    ] {
        let variables = [("TERM", "dumb"), ("WIDTH", &width.to_string())];
        let (shown, code) = rest(serve.at_terminal_with(&list, &variables));
        assert_eq!(
            (shown.lines().count(), code),
            (lines, 0),
            "{width}: {shown}"
        );
        for line in shown.lines() {
            assert!(line.width() <= width, "{width}: {shown}");
        }
        // A time may wrap at its T.
        for word in piped.split([' ', '\n', 'T']) {
            assert!(shown.contains(word), "{width}, {word}: {shown}");
        }
        assert_eq!(shown == piped.trim_end(), lines == 2, "{width}: {shown}");
    }
}

#[test]
fn output_has_styles_only_if_the_user_expects_them() {
    let serve = Serve::start();
    let user = serve.user_id.as_str();
    let id = text(&serve.json(&["user", "create-token", user]), "tokenId");
    let get = ["token", "get", user, &id];
    let (bold, green) = ("\u{1b}[1mtokenId", "\u{1b}[32m");
    for (variables, expected) in [
        (&[("TERM", "xterm")][..], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[("TERM", "xterm"), ("CLICOLOR", "0")], false),
        (&[("TERM", "dumb")], false),
        (&[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")], true),
    ] {
        let (shown, code) = rest(serve.at_terminal_with(&get, variables));
        assert_eq!(code, 0, "{shown}");
        let styles = [bold, green].map(|style| shown.contains(style));
        assert_eq!(styles, [expected, expected], "{variables:?}: {shown}");
        assert_eq!(shown.contains('\u{1b}'), expected, "{shown}");
    }

    for (when, variables, expected) in [
        ("always", [("NO_COLOR", "1")], true),
        ("never", [("TERM", "xterm")], false),
    ] {
        let arguments = [&get[..], &["--color", when]].concat();
        let (shown, _) = rest(serve.at_terminal_with(&arguments, &variables));
        assert_eq!(shown.contains(bold), expected, "{when}: {shown}");
    }

    // A failure is red, but its JSON is not.
    let failing = ["ecosystem", "get", "C58521fd8a5d9b5cc21987501"];
    let json = [&failing[..], &["--output", "json"]].concat();
    for (arguments, start) in [(&failing[..], "\u{1b}[31m"), (&json, "{")] {
        let (shown, code) = rest(serve.at_terminal_with(arguments, &[("TERM", "xterm")]));
        assert_eq!((shown.starts_with(start), code), (true, 4), "{shown}");
    }

    for (variable, expected) in [("TERM", false), ("CLICOLOR_FORCE", true)] {
        let mut command = serve.command(&get);
        command.env(variable, "xterm");
        let ran = run(command, "");
        assert_eq!(ran.stdout.contains('\u{1b}'), expected, "{ran:?}");
    }
}
