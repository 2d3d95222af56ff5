//! Checks that `openapi.yaml` documents every endpoint, and that each example in `openapi.yaml`
//! works.
//!
//! The tests in this file do not check that all responses are documented. `tests::openapi` checks
//! this: it compares every response in any test with the document. The requests of the tests in
//! this file bypass the gateway. Tokio's clock is paused, so that no test waits for an unavailable
//! database.

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
fn openapi_yaml_documents_exactly_the_existing_endpoints() {
    let operations = |item: &Value| item.as_object().map(Map::len).unwrap_or_default();
    let mut documented = 0;
    for (_, item) in DOCUMENT["paths"].as_object().unwrap() {
        documented += operations(item) - usize::from(item.get("parameters").is_some());
    }
    assert_eq!(documented, endpoints().count());
    for endpoint in endpoints() {
        let operation = Part::operation(&endpoint);
        let operation =
            operation.unwrap_or_else(|| panic!("openapi.yaml has no operation {}", endpoint.name));
        assert_eq!(operation.value()["operationId"], endpoint.name);
    }
    assert_eq!(DOCUMENT["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn every_example_request_succeeds() {
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
                // A cursor has no example, because no cursor is valid for all lists.
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
                event = event.query(&scene.filled(&query));
            }
            let answer = event.send(&scene.service.app).await;
            let about = format!("{} {body} {query}", endpoint.name);
            assert!(answer.status < 300, "{about}: {answer:?}");
        }
    }
}

#[test]
fn tokenry_api_reads_and_writes_every_example_json_body_unchanged() {
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
    assert!(read > 100, "only {read} example bodies were read");
}

#[tokio::test]
async fn every_example_response_can_be_received() {
    let _paused = pause();
    let mut mistakes = BTreeMap::new();
    for endpoint in endpoints() {
        let operation = Part::operation(&endpoint).unwrap();
        // A request that gets one of the statuses listed below does not change the user. So all
        // such requests to an endpoint use the same scene.
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
    // All endpoints share the examples of a 400. For each of these examples, at least one endpoint
    // must give the response in the example.
    let unmade = mistakes.iter().filter(|(_, made)| **made == 0);
    assert_eq!(unmade.collect::<Vec<_>>(), []);
}

/// Returns the example bodies of a response, each with its name. If the response has no content,
/// returns one empty body.
fn shown(response: &Part) -> Vec<(String, Value)> {
    let contents = response.each("content");
    if contents.is_empty() {
        return vec![(String::new(), "".into())];
    }
    let examples: Vec<_> = contents.iter().flat_map(|(_, of)| examples(of)).collect();
    assert!(
        !examples.is_empty(),
        "the response has no example: {response:?}"
    );
    examples
}

/// Returns the example request bodies of an operation, each with its name.
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
