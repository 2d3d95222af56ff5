//! Errors.

use std::{error::Error, fmt};

use serde::{Deserialize, Serialize};

/// The body of every error response except 404. (The body of a 404 is one line of plain text.) The
/// body contains all problems of the request at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// The kind of the error, such as `InvalidParams` or `Conflict`. `openapi.yaml` lists the
    /// kinds. A service that is newer than this crate may send other kinds.
    pub error_type: String,
    /// At least one problem.
    pub errors: Vec<Problem>,
    /// The OAuth error code, such as `invalid_request` or `invalid_client` (RFC 6749 §5.2). Only
    /// introspection and revocation send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One problem of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The part of the request that contains the field. `None` unless the kind of the error is
    /// `InvalidParams`, or `Forbidden` because of a wrong current password.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The description of the problem.
    pub message: String,
    /// The name of the field, or `additional parameters` if the request has fields that are not
    /// allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error_type)?;
        for (at, problem) in self.errors.iter().enumerate() {
            f.write_str(if at == 0 { ": " } else { "; " })?;
            if let Some(path) = &problem.path {
                write!(f, "{path}: ")?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

impl Error for ApiError {}
