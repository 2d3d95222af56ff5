//! The console's failures: one line for each, and the exit code for its kind.

use std::{fmt, process::ExitCode};

/// The exit codes in `tokenry --help`.
pub const EXIT_CODES: &str = "\
Exit codes of the commands that call the API:
  0  done
  1  any other failure: an internal error, an address that is not Tokenry's, output that cannot be written
  2  usage: an invalid argument, variable or profile, or a value that the API rejects (400, 413)
  3  refused: an invalid credential, missing rights, a conflict, too many attempts (401, 403, 409, 429)
  4  not found; for introspect: the token is not active
  5  unavailable: no server, no response in time, or the API is unavailable (502, 503, 504)
  130  interrupted";

/// The kind of a failure, which is its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any other failure.
    Other = 1,
    /// The input of the command is invalid. clap uses the same exit code.
    Usage = 2,
    /// The API does not let the caller do this, or not now.
    Refused = 3,
    /// The resource does not exist, or this caller may not know about it.
    NotFound = 4,
    /// There is no response, or it asks for a retry.
    Unavailable = 5,
    /// Interrupted by ctrl-C. The exit code is 128 plus the signal's number, as in shells.
    Interrupted = 130,
}

/// A failure. Its line contains no secret and no control character.
#[derive(Clone, Debug)]
pub struct Failure {
    kind: Kind,
    line: String,
}

impl Failure {
    /// Creates a failure of this kind. Escapes control characters in the line, and removes text
    /// that looks like a token, because a token may have been passed as a file name.
    pub fn new(kind: Kind, line: impl fmt::Display) -> Self {
        Self {
            kind,
            line: without_tokens(&printable(&line.to_string())),
        }
    }

    /// Creates a failure for invalid input.
    pub fn usage(line: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, line)
    }

    /// Creates the failure for ctrl-C.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// Returns the exit code of the process.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
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

/// Escapes control characters in an untrusted text, so that it is one line and cannot control the
/// terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}
