//! The console: the API's endpoints as commands for people and scripts.
//!
//! # Layout
//!
//! | module | contents |
//! | --- | --- |
//! | [`directory`], [`token`], [`shortcode`], [`email_token`], [`session`], [`login`] | the commands |
//! | [`arguments`], [`confirm`] | the parsers of option values, and the question before a deletion |
//! | [`options`], [`profile`], [`secret`] | the API's address, the token, and secret input |
//! | [`client`], [`hint`] | requests, and the failures for error responses |
//! | [`output`], [`table`], [`failure`] | the output, and the exit codes |

pub mod arguments;
pub mod client;
pub mod confirm;
pub mod directory;
pub mod email_token;
pub mod failure;
pub mod hint;
pub mod login;
pub mod options;
pub mod output;
pub mod profile;
pub mod secret;
pub mod session;
pub mod shortcode;
pub mod table;
pub mod token;

use std::{fmt::Display, time::Duration};

use clap::Subcommand;
use shared::domain::{
    id::{EcosystemId, EnvironmentId, UserId},
    token::TokenId,
};
use tokio::sync::oneshot;

use failure::Failure;
use options::Options;

/// The commands that call the API
#[derive(Clone, Debug, Subcommand)]
pub enum Console {
    /// Store the API's address and a token in the profile; prompts for the token
    Login(login::Login),
    /// Remove the profile
    Logout(login::Logout),
    /// Show the token that the console uses
    Whoami(token::Whoami),
    /// Manage ecosystems, which contain users
    #[command(subcommand)]
    Ecosystem(directory::Ecosystem),
    /// Manage the environments of an ecosystem; an environment's short code creates a new user
    #[command(subcommand)]
    Environment(directory::Environment),
    /// Manage users and their tokens
    #[command(subcommand)]
    User(directory::User),
    /// Manage server tokens, which give access to the environments, users and tokens of one
    /// ecosystem
    #[command(subcommand)]
    ServerToken(token::ServerToken),
    /// Show, change, disable and enable one token of a user or an ecosystem
    #[command(subcommand)]
    Token(token::Token),
    /// Create short codes and exchange them for tokens
    #[command(subcommand)]
    Shortcode(shortcode::Shortcode),
    /// Log users in with their e-mail addresses and passwords
    #[command(subcommand)]
    Session(session::Session),
    /// Change the password of the token's user
    #[command(subcommand)]
    Password(session::Password),
    /// Manage e-mail tokens; each user with an e-mail address can have one
    #[command(subcommand)]
    EmailToken(email_token::EmailToken),
    /// Log in with a user's e-mail address and password, and print the user's e-mail token; prompts
    /// for the password. If the user has no valid e-mail token, the API creates one
    #[command(hide = true)]
    LogIn(email_token::LogIn),
    /// Check whether a token is active; prompts for the token. The exit code is 0 if the token is
    /// active, and 4 if it is not
    Introspect(token::Introspect),
    /// Revoke a token; prompts for the token, and needs no other credential
    Revoke(token::Revoke),
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
    pub async fn run(self, options: Options) -> Result<(), Failure> {
        let (tell, mut running) = oneshot::channel();
        let run = move || self.run_blocking(&options);
        // The command runs in a separate thread. A thread of the runtime would keep the process
        // alive until the command ends, also after ctrl-C.
        std::thread::spawn(|| tell.send(run()));
        tokio::select! {
            done = &mut running => done.expect("no command panics"),
            _ = tokio::signal::ctrl_c() => {
                let _ = tokio::time::timeout(GRACE, running).await;
                Err(Failure::interrupted())
            }
        }
    }

    fn run_blocking(self, options: &Options) -> Result<(), Failure> {
        match self {
            Self::Login(command) => command.run(options),
            Self::Logout(command) => command.run(options),
            Self::Whoami(command) => command.run(options),
            Self::Ecosystem(command) => command.run(options),
            Self::Environment(command) => command.run(options),
            Self::User(command) => command.run(options),
            Self::ServerToken(command) => command.run(options),
            Self::Token(command) => command.run(options),
            Self::Shortcode(command) => command.run(options),
            Self::Session(command) => command.run(options),
            Self::Password(command) => command.run(options),
            Self::EmailToken(command) => command.run(options),
            Self::LogIn(command) => command.run(options),
            Self::Introspect(command) => command.run(options),
            Self::Revoke(command) => command.run(options),
        }
    }

    /// Returns whether the command calls the API.
    pub fn calls_api(&self) -> bool {
        !matches!(self, Self::User(directory::User::Export(_)))
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

// These functions validate ids before the ids become part of a path. With an empty token id, for
// example, the request would go to another endpoint. clap puts the invalid argument in front of the
// messages of these functions.

fn ecosystem_id(text: &str) -> Result<EcosystemId, &'static str> {
    EcosystemId::parse(text).map_err(
        |_| "must be \"C\" followed by 24 lowercase hex digits, such as C58521fd8a5d9b5cc21987501",
    )
}

fn environment_id(text: &str) -> Result<EnvironmentId, &'static str> {
    EnvironmentId::parse(text).map_err(
        |_| "must be \"E\" followed by 24 lowercase hex digits, such as E58521fd8a5d9b5cc21987501",
    )
}

pub(crate) fn user_id(text: &str) -> Result<UserId, &'static str> {
    UserId::parse(text).map_err(|_| {
        "must have the form ECOSYSTEM;NAME, such as 'C58521fd8a5d9b5cc21987501;bob' (in a shell, \
         quote it: it contains a semicolon)"
    })
}

fn token_id(text: &str) -> Result<TokenId, &'static str> {
    TokenId::parse(text).map_err(|_| {
        "must be the id of a token (26 digits and capital letters, such as \
         01KDVDXH5GQ3T8Z6W2R9M4N7PB), not the token"
    })
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
