//! The fields of a query string or a form, with every problem of theirs at once.

use std::borrow::Cow;

use lambda_http::{Request, http::header::CONTENT_TYPE};

use super::{MAX_BODY, event::Raw};
use crate::error::{Error, Location, Problem, Result};

/// One `name=value` pair.
#[derive(Debug)]
struct Field<'a> {
    /// The name as it was sent, for an answer that says "as sent".
    raw_name: &'a str,
    name: Cow<'a, str>,
    value: Cow<'a, str>,
}

/// Fields that are taken one by one by name; what is wrong, and what nobody took, is a problem.
#[derive(Debug)]
pub struct Fields<'a> {
    location: Location,
    untaken: Vec<Field<'a>>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// The fields of the query string, read from its raw form: that alone keeps the order, and
    /// fields given twice.
    pub fn query(request: &'a Request) -> Self {
        let raw = request.extensions().get::<Raw>();
        Self::new(Location::Query, raw.map_or("", |raw| &raw.query))
    }

    /// The fields of a form body; none in an empty body.
    ///
    /// # Errors
    /// The body is too large, not decodable, or (unless it is empty) of another content type than
    /// `application/x-www-form-urlencoded`.
    pub fn form(request: &'a Request) -> Result<Self> {
        let body = body(request)?;
        let media_type = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default();
        let form = media_type
            .trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded");
        if !body.is_empty() && !form {
            return Err(Error::UnsupportedMediaType);
        }
        let text =
            str::from_utf8(body).map_err(|_| Error::InvalidBody("the body is not UTF-8 text"))?;
        Ok(Self::new(Location::Body, text))
    }

    fn new(location: Location, raw: &'a str) -> Self {
        let untaken = raw
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let raw_name = pair.split('=').next().unwrap_or_default();
                let (name, value) = form_urlencoded::parse(pair.as_bytes())
                    .next()
                    .unwrap_or_default();
                Field {
                    raw_name,
                    name,
                    value,
                }
            })
            .collect();
        Self {
            location,
            untaken,
            problems: Vec::new(),
        }
    }

    /// Takes the field of this name, if it is there and can be parsed.
    pub fn optional<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let mut given = self.untaken.extract_if(.., |field| field.name == name);
        let first = given.next()?;
        let message = if given.next().is_some() {
            "field must be given once".to_owned()
        } else {
            match parse(&first.value) {
                Ok(value) => return Some(value),
                Err(message) => message.into(),
            }
        };
        drop(given);
        self.problem(name, message);
        None
    }

    /// Takes the field of this name, which must be there.
    pub fn required<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.untaken.iter().any(|field| field.name == name) {
            self.problem(name, "field is required".to_owned());
        }
        self.optional(name, parse)
    }

    /// Ends the taking: the problems so far, and one that names what nobody took.
    pub fn finish(mut self) -> Vec<Problem> {
        let mut names: Vec<&str> = Vec::new();
        for field in &self.untaken {
            // A token that was sent for a name is not sent back.
            let name = if field.name.contains("tk_") || field.raw_name.contains("tk_") {
                "***"
            } else {
                field.raw_name
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !names.is_empty() {
            self.problem(
                "additional parameters",
                format!(
                    "contains fields that are not allowed: [ {} ]",
                    names.join(", ")
                ),
            );
        }
        self.problems
    }

    fn problem(&mut self, path: &'static str, message: String) {
        self.problems.push(Problem {
            location: self.location,
            path,
            message: message.into(),
        });
    }
}

/// The body's bytes, whatever encoding the gateway sent them in.
///
/// # Errors
/// It is over [`MAX_BODY`], or said to be base64 and is not.
pub fn body(request: &Request) -> Result<&[u8]> {
    let undecodable = request
        .extensions()
        .get::<Raw>()
        .is_some_and(|raw| raw.undecodable_body);
    if undecodable {
        return Err(Error::InvalidBody("the body cannot be decoded"));
    }
    let body: &[u8] = request.body().as_ref();
    if body.len() > MAX_BODY {
        return Err(Error::PayloadTooLarge);
    }
    Ok(body)
}
