//! Configuration: environment variables, read and checked once at init.

use tracing::level_filters::LevelFilter;

/// The name of the identity table.
pub const IDENTITY_TABLE: &str = "TOKENRY_IDENTITY_TABLE";
/// The name of the ephemeral table.
pub const EPHEMERAL_TABLE: &str = "TOKENRY_EPHEMERAL_TABLE";
/// How much is logged: `off`, `error`, `warn`, `info` (default), `debug` or `trace`.
pub const LOG: &str = "TOKENRY_LOG";

/// What the Lambda functions that only read and write tokens need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The identity table's name.
    pub identity_table: String,
    /// What is logged.
    pub log: LevelFilter,
}

impl Config {
    /// Reads the configuration from variables, which is [`std::env::var`] but in tests.
    ///
    /// # Errors
    /// One line that names the variable at fault.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let identity_table =
            variable(IDENTITY_TABLE).ok_or_else(|| format!("{IDENTITY_TABLE} is not set"))?;
        let log = match variable(LOG) {
            None => LevelFilter::INFO,
            Some(level) => level
                .parse()
                .map_err(|_| format!("{LOG} is not one of off, error, warn, info, debug, trace"))?,
        };
        Ok(Self {
            identity_table,
            log,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::from_variables(|name| {
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
    fn what_is_not_set_has_its_default() {
        let config = with(&[(IDENTITY_TABLE, "t")]).unwrap();
        assert_eq!(config.identity_table, "t");
        assert_eq!(config.log, LevelFilter::INFO);
        let quiet = with(&[(IDENTITY_TABLE, "t"), (LOG, "error")]).unwrap();
        assert_eq!(quiet.log, LevelFilter::ERROR);
    }
}
