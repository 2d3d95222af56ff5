//! The settings of an ecosystem.

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
pub use tokenry_api::WhenFull;

use super::Epoch;
use crate::domain::token::{Scope, Ttl};

/// The settings of an ecosystem: the attribute `settings` of the ecosystem's item. A new field must
/// have a default value, because the items of earlier ecosystems do not have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EcosystemSettings {
    /// The maximum number of tokens of each user, or `None` if there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens_per_user: Option<MaxTokens>,
    /// What happens if a token is created for a user that has the maximum number of tokens.
    pub when_full: WhenFull,
    /// The default and the maximum of the `ttl` of a session.
    pub session_ttl: Ttl,
    /// The default and the maximum of the `maxTtl` of a session. No session is valid for longer.
    pub session_max_ttl: Ttl,
    /// The scope of a session.
    pub session_scope: Scope,
}

impl Default for EcosystemSettings {
    fn default() -> Self {
        Self {
            max_tokens_per_user: None,
            when_full: WhenFull::default(),
            // A device that is used every week stays logged in.
            session_ttl: Ttl::days(14),
            session_max_ttl: Ttl::days(90),
            session_scope: Scope::read_write(),
        }
    }
}

impl EcosystemSettings {
    /// Returns the limit that applies to a new token of a user, or `None` if there is no limit.
    pub fn token_limit(&self) -> Option<TokenLimit> {
        self.max_tokens_per_user.map(|max| TokenLimit {
            max,
            when_full: self.when_full,
        })
    }
}

/// The limit that applies to a new token of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimit {
    /// The maximum number of tokens.
    pub max: MaxTokens,
    /// What happens if the user has this many tokens.
    pub when_full: WhenFull,
}

/// The maximum number of tokens of each user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxTokens {
    /// The number, from 1 to [`MaxTokens::LARGEST`].
    pub count: u32,
    /// A random value that is generated when the ecosystem gets a limit. While an ecosystem has no
    /// limit, the tokens of its users are not counted. So the counts from before that time are out
    /// of date. They contain the value of the earlier limit.
    pub id: Epoch,
}

impl MaxTokens {
    /// The largest possible limit. The ids of all tokens of a user fit into one item and into one
    /// read.
    pub const LARGEST: u32 = 100;
}

/// A change of an ecosystem's settings. A field that is `None` keeps its value. A field that is
/// `Some(None)` gets its default value.
#[derive(Clone, Debug, Default)]
pub struct SettingsChange {
    /// The maximum number of tokens of each user. `Some(None)` removes the limit.
    pub max_tokens_per_user: Option<Option<u32>>,
    /// What happens if a token is created for a user that has the maximum number of tokens.
    pub when_full: Option<WhenFull>,
    /// The default and the maximum of the `ttl` of a session.
    pub session_ttl: Option<Option<Ttl>>,
    /// The default and the maximum of the `maxTtl` of a session.
    pub session_max_ttl: Option<Option<Ttl>>,
    /// The scope of a session.
    pub session_scope: Option<Option<Scope>>,
}

impl SettingsChange {
    /// Returns the settings with this change.
    pub fn of(self, settings: EcosystemSettings, rng: &mut dyn CryptoRng) -> EcosystemSettings {
        let old = settings.max_tokens_per_user;
        let default = EcosystemSettings::default();
        EcosystemSettings {
            max_tokens_per_user: match self.max_tokens_per_user {
                None => old,
                Some(count) => count.map(|count| MaxTokens {
                    count,
                    id: old.map_or_else(|| Epoch::generate(rng), |old| old.id),
                }),
            },
            when_full: self.when_full.unwrap_or(settings.when_full),
            session_ttl: self.session_ttl.map_or(settings.session_ttl, |new| {
                new.unwrap_or(default.session_ttl)
            }),
            session_max_ttl: self
                .session_max_ttl
                .map_or(settings.session_max_ttl, |new| {
                    new.unwrap_or(default.session_max_ttl)
                }),
            session_scope: self.session_scope.map_or(settings.session_scope, |new| {
                new.unwrap_or(default.session_scope)
            }),
        }
    }
}
