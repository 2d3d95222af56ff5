//! Errors, independent of HTTP. `http::response` turns them into responses.

use std::borrow::Cow;

pub use tokenry_api::Location;

/// One problem of a request, in the form that the client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The part of the request that contains the field.
    pub location: Location,
    /// The name of the field.
    pub path: &'static str,
    /// What is wrong with the field.
    pub message: Cow<'static, str>,
}

/// Why a request fails.
///
/// `cause` is for the operator. It is written only to the log, and it contains no secret. All other
/// texts are for the client.
#[derive(Debug)]
pub enum Error {
    /// The request has no valid credential.
    Unauthorized {
        /// Whether the request contains a token. The response depends on this (RFC 6750 §3).
        token_sent: bool,
    },
    /// A log-in failed, for any reason. The response does not contain the reason.
    WrongPassword,
    /// A user who wants to change its password sent a wrong current password, or has no password.
    WrongCurrentPassword,
    /// The credential is valid, but it does not allow this request.
    Forbidden,
    /// The credential is valid, but it lacks a scope (RFC 6750 §3.1). Contains the missing scopes,
    /// separated by spaces.
    InsufficientScope(Cow<'static, str>),
    /// At least one field is invalid. Contains the problems of all invalid fields.
    Invalid(Vec<Problem>),
    /// The request is invalid, and the cause is not the value of a field. For example, the body is
    /// not a JSON object. Contains the message for the client.
    InvalidBody(&'static str),
    /// Each field of the body is valid, but the combination of fields is invalid.
    InvalidCombination {
        /// The `path` of the problem in the response.
        path: &'static str,
        /// The rule that the fields break.
        message: &'static str,
    },
    /// The body exceeds the size limit.
    PayloadTooLarge,
    /// The body has a content type that the endpoint does not read. Contains the content type that
    /// it reads.
    UnsupportedMediaType(&'static str),
    /// The requested object does not exist, or it belongs to another account. Contains the whole
    /// text of the response.
    NotFound(String),
    /// The state of a stored object does not allow the request. Contains the message for the
    /// client.
    Conflict(&'static str),
    /// A condition in a header of the request is false. Contains the message for the client.
    PreconditionFailed(&'static str),
    /// There were too many attempts.
    TooManyRequests {
        /// The number of seconds after which the client may retry.
        retry_after: u64,
    },
    /// The database is unavailable, throttles the request, or sends a malformed response.
    Unavailable {
        /// The reason, for the operator.
        cause: String,
    },
    /// A fault in Tokenry, in its configuration or in its data.
    Internal {
        /// The reason, for the operator.
        cause: String,
    },
}

impl Error {
    /// The message for a user id that is invalid, and for a user id that clients are not allowed to
    /// choose.
    pub const USER_ID: &'static str = "invalid user id";

    /// Returns the error for an invalid path parameter.
    pub fn invalid_path(path: &'static str, message: &'static str) -> Self {
        Self::from(Problem {
            location: Location::Path,
            path,
            message: message.into(),
        })
    }

    /// Returns the error for a request, or for a part of a request, that takes too long.
    pub fn out_of_time() -> Self {
        Self::Unavailable {
            cause: "no response in time".to_owned(),
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Invalid(vec![problem])
    }
}

/// The result of a handler, or of a function that a handler calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Combines the results of two parts of a request.
///
/// # Errors
/// The error of the part that failed. If both parts have invalid fields, the error contains the
/// problems of both parts. If one part has invalid fields and the other part has a different error,
/// only the different error is returned.
pub fn combine<A, B>(a: Result<A>, b: Result<B>) -> Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(Error::Invalid(mut problems)), Err(Error::Invalid(more))) => {
            problems.extend(more);
            Err(Error::Invalid(problems))
        }
        (Err(Error::Invalid(_)) | Ok(_), Err(error)) | (Err(error), _) => Err(error),
    }
}
