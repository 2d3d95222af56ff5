//! What a handler works with: the clock, the random source and the tables, all handed in.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use rand::{CryptoRng, rand_core::UnwrapErr, rngs::SysRng};

use crate::{
    config::Settings,
    ephemeral::Ephemeral,
    error::{Error, Result},
    identity::Identity,
    metrics::Metrics,
    password::Passwords,
    time::Timestamp,
    token::{Memory, PlainToken, TokenId},
    value::ValueKey,
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
    rng: Mutex<Box<dyn CryptoRng + Send>>,
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
            rng: Mutex::new(Box::new(rng)),
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
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
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
