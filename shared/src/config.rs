//! Configuration: environment variables, read and checked once at init.

use std::path::PathBuf;

use tracing::level_filters::LevelFilter;

use crate::domain::{number, shortcode::CodeSpace, time::Timestamp};

/// The name of the identity table.
pub const IDENTITY_TABLE: &str = "TOKENRY_IDENTITY_TABLE";
/// The name of the ephemeral table.
pub const EPHEMERAL_TABLE: &str = "TOKENRY_EPHEMERAL_TABLE";
/// What wraps the key of e-mail tokens' values: a KMS key's ARN, or `file:PATH`.
pub const VALUE_KEY: &str = "TOKENRY_VALUE_KEY";
/// How much is logged: `off`, `error`, `warn`, `info` (default), `debug` or `trace`.
pub const LOG: &str = "TOKENRY_LOG";

/// How many characters a short code has: 6 (default) to 12.
pub const SHORTCODE_LENGTH: &str = "TOKENRY_SHORTCODE_LENGTH";
/// How many attempts to exchange a short code may fail in a minute in the whole deployment.
pub const SHORTCODE_FAILURES: &str = "TOKENRY_SHORTCODE_FAILURES_PER_MINUTE";

/// Tokens that were made before this time never count, and cost no read: the way to end all of
/// them at once, and what makes a restored table safe. As RFC 3339 writes it.
pub const NOT_BEFORE: &str = "TOKENRY_NOT_BEFORE";

/// What a deployment may set, beyond where its tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The codes that are drawn from.
    pub code_space: CodeSpace,
    /// How many attempts with a code may fail in a minute.
    pub shortcode_failures_per_minute: u32,
    /// When tokens begin to count that are made, if not at once.
    pub not_before: Option<Timestamp>,
}

impl Default for Settings {
    /// Six characters, and a failure a second: `docs/SECURITY.md` says what that means.
    fn default() -> Self {
        Self {
            code_space: CodeSpace::default(),
            shortcode_failures_per_minute: 60,
            not_before: None,
        }
    }
}

impl Settings {
    /// Whether what was made then does not count any more.
    pub fn voids(&self, made_at: Timestamp) -> bool {
        self.not_before.is_some_and(|time| made_at < time)
    }

    /// Reads the settings from variables; one that is not set has its default.
    ///
    /// # Errors
    /// One line that names the variable at fault.
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
        if let Some(time) = variable(NOT_BEFORE) {
            let time = Timestamp::parse(&time).ok_or_else(|| {
                format!("{NOT_BEFORE} is not a time such as 2026-01-01T00:00:00Z")
            })?;
            settings.not_before = Some(time);
        }
        Ok(settings)
    }
}

/// What an endpoint works with besides the identity table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// Nothing.
    Identity,
    /// The ephemeral table.
    Ephemeral,
    /// The key of e-mail tokens' values.
    ValueKey,
    /// Both of these.
    EphemeralAndValueKey,
}

/// Where the key is that wraps the key of e-mail tokens' values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueKeySource {
    /// In AWS KMS, under this ARN.
    Kms(String),
    /// In this file.
    File(PathBuf),
}

impl ValueKeySource {
    fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() => Ok(Self::File(path.into())),
            None if text.starts_with("arn:") => Ok(Self::Kms(text.to_owned())),
            _ => Err(format!(
                "{VALUE_KEY} is neither a KMS key's ARN nor file:PATH"
            )),
        }
    }
}

/// What a Lambda function needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The identity table's name.
    pub identity_table: String,
    /// The ephemeral table's name, for an endpoint that works with it.
    pub ephemeral_table: Option<String>,
    /// Where the value key is, for an endpoint that works with it.
    pub value_key: Option<ValueKeySource>,
    /// What is set.
    pub settings: Settings,
    /// What is logged.
    pub log: LevelFilter,
}

impl Config {
    /// Reads the configuration from variables, which is [`std::env::var`] but in tests. Only the
    /// tables and the key that the endpoint works with must be named; everything else has a default.
    ///
    /// # Errors
    /// One line that names the variable at fault.
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
    fn a_missing_or_wrong_variable_is_named() {
        assert_eq!(
            with(&[]),
            Err("TOKENRY_IDENTITY_TABLE is not set".to_owned())
        );
        assert_eq!(with(&[(IDENTITY_TABLE, "")]), with(&[]));
        let error = with(&[(IDENTITY_TABLE, "t"), (LOG, "loud")]).unwrap_err();
        assert!(error.starts_with("TOKENRY_LOG is not one of"), "{error}");
    }

    #[test]
    fn only_the_tables_and_the_key_that_are_worked_with_are_demanded() {
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
    fn what_is_set_is_checked() {
        for (name, wrong) in [
            (SHORTCODE_LENGTH, "5"),
            (SHORTCODE_LENGTH, "six"),
            (SHORTCODE_FAILURES, "0"),
            (SHORTCODE_FAILURES, "-1"),
            (NOT_BEFORE, "yesterday"),
            (NOT_BEFORE, "1767225600"),
        ] {
            let error = with(&[(IDENTITY_TABLE, "t"), (name, wrong)]).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
        let set = [
            (IDENTITY_TABLE, "t"),
            (SHORTCODE_LENGTH, "8"),
            (SHORTCODE_FAILURES, "7"),
            (NOT_BEFORE, "2026-01-01T00:00:00Z"),
        ];
        let settings = with(&set).unwrap().settings;
        assert_eq!(settings.code_space, CodeSpace::of_length(8).unwrap());
        assert_eq!(settings.shortcode_failures_per_minute, 7);
        assert_eq!(
            settings.not_before,
            Timestamp::parse("2026-01-01T00:00:00Z")
        );
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let config = with(&[(IDENTITY_TABLE, "t")]).unwrap();
        assert_eq!(config.identity_table, "t");
        assert_eq!(config.log, LevelFilter::INFO);
        let quiet = with(&[(IDENTITY_TABLE, "t"), (LOG, "error")]).unwrap();
        assert_eq!(quiet.log, LevelFilter::ERROR);
    }
}
