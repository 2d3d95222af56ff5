//! Prints responses: as tables for people, and as one line of JSON for programs.

use std::io::{self, ErrorKind, Write};

use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use shared::domain::time::UnixSeconds;
use ureq::http::Method;
use zeroize::Zeroizing;

use super::{
    client::{Body, Client, Payload, one_line},
    failure::{Failure, Kind, printable},
    table,
};

/// How responses are printed.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether to print the API's response unchanged instead of a table.
    pub json: bool,
}

/// The requested part of a list.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Paging {
    /// Print one page of at most this many rows (1 to 100); without --limit and --cursor, print all
    /// pages
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    /// Print the page that starts at this cursor; each page shows the cursor of the next page
    #[arg(long)]
    cursor: Option<String>,
    /// The start of the names to list. Only the list of users has this option.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefix: Option<String>,
}

/// A page of a list. The field with the rows is `data` for e-mail tokens, and has the name of what
/// the list contains otherwise. `T` is the type of a row, which can be raw JSON.
#[derive(Deserialize)]
struct Page<T> {
    #[serde(
        rename = "tokens",
        alias = "data",
        alias = "ecosystems",
        alias = "environments",
        alias = "users"
    )]
    rows: Vec<T>,
    cursor: Option<String>,
}

impl Output {
    /// Prints one record. The table has a row for each of the fields `names`.
    ///
    /// # Errors
    /// The body is not a `T`, or the record cannot be printed.
    pub fn record<T: DeserializeOwned + Serialize>(
        self,
        body: &Body,
        names: &[&str],
    ) -> Result<(), Failure> {
        print(&self.text::<T>(body, names)?)
    }

    /// Prints a record with a secret that is shown only once. Unlike [`Output::record`], returns an
    /// error if the reader of standard output has closed the pipe.
    ///
    /// The response of a newer service may contain values that this release does not know. Then
    /// this function prints the JSON of the response, because otherwise the secret would be lost.
    ///
    /// # Errors
    /// The body is not a `T` and contains no secret, or the record cannot be printed.
    pub fn record_once<T: DeserializeOwned + Serialize>(
        self,
        body: &Body,
        names: &[&str],
    ) -> Result<(), Failure> {
        let text = match self.text::<T>(body, names) {
            Err(_) if body.contains_secret() => body.line()?,
            text => text?,
        };
        write(&text).map_err(|error| {
            let line = format!("the secret could not be printed, and is not shown again: {error}");
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
        let fields = names
            .iter()
            .filter_map(|name| Some((*name, cell(name, record)?)));
        Ok(table::record(&fields.collect::<Vec<_>>()))
    }

    /// Prints the list that a path returns in the field `key`: all pages, or only the requested
    /// page.
    ///
    /// # Errors
    /// The API rejects the request, a response is not a page of `T`, or the list cannot be printed.
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
                let line = "the API's list does not end: it returned the same cursor twice";
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
            let rows: Vec<_> = rows.map(one_line).collect();
            return print(&format!(
                r#"{{"{key}":[{}],"cursor":null}}"#,
                rows.join(",")
            ));
        }
        let pages: Result<Vec<Page<T>>, _> = bodies.iter().map(Body::parse).collect();
        let rows = pages?.into_iter().flat_map(|page| page.rows).map(|row| {
            let row = value(&row);
            let cells = names.iter().map(|name| cell(name, &row));
            cells.map(Option::unwrap_or_default).collect()
        });
        let table = table::list(names, &rows.collect::<Vec<_>>());
        match last {
            None => print(&table),
            Some(cursor) => {
                let cursor = printable(&cursor);
                print(&format!("{table}\nThe next page: --cursor {cursor}"))
            }
        }
    }

    /// Prints the message for a successful request whose response is empty. With `--output json`,
    /// prints nothing.
    ///
    /// # Errors
    /// The message cannot be printed.
    pub fn done(self, what: &str) -> Result<(), Failure> {
        if self.json {
            Ok(())
        } else {
            print(&printable(what))
        }
    }
}

fn value(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).expect("a response serializes to JSON")
}

/// Returns a field of a record as text for a table, or `None` if the record has no such field.
fn cell(name: &str, record: &Value) -> Option<String> {
    let value = record.get(name)?;
    let text = match (name, value) {
        ("expiresAt", Value::Null) => Some("never".to_owned()),
        // If a token never expires, the API sets this field to the value of `updated_at`.
        ("expiration_date", _) if record["expiryType"] == "Infinite" => Some("never".to_owned()),
        ("iat" | "exp", value) => value.as_u64().and_then(time),
        ("created_at" | "updated_at" | "expiration_date", value) => {
            value.as_u64().and_then(|millis| time(millis / 1000))
        }
        (_, Value::Null) => Some("-".to_owned()),
        (_, value) => value.as_str().map(printable),
    };
    Some(text.unwrap_or_else(|| printable(&value.to_string())))
}

fn time(seconds: u64) -> Option<String> {
    UnixSeconds(seconds).to_rfc3339()
}

/// Prints lines. It is not an error if the reader, for example `head`, has closed the pipe.
///
/// # Errors
/// The lines cannot be written.
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
