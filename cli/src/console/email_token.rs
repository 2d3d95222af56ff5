//! The commands `tokenry email-token` and `tokenry log-in`.

use clap::{Args, Subcommand};
use serde::Serialize;
use shared::domain::{id::EcosystemId, time::Timestamp};
use tokenry_api::{
    self as api, EmailTokenData, EmailTokenValueData, EndedEmailToken, NewEmailToken,
};
use ureq::http::Method;

use super::{
    Run, client::Payload, ecosystem_id, failure::Failure, options::Options, output::Paging, secret,
};

const PATH: &str = "/_/user-token";
const VALUE: &str = "/_/user-token/value";

/// E-mail tokens
#[derive(Clone, Debug, Subcommand)]
pub enum EmailToken {
    /// Create an e-mail token for a user. With --write=false, the scope is `read`. Otherwise, the
    /// scope is `read write`
    Create(Wanted),
    /// List e-mail tokens, without their values
    List(Paging),
    /// Replace the scope and the expiry of an e-mail token. With --write, the new scope is
    /// `read write`. Otherwise, it is `read`. Without --expiration-date, the token never expires
    Update(Wanted),
    /// Delete an e-mail token
    Delete(Owner),
    /// Print the value of a user's e-mail token
    Value(Owner),
}

/// The user of an e-mail token
#[derive(Clone, Debug, Args, Serialize)]
pub struct Owner {
    /// The user's e-mail address
    email: String,
}

/// The user and the properties of an e-mail token
#[derive(Clone, Debug, Args)]
pub struct Wanted {
    #[command(flatten)]
    owner: Owner,
    /// The token's scope: true means `read write`, and false means `read`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    write: Option<bool>,
    /// When the token expires: a time such as 2030-01-01T00:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = millis)]
    expiration_date: Option<u64>,
}

impl Wanted {
    fn body(self) -> Payload {
        Payload::json(&NewEmailToken {
            email: self.owner.email.into(),
            write: self.write,
            expiration_date: self.expiration_date,
        })
    }
}

fn millis(text: &str) -> Result<u64, &'static str> {
    let moment = || Timestamp::parse(text).map(Timestamp::millis);
    text.parse()
        .ok()
        .or_else(moment)
        .ok_or("must be a time such as 2030-01-01T00:00:00Z, or milliseconds since 1970")
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
            Self::List(paging) => {
                return output.list::<api::EmailToken>(&client, PATH, "data", &paging, RECORD);
            }
            Self::Value(owner) => {
                let value = client.call(Method::GET, VALUE, Payload::query(&owner))?;
                return output.record::<EmailTokenValueData>(&value, &["token"]);
            }
            Self::Create(wanted) => (Method::POST, wanted.body()),
            Self::Update(wanted) => (Method::PUT, wanted.body()),
            Self::Delete(Owner { email }) => (
                Method::DELETE,
                Payload::json(&EndedEmailToken {
                    email: email.into(),
                }),
            ),
        };
        let record = client.call(method, PATH, body)?;
        output.record::<EmailTokenData>(&record, RECORD)
    }
}

/// The user that logs in; the password comes from a prompt or standard input
#[derive(Clone, Debug, Args)]
pub struct LogIn {
    /// The user's e-mail address
    email: String,
    /// The user's ecosystem; by default, any ecosystem of the deployment's first account
    #[arg(long, value_name = "ID", value_parser = ecosystem_id)]
    ecosystem: Option<EcosystemId>,
}

impl Run for LogIn {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let client = options.client_without_token()?;
        let body = Payload::json(&api::LogIn {
            email: self.email.into(),
            password: secret::ask("the password")?,
            ecosystem_id: self.ecosystem.map(|id| id.to_string()),
            client_address: None,
        });
        let value = client.call(Method::POST, VALUE, body)?;
        let output = options.output();
        output.record::<EmailTokenValueData>(&value, &["token"])
    }
}
