//! Parses the fields of a query string, a form or a JSON object, and reports all their problems at
//! once.

use std::{borrow::Cow, fmt};

use lambda_http::{Request, http::header::CONTENT_TYPE};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::{MAX_BODY, event::Raw};
use crate::domain::error::{Error, Location, Problem, Result, combine};

/// The maximum number of field names in an error about fields that are not allowed.
const MAX_NAMED: usize = 20;

const GIVEN_TWICE: &str = "field must be given once";
const REPEATED_KEY: &str = "each key must be given once";
const NOT_AN_OBJECT: &str = "the body is not a JSON object";

/// One field.
struct Field<'a, V> {
    /// The name as the client sent it, for the error message.
    raw_name: Cow<'a, str>,
    name: Cow<'a, str>,
    value: V,
    /// Whether the value is a JSON object with several members of the same name. The value then
    /// contains only the last of them.
    repeats_key: bool,
}

/// The fields of a request. A handler takes fields by name. Invalid fields and fields that the
/// handler does not take are reported as problems.
pub struct Fields<'a, V> {
    location: Location,
    untaken: Vec<Field<'a, V>>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a, Cow<'a, str>> {
    /// Parses the fields of the raw query string. Only the raw query string has the fields' order
    /// and all values of a repeated field.
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
                repeats_key: false,
            }
        });
        Self::new(Location::Query, untaken)
    }

    /// Parses the fields with these names in a form body. Ignores all other fields, however many
    /// there are (RFC 6749 section 3.2). Keeps only two fields of each name, which is enough to
    /// find out that a field is repeated. An empty body has no fields.
    ///
    /// # Errors
    /// The body is too large or cannot be decoded, or a body that is not empty has a content type
    /// other than `application/x-www-form-urlencoded`.
    pub fn form(request: &'a Request, names: &[&str]) -> Result<Self> {
        let body = body_of_type(request, "application/x-www-form-urlencoded")?;
        let mut fields = Self::new(Location::Body, std::iter::empty());
        for (name, value) in form_urlencoded::parse(body) {
            let kept = fields.untaken.iter().filter(|field| field.name == name);
            if names.contains(&&*name) && kept.count() < 2 {
                fields.untaken.push(Field {
                    raw_name: name.clone(),
                    name,
                    value,
                    repeats_key: false,
                });
            }
        }
        Ok(fields)
    }

    /// Takes and parses the field with this name, if it is present.
    pub fn optional<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.parsed(name, parse(&value))
    }

    /// Takes and parses the field with this name, which must be present.
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
    /// Parses the members of the JSON object in the body.
    ///
    /// # Errors
    /// The body is too large, cannot be decoded or is not a JSON object, or a body that is not
    /// empty has a content type other than `application/json`.
    pub fn json(request: &Request) -> Result<Self> {
        Self::members(body_of_type(request, "application/json")?)
            .map_err(|_| Error::InvalidBody(NOT_AN_OBJECT))
    }

    /// Parses the members of the JSON object in the body, if there is a body with a JSON content
    /// type. Any other body counts as an empty object, because some clients send such a body when
    /// they create a token. `null` counts as an empty object, because some generated clients send
    /// it instead of no body. A content type is JSON if it contains `json`, for example `text/json`
    /// or `application/problem+json`.
    ///
    /// # Errors
    /// A body with a JSON content type is not a JSON object; the body is too large or cannot be
    /// decoded.
    pub fn optional_json(request: &Request) -> Result<Self> {
        let body = body(request)?.trim_ascii();
        let is_json = content_type(request).to_ascii_lowercase().contains("json");
        let is_empty = !is_json || body.is_empty() || body == b"null";
        let body = if is_empty { b"{}" } else { body };
        Self::members(body).map_err(|_| Error::InvalidBody(NOT_AN_OBJECT))
    }

    fn members(body: &[u8]) -> serde_json::Result<Self> {
        let Members(members) = serde_json::from_slice(body)?;
        let mut fields = Self::new(Location::Body, std::iter::empty());
        for (name, text) in members {
            let value = serde_json::from_str(text.get())?;
            // No field may contain a nested object, so the names in nested objects need no check.
            let repeats_key = match &value {
                Value::Object(kept) => {
                    let Members(given) = serde_json::from_str(text.get())?;
                    given.len() > kept.len()
                }
                _ => false,
            };
            fields.untaken.push(Field {
                raw_name: name.clone().into(),
                name: name.into(),
                value,
                repeats_key,
            });
        }
        Ok(fields)
    }

    /// Returns the member with this name if the member is a string. Does not take the member.
    pub fn peek(&self, name: &str) -> Option<&str> {
        let mut fields = self.untaken.iter();
        fields.find(|field| field.name == name)?.value.as_str()
    }

    /// Takes and parses the string with this name, if it is present. A value that is not a string
    /// counts as an empty string.
    pub fn text<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.parsed(name, parse(value.as_str().unwrap_or_default()))
    }

    /// Takes and parses the string with this name, which must be present.
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

    /// Takes the field with this name, if it is present. The value must be null or a string. A
    /// string is parsed.
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

    /// Takes the member with this name, which must be present and may have any type.
    pub fn required_value(&mut self, name: &'static str) -> Option<Value> {
        self.require(name);
        self.take(name)
    }

    /// Takes and parses the member with this name, if it is present. The value may have any type.
    pub fn value<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(Value) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.parsed(name, parse(value))
    }

    /// Takes the number with this name, if it is present, and parses its digits.
    pub fn number<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.parsed(name, parse(&digits(&value)))
    }

    /// Takes the field with this name, if it is present. The value must be null or a number. The
    /// digits of a number are parsed.
    pub fn nullable_number<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Option<T>> {
        match self.take(name)? {
            Value::Null => Some(None),
            value => self.parsed(name, parse(&digits(&value))).map(Some),
        }
    }

    /// Takes the boolean with this name, if it is present.
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

    /// Returns whether there is a field with this name.
    pub fn has(&self, name: &str) -> bool {
        self.untaken.iter().any(|field| field.name == name)
    }

    /// Takes the field with this name, if it is present exactly once. Adds a problem if the field
    /// is present more than once, or if it is an object that repeats a key.
    fn take(&mut self, name: &'static str) -> Option<V> {
        let mut given = self.untaken.extract_if(.., |field| field.name == name);
        let first = given.next()?;
        if given.count() > 0 {
            self.problem(name, GIVEN_TWICE.to_owned());
            return None;
        }
        if first.repeats_key {
            self.problem(name, REPEATED_KEY.to_owned());
            return None;
        }
        Some(first.value)
    }

    /// If both `self` and `other` have a field with this name, takes the field from both, and adds
    /// a problem.
    pub fn reject_if_also_in<W>(&mut self, other: &mut Fields<'_, W>, name: &'static str) {
        if self.has(name) && other.has(name) {
            self.untaken.retain(|field| field.name != name);
            other.untaken.retain(|field| field.name != name);
            self.problem(name, GIVEN_TWICE.to_owned());
        }
    }

    /// Checks that there are no problems and that all fields were taken.
    ///
    /// # Errors
    /// All problems of the fields. If fields were not taken, one problem lists the names of these
    /// fields, at most 20 different names.
    pub fn finish(mut self) -> Result<()> {
        let mut names: Vec<&str> = Vec::new();
        for field in &self.untaken {
            if names.len() > MAX_NAMED {
                break;
            }
            // The name may contain a token, which must not be repeated in the response.
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

    /// Checks that there are no problems, and ignores fields that were not taken (RFC 6749 section
    /// 3.2).
    ///
    /// # Errors
    /// All problems of the fields that were taken.
    pub fn finish_ignoring_others(self) -> Result<()> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(self.problems))
        }
    }

    /// Returns the parsed value of a field, or adds its problem.
    fn parsed<T, E: Into<String>>(
        &mut self,
        name: &'static str,
        parsed: Result<T, E>,
    ) -> Option<T> {
        parsed
            .map_err(|message| self.problem(name, message.into()))
            .ok()
    }

    /// Adds a problem if there is no field with this name.
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

/// Returns the digits of a number, or an empty string for any other value. A JSON string is not a
/// number, even if it contains only digits. 60.0 is accepted as 60, as in JSON Schema.
fn digits(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(whole) if number.is_f64() && whole.fract() == 0.0 => format!("{whole:.0}"),
            _ => number.to_string(),
        },
        _ => String::new(),
    }
}

/// The members of a JSON object in their order. If several members have the same name, all of these
/// members are included. A `serde_json::Map` would contain only the last of them.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
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

/// Returns the body if the request declares this media type. An empty body may have any type,
/// because gateways add content types.
fn body_of_type<'a>(request: &'a Request, media_type: &'static str) -> Result<&'a [u8]> {
    let body = body(request)?;
    if body.is_empty() || is_of_type(request, media_type) {
        Ok(body)
    } else {
        Err(Error::UnsupportedMediaType(media_type))
    }
}

/// Returns whether the request declares this media type.
fn is_of_type(request: &Request, media_type: &str) -> bool {
    let said = content_type(request).split(';').next();
    said.is_some_and(|said| said.trim().eq_ignore_ascii_case(media_type))
}

/// Returns the request's content type, or an empty string if it has none.
fn content_type(request: &Request) -> &str {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Checks that a request has no query fields and no body.
///
/// # Errors
/// There is a query field or a body.
pub fn no_input(request: &Request) -> Result<()> {
    combine(no_body(request), Fields::query(request).finish()).map(|_| ())
}

/// Checks that a request has no body. The JSON object `{}` counts as no body.
///
/// # Errors
/// [`Error::Invalid`] with the names of the members, if the body is a JSON object with members;
/// [`Error::InvalidBody`] for any other body.
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

/// Returns the decoded body.
///
/// # Errors
/// The body is longer than [`MAX_BODY`], or the event says that the body is base64 but the body
/// cannot be decoded.
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

    /// Rejects this many fields with different names, several times. Returns the shortest time.
    #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
    fn time_to_refuse(count: usize) -> Duration {
        let members: serde_json::Map<_, _> = (0..count)
            .map(|n| (format!("{n:x}"), Value::Null))
            .collect();
        let body = serde_json::to_vec(&members).expect("cannot write the JSON");
        let times = (0..20).map(|_| {
            let started = Instant::now();
            let mut fields = Fields::members(&body).expect("the body is not a JSON object");
            assert!(fields.text("x", |_| Ok::<_, String>(())).is_none());
            assert!(fields.finish().is_err());
            started.elapsed()
        });
        times.min().expect("no time was measured")
    }

    #[test]
    fn rejecting_fields_takes_linear_time() {
        let (few, many) = (time_to_refuse(500), time_to_refuse(5000));
        assert!(
            many < few * 30,
            "500 fields: {few:?}, 5000 fields: {many:?}; quadratic time would be 100 times as long"
        );
    }
}
