//! Configuration: environment variables, read and checked once at init.

use tracing::level_filters::LevelFilter;

use crate::{number, shortcode::CodeSpace};

/// The name of the identity table.
pub const IDENTITY_TABLE: &str = "TOKENRY_IDENTITY_TABLE";
/// The name of the ephemeral table.
pub const EPHEMERAL_TABLE: &str = "TOKENRY_EPHEMERAL_TABLE";
/// How much is logged: `off`, `error`, `warn`, `info` (default), `debug` or `trace`.
pub const LOG: &str = "TOKENRY_LOG";

/// How many characters a short code has: 6 (default) to 12.
pub const SHORTCODE_LENGTH: &str = "TOKENRY_SHORTCODE_LENGTH";
/// How many attempts to exchange a short code may fail in a minute in the whole deployment.
pub const SHORTCODE_FAILURES: &str = "TOKENRY_SHORTCODE_FAILURES_PER_MINUTE";

/// What a deployment may set, beyond where its tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The codes that are drawn from.
    pub code_space: CodeSpace,
    /// How many attempts with a code may fail in a minute.
    pub shortcode_failures_per_minute: u32,
}

impl Default for Settings {
    /// Six characters, and a failure a second: `docs/SECURITY.md` says what that means.
    fn default() -> Self {
        Self {
            code_space: CodeSpace::default(),
            shortcode_failures_per_minute: 60,
        }
    }
}

impl Settings {
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
        Ok(settings)
    }
}

/// The tables that an endpoint works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// The identity table alone.
    Identity,
    /// The ephemeral table as well.
    Both,
}

/// What a Lambda function needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The identity table's name.
    pub identity_table: String,
    /// The ephemeral table's name, for an endpoint that works with it.
    pub ephemeral_table: Option<String>,
    /// What is set.
    pub settings: Settings,
    /// What is logged.
    pub log: LevelFilter,
}

impl Config {
    /// Reads the configuration from variables, which is [`std::env::var`] but in tests. Only the
    /// tables that the endpoint works with must be named; everything else has a default.
    ///
    /// # Errors
    /// One line that names the variable at fault.
    pub fn from_variables(
        tables: Tables,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let required = |name| variable(name).ok_or_else(|| format!("{name} is not set"));
        let identity_table = required(IDENTITY_TABLE)?;
        let ephemeral_table = match tables {
            Tables::Identity => None,
            Tables::Both => Some(required(EPHEMERAL_TABLE)?),
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
            settings,
            log,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::from_variables(Tables::Identity, |name| {
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
    fn only_the_tables_that_are_worked_with_are_demanded() {
        let named = |name: &str| (name == IDENTITY_TABLE).then(|| "t".to_owned());
        assert_eq!(
            Config::from_variables(Tables::Both, named),
            Err("TOKENRY_EPHEMERAL_TABLE is not set".to_owned())
        );
        assert!(Config::from_variables(Tables::Identity, named).is_ok());
    }

    #[test]
    fn what_is_set_is_checked() {
        for (name, wrong) in [
            (SHORTCODE_LENGTH, "5"),
            (SHORTCODE_LENGTH, "six"),
            (SHORTCODE_FAILURES, "0"),
            (SHORTCODE_FAILURES, "-1"),
        ] {
            let error = with(&[(IDENTITY_TABLE, "t"), (name, wrong)]).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
        let set = [
            (IDENTITY_TABLE, "t"),
            (SHORTCODE_LENGTH, "8"),
            (SHORTCODE_FAILURES, "7"),
        ];
        let settings = with(&set).unwrap().settings;
        assert_eq!(settings.code_space, CodeSpace::of_length(8).unwrap());
        assert_eq!(settings.shortcode_failures_per_minute, 7);
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
