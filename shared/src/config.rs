//! Configuration: environment variables, which are read and checked once, when a function starts.

use std::path::PathBuf;

use http::Uri;
use tracing::level_filters::LevelFilter;

use crate::domain::{
    id::EcosystemId,
    number,
    owner::OwnerKey,
    password::MinLength,
    shortcode::CodeSpace,
    time::Timestamp,
    token::{Holder, PlainToken},
};

/// The variable for the name of the identity table.
pub const IDENTITY_TABLE: &str = "TOKENRY_IDENTITY_TABLE";
/// The variable for the name of the ephemeral table.
pub const EPHEMERAL_TABLE: &str = "TOKENRY_EPHEMERAL_TABLE";
/// The variable for the location of the value key: the ARN of a KMS key, or `file:PATH`. The value
/// key encrypts (wraps) the data keys, and the data keys encrypt the values of e-mail tokens.
pub const VALUE_KEY: &str = "TOKENRY_VALUE_KEY";
/// The variable for the log level: `off`, `error`, `warn`, `info` (default), `debug` or `trace`.
pub const LOG: &str = "TOKENRY_LOG";

/// The variable for the number of characters of a short code: 6 (default) to 12.
pub const SHORTCODE_LENGTH: &str = "TOKENRY_SHORTCODE_LENGTH";
/// The variable for how many attempts to exchange a short code may fail per minute. All attempts
/// without a server token share one limit. All attempts with server tokens of the same ecosystem
/// share a separate limit.
pub const SHORTCODE_FAILURES: &str = "TOKENRY_SHORTCODE_FAILURES_PER_MINUTE";

/// The variable for the minimum number of characters of a new password: 8 (default) to 64.
pub const PASSWORD_MIN_LENGTH: &str = "TOKENRY_PASSWORD_MIN_LENGTH";

/// The variable for a time in RFC 3339 format. Tokens and short codes that were created before this
/// time are invalid.
///
/// Tokenry rejects such a token without reading the database. Set this variable to revoke all
/// tokens at once. Also set the variable after a restore, because a restored table can contain
/// tokens that were revoked after the backup.
pub const NOT_BEFORE: &str = "TOKENRY_NOT_BEFORE";

/// The variable for how many seconds an execution environment remembers that the account token or
/// server token of a caller was verified: 0 (default) to 5.
///
/// Without this memory, the partition of an account or ecosystem limits its back ends to 1,500
/// calls per second. With this memory, a revoked token can still call endpoints for up to this many
/// seconds.
pub const CALLER_MEMORY_SECONDS: &str = "TOKENRY_CALLER_MEMORY_SECONDS";

/// The variable for the public address of the API, such as `https://auth.example.com`. By default,
/// it is the address to which a request was sent.
pub const PUBLIC_URL: &str = "TOKENRY_PUBLIC_URL";
/// The variable for the holders whose tokens the authorizer accepts: a list of `account`, `server`
/// and `user`, separated by commas. The default is `user`.
pub const AUTHORIZER_HOLDERS: &str = "TOKENRY_AUTHORIZER_HOLDERS";
/// The variable for the ecosystems whose tokens the authorizer accepts: a list of ecosystem ids,
/// separated by commas. By default, tokens of all ecosystems are accepted. Account tokens belong to
/// no ecosystem, so a list excludes them.
pub const AUTHORIZER_ECOSYSTEMS: &str = "TOKENRY_AUTHORIZER_ECOSYSTEMS";

/// The optional settings of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The set of possible short codes.
    pub code_space: CodeSpace,
    /// How many attempts to exchange a short code may fail per minute.
    pub shortcode_failures_per_minute: u32,
    /// The minimum length of a new password.
    pub password_min_length: MinLength,
    /// Tokens and short codes that were created before this time are rejected.
    pub not_before: Option<Timestamp>,
    /// For how many seconds the verification of a caller is remembered.
    pub caller_memory_seconds: u64,
    /// The public address of the API, without a slash at its end, if it is configured.
    pub public_url: Option<String>,
    /// Which tokens the authorizer accepts.
    pub authorizer: Admission,
}

/// Which valid tokens the authorizer accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The kinds of holders whose tokens are accepted.
    pub holders: Vec<Holder>,
    /// The keys of the ecosystems whose tokens are accepted, or `None` if the tokens of all
    /// ecosystems are accepted, and account tokens too if `holders` contains accounts.
    pub ecosystems: Option<Vec<OwnerKey>>,
}

impl Admission {
    /// Returns whether the authorizer accepts this token, provided that the token is valid. Nothing
    /// is read for this: the text of the token contains the holder and the key of the ecosystem.
    pub fn admits(&self, token: &PlainToken) -> bool {
        // No ecosystem has the key of an account, so a list of ecosystems excludes account tokens.
        let ecosystem = token.owner().ecosystem();
        let listed = |keys: &Vec<OwnerKey>| keys.contains(&ecosystem);
        self.holders.contains(&token.holder()) && self.ecosystems.as_ref().is_none_or(listed)
    }
}

impl Default for Admission {
    /// Accepts the tokens of users of all ecosystems.
    fn default() -> Self {
        Self {
            holders: vec![Holder::User],
            ecosystems: None,
        }
    }
}

impl Default for Settings {
    /// Returns the default settings: codes of six characters, and 60 failures per minute.
    /// `docs/explanation/security.md` explains how likely it is that somebody guesses a valid code
    /// with these settings.
    fn default() -> Self {
        Self {
            code_space: CodeSpace::default(),
            shortcode_failures_per_minute: 60,
            password_min_length: MinLength::default(),
            not_before: None,
            caller_memory_seconds: 0,
            public_url: None,
            authorizer: Admission::default(),
        }
    }
}

impl Settings {
    /// Returns whether a token or short code that was created at this time is rejected.
    pub fn rejects(&self, created_at: Timestamp) -> bool {
        self.not_before.is_some_and(|time| created_at < time)
    }

    /// Reads the settings. `variable` returns the value of an environment variable. A setting has
    /// its default if its variable is empty or not set.
    ///
    /// # Errors
    /// If a variable is invalid, the error is one line that contains the name of this variable.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut settings = Settings::default();
        if let Some(length) = variable(SHORTCODE_LENGTH) {
            let length = length.parse().ok().and_then(CodeSpace::of_length);
            settings.code_space =
                length.ok_or_else(|| format!("{SHORTCODE_LENGTH} is not a number from 6 to 12"))?;
        }
        if let Some(failures) = variable(SHORTCODE_FAILURES) {
            let failures = number::positive(&failures, u32::MAX);
            settings.shortcode_failures_per_minute =
                failures.map_err(|_| format!("{SHORTCODE_FAILURES} is not a positive number"))?;
        }
        if let Some(length) = variable(PASSWORD_MIN_LENGTH) {
            let length = length.parse().ok().and_then(MinLength::new);
            settings.password_min_length = length
                .ok_or_else(|| format!("{PASSWORD_MIN_LENGTH} is not a number from 8 to 64"))?;
        }
        if let Some(time) = variable(NOT_BEFORE) {
            let time = Timestamp::parse(&time).ok_or_else(|| {
                format!("{NOT_BEFORE} is not a time such as 2026-01-01T00:00:00Z")
            })?;
            settings.not_before = Some(time);
        }
        if let Some(seconds) = variable(CALLER_MEMORY_SECONDS) {
            let seconds = seconds.parse().ok().filter(|seconds| *seconds <= 5);
            settings.caller_memory_seconds = seconds
                .ok_or_else(|| format!("{CALLER_MEMORY_SECONDS} is not a number from 0 to 5"))?;
        }
        if let Some(url) = variable(PUBLIC_URL) {
            let url = public_url(&url).ok_or_else(|| {
                format!("{PUBLIC_URL} is not an address such as https://auth.example.com")
            })?;
            settings.public_url = Some(url);
        }
        if let Some(holders) = variable(AUTHORIZER_HOLDERS) {
            settings.authorizer.holders = list(&holders, Holder::parse).ok_or_else(|| {
                format!("{AUTHORIZER_HOLDERS} is not a list of account, server and user")
            })?;
        }
        if let Some(ids) = variable(AUTHORIZER_ECOSYSTEMS) {
            let key = |id: &str| EcosystemId::parse(id).ok().map(|id| (&id).into());
            let keys = list(&ids, key);
            let keys = keys
                .ok_or_else(|| format!("{AUTHORIZER_ECOSYSTEMS} is not a list of ecosystem ids"))?;
            settings.authorizer.ecosystems = Some(keys);
        }
        Ok(settings)
    }
}

/// Parses an address that can be the issuer in RFC 8414: it has no query and no fragment. Removes
/// slashes at its end.
fn public_url(text: &str) -> Option<String> {
    let url: Uri = text.parse().ok()?;
    let has_host = url.authority().is_some() && !text.contains(['@', '#']);
    let is_address = matches!(url.scheme_str(), Some("https" | "http")) && url.query().is_none();
    (has_host && is_address).then(|| text.trim_end_matches('/').to_owned())
}

/// Parses a list that is separated by commas. Ignores spaces around the elements. Returns `None` if
/// an element is invalid.
fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',')
        .map(|element| parse(element.trim()))
        .collect()
}

/// The resources that an endpoint uses besides the identity table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// No other resource.
    Identity,
    /// The ephemeral table.
    Ephemeral,
    /// The value key. It wraps the data keys, which encrypt the values of e-mail tokens.
    ValueKey,
    /// The ephemeral table and the value key.
    EphemeralAndValueKey,
}

/// The location of the value key ([`VALUE_KEY`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueKeySource {
    /// In AWS KMS, with this ARN.
    Kms(String),
    /// In this file.
    File(PathBuf),
}

impl ValueKeySource {
    /// Parses the ARN of a KMS key, or `file:PATH`.
    ///
    /// # Errors
    /// The error is one line that says which forms are valid.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() => Ok(Self::File(path.into())),
            None if text.starts_with("arn:") => Ok(Self::Kms(text.to_owned())),
            _ => Err(format!(
                "{VALUE_KEY} must be the ARN of a KMS key, or file:PATH"
            )),
        }
    }
}

/// The configuration of a Lambda function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The identity table's name.
    pub identity_table: String,
    /// The ephemeral table's name, if the endpoint uses that table.
    pub ephemeral_table: Option<String>,
    /// The location of the value key, if the endpoint uses this key.
    pub value_key: Option<ValueKeySource>,
    /// The optional settings.
    pub settings: Settings,
    /// The log level.
    pub log: LevelFilter,
}

impl Config {
    /// Reads the configuration. `variable` returns the value of an environment variable. Only the
    /// tables and the key that the endpoint uses are required. All other values have defaults.
    ///
    /// # Errors
    /// If a variable is missing or invalid, the error is one line that contains the name of this
    /// variable.
    pub fn from_variables(
        uses: Uses,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let required = |name| variable(name).ok_or_else(|| format!("{name} is not set"));
        let identity_table = required(IDENTITY_TABLE)?;
        let ephemeral_table = match uses {
            Uses::Identity | Uses::ValueKey => None,
            Uses::Ephemeral | Uses::EphemeralAndValueKey => Some(required(EPHEMERAL_TABLE)?),
        };
        let value_key = match uses {
            Uses::Identity | Uses::Ephemeral => None,
            Uses::ValueKey | Uses::EphemeralAndValueKey => {
                Some(ValueKeySource::parse(&required(VALUE_KEY)?)?)
            }
        };
        let settings = Settings::from_variables(variable)?;
        let log = match variable(LOG) {
            None => LevelFilter::INFO,
            Some(level) => level
                .parse()
                .map_err(|_| format!("{LOG} is not one of off, error, warn, info, debug, trace"))?,
        };
        Ok(Self {
            identity_table,
            ephemeral_table,
            value_key,
            settings,
            log,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::from_variables(Uses::Identity, |name| {
            let found = variables.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn the_error_contains_the_name_of_a_missing_or_invalid_variable() {
        assert_eq!(
            with(&[]),
            Err("TOKENRY_IDENTITY_TABLE is not set".to_owned())
        );
        assert_eq!(with(&[(IDENTITY_TABLE, "")]), with(&[]));
        let error = with(&[(IDENTITY_TABLE, "t"), (LOG, "loud")]).unwrap_err();
        assert!(error.starts_with("TOKENRY_LOG is not one of"), "{error}");
    }

    #[test]
    fn only_the_tables_and_the_key_that_the_endpoint_uses_are_required() {
        let named = |name: &str| (name == IDENTITY_TABLE).then(|| "t".to_owned());
        assert_eq!(
            Config::from_variables(Uses::Ephemeral, named),
            Err("TOKENRY_EPHEMERAL_TABLE is not set".to_owned())
        );
        assert_eq!(
            Config::from_variables(Uses::ValueKey, named),
            Err("TOKENRY_VALUE_KEY is not set".to_owned())
        );
        assert!(Config::from_variables(Uses::Identity, named).is_ok());
    }

    #[test]
    fn a_value_key_is_an_arn_or_a_file() {
        let arn = "arn:aws:kms:eu-central-1:123456789012:key/1";
        assert_eq!(
            ValueKeySource::parse(arn),
            Ok(ValueKeySource::Kms(arn.to_owned()))
        );
        assert_eq!(
            ValueKeySource::parse("file:/a/key"),
            Ok(ValueKeySource::File("/a/key".into()))
        );
        for wrong in ["file:", "/a/key", "key", "FILE:/a/key"] {
            assert!(ValueKeySource::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_are_read_and_validated() {
        for (name, wrong) in [
            (SHORTCODE_LENGTH, "5"),
            (SHORTCODE_LENGTH, "six"),
            (SHORTCODE_FAILURES, "0"),
            (SHORTCODE_FAILURES, "-1"),
            (PASSWORD_MIN_LENGTH, "7"),
            (PASSWORD_MIN_LENGTH, "65"),
            (PASSWORD_MIN_LENGTH, "eight"),
            (CALLER_MEMORY_SECONDS, "6"),
            (CALLER_MEMORY_SECONDS, "-1"),
            (NOT_BEFORE, "yesterday"),
            (NOT_BEFORE, "1767225600"),
            (PUBLIC_URL, "auth.example.com"),
            (PUBLIC_URL, "/api"),
            (PUBLIC_URL, "ftp://auth.example.com"),
            (PUBLIC_URL, "https://"),
            (PUBLIC_URL, "https://user@auth.example.com"),
            (PUBLIC_URL, "https://auth.example.com/?a=b"),
            (PUBLIC_URL, "https://auth.example.com#a"),
            (PUBLIC_URL, "https://auth.example.com/a b"),
            (AUTHORIZER_HOLDERS, "users"),
            (AUTHORIZER_HOLDERS, "user,"),
            (AUTHORIZER_HOLDERS, "User"),
            (AUTHORIZER_ECOSYSTEMS, "bob"),
            (
                AUTHORIZER_ECOSYSTEMS,
                "C58521fd8a5d9b5cc21987501 C58521fd8a5d9b5cc21987502",
            ),
            (AUTHORIZER_ECOSYSTEMS, "C58521fd8a5d9b5cc21987501;bob"),
        ] {
            let error = with(&[(IDENTITY_TABLE, "t"), (name, wrong)]).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
        let set = [
            (IDENTITY_TABLE, "t"),
            (SHORTCODE_LENGTH, "8"),
            (SHORTCODE_FAILURES, "7"),
            (PASSWORD_MIN_LENGTH, "15"),
            (CALLER_MEMORY_SECONDS, "5"),
            (NOT_BEFORE, "2026-01-01T00:00:00Z"),
            (PUBLIC_URL, "https://auth.example.com/api/"),
            (AUTHORIZER_HOLDERS, "server, user"),
            (AUTHORIZER_ECOSYSTEMS, "C58521fd8a5d9b5cc21987501"),
        ];
        let settings = with(&set).unwrap().settings;
        assert_eq!(settings.code_space, CodeSpace::of_length(8).unwrap());
        assert_eq!(settings.shortcode_failures_per_minute, 7);
        assert_eq!(Some(settings.password_min_length), MinLength::new(15));
        assert_eq!(settings.caller_memory_seconds, 5);
        assert_eq!(
            settings.not_before,
            Timestamp::parse("2026-01-01T00:00:00Z")
        );
        let url = "https://auth.example.com/api".to_owned();
        assert_eq!(settings.public_url, Some(url));
        let ecosystem = EcosystemId::parse("C58521fd8a5d9b5cc21987501").unwrap();
        let admission = Admission {
            holders: vec![Holder::Server, Holder::User],
            ecosystems: Some(vec![(&ecosystem).into()]),
        };
        assert_eq!(settings.authorizer, admission);
    }

    #[test]
    fn a_variable_that_is_not_set_has_its_default() {
        let config = with(&[(IDENTITY_TABLE, "t")]).unwrap();
        assert_eq!(config.identity_table, "t");
        assert_eq!(config.log, LevelFilter::INFO);
        let quiet = with(&[(IDENTITY_TABLE, "t"), (LOG, "error")]).unwrap();
        assert_eq!(quiet.log, LevelFilter::ERROR);
    }
}
