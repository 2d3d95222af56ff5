//! Checks that `template.yaml` declares exactly the existing functions, with their events and
//! variables.

use std::{collections::BTreeSet, sync::LazyLock};

use functions::{FUNCTIONS, Function, Kind};
use serde_json::{Map, Value};
use shared::config::{EPHEMERAL_TABLE, Uses, VALUE_KEY};

/// The content of `template.yaml`, with its anchors resolved and without CloudFormation's tags. For
/// example, `!Ref Api` is read as `Api`.
pub(crate) static TEMPLATE: LazyLock<Value> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("../../template.yaml")).expect("template.yaml is YAML")
});

/// Returns the properties of a function in the template.
pub(crate) fn properties(function: &Function) -> &'static Value {
    let words = function.name.split('-');
    let id: String = words
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect();
    let resource = &TEMPLATE["Resources"][&id];
    assert_eq!(
        resource["Type"], "AWS::Serverless::Function",
        "template.yaml has no {id}"
    );
    &resource["Properties"]
}

#[test]
fn template_yaml_declares_exactly_the_existing_functions() {
    let resources = TEMPLATE["Resources"].as_object().unwrap().values();
    let handlers = resources
        .filter(|resource| resource["Type"] == "AWS::Serverless::Function")
        .map(|resource| resource["Properties"]["Handler"].as_str().unwrap());
    let names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
    let handlers: Vec<_> = handlers.collect();
    assert_eq!(
        handlers.iter().collect::<BTreeSet<_>>(),
        names.iter().collect::<BTreeSet<_>>()
    );
    assert_eq!(
        handlers.len(),
        names.len(),
        "each function is declared once"
    );
    for function in FUNCTIONS {
        assert_eq!(properties(function)["Handler"], function.name);
    }
}

#[test]
fn each_route_has_one_event_with_its_method_and_path_and_the_authorizer_has_no_event() {
    for function in FUNCTIONS {
        let events = properties(function)["Events"].as_object();
        let events = events.into_iter().flat_map(Map::values);
        let events: Vec<_> = events
            .map(|event| {
                assert_eq!(event["Type"], "HttpApi", "{}", function.name);
                let route = &event["Properties"];
                (route["Method"].clone(), route["Path"].clone())
            })
            .collect();
        let expected = match &function.kind {
            Kind::Route { method, path, .. } => vec![(method.as_str().into(), (*path).into())],
            Kind::Authorizer => Vec::new(),
        };
        assert_eq!(events, expected, "{}", function.name);
    }
}

#[test]
fn each_function_has_exactly_the_environment_variables_that_it_uses() {
    for function in FUNCTIONS {
        let variables = &properties(function)["Environment"]["Variables"];
        let given = [EPHEMERAL_TABLE, VALUE_KEY].map(|name| variables.get(name).is_some());
        let expected = match function.uses {
            Uses::Identity => [false, false],
            Uses::Ephemeral => [true, false],
            Uses::ValueKey => [false, true],
            Uses::EphemeralAndValueKey => [true, true],
        };
        assert_eq!(given, expected, "{}", function.name);
    }
}
