//! What a handler works with: the clock, the random source and the tables, all handed in.

use std::{
    fmt,
    sync::{Arc, MutexGuard},
    time::SystemTime,
};

use rand::{CryptoRng, rand_core::UnwrapErr, rngs::SysRng};
use zeroize::Zeroizing;

use crate::{
    config::Settings,
    domain::{
        email_token::Sealed,
        error::{Error, Result},
        time::Timestamp,
        token::{PlainToken, TokenId},
    },
    metrics::Metrics,
    service::{cache::Memory, password::Passwords, random::Random, sealing::ValueKey},
    store::{ephemeral::Ephemeral, identity::Identity},
};

/// Where the time comes from. A test hands in a clock that it turns.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the clock"
        )]
        Self::new(SystemTime::now)
    }

    /// A clock that reads what the function returns.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// One execution environment's share of the service.
///
/// An endpoint's handler gets it beside the request; everything that it reads from outside the
/// request comes through here.
pub struct App {
    clock: Clock,
    pub(crate) random: Random,
    pub(crate) identity: Identity,
    ephemeral: Option<Ephemeral>,
    settings: Settings,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) memory: Memory,
    pub(crate) passwords: Passwords,
    pub(crate) value_key: Option<ValueKey>,
}

impl App {
    /// An app on the machine's clock and the operating system's random source.
    pub fn new(identity: Identity) -> Self {
        Self::with(identity, Clock::system(), UnwrapErr(SysRng))
    }

    /// An app on this clock and this random source.
    pub fn with(
        identity: Identity,
        clock: Clock,
        mut rng: impl CryptoRng + Send + 'static,
    ) -> Self {
        Self {
            passwords: Passwords::new(&mut rng),
            value_key: None,
            clock,
            random: Random::new(rng),
            identity,
            ephemeral: None,
            settings: Settings::default(),
            metrics: None,
            memory: Memory::default(),
        }
    }

    /// With the ephemeral table, for the endpoints that need it.
    #[must_use]
    pub fn with_ephemeral(mut self, ephemeral: Option<Ephemeral>) -> Self {
        self.ephemeral = ephemeral;
        self
    }

    /// With the key of e-mail tokens' values, for the endpoints that need it.
    #[must_use]
    pub fn with_value_key(mut self, value_key: Option<ValueKey>) -> Self {
        self.value_key = value_key;
        self
    }

    /// With a deployment's settings.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// With metrics, where something counts by them.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Option<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// The time now. A handler reads it once for each decision.
    pub fn now(&self) -> Timestamp {
        (self.clock.0)().into()
    }

    /// Reads the text of a token, without a look at what is kept of it; none of one that was made
    /// before tokens of this deployment count.
    pub fn token(&self, text: &str) -> Option<PlainToken> {
        PlainToken::parse(text).filter(|token| !self.is_void(token.id()))
    }

    /// Whether a token was made before tokens of this deployment count.
    pub fn is_void(&self, id: TokenId) -> bool {
        self.settings.voids(id.made_at())
    }

    /// The random source, for one draw.
    pub fn rng(&self) -> MutexGuard<'_, Box<dyn CryptoRng + Send>> {
        self.random.draw()
    }

    /// The ephemeral table.
    ///
    /// # Errors
    /// [`Error::Internal`] for an endpoint that was started without it.
    pub fn ephemeral(&self) -> Result<&Ephemeral> {
        self.ephemeral.as_ref().ok_or_else(|| Error::Internal {
            cause: "this endpoint was started without the ephemeral table".to_owned(),
        })
    }

    fn value_key(&self) -> Result<&ValueKey> {
        self.value_key.as_ref().ok_or_else(|| Error::Internal {
            cause: "this endpoint was started without the value key".to_owned(),
        })
    }

    /// Unwraps the data key before the first request comes, for an endpoint that needs it.
    pub async fn warm_up_value_key(&self) {
        if let Some(key) = &self.value_key
            && let Err(error) = key.warm_up(&self.identity).await
        {
            // Not fatal: the first request will say the same to its caller.
            tracing::warn!(cause = ?error, "the value key cannot be used");
        }
    }

    /// Seals a value for the record that `bound_to` identifies.
    pub(crate) async fn seal(&self, value: &str, bound_to: &str) -> Result<Sealed> {
        let key = self.value_key()?;
        key.seal(value, bound_to, &self.identity, &self.random)
            .await
    }

    /// Opens a value that was sealed for this record.
    pub(crate) async fn open(&self, sealed: &Sealed, bound_to: &str) -> Result<Zeroizing<String>> {
        self.value_key()?
            .open(sealed, bound_to, &self.identity)
            .await
    }

    /// What a deployment may set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The identity table.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}
