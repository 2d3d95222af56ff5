//! The options of every console command. These options, environment variables and the profile
//! determine the API's address and the token.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Arg, ArgMatches, Args, ColorChoice, Command, ValueEnum, parser::ValueSource};
use tokenry_api::Secret;
use url::{Host, Url};

use super::{
    arguments::timeout,
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
/// The environment variable with the name or the path of the profile.
const PROFILE: &str = "TOKENRY_PROFILE";

/// How responses and errors are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table, and errors as text.
    Table,
    /// The API's response unchanged in one line, and errors as one line of JSON. An empty response
    /// prints nothing.
    Json,
}

/// Options of every command that calls the API. They may stand before and after any subcommand.
// The help shows the variables, but clap does not read them: for clap, a variable would count as an
// argument, and `tokenry` without arguments would not print its help.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of all commands that call the API")]
pub struct Options {
    /// The API's address [env: TOKENRY_URL] [default: the address in the profile]
    #[arg(long, global = true)]
    url: Option<String>,
    /// The file that contains the token; with `-`, the token comes from a prompt or standard input
    /// [default: the token in TOKENRY_TOKEN, or else the token in the profile]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The profile, which `tokenry login` writes: a name, or a path that contains `/` or `.json`
    /// [env: TOKENRY_PROFILE] [default: ~/.config/tokenry/profile.json]
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<PathBuf>,
    /// Allow http:// for another machine; then everybody on the network path can read the token
    #[arg(long, global = true)]
    allow_http: bool,
    /// How long to wait for a response
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = timeout)]
    timeout: Duration,
    /// How to print responses and errors; json prints the API's JSON in one line, and nothing if
    /// the response is empty
    #[arg(
        long,
        global = true,
        value_name = "table|json",
        hide_possible_values = true
    )]
    #[arg(value_enum, ignore_case = true, default_value = "table")]
    output: Format,
    /// When to use colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", hide_possible_values = true)]
    #[arg(value_enum, ignore_case = true, default_value = "auto")]
    color: ColorChoice,
    /// The same as --output json
    #[arg(long, global = true, hide = true)]
    json: bool,
}

impl Options {
    /// Returns a client with the caller's token.
    ///
    /// # Errors
    /// The address or the token is missing or invalid.
    pub fn client(&self) -> Result<Client, Failure> {
        let url = self.given_url()?;
        let token = self.given_token()?;
        if let (Some(url), Some(token)) = (&url, &token) {
            return Ok(self.connect(url, Some(token.clone())));
        }

        let path = self.profile_path()?;
        let profile = self.kept(&path)?;
        let (kept_url, kept_token) = profile.map(|kept| (kept.url, kept.token)).unzip();
        let (token, advice) = match (token, kept_token) {
            (Some(token), _) => (token, None),
            // The profile's token is sent only to the profile's address.
            (None, Some(token)) if url.is_none() || url == kept_url => {
                let profile = path.display();
                let login = self.login_command();
                let advice = format!("the token is from the profile {profile}: run `{login}`");
                (token, Some(advice))
            }
            (None, Some(_)) => {
                return Err(Failure::usage(format!(
                    "no token for this address: the profile {} is for another address; give \
                     --token-file, or choose another profile with --profile",
                    path.display()
                )));
            }
            (None, None) => return Err(self.missing("token", "--token-file", TOKEN, &path)),
        };
        let url = url.or(kept_url);
        let url = url.ok_or_else(|| self.missing("address", "--url", URL, &path))?;
        Ok(self.connect(&url, Some(token)).with_advice(advice))
    }

    /// Returns whether there is an option `--token-file`.
    pub fn has_token_file(&self) -> bool {
        self.token_file.is_some()
    }

    /// Returns a client without a token, for requests that do not need a token.
    ///
    /// # Errors
    /// The address is missing or invalid, or there is an option `--token-file`.
    pub fn client_without_token(&self) -> Result<Client, Failure> {
        if self.has_token_file() {
            return Err(Failure::usage(
                "--token-file is not for this command, which needs no token",
            ));
        }
        match self.url()? {
            Some(url) => Ok(self.connect(&url, None)),
            None => Err(self.missing("address", "--url", URL, &self.profile_path()?)),
        }
    }

    /// Returns the new profile for `tokenry login`, and the path of the profile. Reads the token
    /// from `--token-file`. Without this option, prompts for the token.
    ///
    /// # Errors
    /// The address or the token is missing or invalid.
    pub fn login(&self) -> Result<(Profile, PathBuf), Failure> {
        let path = self.profile_path()?;
        let url = self.url()?.ok_or_else(|| {
            let line = "no address: give --url, for example --url http://127.0.0.1:3000";
            Failure::usage(line)
        })?;
        let token = match &self.token_file {
            Some(file) => secret::from_file(file, "the token")?,
            None => secret::ask("the token")?,
        };
        let token = secret::as_token(&token, "the input")?;
        Ok((Profile { url, token }, path))
    }

    /// Returns the path of the profile.
    ///
    /// # Errors
    /// The name is invalid, or there is no home directory.
    pub fn profile_path(&self) -> Result<PathBuf, Failure> {
        let variable = || env::var_os(PROFILE).map(PathBuf::from);
        let chosen = self.profile.clone().or_else(variable);
        profile::path(
            chosen
                .as_deref()
                .filter(|path| !path.as_os_str().is_empty()),
        )
    }

    /// Returns a client that sends requests to this address with this token.
    pub fn connect(&self, url: &str, token: Option<Secret>) -> Client {
        Client::new(url.to_owned(), token, self.timeout)
    }

    /// Sets when the whole process uses colours.
    pub fn set_colours(&self) {
        colorchoice_clap::Color { color: self.color }.write_global();
    }

    /// Returns how responses are printed.
    pub fn output(&self) -> Output {
        Output { json: self.json() }
    }

    /// Returns whether responses and errors are printed as JSON.
    pub fn json(&self) -> bool {
        self.json || self.output == Format::Json
    }

    /// Returns the first of these options that is an argument of the command, if there is one.
    pub fn first_given(matches: &ArgMatches) -> Option<String> {
        let options = Self::augment_args(Command::new(""));
        let given = |arg: &&Arg| {
            // Other commands have an option --json of their own.
            arg.get_id() != "json"
                && matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
        };
        let name = options.get_arguments().find(given)?.get_long()?;
        Some(format!("--{name}"))
    }

    /// Hides these options in the help of a command that does not call the API.
    #[must_use]
    pub fn hide_in(command: Command) -> Command {
        let options = Self::augment_args(Command::new(""));
        let hidden = options.get_arguments().filter(|arg| arg.get_id() != "json");
        // clap does not add a global option to a command that already has an option with this id.
        command.args(hidden.map(|arg| arg.clone().global(false).hide(true)))
    }

    /// Returns the address from `--url` or the variable. Otherwise returns the address in the
    /// profile, if there is a profile.
    fn url(&self) -> Result<Option<String>, Failure> {
        match self.given_url()? {
            Some(url) => Ok(Some(url)),
            None => Ok(self.kept(&self.profile_path()?)?.map(|kept| kept.url)),
        }
    }

    fn given_url(&self) -> Result<Option<String>, Failure> {
        let variable = || Some(env::var_os(URL)?.to_string_lossy().into_owned());
        let given = self.url.clone().or_else(variable);
        let given = given.filter(|url| !url.is_empty());
        given.map(|url| self.address(&url)).transpose()
    }

    /// Reads the profile, if there is one, and validates its address and token.
    ///
    /// # Errors
    /// The profile cannot be read or is invalid.
    pub fn kept(&self, path: &Path) -> Result<Option<Profile>, Failure> {
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
            return refused(
                "is not a URL such as https://tokenry.example.com or http://127.0.0.1:3000",
            );
        };
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) || self.allow_http => {}
            "http" => {
                return refused(
                    "starts with http://, so everybody on the network path can read the token; \
                     use --allow-http to allow this",
                );
            }
            _ => {
                return refused(
                    "does not start with https:// or http://, as in http://127.0.0.1:3000",
                );
            }
        }
        if url.host().is_none() {
            return refused("has no host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("contains a user name or password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refused("contains a query or fragment");
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    fn missing(&self, what: &str, flag: &str, variable: &str, profile: &Path) -> Failure {
        let login = self.login_command();
        Failure::usage(format!(
            "no {what}: give {flag}, set {variable}, or run `{login}` (there is no profile {})",
            profile.display()
        ))
    }

    /// Returns the command that creates the chosen profile.
    fn login_command(&self) -> String {
        match &self.profile {
            Some(profile) => format!("tokenry login --profile {}", profile.display()),
            None => "tokenry login".to_owned(),
        }
    }
}

/// Returns whether the address is on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
