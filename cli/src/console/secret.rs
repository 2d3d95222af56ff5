//! Secrets, which come from a prompt or from standard input and never from an argument.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read},
    path::Path,
};

use tokenry_api::Secret;
use zeroize::Zeroizing;

use super::failure::Failure;

/// More than any secret that the API takes.
const MAX_LENGTH: u64 = 16 * 1024;

/// Reads one line: at a terminal with this prompt and without echo, else from standard input.
///
/// # Errors
/// Nothing is there, or it cannot be read.
pub fn ask(what: &str) -> Result<Secret, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line(&mut stdin.lock(), what, "standard input");
    }
    match rpassword::prompt_password(format!("{}: ", capitalised(what))) {
        Ok(text) if text.is_empty() => Err(Failure::usage(format!("{what} is needed"))),
        Ok(text) => Ok(text.into()),
        Err(error) if error.kind() == ErrorKind::Interrupted => Err(Failure::interrupted()),
        Err(error) => Err(unreadable(what, "the terminal", &error)),
    }
}

/// As [`ask`], and at a terminal once more: what nobody saw may be mistyped.
///
/// # Errors
/// As those of [`ask`]; the two differ.
pub fn ask_new(what: &str) -> Result<Secret, Failure> {
    let secret = ask(what)?;
    if io::stdin().is_terminal() && ask(&format!("{what} again"))? != secret {
        return Err(Failure::usage(format!("{what} differs the second time")));
    }
    Ok(secret)
}

/// Reads a file's first line; `-` is [`ask`].
///
/// # Errors
/// Nothing is there, or it cannot be read.
pub fn from_file(path: &Path, what: &str) -> Result<Secret, Failure> {
    if path == Path::new("-") {
        return ask(what);
    }
    let place = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(what, &place, &error))?;
    line(&mut BufReader::new(file), what, &place)
}

/// The secret as a token: without the white space that copying leaves around it.
///
/// # Errors
/// It cannot be one, since no header could carry it.
pub fn as_token(secret: &Secret, what: &str) -> Result<Secret, Failure> {
    let token = secret.reveal().trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::usage(format!("{what} is no token")));
    }
    Ok(token.to_owned().into())
}

/// The next line, without its end.
fn line(reader: &mut impl BufRead, what: &str, place: &str) -> Result<Secret, Failure> {
    // Allocated once, so that no copy stays behind.
    let mut text = Zeroizing::new(String::with_capacity(1024));
    let read = reader.take(MAX_LENGTH).read_line(&mut text);
    read.map_err(|error| unreadable(what, place, &error))?;
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    if text.is_empty() {
        return Err(Failure::usage(format!("{what} is not in {place}")));
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
