//! Checks the generated blocks of the documentation. Their sources are `openapi.yaml`,
//! `template.yaml`, and the tables in the Rust code.
//!
//! The test fails if a block is out of date. This command updates the blocks:
//! `UPDATE=1 cargo test -p tests --test black_box generated`.

use std::{env, fmt::Write, fs, path::Path};

use functions::{FUNCTIONS, endpoints};
use serde_json::Value;
use tests::openapi::Part;

use crate::{
    ROWS,
    calls::VARIANTS,
    refusals::Calls,
    template::{TEMPLATE, properties},
};

/// A block: its file, the name in its marker, and the function that generates its text.
struct Block(&'static str, &'static str, fn() -> String);

const CALLS_AND_COST: &str = "docs/reference/calls-and-cost.md";

const BLOCKS: &[Block] = &[
    Block("docs/reference/endpoints.md", "endpoints", what_they_do),
    Block(CALLS_AND_COST, "costs", what_they_cost),
    Block(CALLS_AND_COST, "prices", prices),
];

/// An input of the cost calculation: its name, its value, and its source. The value is in US
/// dollars unless the name contains another unit. The source of a price is a date and an AWS
/// region.
struct Input(&'static str, &'static str, &'static str);

impl Input {
    fn value(&self) -> f64 {
        self.1.parse().expect("the value is a number")
    }
}

const AWS: &str = "2025-07, us-east-1";
const READ: Input = Input("DynamoDB, a million read request units", "0.125", AWS);
const WRITE: Input = Input("DynamoDB, a million write request units", "0.625", AWS);
const API: Input = Input(
    "API Gateway, a million requests of an HTTP API",
    "1.00",
    AWS,
);
const CALL: Input = Input("Lambda, a million requests", "0.20", AWS);
const SECOND: Input = Input("Lambda, a GB-second on arm64", "0.0000133334", AWS);
const LOG: Input = Input("CloudWatch Logs, a GB ingested", "0.50", AWS);
const ALARM: Input = Input("CloudWatch, an alarm a month", "0.10", AWS);
const DASHBOARD: Input = Input("CloudWatch, a dashboard a month", "3.00", AWS);
const KEY: Input = Input("KMS, a key a month", "1.00", AWS);
const DURATION: Input = Input(
    "billed milliseconds of a call",
    "15",
    "assumed; the Lambda metric `Duration` shows it",
);
const HASHING: Input = Input(
    "billed milliseconds of a call that hashes a password",
    "100",
    "assumed; the Lambda metric `Duration` shows it",
);
const LOGGED: Input = Input(
    "bytes of log of a call, with the access log of the API",
    "900",
    "assumed",
);

const INPUTS: &[Input] = &[
    READ, WRITE, API, CALL, SECOND, LOG, ALARM, DASHBOARD, KEY, DURATION, HASHING, LOGGED,
];

#[test]
fn every_generated_block_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut stale = Vec::new();
    for Block(file, name, generate) in BLOCKS {
        let path = root.join(file);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {file}: {error}"));
        let start = format!("<!-- generated: {name} -->\n");
        let (before, rest) = text
            .split_once(&start)
            .unwrap_or_else(|| panic!("{file} has no {start}"));
        let end = "<!-- end of generated -->\n";
        let (block, after) = rest
            .split_once(end)
            .unwrap_or_else(|| panic!("the block {name} in {file} has no {end}"));
        let generated = format!("\n{}\n", generate());
        if block == generated {
            continue;
        }
        if env::var_os("UPDATE").is_some() {
            let text = format!("{before}{start}{generated}{end}{after}");
            fs::write(&path, text).unwrap();
        } else {
            stale.push(format!("{name} in {file}"));
        }
    }
    assert!(
        stale.is_empty(),
        "these blocks are out of date: {}; update them with UPDATE=1 cargo test -p tests --test black_box generated",
        stale.join(", ")
    );
}

/// Returns the table of routes, with their summaries and allowed callers, from `openapi.yaml`.
fn what_they_do() -> String {
    let mut table = String::from(
        "| route | function | what it does | required credential |\n| --- | --- | --- | --- |\n",
    );
    for endpoint in endpoints() {
        let (name, method, path) = (endpoint.name, endpoint.method, endpoint.path);
        let operation = Part::operation(&endpoint)
            .expect("openapi.yaml contains the endpoint")
            .value();
        let text = |field: &str| operation[field].as_str().expect("the field is a string");
        let who = text("description").split(". ").next().unwrap_or_default();
        let who = who.trim_end_matches('.');
        let who = who.strip_prefix("For ").or(who.strip_prefix("Requires "));
        let who = who.unwrap_or_else(|| {
            panic!("the description of {name} does not begin with `For` or `Requires`")
        });
        writeln!(
            table,
            "| `{method} {path}` | `{name}` | {} | {who} |",
            text("summary")
        )
        .unwrap();
    }
    table
}

/// Returns the table of the database operations of each function, with their capacity units and
/// prices. The functions are in the order of [`FUNCTIONS`].
fn what_they_cost() -> String {
    let mut table = String::from(
        "| function | database operations | read | write | DynamoDB | total |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for function in FUNCTIONS {
        let rows = ROWS.iter().filter(|row| row.endpoint == function.name);
        let variants = VARIANTS.iter().filter(|(name, ..)| *name == function.name);
        let cases = rows
            .map(|row| ("", row.calls))
            .chain(variants.map(|(_, when, calls)| (*when, *calls)));
        let memory = &properties(function)["MemorySize"];
        let memory = memory
            .as_f64()
            .or(TEMPLATE["Globals"]["Function"]["MemorySize"].as_f64());
        for (index, (when, calls)) in cases.enumerate() {
            let label = match (index, when) {
                (_, "") => format!("`{}`", function.name),
                (0, when) => format!("`{}` {when}", function.name),
                (_, when) => format!("… {when}"),
            };
            let (read, write) = units(calls);
            let database = read * READ.value() + write * WRITE.value();
            // `true` for a case that sets or checks a password.
            let hashes = ["log-in-with-password", "create-session", "change-password"]
                .contains(&function.name)
                || when.contains("password") && !when.contains("without");
            let duration = if hashes { HASHING } else { DURATION }.value();
            let memory = memory.expect("`MemorySize` is a number");
            let lambda = lambda_and_logs(memory, duration);
            let is_endpoint = endpoints().any(|endpoint| endpoint.name == function.name);
            let api = if is_endpoint { API.value() } else { 0.0 };
            let all = database + lambda + api;
            writeln!(
                table,
                "| {label} | {} | {read} | {write} | {database:.2} | {all:.2} |",
                named(calls)
            )
            .unwrap();
        }
    }
    table
}

/// Returns what Lambda and the logs cost for a million calls. The cost of DynamoDB and API Gateway
/// is not included. `memory` is in megabytes, and `duration` is in milliseconds.
fn lambda_and_logs(memory: f64, duration: f64) -> f64 {
    // A million calls of one millisecond take a thousand seconds. If each of a million calls logs
    // one byte, together they log one megabyte.
    CALL.value()
        + duration * 1e3 * memory / 1024.0 * SECOND.value()
        + LOGGED.value() / 1e3 * LOG.value()
}

/// Returns the database operations as Markdown, for example `` `BatchGetItem`, 2 × `UpdateItem` ``.
fn named(calls: Calls) -> String {
    let names = calls.chunk_by(|(one, _), (next, _)| one == next);
    let names: Vec<_> = names
        .map(|calls| match calls {
            [(name, _)] => format!("`{name}`"),
            _ => format!("{} × `{}`", calls.len(), calls[0].0),
        })
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Returns the read units and the write units of these database operations.
fn units(calls: Calls) -> (f64, f64) {
    let is_read = |name: &str| name.contains("Get") || name == "Query";
    calls
        .iter()
        .fold((0.0, 0.0), |(read, write), (name, units)| {
            if is_read(name) {
                (read + units, write)
            } else {
                (read, write + units)
            }
        })
}

fn prices() -> String {
    let mut table = String::from("| input | value | as of |\n| --- | --- | --- |\n");
    for Input(what, value, as_of) in INPUTS {
        writeln!(table, "| {what} | {value} | {as_of} |").unwrap();
    }
    let count = |kind: &str| {
        let resources = TEMPLATE["Resources"]
            .as_object()
            .expect("the template has resources")
            .values();
        resources
            .filter(|resource: &&Value| resource["Type"] == kind)
            .count()
    };
    let parts = [
        ("key", count("AWS::KMS::Key"), KEY),
        ("alarm", count("AWS::CloudWatch::Alarm"), ALARM),
        ("dashboard", count("AWS::CloudWatch::Dashboard"), DASHBOARD),
    ];
    let mut month = 0.0;
    let named = parts.map(|(name, count, price)| {
        month +=
            f64::from(u32::try_from(count).expect("the count fits into 32 bits")) * price.value();
        format!("{count} {name}{}", if count == 1 { "" } else { "s" })
    });
    let memory = TEMPLATE["Globals"]["Function"]["MemorySize"].as_f64();
    let million = API.value() + lambda_and_logs(memory.unwrap(), DURATION.value());
    let day = |per_second: f64| per_second * 86_400.0 / 1e6 * million;
    let limit = TEMPLATE["Parameters"]["RequestsPerSecond"]["Default"].as_f64();
    let limit = limit.expect("`RequestsPerSecond` has a default");
    format!(
        "{table}\nA stack that receives no requests costs {month:.2} a month. It has {}.\n\n\
        A flood of requests without a well-formed token costs {:.0} a day if it reaches the default of `RequestsPerSecond` \
        ({limit} a second)\non one route, and {:.0} a day if it reaches the account's quota of 10,000 requests a second.\n",
        named.join(", "),
        day(limit),
        day(10_000.0)
    )
}
