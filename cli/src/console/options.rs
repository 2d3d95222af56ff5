//! The options of every console command. These options, environment variables and the profile
//! determine the API's address and the token.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tokenry_api::Secret;
use url::{Host, Url};

use super::{
    client::Client,
    failure::Failure,
    output::Output,
    profile::{self, Profile},
    secret,
};

/// The environment variable with the API's address.
const URL: &str = "TOKENRY_URL";
/// The environment variable with the token.
const TOKEN: &str = "TOKENRY_TOKEN";

/// Options of every command that calls the API
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct Options {
    /// The API's address [default: the address in the profile]
    #[arg(long, global = true, env = URL, hide_env_values = true)]
    url: Option<String>,
    /// The file that contains the token; with `-`, the token comes from a prompt or standard input
    /// [default: the token in TOKENRY_TOKEN, or else the token in the profile]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The file of the profile, which `tokenry login` writes [default: tokenry/profile.json in
    /// ~/.config]
    #[arg(long, global = true, value_name = "FILE", env = "TOKENRY_PROFILE")]
    profile: Option<PathBuf>,
    /// Allow http:// for another machine; then everybody on the network path can read the token
    #[arg(long, global = true)]
    allow_http: bool,
    /// How long to wait for a response
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    timeout: u16,
    /// Print the API's JSON in one line; print nothing if the response is empty
    #[arg(long, global = true)]
    json: bool,
}

impl Options {
    /// Returns a client with the caller's token.
    ///
    /// # Errors
    /// The address or the token is missing or invalid.
    pub fn client(&self) -> Result<Client, Failure> {
        let chosen = self.url.as_deref().filter(|url| !url.is_empty());
        let url = chosen.map(|url| self.address(url)).transpose()?;
        let token = self.given_token()?;
        if let (Some(url), Some(token)) = (&url, &token) {
            return Ok(self.connect(url, Some(token.clone())));
        }

        let path = self.profile_path()?;
        let profile = self.kept(&path)?;
        let (kept_url, kept_token) = profile.map(|kept| (kept.url, kept.token)).unzip();
        let token = match (token, kept_token) {
            (Some(token), _) => token,
            // The profile's token is sent only to the profile's address.
            (None, Some(token)) if url.is_none() || url == kept_url => token,
            (None, Some(_)) => {
                return Err(Failure::usage(format!(
                    "no token for this address: the profile {} is for another address",
                    path.display()
                )));
            }
            (None, None) => return Err(missing("token", "--token-file", TOKEN, &path)),
        };
        let url = url.or(kept_url);
        let url = url.ok_or_else(|| missing("address", "--url", URL, &path))?;
        Ok(self.connect(&url, Some(token)))
    }

    /// Returns a client without a token, for requests that do not need a token.
    ///
    /// # Errors
    /// The address is missing or invalid.
    pub fn client_without_token(&self) -> Result<Client, Failure> {
        Ok(self.connect(&self.url()?, None))
    }

    /// Returns the new profile for `tokenry login`, and the path of the profile. Reads the token
    /// from `--token-file`. Without this option, prompts for the token.
    ///
    /// # Errors
    /// The address or the token is missing or invalid.
    pub fn login(&self) -> Result<(Profile, PathBuf), Failure> {
        let (url, path) = (self.url()?, self.profile_path()?);
        let token = match &self.token_file {
            Some(file) => secret::from_file(file, "the token")?,
            None => secret::ask("the token")?,
        };
        let token = secret::as_token(&token, "the input")?;
        Ok((Profile { url, token }, path))
    }

    /// Returns a client that sends requests to this address with this token.
    pub fn connect(&self, url: &str, token: Option<Secret>) -> Client {
        let timeout = Duration::from_secs(self.timeout.into());
        Client::new(url.to_owned(), token, timeout)
    }

    /// Returns how responses are printed.
    pub fn output(&self) -> Output {
        Output { json: self.json }
    }

    fn url(&self) -> Result<String, Failure> {
        if let Some(url) = self.url.as_deref().filter(|url| !url.is_empty()) {
            return self.address(url);
        }
        let path = self.profile_path()?;
        let kept = self.kept(&path)?;
        Ok(kept
            .ok_or_else(|| missing("address", "--url", URL, &path))?
            .url)
    }

    /// Reads the profile, if there is one, and validates its address and token.
    fn kept(&self, path: &Path) -> Result<Option<Profile>, Failure> {
        let Some(Profile { url, token }) = Profile::read(path)? else {
            return Ok(None);
        };
        let of_profile =
            |failure| Failure::usage(format!("the profile {}: {failure}", path.display()));
        Ok(Some(Profile {
            url: self.address(&url).map_err(of_profile)?,
            token: secret::as_token(&token, "its field token").map_err(of_profile)?,
        }))
    }

    fn profile_path(&self) -> Result<PathBuf, Failure> {
        let given = self.profile.clone();
        given
            .filter(|path| !path.as_os_str().is_empty())
            .map_or_else(profile::default_path, Ok)
    }

    /// Returns the token from `--token-file` if this option is set. Otherwise returns the token
    /// from `TOKENRY_TOKEN`, or `None` if this variable is not set.
    fn given_token(&self) -> Result<Option<Secret>, Failure> {
        if let Some(file) = &self.token_file {
            let token = secret::from_file(file, "the token")?;
            return secret::as_token(&token, "the content of the token's file").map(Some);
        }
        match env::var(TOKEN) {
            Ok(token) if token.is_empty() => Ok(None),
            Ok(token) => secret::as_token(&token.into(), TOKEN).map(Some),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => {
                Err(Failure::usage(format!("{TOKEN} is not a token")))
            }
        }
    }

    /// Validates an address, and returns it in normal form without a trailing `/`. The error does
    /// not repeat the address, because an invalid address may contain a password.
    fn address(&self, text: &str) -> Result<String, Failure> {
        let refused = |why| Err(Failure::usage(format!("the API's address {why}")));
        let Ok(url) = Url::parse(text) else {
            return refused("is not a URL");
        };
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => return refused("has no host"),
        };
        match url.scheme() {
            "https" => {}
            "http" if is_loopback || self.allow_http => {}
            "http" => {
                return refused(
                    "starts with http://, so everybody on the network path can read the token; \
                     use --allow-http to allow this",
                );
            }
            _ => return refused("does not start with https:// or http://"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("contains a user name or password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refused("contains a query or fragment");
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }
}

fn missing(what: &str, flag: &str, variable: &str, profile: &Path) -> Failure {
    Failure::usage(format!(
        "no {what}: give {flag}, set {variable}, or run `tokenry login` (there is no profile {})",
        profile.display()
    ))
}
