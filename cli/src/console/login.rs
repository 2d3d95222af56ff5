//! `tokenry login` and `tokenry logout`: create and remove the profile.

use clap::Args;
use serde_json::json;
use tokenry_api::Introspection;
use ureq::http::Method;

use super::{
    Run,
    client::{Payload, not_tokenry},
    failure::Failure,
    options::Options,
    output, profile,
    token::WHOAMI,
};

/// The arguments of `login`: only the options of all commands that call the API.
#[derive(Clone, Copy, Debug, Args)]
pub struct Login {}

impl Run for Login {
    /// Prompts for the token, checks that it is valid, and stores it.
    fn run(self, options: &Options) -> Result<(), Failure> {
        let (profile, path) = options.login()?;
        let client = options.connect(&profile.url, Some(profile.token.clone()));

        let told: Introspection = client
            .call(Method::GET, WHOAMI, Payload::Nothing)?
            .parse()?;
        let holder = told.holder.ok_or_else(not_tokenry)?;
        profile.write(&path)?;

        let (url, path) = (client.url(), path.display().to_string());
        let output = options.output();
        if output.json {
            return output::print(
                &json!({ "url": url, "profile": path, "holder": holder }).to_string(),
            );
        }
        let of = told
            .ecosystem_id
            .map(|id| format!(" of {id}"))
            .unwrap_or_default();
        output.done(&format!(
            "The {holder} token{of} for {url} is stored in {path}."
        ))
    }
}

/// The profile to remove
#[derive(Clone, Copy, Debug, Args)]
pub struct Logout {
    /// Revoke the profile's token first, so that nobody can use it any more
    #[arg(long)]
    revoke: bool,
}

impl Run for Logout {
    /// Removes the profile. A profile whose token cannot be revoked stays.
    fn run(self, options: &Options) -> Result<(), Failure> {
        let path = options.profile_path()?;
        let revoked = if self.revoke {
            let kept = options.kept(&path)?;
            kept.map(|kept| {
                let client = options.connect(&kept.url, None);
                let token = Payload::Token(kept.token);
                client.tell(Method::POST, "/api/auth/revoke", token)
            })
            .transpose()?
            .is_some()
        } else {
            false
        };
        if !profile::remove(&path)? {
            let line = format!("not logged in: there is no profile {}", path.display());
            return Err(Failure::usage(line));
        }
        let first = if revoked {
            "The token is revoked. "
        } else {
            ""
        };
        let path = path.display();
        options
            .output()
            .done(&format!("{first}The profile {path} is removed."))
    }
}
