//! Reads secrets from a prompt, standard input or a file, never from an argument.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read},
    path::Path,
};

use tokenry_api::Secret;
use zeroize::Zeroizing;

use super::failure::Failure;

/// The maximum length of a line with a secret, in bytes. No secret of the API is longer.
const MAX_LENGTH: u64 = 16 * 1024;

/// Reads one line with a secret. At a terminal, prompts for `what` and turns echo off. Otherwise
/// reads standard input.
///
/// # Errors
/// The line is empty or cannot be read.
pub fn ask(what: &str) -> Result<Secret, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line(&mut stdin.lock(), what, "standard input");
    }
    match rpassword::prompt_password(format!("{}: ", capitalised(what))) {
        Ok(text) if text.is_empty() => Err(Failure::usage(format!("{what} is required"))),
        Ok(text) => Ok(text.into()),
        Err(error) if error.kind() == ErrorKind::Interrupted => Err(Failure::interrupted()),
        Err(error) => Err(unreadable(what, "the terminal", &error)),
    }
}

/// Reads a new secret like [`ask`]. At a terminal, prompts twice, because the user cannot see
/// typing errors.
///
/// # Errors
/// The line is empty or cannot be read, or the two entries differ.
pub fn ask_new(what: &str) -> Result<Secret, Failure> {
    let secret = ask(what)?;
    if io::stdin().is_terminal() && ask(&format!("{what} again"))? != secret {
        return Err(Failure::usage(format!("the two entries of {what} differ")));
    }
    Ok(secret)
}

/// Reads the first line of a file. If the path is `-`, calls [`ask`] instead.
///
/// # Errors
/// The line is empty or cannot be read.
pub fn from_file(path: &Path, what: &str) -> Result<Secret, Failure> {
    if path == Path::new("-") {
        return ask(what);
    }
    let place = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(what, &place, &error))?;
    line(&mut BufReader::new(file), what, &place)
}

/// Returns the secret as a token. Removes surrounding white space, which a user easily copies
/// together with a token.
///
/// # Errors
/// The token is empty, or it contains white space or a character that is not printable ASCII.
pub fn as_token(secret: &Secret, what: &str) -> Result<Secret, Failure> {
    let token = secret.reveal().trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::usage(format!("{what} is not a token")));
    }
    Ok(token.to_owned().into())
}

/// Reads the next line. Removes the line break.
fn line(reader: &mut impl BufRead, what: &str, place: &str) -> Result<Secret, Failure> {
    // The capacity is large enough for usual secrets, so that the text is not reallocated. A
    // reallocation would leave a copy of the secret in memory.
    let mut text = Zeroizing::new(String::with_capacity(1024));
    let read = reader.take(MAX_LENGTH).read_line(&mut text);
    read.map_err(|error| unreadable(what, place, &error))?;
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    if text.is_empty() {
        return Err(Failure::usage(format!("{place} does not contain {what}")));
    }
    Ok(std::mem::take(&mut *text).into())
}

fn unreadable(what: &str, place: &str, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read {what} from {place}: {error}"))
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}
