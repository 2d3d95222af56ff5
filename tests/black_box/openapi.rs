//! `openapi.yaml`: it has the endpoints that there are, and whatever it shows is what a client gets.
//!
//! That nothing else happens is not asserted here: every answer that any test gets is held against it.
//! On tokio's paused clock and past the gateway, so that a database that is away costs no time.

mod mistakes;
mod scene;

use std::collections::BTreeMap;

use functions::endpoints;
use serde_json::{Map, Value};
use tests::{
    api,
    openapi::{DOCUMENT, Part, alike},
    pause,
};

use self::{mistakes::can_be_made, scene::Scene};

#[test]
fn it_has_the_endpoints_that_there_are_by_their_names() {
    let operations = |item: &Value| item.as_object().map(Map::len).unwrap_or_default();
    let mut documented = 0;
    for (_, item) in DOCUMENT["paths"].as_object().unwrap() {
        documented += operations(item) - usize::from(item.get("parameters").is_some());
    }
    assert_eq!(documented, endpoints().count());
    for endpoint in endpoints() {
        let operation = Part::operation(&endpoint);
        let operation = operation.unwrap_or_else(|| panic!("{} is missing", endpoint.name));
        assert_eq!(operation.value()["operationId"], endpoint.name);
    }
    assert_eq!(DOCUMENT["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn every_request_that_it_shows_is_granted() {
    let _paused = pause();
    for endpoint in endpoints() {
        let operation = Part::operation(&endpoint).unwrap();
        let mut requests: Vec<_> = bodies(&operation)
            .into_iter()
            .map(|(name, _)| (name, String::new()))
            .collect();
        for (_, parameter) in operation.each("parameters") {
            let parameter = parameter.value();
            let example = match &parameter["example"] {
                Value::String(text) => text.clone(),
                // A cursor that holds for all lists is none.
                Value::Null => continue,
                number => number.to_string(),
            };
            let name = parameter["name"].as_str().unwrap();
            requests.push((String::new(), format!("{name}={example}")));
        }
        for (body, query) in requests {
            let scene = Scene::of(&endpoint, "", &body).await;
            let mut event = scene.request(&endpoint, &body);
            if !query.is_empty() {
                event.json["body"] = Value::Null;
                event = event.query(&query);
            }
            let answer = event.send(&scene.service.app).await;
            let about = format!("{} {body} {query}", endpoint.name);
            assert!(answer.status < 300, "{about}: {answer:?}");
        }
    }
}

#[test]
fn every_json_body_that_it_shows_is_read_and_written_by_tokenry_api() {
    let mut read = 0;
    for endpoint in endpoints() {
        let operation = Part::operation(&endpoint).unwrap();
        let responses = operation.each("responses").into_iter();
        let parts = responses
            .map(|(_, response)| response)
            .chain(operation.get("requestBody"));
        let contents = parts.filter_map(|part| part.get("content")?.get("application/json"));
        for content in contents {
            let schema = content.schema().unwrap();
            for (name, body) in examples(&content) {
                let written = api::rewritten(&schema, &body.to_string()).unwrap();
                let written: Value = serde_json::from_str(&written).unwrap();
                assert_eq!(written, body, "{} {name}", endpoint.name);
                read += 1;
            }
        }
    }
    assert!(read > 100, "{read} bodies");
}

#[tokio::test]
async fn every_answer_that_it_shows_is_given() {
    let _paused = pause();
    let mut mistakes = BTreeMap::new();
    for endpoint in endpoints() {
        let operation = Part::operation(&endpoint).unwrap();
        // What is refused changes nothing.
        let refusing = Scene::of(&endpoint, "", "").await;
        for (status, response) in operation.each("responses") {
            for (name, body) in shown(&response) {
                let about = format!("{} {status} {name}", endpoint.name);
                if status == "400" {
                    let made = mistakes.entry(name.clone()).or_insert(0);
                    if !can_be_made(&endpoint, &name, &body) {
                        continue;
                    }
                    *made += 1;
                }
                let answer =
                    if ["400", "401", "403", "413", "415", "500", "503"].contains(&&*status) {
                        refusing.answer(&endpoint, &status, &name).await
                    } else {
                        let scene = Scene::of(&endpoint, &status, &name).await;
                        scene.answer(&endpoint, &status, &name).await
                    };
                assert_eq!(answer.status.to_string(), status, "{about}: {answer:?}");
                assert!(
                    alike(&answer.content(), &body),
                    "{about}: {answer:?}\n{body}"
                );
            }
        }
    }
    // All endpoints share the examples of a 400; each one is about some endpoint.
    let unmade = mistakes.iter().filter(|(_, made)| **made == 0);
    assert_eq!(unmade.collect::<Vec<_>>(), []);
}

/// The bodies that a response shows, by name; the empty one, if it has none.
fn shown(response: &Part) -> Vec<(String, Value)> {
    let contents = response.each("content");
    if contents.is_empty() {
        return vec![(String::new(), "".into())];
    }
    let examples: Vec<_> = contents.iter().flat_map(|(_, of)| examples(of)).collect();
    assert!(!examples.is_empty(), "it shows nothing: {response:?}");
    examples
}

/// The bodies that an operation shows, by name.
fn bodies(operation: &Part) -> Vec<(String, Value)> {
    let body = operation.get("requestBody");
    let contents = body.map(|body| body.each("content")).unwrap_or_default();
    contents.iter().flat_map(|(_, of)| examples(of)).collect()
}

fn examples(content: &Part) -> Vec<(String, Value)> {
    let examples = content.each("examples").into_iter();
    examples
        .map(|(name, example)| (name, example.value()["value"].clone()))
        .collect()
}
