//! The commands `tokenry ecosystem`, `tokenry environment` and `tokenry user`.

use clap::{Args, Subcommand};
use shared::domain::id::{EcosystemId, EnvironmentId, UserId};
use tokenry_api::{
    self as api, Change, CreatedEcosystem, CreatedEnvironment, EcosystemChange, ListedEcosystem,
    ListedEnvironment, ListedUser, UserChange, WhenFull,
};
use ureq::http::Method;

use super::{
    Run,
    arguments::{seconds, when_full},
    client::{Payload, segment},
    confirm::Confirm,
    deleted, ecosystem_id, ecosystem_path, environment_id,
    failure::{Failure, nothing_to_change},
    options::Options,
    output::Paging,
    secret,
    token::UserTokens,
    user_id, user_path,
};

use crate::export::Export;

/// Ecosystems
#[derive(Clone, Debug, Subcommand)]
pub enum Ecosystem {
    /// Create an ecosystem
    Create,
    /// List the account's ecosystems, by id
    List {
        /// The requested part of the list
        #[command(flatten)]
        paging: Paging,
    },
    /// Show an ecosystem and its settings
    Get {
        /// The ecosystem's id, such as C58521fd8a5d9b5cc21987501
        #[arg(value_parser = ecosystem_id)]
        ecosystem_id: EcosystemId,
    },
    /// Change the given settings of an ecosystem
    Update(UpdateEcosystem),
    /// Delete an ecosystem with its users and their tokens
    Delete {
        /// The ecosystem's id, such as C58521fd8a5d9b5cc21987501
        #[arg(value_parser = ecosystem_id)]
        ecosystem_id: EcosystemId,
        /// The confirmation
        #[command(flatten)]
        confirm: Confirm,
    },
}

/// An ecosystem, and the settings to change
#[derive(Clone, Debug, Args)]
pub struct UpdateEcosystem {
    /// The ecosystem's id, such as C58521fd8a5d9b5cc21987501
    #[arg(value_parser = ecosystem_id)]
    ecosystem_id: EcosystemId,
    /// The maximum number of tokens of each user, 1 to 100
    #[arg(long, value_name = "NUMBER")]
    max_tokens_per_user: Option<u32>,
    /// Remove the limit of tokens
    #[arg(long, conflicts_with = "max_tokens_per_user")]
    no_max_tokens_per_user: bool,
    /// What happens if a token is created for a user that has the maximum number of tokens
    #[arg(long, value_parser = when_full())]
    when_full: Option<WhenFull>,
    /// How long a session is valid after its last use, such as 14d; without a unit, in seconds.
    /// This is the default and the maximum
    #[arg(long, value_name = "DURATION", value_parser = seconds::<u32>)]
    session_ttl: Option<u32>,
    /// The time after which a session ends even if it is used, such as 90d. This is the default and
    /// the maximum
    #[arg(long, value_name = "DURATION", value_parser = seconds::<u32>)]
    session_max_ttl: Option<u32>,
    /// The scope of a session, such as "read write"
    #[arg(long, value_name = "SCOPES")]
    session_scope: Option<String>,
    /// Restore the defaults of the three settings of sessions
    #[arg(long, conflicts_with_all = ["session_ttl", "session_max_ttl", "session_scope"])]
    default_sessions: bool,
}

impl UpdateEcosystem {
    /// Returns the request body for the given arguments.
    fn body(&self) -> EcosystemChange {
        EcosystemChange {
            max_tokens_per_user: change(self.max_tokens_per_user, self.no_max_tokens_per_user),
            when_full: self.when_full,
            session_ttl: change(self.session_ttl, self.default_sessions),
            session_max_ttl: change(self.session_max_ttl, self.default_sessions),
            session_scope: change(self.session_scope.clone(), self.default_sessions),
        }
    }
}

impl Run for Ecosystem {
    fn run(self, options: &Options) -> Result<(), Failure> {
        const SHOWN: &[&str] = &[
            "id",
            "maxTokensPerUser",
            "whenFull",
            "sessionTtl",
            "sessionMaxTtl",
            "sessionScope",
        ];
        let (client, output) = (options.client()?, options.output());
        match self {
            Self::Get { ecosystem_id } => {
                let path = ecosystem_path(&ecosystem_id);
                let ecosystem = client.call(Method::GET, &path, Payload::Nothing)?;
                output.record::<api::Ecosystem>(&ecosystem, SHOWN)
            }
            Self::Update(update) => {
                let (path, body) = (ecosystem_path(&update.ecosystem_id), update.body());
                if body == EcosystemChange::default() {
                    return Err(nothing_to_change());
                }
                let ecosystem = client.call(Method::PATCH, &path, Payload::json(&body))?;
                output.record::<api::Ecosystem>(&ecosystem, SHOWN)
            }
            Self::Create => {
                let made = client.call(Method::POST, "/api/ecosystems", Payload::Nothing)?;
                output.record::<CreatedEcosystem>(&made, &["id"])
            }
            Self::List { paging } => {
                let path = "/api/ecosystems";
                output.list::<ListedEcosystem>(&client, path, "ecosystems", &paging, &["id"])
            }
            Self::Delete {
                ecosystem_id,
                confirm,
            } => {
                confirm.delete(&format!("{ecosystem_id} with its users and their tokens"))?;
                let path = ecosystem_path(&ecosystem_id);
                client.tell(Method::DELETE, &path, Payload::Nothing)?;
                output.done(&deleted(ecosystem_id))
            }
        }
    }
}

/// Environments
#[derive(Clone, Debug, Subcommand)]
pub enum Environment {
    /// Create an environment
    Create {
        /// The ecosystem's id, such as C58521fd8a5d9b5cc21987501
        #[arg(value_parser = ecosystem_id)]
        ecosystem_id: EcosystemId,
    },
    /// List an ecosystem's environments, by id
    List {
        /// The ecosystem's id, such as C58521fd8a5d9b5cc21987501
        #[arg(value_parser = ecosystem_id)]
        ecosystem_id: EcosystemId,
        /// The requested part of the list
        #[command(flatten)]
        paging: Paging,
    },
    /// Delete an environment, and revoke all tokens of the users that were created with the
    /// environment's short codes
    Delete {
        /// The environment's id, such as E58521fd8a5d9b5cc21987501
        #[arg(value_parser = environment_id)]
        environment_id: EnvironmentId,
        /// The confirmation
        #[command(flatten)]
        confirm: Confirm,
    },
}

impl Run for Environment {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let (client, output) = (options.client()?, options.output());
        match self {
            Self::Create { ecosystem_id } => {
                let path = format!("{}/environments", ecosystem_path(&ecosystem_id));
                let made = client.call(Method::POST, &path, Payload::Nothing)?;
                output.record::<CreatedEnvironment>(&made, &["id"])
            }
            Self::List {
                ecosystem_id,
                paging,
            } => {
                let path = format!("{}/environments", ecosystem_path(&ecosystem_id));
                output.list::<ListedEnvironment>(&client, &path, "environments", &paging, &["id"])
            }
            Self::Delete {
                environment_id,
                confirm,
            } => {
                confirm.delete(&format!("{environment_id} with the tokens of its users"))?;
                let path = format!("/api/environments/{}", segment(&environment_id));
                client.tell(Method::DELETE, &path, Payload::Nothing)?;
                output.done(&deleted(environment_id))
            }
        }
    }
}

/// Users
#[derive(Clone, Debug, Subcommand)]
pub enum User {
    /// Create a user, or change the given fields of a user. A change of the e-mail address or the
    /// password, or --active=false, revokes all tokens of the user
    Put(PutUser),
    /// Show a user
    Get(OneUser),
    /// List an ecosystem's users, by name; the users that short codes created are not listed
    List {
        /// The ecosystem's id, such as C58521fd8a5d9b5cc21987501
        #[arg(value_parser = ecosystem_id)]
        ecosystem_id: EcosystemId,
        /// List only users whose names begin with this text
        #[arg(long, value_name = "TEXT")]
        prefix: Option<String>,
        /// The requested part of the list
        #[command(flatten)]
        paging: Paging,
    },
    /// Delete a user and revoke all tokens of the user
    Delete(OneUser),
    /// Print everything that is stored about a user as JSON, without hashes and secrets. This
    /// command reads the table directly: it needs the rights of an operator, and no API token
    Export(Export),
    /// The user's tokens
    #[command(flatten)]
    Tokens(UserTokens),
}

/// A user
#[derive(Clone, Debug, Args)]
pub struct OneUser {
    /// The user's id in the form ECOSYSTEM;NAME, such as 'C58521fd8a5d9b5cc21987501;bob'
    #[arg(value_parser = user_id)]
    user_id: UserId,
}

/// A user, and the fields to set
#[derive(Clone, Debug, Args)]
pub struct PutUser {
    #[command(flatten)]
    user: OneUser,
    /// The e-mail address
    #[arg(long)]
    email: Option<String>,
    /// Remove the e-mail address
    #[arg(long, conflicts_with = "email")]
    no_email: bool,
    /// Prompt for a new password, which has at least 8 characters unless the API requires more
    #[arg(long)]
    password: bool,
    /// Remove the password
    #[arg(long, conflicts_with = "password")]
    no_password: bool,
    /// Whether the user's tokens may manage the e-mail tokens of the user's ecosystem
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    admin: Option<bool>,
    /// Whether the user is active; an inactive user has no valid tokens
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    active: Option<bool>,
}

impl PutUser {
    /// Returns the request body for the given arguments.
    fn body(&self) -> Result<UserChange, Failure> {
        let asked = self.password.then(|| secret::ask_new("the password"));
        Ok(UserChange {
            email: change(self.email.clone().map(Into::into), self.no_email),
            password: change(asked.transpose()?, self.no_password),
            admin: self.admin,
            active: self.active,
        })
    }
}

fn change<T>(given: Option<T>, removed: bool) -> Change<T> {
    match given {
        Some(value) => Change::Set(value),
        None if removed => Change::Clear,
        None => Change::Keep,
    }
}

impl Run for User {
    fn run(self, options: &Options) -> Result<(), Failure> {
        const SHOWN: &[&str] = &["id", "email", "admin", "active"];
        let output = options.output();
        match self {
            Self::Put(put) => {
                let client = options.client()?;
                let body = Payload::json(&put.body()?);
                let user = client.call(Method::PUT, &user_path(&put.user.user_id), body)?;
                output.record::<api::User>(&user, SHOWN)
            }
            Self::Get(OneUser { user_id }) => {
                let path = user_path(&user_id);
                let user = options
                    .client()?
                    .call(Method::GET, &path, Payload::Nothing)?;
                output.record::<api::User>(&user, SHOWN)
            }
            Self::List {
                ecosystem_id,
                prefix,
                mut paging,
            } => {
                let path = format!("{}/users", ecosystem_path(&ecosystem_id));
                paging.prefix = prefix;
                let client = options.client()?;
                output.list::<ListedUser>(&client, &path, "users", &paging, &["id"])
            }
            Self::Delete(OneUser { user_id }) => {
                let path = user_path(&user_id);
                options
                    .client()?
                    .tell(Method::DELETE, &path, Payload::Nothing)?;
                output.done(&deleted(user_id))
            }
            Self::Export(export) => export.run(),
            Self::Tokens(tokens) => tokens.run(options),
        }
    }
}
