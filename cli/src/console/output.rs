//! Answers, as tables for people and in one line of JSON for programs.

use std::io::{self, ErrorKind, Write};

use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use shared::domain::time::UnixSeconds;
use ureq::http::Method;
use zeroize::Zeroizing;

use super::{
    client::{Body, Client, Payload},
    failure::{Failure, Kind, printable},
};

/// How answers are printed.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The API's answer as it is, instead of a table.
    pub json: bool,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Paging {
    /// One page with at most so many, 1 to 100; without --limit and --cursor, all pages
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    /// The page that an earlier page's cursor names
    #[arg(long)]
    cursor: Option<String>,
}

/// A page of a list; e-mail tokens come in `data`, others in `tokens`. Its rows are typed, or the JSON as it came.
#[derive(Deserialize)]
struct Page<T> {
    #[serde(rename = "tokens", alias = "data")]
    rows: Vec<T>,
    cursor: Option<String>,
}

impl Output {
    /// Prints one record: these of its fields, a row for each.
    ///
    /// # Errors
    /// It is not a `T`, or cannot be printed.
    pub fn record<T: DeserializeOwned + Serialize>(
        self,
        body: &Body,
        names: &[&str],
    ) -> Result<(), Failure> {
        print(&self.text::<T>(body, names)?)
    }

    /// Prints a record with a secret that is shown this once: a reader that has gone is a failure
    /// then.
    ///
    /// # Errors
    /// It is not a `T`, or cannot be printed.
    pub fn record_once<T: DeserializeOwned + Serialize>(
        self,
        body: &Body,
        names: &[&str],
    ) -> Result<(), Failure> {
        write(&self.text::<T>(body, names)?).map_err(|error| {
            let line =
                format!("what the API made could not be printed, and is not shown again: {error}");
            Failure::new(Kind::Other, line)
        })
    }

    fn text<T: DeserializeOwned + Serialize>(
        self,
        body: &Body,
        names: &[&str],
    ) -> Result<Zeroizing<String>, Failure> {
        if self.json {
            return body.line();
        }
        let value = value(&body.parse::<T>()?);
        let record = value.pointer("/data/0").unwrap_or(&value);
        let rows = names
            .iter()
            .filter_map(|name| Some([(*name).to_owned(), cell(name, record)?]));
        Ok(lines(Table::new().add_rows(rows)))
    }

    /// Prints the list that a path answers with in the field `key`: all of its pages, or the one
    /// that is wanted.
    ///
    /// # Errors
    /// A page is refused, or is not a page of `T`, or cannot be printed.
    pub fn list<T: DeserializeOwned + Serialize>(
        self,
        client: &Client,
        path: &str,
        key: &str,
        paging: &Paging,
        names: &[&str],
    ) -> Result<(), Failure> {
        let one_page = paging.limit.is_some() || paging.cursor.is_some();
        let mut wanted = paging.clone();
        let mut bodies = Vec::new();
        let last = loop {
            let body = client.call(Method::GET, path, Payload::query(&wanted))?;
            let cursor = body.parse::<Page<&RawValue>>()?.cursor;
            bodies.push(body);
            if one_page || cursor.is_none() {
                break cursor;
            }
            if cursor == wanted.cursor {
                let line = "the API's list does not end: its cursor stays";
                return Err(Failure::new(Kind::Other, line));
            }
            wanted.cursor = cursor;
        };
        if self.json && bodies.len() == 1 {
            return print(&bodies[0].line()?);
        }
        if self.json {
            let pages: Result<Vec<Page<&RawValue>>, _> = bodies.iter().map(Body::parse).collect();
            let rows = pages?.into_iter().flat_map(|page| page.rows);
            let rows: Vec<_> = rows.map(RawValue::get).collect();
            return print(&format!(
                r#"{{"{key}":[{}],"cursor":null}}"#,
                rows.join(",")
            ));
        }
        let pages: Result<Vec<Page<T>>, _> = bodies.iter().map(Body::parse).collect();
        let mut table = Table::new();
        table.set_header(names.iter().copied());
        for row in pages?.into_iter().flat_map(|page| page.rows) {
            let row = value(&row);
            table.add_row(
                names
                    .iter()
                    .map(|name| cell(name, &row).unwrap_or_default()),
            );
        }
        let table = lines(&mut table);
        match last {
            None => print(&table),
            Some(cursor) => {
                let cursor = printable(&cursor);
                print(&format!("{}\nThe next page: --cursor {cursor}", *table))
            }
        }
    }

    /// Tells a person that it is done; the API's answer is empty.
    ///
    /// # Errors
    /// It cannot be printed.
    pub fn done(self, what: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { print(what) }
    }
}

fn value(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).expect("an answer is JSON")
}

/// A field of a record as people read it.
fn cell(name: &str, record: &Value) -> Option<String> {
    let value = record.get(name)?;
    let text = match (name, value) {
        ("expiresAt", Value::Null) => Some("never".to_owned()),
        // The API tells of that by an equal `updated_at`.
        ("expiration_date", _) if record["expiryType"] == "Infinite" => Some("never".to_owned()),
        ("iat" | "exp", value) => value.as_u64().and_then(time),
        ("created_at" | "updated_at" | "expiration_date", value) => {
            value.as_u64().and_then(|millis| time(millis / 1000))
        }
        (_, Value::Null) => Some("-".to_owned()),
        (_, value) => value.as_str().map(printable),
    };
    Some(text.unwrap_or_else(|| value.to_string()))
}

fn time(seconds: u64) -> Option<String> {
    UnixSeconds(seconds).to_rfc3339()
}

/// The table's lines, without borders, as wide as they are: a token is copied in one piece.
fn lines(table: &mut Table) -> Zeroizing<String> {
    table.load_style(NOTHING);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n").into()
}

/// Prints lines. A reader that has seen enough has gone, as `head` does, and that is no failure.
///
/// # Errors
/// They cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    match write(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let line = format!("cannot write to standard output: {error}");
            Err(Failure::new(Kind::Other, line))
        }
        _ => Ok(()),
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
