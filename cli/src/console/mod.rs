//! The console: the API's endpoints as commands for people and scripts.
//!
//! # Layout
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`directory`], [`token`], [`shortcode`], [`email_token`], [`login`] | the commands |
//! | [`options`], [`profile`], [`secret`] | which API, with which token, and how secrets come in |
//! | [`client`] | requests, and what refusals mean |
//! | [`output`], [`failure`] | what is printed, and the exit codes |

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
    /// Keep the API's address and a token, which is asked for, in the profile
    Login(Leaf<login::Login>),
    /// Ecosystems, which users belong to
    Ecosystem(Group<directory::Ecosystem>),
    /// Environments of an ecosystem, which short codes are made for
    Environment(Group<directory::Environment>),
    /// Users and their tokens
    User(Group<directory::User>),
    /// Server tokens, which do everything inside one ecosystem
    ServerToken(Group<token::ServerToken>),
    /// Short codes, which are exchanged for a token
    Shortcode(Group<shortcode::Shortcode>),
    /// E-mail tokens, one for each user with an address
    EmailToken(Group<email_token::EmailToken>),
    /// Read a user's e-mail token with the user's address and password, which is asked for
    LogIn(Leaf<email_token::LogIn>),
    /// Tell whether a token, which is asked for, holds: exit code 0 if so, 4 if not
    Introspect(Leaf<token::Introspect>),
    /// Revoke a token, which is asked for, by the token itself
    Revoke(Leaf<token::Revoke>),
}

/// How long a prompt that is interrupted may take to leave the terminal as it was.
const GRACE: Duration = Duration::from_millis(200);

impl Console {
    /// Runs the command, to its end or to ctrl-C.
    ///
    /// # Errors
    /// What went wrong, in one line.
    ///
    /// # Panics
    /// The command panicked.
    pub async fn run(self) -> Result<(), Failure> {
        let (tell, mut running) = oneshot::channel();
        // Not the runtime's, which would wait for it when the process is to end.
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
            Self::Shortcode(group) => group.run(),
            Self::EmailToken(group) => group.run(),
            Self::LogIn(leaf) => leaf.run(),
            Self::Introspect(leaf) => leaf.run(),
            Self::Revoke(leaf) => leaf.run(),
        }
    }
}

/// What a command does.
pub trait Run {
    /// Runs the command.
    ///
    /// # Errors
    /// What went wrong, in one line.
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

/// Commands on one kind of thing, with the console's options.
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

// An id of the wrong form never becomes part of a path: an empty token's id would ask for another
// endpoint. (What is wrong is clap's to say.)

fn ecosystem_id(text: &str) -> Result<EcosystemId, &'static str> {
    EcosystemId::parse(text).map_err(|_| "an ecosystem's id is C and 24 lowercase hex digits")
}

fn environment_id(text: &str) -> Result<EnvironmentId, &'static str> {
    EnvironmentId::parse(text).map_err(|_| "an environment's id is E and 24 lowercase hex digits")
}

fn user_id(text: &str) -> Result<UserId, &'static str> {
    UserId::parse(text)
        .map_err(|_| "a user's id is ECOSYSTEM;NAME, quoted in a shell because of the semicolon")
}

fn token_id(text: &str) -> Result<TokenId, &'static str> {
    TokenId::parse(text).map_err(|_| "a token's id is 26 digits and capitals; it is not the token")
}

/// The path of a user.
fn user_path(id: &UserId) -> String {
    format!("/api/users/{}", client::segment(id))
}

/// The path of an ecosystem.
fn ecosystem_path(id: &EcosystemId) -> String {
    format!("/api/ecosystems/{}", client::segment(id))
}

/// What is said of something that is gone now.
fn deleted(what: impl Display) -> String {
    format!("{what} is deleted.")
}

fn expiry_type() -> impl TypedValueParser<Value = ExpiryType> {
    let names = PossibleValuesParser::new(["Infinite", "FixedTtl", "SlidingTtl"]);
    names.try_map(|name| ExpiryType::parse(&name))
}
