//! What can go wrong, without a word of HTTP; `http::response` says how a client is told.

use std::borrow::Cow;

use serde::Serialize;

/// Where in a request a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// The query string.
    Query,
    /// The body.
    Body,
    /// A path parameter.
    Path,
    /// A header.
    Header,
}

/// One problem of a request, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The part of the request.
    #[serde(rename = "in")]
    pub location: Location,
    /// The field at fault.
    pub path: &'static str,
    /// What is wrong with it.
    pub message: Cow<'static, str>,
}

/// Why a request is not answered as asked.
///
/// What a client may see and what only an operator may see are apart: `cause` goes to the log and
/// nowhere else, and holds no secret.
#[derive(Debug)]
pub enum Error {
    /// No credential that counts.
    Unauthorized {
        /// Whether a token was sent at all (RFC 6750 §3 tells the two apart).
        token_sent: bool,
    },
    /// A log-in that failed, whatever the reason.
    WrongPassword,
    /// A credential that counts, but not for this.
    Forbidden,
    /// Fields that are not as they must be: all of them.
    Invalid(Vec<Problem>),
    /// A body that is wrong as a whole.
    InvalidBody(&'static str),
    /// A body whose fields, each right by itself, do not go together.
    InvalidTogether {
        /// What they are about.
        path: &'static str,
        /// The rule.
        message: &'static str,
    },
    /// A body over the limit.
    PayloadTooLarge,
    /// A body of another type than the endpoint reads.
    UnsupportedMediaType,
    /// A thing that does not exist, or is another account's: the whole text.
    NotFound(String),
    /// A thing in a state that does not allow it.
    Conflict(&'static str),
    /// Too many attempts.
    TooManyRequests {
        /// After how many seconds to try again.
        retry_after: u64,
    },
    /// The database throttles, is away, or answers what cannot be understood.
    Unavailable {
        /// For the operator.
        cause: String,
    },
    /// A fault of ours.
    Internal {
        /// For the operator.
        cause: String,
    },
}

impl Error {
    /// What a client is told of a user's id that is none, or that it may not give.
    pub const USER_ID: &'static str = "invalid user id";

    /// A path parameter that is not as it must be.
    pub fn path(path: &'static str, message: &'static str) -> Self {
        Self::from(Problem {
            location: Location::Path,
            path,
            message: message.into(),
        })
    }

    /// A request, or what it waits for, that took too long.
    pub fn out_of_time() -> Self {
        Self::Unavailable {
            cause: "no answer in time".to_owned(),
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Invalid(vec![problem])
    }
}

/// What a handler returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Both of two parts of a request, or the fields at fault of both; a body that is wrong as a whole
/// is told alone.
///
/// # Errors
/// Those of either part.
pub fn both<A, B>(a: Result<A>, b: Result<B>) -> Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(Error::Invalid(mut problems)), Err(Error::Invalid(more))) => {
            problems.extend(more);
            Err(Error::Invalid(problems))
        }
        (Err(Error::Invalid(_)) | Ok(_), Err(error)) | (Err(error), _) => Err(error),
    }
}
