//! The console: the API's endpoints as commands for people and scripts.
//!
//! # Layout
//!
//! | module | contents |
//! | --- | --- |
//! | [`directory`], [`token`], [`shortcode`], [`email_token`], [`login`] | the commands |
//! | [`options`], [`profile`], [`secret`] | the API's address, the token, and secret input |
//! | [`client`] | requests, and the failures for error responses |
//! | [`output`], [`failure`] | the output, and the exit codes |

pub mod client;
pub mod directory;
pub mod email_token;
pub mod failure;
pub mod login;
pub mod options;
pub mod output;
pub mod profile;
pub mod secret;
pub mod shortcode;
pub mod token;

use std::{fmt::Display, time::Duration};

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use shared::domain::{
    id::{EcosystemId, EnvironmentId, UserId},
    token::TokenId,
};
use tokenry_api::ExpiryType;
use tokio::sync::oneshot;

use failure::Failure;
use options::Options;

/// The commands that call the API
#[derive(Clone, Debug, Subcommand)]
pub enum Console {
    /// Store the API's address and a token in the profile; prompts for the token
    Login(Leaf<login::Login>),
    /// Manage ecosystems, which contain users
    Ecosystem(Group<directory::Ecosystem>),
    /// Manage the environments of an ecosystem; an environment's short code creates a new user
    Environment(Group<directory::Environment>),
    /// Manage users and their tokens
    User(Group<directory::User>),
    /// Manage server tokens, which give access to the environments, users and tokens of one
    /// ecosystem
    ServerToken(Group<token::ServerToken>),
    /// Show, change, disable and enable one token of a user or an ecosystem
    Token(Group<token::Token>),
    /// Create short codes and exchange them for tokens
    Shortcode(Group<shortcode::Shortcode>),
    /// Manage e-mail tokens; each user with an e-mail address can have one
    EmailToken(Group<email_token::EmailToken>),
    /// Log in with a user's e-mail address and password, and print the user's e-mail token; prompts
    /// for the password. If the user has no valid e-mail token, the API creates one
    LogIn(Leaf<email_token::LogIn>),
    /// Show the token that the console uses
    Whoami(Leaf<token::Whoami>),
    /// Check whether a token is active; prompts for the token. The exit code is 0 if the token is
    /// active, and 4 if it is not
    Introspect(Leaf<token::Introspect>),
    /// Revoke a token; prompts for the token, and needs no other credential
    Revoke(Leaf<token::Revoke>),
}

/// After ctrl-C, a prompt has this much time to restore the terminal.
const GRACE: Duration = Duration::from_millis(200);

impl Console {
    /// Runs the command until the command ends or the user presses ctrl-C.
    ///
    /// # Errors
    /// The error is one line with the cause.
    ///
    /// # Panics
    /// The command panicked.
    pub async fn run(self) -> Result<(), Failure> {
        let (tell, mut running) = oneshot::channel();
        // The command runs in a separate thread. A thread of the runtime would keep the process
        // alive until the command ends, also after ctrl-C.
        std::thread::spawn(|| tell.send(self.run_blocking()));
        tokio::select! {
            done = &mut running => done.expect("no command panics"),
            _ = tokio::signal::ctrl_c() => {
                let _ = tokio::time::timeout(GRACE, running).await;
                Err(Failure::interrupted())
            }
        }
    }

    fn run_blocking(self) -> Result<(), Failure> {
        match self {
            Self::Login(leaf) => leaf.run(),
            Self::Ecosystem(group) => group.run(),
            Self::Environment(group) => group.run(),
            Self::User(group) => group.run(),
            Self::ServerToken(group) => group.run(),
            Self::Token(group) => group.run(),
            Self::Shortcode(group) => group.run(),
            Self::EmailToken(group) => group.run(),
            Self::LogIn(leaf) => leaf.run(),
            Self::Whoami(leaf) => leaf.run(),
            Self::Introspect(leaf) => leaf.run(),
            Self::Revoke(leaf) => leaf.run(),
        }
    }
}

/// A command that can be run.
pub trait Run {
    /// Runs the command.
    ///
    /// # Errors
    /// The error is one line with the cause.
    fn run(self, options: &Options) -> Result<(), Failure>;
}

/// A command with the console's options.
#[derive(Clone, Debug, Args)]
pub struct Leaf<T: Args> {
    #[command(flatten)]
    command: T,
    #[command(flatten)]
    options: Options,
}

impl<T: Args + Run> Leaf<T> {
    fn run(self) -> Result<(), Failure> {
        self.command.run(&self.options)
    }
}

/// The commands for one kind of resource, with the console's options.
#[derive(Clone, Debug, Args)]
pub struct Group<T: Subcommand> {
    #[command(subcommand)]
    command: T,
    #[command(flatten)]
    options: Options,
}

impl<T: Subcommand + Run> Group<T> {
    fn run(self) -> Result<(), Failure> {
        self.command.run(&self.options)
    }
}

// These functions validate ids before the ids become part of a path. With an empty token id, for
// example, the request would go to another endpoint. clap puts the invalid argument in front of the
// messages of these functions.

fn ecosystem_id(text: &str) -> Result<EcosystemId, &'static str> {
    EcosystemId::parse(text).map_err(|_| "must be \"C\" followed by 24 lowercase hex digits")
}

fn environment_id(text: &str) -> Result<EnvironmentId, &'static str> {
    EnvironmentId::parse(text).map_err(|_| "must be \"E\" followed by 24 lowercase hex digits")
}

pub(crate) fn user_id(text: &str) -> Result<UserId, &'static str> {
    UserId::parse(text).map_err(
        |_| "must have the form ECOSYSTEM;NAME (in a shell, quote it: it contains a semicolon)",
    )
}

fn token_id(text: &str) -> Result<TokenId, &'static str> {
    TokenId::parse(text)
        .map_err(|_| "must be the id of a token (26 digits and capital letters), not the token")
}

/// Returns the path of a user.
fn user_path(id: &UserId) -> String {
    format!("/api/users/{}", client::segment(id))
}

/// Returns the path of an ecosystem.
fn ecosystem_path(id: &EcosystemId) -> String {
    format!("/api/ecosystems/{}", client::segment(id))
}

/// Returns the message for a deleted resource.
fn deleted(what: impl Display) -> String {
    format!("{what} is deleted.")
}

fn expiry_type() -> impl TypedValueParser<Value = ExpiryType> {
    let names = PossibleValuesParser::new(["Infinite", "FixedTtl", "SlidingTtl"]);
    names.try_map(|name| ExpiryType::parse(&name))
}
