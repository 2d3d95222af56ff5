//! Compares every response that a test gets, and every request that succeeds, with `openapi.yaml`.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use functions::{Endpoint, endpoints};
use jsonschema::{Registry, RegistryBuilder, Validator};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use regex::Regex;
use serde_json::{Value, json};
use shared::{App, domain::shortcode::CodeSpace};

use crate::{Answer, api};

/// The content of `openapi.yaml`.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("../../openapi.yaml")).expect("openapi.yaml is YAML")
});

/// More rules for responses and requests, which `openapi.yaml` does not contain. `exact.yaml`
/// groups them by operation and status.
static EXACT: LazyLock<Value> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("exact.yaml")).expect("exact.yaml is YAML")
});

/// The URIs with which schemas refer to `openapi.yaml` and to `exact.yaml`.
const URI: &str = "urn:tokenry:openapi";
const EXACT_URI: &str = "urn:tokenry:exact";
/// The characters of a JSON pointer that must be encoded in a URI.
const BRACES: &AsciiSet = &CONTROLS.add(b'{').add(b'}');
/// General HTTP headers, which the document does not list.
const OF_HTTP: [&str; 3] = ["content-length", "content-type", "date"];

/// A part of the document, as a JSON pointer.
#[derive(Clone, Debug)]
pub struct Part(String);

impl Part {
    /// Returns an endpoint's path item. It contains the parts that all methods of the path share.
    fn path(endpoint: &Endpoint) -> Option<Self> {
        Self("/paths".to_owned()).get(endpoint.path)
    }

    /// Returns an endpoint's operation, or `None` if the document does not contain the operation.
    pub fn operation(endpoint: &Endpoint) -> Option<Self> {
        Self::path(endpoint)?.get(&endpoint.method.as_str().to_lowercase())
    }

    /// Returns the JSON of this part.
    ///
    /// # Panics
    /// If the document does not have this part, because a reference is wrong.
    pub fn value(&self) -> &'static Value {
        let value = DOCUMENT.pointer(&self.0);
        value.unwrap_or_else(|| panic!("openapi.yaml has no {}", self.0))
    }

    /// Returns the member with this name, or the element with this index. If this member or element
    /// is a reference, returns the part to which the reference points.
    pub fn get(&self, name: &str) -> Option<Self> {
        let part = self.member(name);
        let reference = DOCUMENT.pointer(&part.0)?["$ref"].as_str();
        Some(reference.map_or(part, |to| Self(to.trim_start_matches('#').to_owned())))
    }

    /// Returns the names and the parts of all members of the object `name`. If `name` is an array,
    /// returns the indices and the parts of all its elements.
    pub fn each(&self, name: &str) -> Vec<(String, Self)> {
        let Some(of) = self.get(name) else {
            return Vec::new();
        };
        let names: Vec<String> = match of.value() {
            Value::Object(members) => members.keys().cloned().collect(),
            Value::Array(elements) => (0..elements.len()).map(|at| at.to_string()).collect(),
            _ => Vec::new(),
        };
        let parts = names.into_iter();
        parts
            .filter_map(|name| of.get(&name).map(|part| (name, part)))
            .collect()
    }

    /// Returns the name of the schema of this content.
    pub fn schema(&self) -> Option<String> {
        let schema = self.get("schema")?;
        schema.0.rsplit('/').next().map(str::to_owned)
    }

    fn member(&self, name: &str) -> Self {
        let name = name.replace('~', "~0").replace('/', "~1");
        Self(format!("{}/{name}", self.0))
    }

    fn text(&self, name: &str) -> &'static str {
        self.value()[name].as_str().unwrap_or_default()
    }

    fn required(&self) -> bool {
        self.value()["required"] == true
    }

    /// Compares a value with the schema of this part.
    fn admits(&self, value: &Value) -> Result<(), String> {
        let pointer = utf8_percent_encode(&self.0, BRACES);
        matches(format!("{URI}#{pointer}/schema"), value)
    }

    /// Compares a text with the schema. First compares the text as a string. If the string does not
    /// match, compares the text as a number.
    fn admits_text(&self, text: &str) -> Result<(), String> {
        let as_text = self.admits(&text.into());
        let number = text.parse::<u64>().ok();
        as_text.or_else(|problem| number.map_or(Err(problem), |number| self.admits(&number.into())))
    }
}

/// Compares a value with the schema at this URI.
fn matches(schema: String, value: &Value) -> Result<(), String> {
    let errors = validator(schema)
        .iter_errors(value)
        .fold(String::new(), |text, error| {
            format!("{text}\n  at {}: {error}", error.instance_path())
        });
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// Compares a value with a schema of `exact.yaml`. The schema's name is a status or `body`. If the
/// operation has no schema with this name, uses the schema under `every`. If `every` has no such
/// schema, accepts every value.
fn matches_exactly(operation: &str, name: &str, value: &Value) -> Result<(), String> {
    for of in [operation, "every"] {
        if EXACT[of].get(name).is_some() {
            return matches(format!("{EXACT_URI}#/{of}/{name}"), value);
        }
    }
    Ok(())
}

/// Returns the validator of the schema at a URI. Each schema is compiled once.
fn validator(schema: String) -> Arc<Validator> {
    static REGISTRY: LazyLock<Registry<'static>> = LazyLock::new(|| {
        let documents = [(URI, &*DOCUMENT), (EXACT_URI, &*EXACT)];
        let registry = Registry::new().extend(documents);
        registry
            .and_then(RegistryBuilder::prepare)
            .expect("both documents are valid")
    });
    static COMPILED: Mutex<BTreeMap<String, Arc<Validator>>> = Mutex::new(BTreeMap::new());

    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let compile = |uri: &String| {
        let options = jsonschema::options()
            .with_registry(&REGISTRY)
            .should_validate_formats(true)
            .with_format("date-time", is_whole_seconds_in_utc);
        let validator = options.build(&json!({ "$ref": uri }));
        Arc::new(validator.unwrap_or_else(|error| panic!("{uri}: {error}")))
    };
    compiled.entry(schema).or_insert_with_key(compile).clone()
}

fn is_whole_seconds_in_utc(text: &str) -> bool {
    static TIME: LazyLock<Regex> = LazyLock::new(|| {
        let time = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$";
        Regex::new(time).expect("the pattern is valid")
    });
    TIME.is_match(text)
}

/// Returns whether two values are equal except for ids, tokens, codes and times.
pub fn alike(one: &Value, other: &Value) -> bool {
    without_what_varies(one) == without_what_varies(other)
}

/// Returns the text of a value with `*` in place of each id, token, code and time.
fn without_what_varies(value: &Value) -> String {
    static VARYING: LazyLock<Regex> = LazyLock::new(|| {
        let varying = [
            "tk_[asu][ifs]_[0-9A-Za-z]{83}",
            "[ACE][0-9a-f]{24}",
            "[0-7][0-9A-HJKMNP-TV-Z]{25}",
            r"\b[2-9A-HJKMNP-TV-Z]{6}\b",
            "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z",
            "[0-9]{10,13}",
        ];
        Regex::new(&varying.join("|")).expect("the pattern is valid")
    });
    VARYING.replace_all(&value.to_string(), "*").into_owned()
}

/// A request that was sent to an endpoint.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    content_type: String,
    /// The body. Empty if the request has no body. Also empty if the body is encoded in base64,
    /// because such a body is not compared.
    body: String,
}

impl Sent {
    /// Returns an HTTP request and its endpoint, or `None` if the request matches no route.
    pub(crate) fn over_http(request: &reqwest::Request) -> Option<(Endpoint, Self)> {
        let url = request.url();
        let (endpoint, path) = endpoints().find_map(|endpoint| {
            let path = parameters(endpoint.path, url.path())?;
            (*endpoint.method == *request.method()).then_some((endpoint, path))
        })?;
        let content_type = request.headers().get("content-type");
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let body = request.body().and_then(reqwest::Body::as_bytes);
        let sent = Self {
            path,
            query: pairs(url.query().unwrap_or_default()),
            content_type: content_type.unwrap_or_default().to_owned(),
            body: String::from_utf8_lossy(body.unwrap_or_default()).into_owned(),
        };
        Some((endpoint, sent))
    }

    /// Returns the request in an HTTP API's event.
    pub(crate) fn as_event(event: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let parameters = event["pathParameters"].as_object().into_iter().flatten();
        let base64 = event["isBase64Encoded"] == true;
        Self {
            path: parameters
                .map(|(name, value)| (name.clone(), decoded(&text(value)).into_owned()))
                .collect(),
            query: pairs(&text(&event["rawQueryString"])),
            content_type: text(&event["headers"]["content-type"]),
            body: if base64 {
                String::new()
            } else {
                text(&event["body"])
            },
        }
    }
}

/// Returns the parameters of a path, or `None` if the path does not match the route.
fn parameters(route: &str, path: &str) -> Option<Vec<(String, String)>> {
    let (route, path): (Vec<_>, Vec<_>) = (route.split('/').collect(), path.split('/').collect());
    let mut parameters = Vec::new();
    for (part, given) in route.iter().zip(&path) {
        match part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            Some(name) if !given.is_empty() => {
                parameters.push((name.to_owned(), decoded(given).into_owned()));
            }
            None if part == given => {}
            _ => return None,
        }
    }
    (route.len() == path.len()).then_some(parameters)
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

fn pairs(urlencoded: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(urlencoded.as_bytes())
        .into_owned()
        .collect()
}

/// Compares a response of an endpoint with the document. If the request succeeded, also compares
/// the request with the document.
///
/// # Panics
/// If the response or the request differs from the document.
pub(crate) fn check(app: &App, endpoint: &Endpoint, sent: &Sent, answer: &Answer) {
    let mut lengths = CodeSpace::MIN_LENGTH..=CodeSpace::MAX_LENGTH;
    let code_space = Some(app.settings().code_space);
    if !lengths.any(|length| CodeSpace::of_length(length) == code_space) {
        // This code space contains only a few codes, and only tests use it. The document does not
        // describe its codes.
        return;
    }
    let mut held = in_response(endpoint, answer);
    if answer.status < 300 {
        held = held.and_then(|()| in_request(endpoint, sent));
    }
    if let Err(problem) = held {
        panic!(
            "request or response of {} differs from openapi.yaml: {problem}\n{sent:?}\n{answer:?}",
            endpoint.name
        );
    }
}

fn in_response(endpoint: &Endpoint, answer: &Answer) -> Result<(), String> {
    let status = answer.status.to_string();
    let response = Part::operation(endpoint).and_then(|of| of.get("responses")?.get(&status));
    let response = response.ok_or("the status is not documented")?;

    // The document states this header once for all responses, not in each response.
    if answer.header("x-request-id").is_none_or(str::is_empty) {
        return Err("x-request-id is missing".to_owned());
    }
    let mut documented = BTreeSet::from(OF_HTTP.map(str::to_owned));
    documented.insert("x-request-id".to_owned());
    for (name, header) in response.each("headers") {
        let name = name.to_lowercase();
        match answer.header(&name) {
            Some(value) => header
                .admits_text(value)
                .map_err(|error| format!("the header {name}: {error}"))?,
            None if header.required() => return Err(format!("the header {name} is missing")),
            None => {}
        }
        documented.insert(name);
    }
    if let Some(name) = answer
        .headers
        .keys()
        .find(|name| !documented.contains(*name))
    {
        return Err(format!("the header {name} is not documented"));
    }

    match (response.get("content"), answer.header("content-type")) {
        (None, None) if answer.body.is_empty() => Ok(()),
        (Some(content), Some(content_type)) => {
            let media_type = media_type(content_type);
            let content = content
                .get(&media_type)
                .ok_or(format!("a body of {media_type} is not documented"))?;
            let body = answer.content();
            content.admits(&body)?;
            matches_exactly(endpoint.name, &status, &body)?;
            if media_type == "application/json" {
                let schema = content.schema().unwrap_or_default();
                let rewritten = api::rewritten(&schema, &answer.body)?;
                if rewritten != answer.body {
                    return Err(format!("tokenry-api serializes the body as {rewritten}"));
                }
            }
            names_fields(endpoint, &body)
        }
        _ => Err("a body is missing or not documented".to_owned()),
    }
}

/// Returns the parameters of an operation, and the parameters that all methods of its path share.
fn parameters_of(endpoint: &Endpoint) -> Vec<Part> {
    let parts = [Part::operation(endpoint), Part::path(endpoint)];
    let parameters = parts.iter().flatten().flat_map(|of| of.each("parameters"));
    parameters.map(|(_, parameter)| parameter).collect()
}

/// Returns whether an error of an endpoint can be about the field `name` in `place` (for example,
/// in the `query`). If `name` is `additional parameters`, returns whether the endpoint rejects
/// unknown fields in `place`.
pub fn has_field(endpoint: &Endpoint, place: &str, name: &str) -> bool {
    let operation = Part::operation(endpoint);
    let body = operation.as_ref().and_then(|of| of.get("requestBody"));
    let mut schemas = body.iter().flat_map(|body| body.each("content"));
    let schema = schemas
        .next()
        .and_then(|(_, content)| content.get("schema"));
    let is_it = |of: Part| of.text("in") == place && of.text("name") == name;
    match (place, name) {
        ("query", "additional parameters") => !ignores_query(endpoint),
        ("body", "additional parameters") => {
            schema.is_none_or(|of| of.value()["additionalProperties"] == false)
        }
        ("body", _) => {
            let properties = schema.and_then(|of| of.get("properties"));
            properties.is_some_and(|of| of.get(name).is_some())
        }
        // If the credential is optional, an invalid credential is ignored and causes no error.
        ("header", "Host") => endpoint.name == "metadata",
        ("header", "Authorization") => {
            let security = operation.and_then(|of| of.get("security"));
            let accepted = security.and_then(|of| of.value().as_array());
            accepted.is_none_or(|of| !of.is_empty() && !of.contains(&json!({})))
        }
        _ => parameters_of(endpoint).into_iter().any(is_it),
    }
}

/// Checks that the errors of an `InvalidParams` response are about fields of the operation.
fn names_fields(endpoint: &Endpoint, answer: &Value) -> Result<(), String> {
    let errors = answer["errors"].as_array().into_iter().flatten();
    for error in errors.filter(|_| answer["errorType"] == "InvalidParams") {
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        if !has_field(endpoint, text("in"), text("path")) {
            return Err(format!("the operation has no such field: {error}"));
        }
    }
    Ok(())
}

fn in_request(endpoint: &Endpoint, sent: &Sent) -> Result<(), String> {
    let operation = Part::operation(endpoint).ok_or("the operation is not documented")?;
    let mut documented = BTreeSet::new();
    for parameter in parameters_of(endpoint) {
        let (name, place) = (parameter.text("name"), parameter.text("in"));
        let given = if place == "path" {
            &sent.path
        } else {
            &sent.query
        };
        documented.insert((place, name));
        match given.iter().find(|(of, _)| of == name) {
            Some((_, value)) => {
                parameter
                    .admits_text(value)
                    .map_err(|error| format!("the parameter {name}: {error}"))?;
            }
            None if parameter.required() => return Err(format!("the parameter {name} is missing")),
            None => {}
        }
    }
    let of_query = sent.query.iter().map(|(name, _)| ("query", name.as_str()));
    if let Some((_, name)) = of_query
        .into_iter()
        .find(|field| !documented.contains(field) && !ignores_query(endpoint))
    {
        return Err(format!("the query field {name} is not documented"));
    }

    if let Some(body) = operation
        .get("requestBody")
        .filter(|_| !sent.body.is_empty())
    {
        let media_type = media_type(&sent.content_type);
        // The endpoints with an optional body ignore `null`, and a body whose content type is not
        // JSON.
        if !body.required() && (!media_type.contains("json") || sent.body == "null") {
            return Ok(());
        }
        let content = body
            .get("content")
            .and_then(|content| content.get(&media_type));
        let content = content.ok_or(format!("a request body of {media_type} is not documented"))?;
        let body = match media_type.as_str() {
            "application/json" => {
                serde_json::from_str(&sent.body).expect("a request that succeeded has a valid body")
            }
            _ => pairs(&sent.body).into_iter().collect(),
        };
        content
            .admits(&body)
            .and_then(|()| matches_exactly(endpoint.name, "body", &body))
            .map_err(|error| format!("the request's body: {error}"))?;
    }
    Ok(())
}

fn ignores_query(endpoint: &Endpoint) -> bool {
    endpoint.name == "revoke-token"
}

fn media_type(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_lowercase()
}
