//! What goes wrong in the console: one line, and the exit code that tells its kind.

use std::{fmt, process::ExitCode};

/// What `tokenry --help` says of the exit codes.
pub const EXIT_CODES: &str = "\
Exit codes of the commands that call the API:
  0  done
  1  anything else: an internal error, an address where no Tokenry answers, output that cannot be written
  2  usage: an argument, a variable, the profile, or a value that the API does not take (400, 413)
  3  refused: the credential, its rights, a conflict, too many attempts (401, 403, 409, 429)
  4  not found; of introspect: the token is not active
  5  unavailable: no server, no answer in time, or the API says so (502, 503, 504)
  130  interrupted";

/// The kind of a failure, which the exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// None of the others.
    Other = 1,
    /// What the command was given is wrong; clap's own code too.
    Usage = 2,
    /// The API does not let the caller do this, or not now.
    Refused = 3,
    /// It does not exist, for this caller.
    NotFound = 4,
    /// There is no answer, or one that asks to try again.
    Unavailable = 5,
    /// By ctrl-C: 128 and the signal's number, as shells have it.
    Interrupted = 130,
}

/// A failure. Its line holds no secret and no control character.
#[derive(Clone, Debug)]
pub struct Failure {
    kind: Kind,
    line: String,
}

impl Failure {
    /// A failure of this kind. What could move a terminal's cursor is written out in the line, and what looks like a token
    /// is left out: one may have been given for a file's name.
    pub fn new(kind: Kind, line: impl fmt::Display) -> Self {
        Self {
            kind,
            line: without_tokens(&printable(&line.to_string())),
        }
    }

    /// What the command was given is wrong.
    pub fn usage(line: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, line)
    }

    /// Somebody pressed ctrl-C.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// The code that the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// A text with `***` for whatever looks like a token.
fn without_tokens(text: &str) -> String {
    let mut parts = text.split("tk_");
    let first = parts.next().unwrap_or_default().to_owned();
    let of_token = |c: char| c.is_ascii_alphanumeric() || c == '_';
    parts.fold(first, |text, part| {
        text + "***" + part.trim_start_matches(of_token)
    })
}

/// A text from elsewhere as one line that a terminal shows and does not obey.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}
