//! `tokenry email-token`, and `tokenry log-in`.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Map;
use shared::domain::time::Timestamp;
use ureq::http::Method;

use super::{
    Run,
    client::{Payload, fields},
    failure::Failure,
    options::Options,
    output::Paging,
    secret::Secret,
};

const PATH: &str = "/_/user-token";
const VALUE: &str = "/_/user-token/value";

/// E-mail tokens
#[derive(Clone, Debug, Subcommand)]
pub enum EmailToken {
    /// Make the e-mail token of a user; it may write unless --write=false
    Create(Wanted),
    /// List e-mail tokens, without their values
    List(Paging),
    /// Replace both properties of an e-mail token; it reads only unless --write, and never expires
    /// unless --expiration-date
    Update(Wanted),
    /// End an e-mail token
    Delete(Owner),
    /// Read an e-mail token's value
    Value(Owner),
}

/// Whose e-mail token
#[derive(Clone, Debug, Args, Serialize)]
pub struct Owner {
    /// The user's e-mail address
    email: String,
}

/// Whose e-mail token, and what it is to be
#[derive(Clone, Debug, Args, Serialize)]
pub struct Wanted {
    #[command(flatten)]
    #[serde(flatten)]
    owner: Owner,
    /// Whether it may write, or read only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    write: Option<bool>,
    /// When it expires: 2030-01-01T00:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = millis)]
    expiration_date: Option<u64>,
}

fn millis(text: &str) -> Result<u64, &'static str> {
    let moment = || Timestamp::parse(text).map(Timestamp::millis);
    text.parse()
        .ok()
        .or_else(moment)
        .ok_or("neither a time such as 2030-01-01T00:00:00Z nor milliseconds since 1970")
}

impl Run for EmailToken {
    fn run(self, options: &Options) -> Result<(), Failure> {
        const RECORD: &[&str] = &[
            "email",
            "userId",
            "tokenId",
            "write",
            "expiryType",
            "expiration_date",
            "created_at",
            "updated_at",
        ];
        let (client, output) = (options.client()?, options.output());
        let (method, body) = match self {
            Self::List(paging) => return output.list(&client, PATH, "data", &paging, RECORD),
            Self::Value(owner) => {
                let value = client.call(Method::GET, VALUE, Payload::Query(fields(&owner)))?;
                return output.record(&value, &["token"]);
            }
            Self::Create(wanted) => (Method::POST, fields(&wanted)),
            Self::Update(wanted) => (Method::PUT, fields(&wanted)),
            Self::Delete(owner) => (Method::DELETE, fields(&owner)),
        };
        let record = client.call(method, PATH, Payload::Json(body))?;
        output.record(&record, RECORD)
    }
}

/// Who logs in; the password comes from a prompt or standard input.
#[derive(Clone, Debug, Args)]
pub struct LogIn {
    /// The user's e-mail address
    email: String,
}

impl Run for LogIn {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let client = options.client_without_token()?;
        let password = Secret::ask("the password")?;
        let body = Map::from_iter([
            ("email".to_owned(), self.email.into()),
            ("password".to_owned(), password.reveal().into()),
        ]);
        let value = client.call(Method::POST, VALUE, Payload::Json(body))?;
        options.output().record(&value, &["token"])
    }
}
