//! The fields of a query string, a form or a JSON object, with every problem of theirs at once.

use std::{borrow::Cow, fmt};

use lambda_http::{Request, http::header::CONTENT_TYPE};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::{MAX_BODY, MAX_FORM_FIELDS, event::Raw};
use crate::domain::error::{Error, Location, Problem, Result, combine};

/// How many of the fields that are not allowed an error names.
const MAX_NAMED: usize = 20;

/// One field.
struct Field<'a, V> {
    /// The name as it was sent, for an answer that says "as sent".
    raw_name: Cow<'a, str>,
    name: Cow<'a, str>,
    value: V,
}

/// Fields that are taken one by one by name; what is wrong, and what nobody took, is a problem.
pub struct Fields<'a, V> {
    location: Location,
    untaken: Vec<Field<'a, V>>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a, Cow<'a, str>> {
    /// The fields of the query string, read from its raw form: that alone keeps the order, and
    /// fields given twice.
    pub fn query(request: &'a Request) -> Self {
        let raw = request.extensions().get::<Raw>();
        let raw = raw.map_or("", |raw| &raw.query);
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        let untaken = pairs.map(|pair| {
            let parsed = form_urlencoded::parse(pair.as_bytes()).next();
            let (name, value) = parsed.unwrap_or_default();
            Field {
                raw_name: pair.split('=').next().unwrap_or_default().into(),
                name,
                value,
            }
        });
        Self::new(Location::Query, untaken)
    }

    /// The first [`MAX_FORM_FIELDS`] fields of a form body, and whether there are more; none in an
    /// empty body.
    ///
    /// # Errors
    /// The body is too large, not decodable, or (unless it is empty) of another content type than
    /// `application/x-www-form-urlencoded`.
    pub fn form(request: &'a Request) -> Result<(Self, bool)> {
        let body = body_of_type(request, "application/x-www-form-urlencoded")?;
        let mut pairs = form_urlencoded::parse(body);
        let first = pairs.by_ref().take(MAX_FORM_FIELDS);
        let untaken = first.map(|(name, value)| Field {
            raw_name: name.clone(),
            name,
            value,
        });
        let fields = Self::new(Location::Body, untaken);
        Ok((fields, pairs.next().is_some()))
    }

    /// Takes the field of this name, if it is there and can be parsed.
    pub fn optional<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.parsed(name, parse(&value))
    }

    /// Takes the field of this name, which must be there.
    pub fn required<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.require(name);
        self.optional(name, parse)
    }
}

impl Fields<'static, Value> {
    /// The members of the JSON object in the body.
    ///
    /// # Errors
    /// The body is too large, not decodable, of another content type than `application/json`
    /// (unless it is empty), or no JSON object.
    pub fn json(request: &Request) -> Result<Self> {
        Self::members(body_of_type(request, "application/json")?)
            .map_err(|_| Error::InvalidBody("the body is not a JSON object"))
    }

    fn members(body: &[u8]) -> serde_json::Result<Self> {
        let Members(members) = serde_json::from_slice(body)?;
        let untaken = members.into_iter().map(|(name, value)| Field {
            raw_name: name.clone().into(),
            name: name.into(),
            value,
        });
        Ok(Self::new(Location::Body, untaken))
    }

    /// The text of the member of this name, if it is one; leaves it where it is.
    pub fn peek(&self, name: &str) -> Option<&str> {
        let mut fields = self.untaken.iter();
        fields.find(|field| field.name == name)?.value.as_str()
    }

    /// Takes the member of this name, if it is there and a text that can be parsed; what is no text
    /// is as wrong as an empty one.
    pub fn text<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.parsed(name, parse(value.as_str().unwrap_or_default()))
    }

    /// Takes the member of this name, which must be there and a text that can be parsed.
    pub fn required<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let Value::String(text) = self.required_value(name)? else {
            self.problem(name, "expected field to be a string".to_owned());
            return None;
        };
        self.parsed(name, parse(&text))
    }

    /// Takes the member of this name, if it is there and null or a text that can be parsed.
    pub fn nullable<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Option<T>> {
        match self.take(name)? {
            Value::Null => Some(None),
            Value::String(text) => self.parsed(name, parse(&text)).map(Some),
            _ => {
                self.problem(name, "expected field to be a string".to_owned());
                None
            }
        }
    }

    /// Takes the member of this name, which must be there, whatever it is.
    pub fn required_value(&mut self, name: &'static str) -> Option<Value> {
        self.require(name);
        self.take(name)
    }

    /// Takes the member of this name, if it is there and a number that can be parsed from its
    /// digits.
    pub fn number<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        // A text of digits is no number. However a number is written, 60.0 is 60, as to JSON Schema.
        let digits = match self.take(name)? {
            Value::Number(number) => match number.as_f64() {
                Some(whole) if number.is_f64() && whole.fract() == 0.0 => format!("{whole:.0}"),
                _ => number.to_string(),
            },
            _ => String::new(),
        };
        self.parsed(name, parse(&digits))
    }

    /// Takes the member of this name, if it is there and true or false.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?.as_bool();
        if value.is_none() {
            self.problem(name, "expected field to be a boolean".to_owned());
        }
        value
    }
}

impl<'a, V> Fields<'a, V> {
    fn new(location: Location, fields: impl Iterator<Item = Field<'a, V>>) -> Self {
        Self {
            location,
            untaken: fields.collect(),
            problems: Vec::new(),
        }
    }

    /// Whether there is a field of this name, whatever it is.
    pub fn has(&self, name: &str) -> bool {
        self.untaken.iter().any(|field| field.name == name)
    }

    /// Takes the field of this name, if it is there once.
    fn take(&mut self, name: &'static str) -> Option<V> {
        let mut given = self.untaken.extract_if(.., |field| field.name == name);
        let first = given.next()?;
        if given.count() > 0 {
            self.problem(name, "field must be given once".to_owned());
            return None;
        }
        Some(first.value)
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// The problems so far, and one that names what nobody took: at most 20 different names.
    pub fn finish(mut self) -> Result<()> {
        let mut names: Vec<&str> = Vec::new();
        for field in &self.untaken {
            if names.len() > MAX_NAMED {
                break;
            }
            // A token that was sent for a name is not sent back.
            let name = if field.name.contains("tk_") || field.raw_name.contains("tk_") {
                "***"
            } else {
                &field.raw_name
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > MAX_NAMED {
            names.truncate(MAX_NAMED);
            names.push("...");
        }
        if !names.is_empty() {
            let names = names.join(", ");
            self.problem(
                "additional parameters",
                format!("contains fields that are not allowed: [ {names} ]"),
            );
        }
        self.finish_ignoring_others()
    }

    /// Ends the taking, and ignores what nobody took (RFC 6749 section 3.2).
    ///
    /// # Errors
    /// The problems so far.
    pub fn finish_ignoring_others(self) -> Result<()> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(self.problems))
        }
    }

    /// What was parsed of a field, or its problem.
    fn parsed<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parsed: Result<T, E>,
    ) -> Option<T> {
        parsed
            .map_err(|message| self.problem(name, message.into()))
            .ok()
    }

    /// A field that is not there is a problem.
    fn require(&mut self, name: &'static str) {
        if !self.has(name) {
            self.problem(name, "field is required".to_owned());
        }
    }

    fn problem(&mut self, path: &'static str, message: String) {
        self.problems.push(Problem {
            location: self.location,
            path,
            message: message.into(),
        });
    }
}

/// The members of a JSON object in their order, those with one name as well: `serde_json` on its
/// own keeps the last of them.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The body's bytes, if they are said to be of this media type; an empty body may be of any, since
/// gateways add content types.
fn body_of_type<'a>(request: &'a Request, media_type: &str) -> Result<&'a [u8]> {
    let body = body(request)?;
    if body.is_empty() || is_of_type(request, media_type) {
        Ok(body)
    } else {
        Err(Error::UnsupportedMediaType)
    }
}

/// Whether the request says that its body has this media type.
fn is_of_type(request: &Request, media_type: &str) -> bool {
    let said = content_type(request).split(';').next();
    said.is_some_and(|said| said.trim().eq_ignore_ascii_case(media_type))
}

/// The content type as the request says it; empty if it says none.
fn content_type(request: &Request) -> &str {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Checks that a request to an endpoint without query fields and body has neither.
///
/// # Errors
/// There is a query field or a body.
pub fn no_input(request: &Request) -> Result<()> {
    combine(no_body(request), Fields::query(request).finish()).map(|_| ())
}

/// Checks that a request to an endpoint without a body has none. The JSON object `{}` counts as none.
///
/// # Errors
/// [`Error::Invalid`] names the members of a JSON object; [`Error::InvalidBody`] for any other body.
pub fn no_body(request: &Request) -> Result<()> {
    let body = body(request)?;
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    match Fields::members(body) {
        Ok(members) => members.finish(),
        Err(_) => Err(Error::InvalidBody("this endpoint takes no body")),
    }
}

/// Checks that a request has no JSON body, as [`no_body`] does, and ignores a body of another content
/// type: clients of the first API send one when they mint a token. Every type of JSON counts, such as
/// `text/json` or `application/problem+json`.
///
/// # Errors
/// There is a JSON body, or a body that is too large.
pub fn no_json_body(request: &Request) -> Result<()> {
    if content_type(request).to_ascii_lowercase().contains("json") {
        no_body(request)
    } else {
        body(request).map(|_| ())
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// The shortest of several times that it takes to refuse so many fields of different names.
    #[expect(
        clippy::disallowed_methods,
        reason = "the machine's time is what is measured"
    )]
    fn time_to_refuse(count: usize) -> Duration {
        let members: serde_json::Map<_, _> = (0..count)
            .map(|n| (format!("{n:x}"), Value::Null))
            .collect();
        let body = serde_json::to_vec(&members).expect("JSON");
        let times = (0..20).map(|_| {
            let started = Instant::now();
            let mut fields = Fields::members(&body).expect("an object");
            assert!(fields.text("x", |_| Ok::<_, String>(())).is_none());
            assert!(fields.finish().is_err());
            started.elapsed()
        });
        times.min().expect("a time")
    }

    #[test]
    fn ten_times_the_fields_take_about_ten_times_as_long() {
        let (few, many) = (time_to_refuse(500), time_to_refuse(5000));
        assert!(many < few * 30, "{few:?} {many:?}: quadratic is 100");
    }
}
