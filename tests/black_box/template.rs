//! Checks that `template.yaml` declares exactly the existing functions, with their events,
//! environment variables and limits.

use std::{collections::BTreeSet, sync::LazyLock};

use functions::{FUNCTIONS, Function, Kind, endpoints};
use lambda_http::http::Method;
use serde_json::{Map, Value, json};
use shared::config::{
    CALLER_MEMORY_SECONDS, EPHEMERAL_TABLE, PASSWORD_MIN_LENGTH, PUBLIC_URL, Uses, VALUE_KEY,
};

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
fn each_function_has_the_event_of_its_kind() {
    for function in FUNCTIONS {
        let events = properties(function)["Events"].as_object();
        let events = events.into_iter().flat_map(Map::values);
        let events: Vec<_> = events
            .map(|event| (event["Type"].as_str().unwrap(), event["Properties"].clone()))
            .collect();
        let expected = match &function.kind {
            Kind::Route {
                method, path, head, ..
            } => {
                let head = head.then_some(&Method::HEAD);
                // The template's events are in the order of their names: `Head`, `Route`.
                let methods = [head, Some(method)].into_iter().flatten();
                let route = |method: &Method| json!({ "ApiId": "Api", "Method": method.as_str(), "Path": path });
                methods.map(|method| ("HttpApi", route(method))).collect()
            }
            Kind::Authorizer => Vec::new(),
            // `tokenry serve` uses the same interval (`TASKS` in `cli/src/serve.rs`).
            Kind::Schedule { .. } => vec![("Schedule", json!({ "Schedule": "rate(5 minutes)" }))],
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

#[test]
fn only_the_authorizer_has_the_environment_variables_that_select_its_callers() {
    for function in FUNCTIONS {
        let variables = &properties(function)["Environment"]["Variables"];
        let given = [
            "TOKENRY_AUTHORIZER_HOLDERS",
            "TOKENRY_AUTHORIZER_ECOSYSTEMS",
        ]
        .map(|name| variables.get(name).and_then(Value::as_str));
        let expected = match function.kind {
            Kind::Authorizer => [Some("AuthorizerHolders"), Some("AuthorizerEcosystems")],
            Kind::Route { .. } | Kind::Schedule { .. } => [None, None],
        };
        assert_eq!(given, expected, "{}", function.name);
    }
    let parameters = &TEMPLATE["Parameters"];
    assert_eq!(parameters["AuthorizerHolders"]["Default"], "user");
    assert_eq!(parameters["AuthorizerEcosystems"]["Default"], "");
}

#[test]
fn only_the_metadata_endpoint_has_the_environment_variable_with_the_public_address() {
    for function in FUNCTIONS {
        let variables = &properties(function)["Environment"]["Variables"];
        let given = variables.get(PUBLIC_URL).and_then(Value::as_str);
        let expected = (function.name == "metadata").then_some("PublicUrl");
        assert_eq!(given, expected, "{}", function.name);
    }
    // The longest VersionDescription that the parameters allow for this endpoint: `error`, a time,
    // the ARN of a restored table in a region with a long name, a digit, the address and spaces.
    let region = "us-isob-east-1";
    let arn = format!("arn:aws-iso-b:dynamodb:{region}:123456789012:table/");
    let address = TEMPLATE["Parameters"]["PublicUrl"]["MaxLength"].as_u64();
    let length = "error 2026-01-01T00:00:00Z ".len() + arn.len() + 100 + " 5 ".len();
    assert!(length + usize::try_from(address.unwrap()).unwrap() <= 256);
}

#[test]
fn only_functions_that_set_a_password_have_the_environment_variable_with_its_minimum_length() {
    for function in FUNCTIONS {
        let variables = &properties(function)["Environment"]["Variables"];
        let given = variables.get(PASSWORD_MIN_LENGTH).and_then(Value::as_str);
        let expected =
            matches!(function.name, "put-user" | "change-password").then_some("PasswordMinLength");
        assert_eq!(given, expected, "{}", function.name);
    }
    let parameter = &TEMPLATE["Parameters"]["PasswordMinLength"];
    let limits = ["Default", "MinValue", "MaxValue"].map(|key| parameter[key].as_u64());
    assert_eq!(limits, [Some(8), Some(8), Some(64)]);
}

#[test]
fn every_function_remembers_callers_for_at_most_5_seconds_and_by_default_not_at_all() {
    let variables = &TEMPLATE["Globals"]["Function"]["Environment"]["Variables"];
    assert_eq!(variables[CALLER_MEMORY_SECONDS], "CallerMemorySeconds");
    for function in FUNCTIONS {
        let own = &properties(function)["Environment"]["Variables"];
        assert_eq!(own.get(CALLER_MEMORY_SECONDS), None, "{}", function.name);
    }
    let parameter = &TEMPLATE["Parameters"]["CallerMemorySeconds"];
    let limits = ["Default", "MinValue", "MaxValue"].map(|key| parameter[key].as_u64());
    assert_eq!(limits, [Some(0), Some(0), Some(5)]);
}

#[test]
fn each_route_has_the_limit_of_its_kind_and_every_aws_account_allows_the_default_limits() {
    let settings = &TEMPLATE["Resources"]["Api"]["Properties"];
    let limit =
        |parameter| json!({ "ThrottlingRateLimit": parameter, "ThrottlingBurstLimit": parameter });
    assert_eq!(settings["DefaultRouteSettings"], limit("RequestsPerSecond"));
    let own: Map<_, _> = endpoints()
        .filter_map(|endpoint| {
            let parameter = match endpoint.name {
                "consume-shortcode"
                | "log-in-with-password"
                | "create-session"
                | "change-password" => "AttemptsPerSecond",
                "revoke-token" => "RevocationsPerSecond",
                _ => return None,
            };
            let route = format!("{} {}", endpoint.method, endpoint.path);
            Some((route, limit(parameter)))
        })
        .collect();
    assert_eq!(own.len(), 5);
    assert_eq!(settings["RouteSettings"], Value::Object(own));

    let default = |name: &str| TEMPLATE["Parameters"][name]["Default"].as_u64().unwrap();
    // In some regions, API Gateway allows an AWS account a burst of only this many requests. In all
    // other regions, it allows more.
    let smallest = 1250;
    let [attempts, revocations, requests] = [
        "AttemptsPerSecond",
        "RevocationsPerSecond",
        "RequestsPerSecond",
    ]
    .map(default);
    assert!(
        attempts < revocations,
        "revocations have a higher limit than attempts"
    );
    assert!(revocations.max(requests) <= smallest);
}

#[test]
fn only_log_in_and_the_authorizer_can_reserve_concurrency_and_by_default_none_does() {
    for function in FUNCTIONS {
        let expected = match function.name {
            "log-in-with-password" | "create-session" => Some("LogInConcurrency"),
            "authorize" => Some("AuthorizerConcurrency"),
            _ => None,
        };
        let reserved = properties(function).get("ReservedConcurrentExecutions");
        let condition = |name| format!("Has{name}");
        let value = expected.map(|name| json!([condition(name), name, "AWS::NoValue"]));
        assert_eq!(reserved, value.as_ref(), "{}", function.name);
        if let Some(name) = expected {
            // 0 means that nothing is reserved. The default must be 0, because Lambda rejects each
            // reservation in an AWS account whose concurrency is only 10.
            assert_eq!(TEMPLATE["Conditions"][condition(name)], json!([[name, 0]]));
            assert_eq!(TEMPLATE["Parameters"][name]["Default"], 0);
        }
    }
}
