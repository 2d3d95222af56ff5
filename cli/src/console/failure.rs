//! The console's failures. Each failure has one line of text, and a kind that sets the exit code.

use std::{fmt, process::ExitCode};

use serde::Serialize;
use tokenry_api::Problem;
use ureq::http::StatusCode;

/// The exit codes in `tokenry --help`.
pub const EXIT_CODES: &str = "\
Exit codes of the commands that call the API:
  0    The command succeeded.
  1    A failure that is not listed below: for example, an internal error, a response that is not
       from Tokenry, or output that cannot be written.
  2    An argument, a variable or the profile is invalid, or the API rejects a value (400, 413).
  3    The API refuses the request: an invalid credential, missing rights, a conflict, or too many
       attempts or requests (401, 403, 409, 429).
  4    The resource does not exist, or the API hides it from this caller.
       For `introspect`: the token is not active.
  5    The server cannot be reached or does not respond in time, or the response is 502, 503 or 504.
  130  The user interrupted the command with ctrl-C.";

/// The kind of a failure. The value of the kind is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any other failure.
    Other = 1,
    /// The input of the command is invalid, or the API rejects a value. clap also uses this code.
    Usage = 2,
    /// The API refuses the request: an invalid credential, missing rights, a conflict, or too many
    /// attempts or requests.
    Refused = 3,
    /// The resource does not exist, or the API hides it from this caller.
    NotFound = 4,
    /// The server cannot be reached or does not respond in time, or the response is 502, 503 or
    /// 504.
    Unavailable = 5,
    /// Interrupted by ctrl-C. The exit code is 128 plus the signal's number, as in shells.
    Interrupted = 130,
}

/// A failure. Its texts contain no secret and no control character.
#[derive(Clone, Debug)]
pub struct Failure {
    kind: Kind,
    line: String,
    /// The status and the problems of the API's response, if there is a response.
    status: Option<u16>,
    problems: Vec<Problem>,
}

/// The JSON of a failure.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    message: &'a str,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    errors: &'a [Problem],
}

impl Failure {
    /// Creates a failure of this kind. Escapes control characters in the line, and removes text
    /// that looks like a token, because the user may have passed a token as a file name.
    pub fn new(kind: Kind, line: impl fmt::Display) -> Self {
        Self {
            kind,
            line: clean(&line.to_string()),
            status: None,
            problems: Vec::new(),
        }
    }

    /// Adds the status and the problems of the API's response. Cleans the texts of the problems
    /// like [`Failure::new`].
    #[must_use]
    pub fn of_response(mut self, status: StatusCode, problems: Vec<Problem>) -> Self {
        self.status = Some(status.as_u16());
        self.problems = problems;
        for problem in &mut self.problems {
            problem.message = clean(&problem.message);
            problem.path = problem.path.as_deref().map(clean);
        }
        self
    }

    /// Creates a failure for invalid input.
    pub fn usage(line: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, line)
    }

    /// Creates the failure for ctrl-C.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// Returns the failure as one line of JSON.
    ///
    /// # Panics
    /// The failure cannot be serialized, which does not happen.
    pub fn json(&self) -> String {
        let report = Report {
            message: &self.line,
            exit_code: self.kind as u8,
            status: self.status,
            errors: &self.problems,
        };
        let report = serde_json::to_string(&report).expect("a failure serializes to JSON");
        format!(r#"{{"error":{report}}}"#)
    }

    /// Returns the exit code of the process.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

/// Returns the failure of a command that changes properties, but was given none.
pub fn nothing_to_change() -> Failure {
    Failure::usage("nothing to change: give at least one option; --help lists them")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

fn clean(text: &str) -> String {
    without_tokens(&printable(text))
}

/// Replaces text that looks like a token with `***`.
fn without_tokens(text: &str) -> String {
    let mut parts = text.split("tk_");
    let first = parts.next().unwrap_or_default().to_owned();
    let of_token = |c: char| c.is_ascii_alphanumeric() || c == '_';
    parts.fold(first, |text, part| {
        text + "***" + part.trim_start_matches(of_token)
    })
}

/// Escapes the characters of an untrusted text that control a terminal ([`controls`]). The result
/// is one line.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = controls(c).then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// Returns whether a terminal interprets this character instead of showing it. This is true for
/// control characters, line separators, and characters that change the direction of the text.
pub fn controls(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}
