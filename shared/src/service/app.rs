//! The state that a handler uses: the clock, the random source and the tables. The code that
//! creates an [`App`] passes them in, so that tests can replace them.

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
        deployment::{Deployment, TagKey},
        email_token::Sealed,
        error::{Error, Result},
        time::Timestamp,
        token::{PlainToken, TokenId},
    },
    metrics::Metrics,
    service::{
        cache::Cache, deployment::Remembered, password::Passwords, random::Random,
        sealing::ValueKey,
    },
    store::{ephemeral::Ephemeral, identity::Identity},
};

/// The source of the current time. A test passes in a clock that it controls.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// Returns the machine's clock.
    pub fn system() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the only code that reads the machine's clock"
        )]
        Self::new(SystemTime::now)
    }

    /// Creates a clock that shows the time that `now` returns.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The state that all requests of one execution environment share.
///
/// A handler receives the app together with the request. The handler reads everything that is not
/// in the request through the app.
pub struct App {
    clock: Clock,
    pub(crate) random: Random,
    pub(crate) identity: Identity,
    ephemeral: Option<Ephemeral>,
    settings: Settings,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) cache: Cache,
    pub(super) deployments: Remembered,
    pub(crate) passwords: Passwords,
    pub(crate) value_key: Option<ValueKey>,
}

impl App {
    /// Creates an app that uses the machine's clock and the operating system's random source.
    pub fn new(identity: Identity) -> Self {
        Self::with(identity, Clock::system(), UnwrapErr(SysRng))
    }

    /// Creates an app that uses this clock and this random source.
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
            cache: Cache::default(),
            deployments: Remembered::default(),
        }
    }

    /// Sets the ephemeral table. Pass `None` for an endpoint that does not use the table.
    #[must_use]
    pub fn with_ephemeral(mut self, ephemeral: Option<Ephemeral>) -> Self {
        self.ephemeral = ephemeral;
        self
    }

    /// Sets the value key, which encrypts the values of e-mail tokens. Pass `None` for an endpoint
    /// that uses no such values.
    #[must_use]
    pub fn with_value_key(mut self, value_key: Option<ValueKey>) -> Self {
        self.value_key = value_key;
        self
    }

    /// Sets the settings of the deployment.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the metrics. Pass `None` outside Lambda, where nothing reads metrics.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Option<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Sets the record of the deployment that was just read. `None` means that the first request
    /// reads it.
    #[must_use]
    pub fn with_deployment(self, deployment: Option<Deployment>) -> Self {
        if let Some(deployment) = deployment {
            let now = self.now().seconds();
            self.deployments.set(now, Arc::new(deployment));
        }
        self
    }

    /// Returns the current time. A handler reads the time once for each decision.
    pub fn now(&self) -> Timestamp {
        (self.clock.0)().into()
    }

    /// Returns the record of the deployment. Reads it if it was not read yet. If the stored data
    /// has an earlier version than this release writes, or if there is no first account yet, also
    /// reads it if the last read was at least
    /// [`REREAD_SECONDS`](crate::service::deployment::REREAD_SECONDS) ago.
    ///
    /// # Errors
    /// [`Error::Internal`] if this release cannot read the stored data; [`Error::Unavailable`] if
    /// the database is unavailable.
    pub async fn deployment(&self) -> Result<Arc<Deployment>> {
        let now = self.now().seconds();
        self.deployments.current(&self.identity, now).await
    }

    /// Parses a token and checks its tag. Returns `None` if the text is malformed, if no key of the
    /// deployment created the tag, or if the token was created before [`Settings::not_before`].
    /// Does not read the token's record.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is unavailable and the record of the deployment must
    /// be read.
    pub async fn token(&self, text: &str) -> Result<Option<PlainToken>> {
        match PlainToken::parse(text) {
            Some(token) if !self.is_rejected(token.id()) && self.has_valid_tag(&token).await? => {
                Ok(Some(token))
            }
            _ => Ok(None),
        }
    }

    /// Returns whether a key of the deployment created the token's tag. In schema version 1, tokens
    /// without a tag are accepted too.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is unavailable and the record of the deployment must
    /// be read.
    pub async fn has_valid_tag(&self, token: &PlainToken) -> Result<bool> {
        let now = self.now().seconds();
        self.deployments.accepts(token, &self.identity, now).await
    }

    /// Returns the key that creates the tag of a new token, or `None` if the deployment has no key
    /// yet.
    pub(super) async fn tag_key(&self) -> Result<Option<TagKey>> {
        let now = self.now().seconds();
        self.deployments.tag_key(&self.identity, now).await
    }

    /// Returns whether a token is invalid because it was created before [`Settings::not_before`].
    pub fn is_rejected(&self, id: TokenId) -> bool {
        self.settings.rejects(id.created_at())
    }

    /// Returns the random source, locked until the returned guard is dropped.
    pub fn rng(&self) -> MutexGuard<'_, Box<dyn CryptoRng + Send>> {
        self.random.draw()
    }

    /// Returns the ephemeral table.
    ///
    /// # Errors
    /// [`Error::Internal`] if the endpoint was started without the ephemeral table.
    pub fn ephemeral(&self) -> Result<&Ephemeral> {
        self.ephemeral.as_ref().ok_or_else(|| Error::Internal {
            cause: "this endpoint was started without the ephemeral table".to_owned(),
        })
    }

    pub(super) fn value_key(&self) -> Result<&ValueKey> {
        self.value_key.as_ref().ok_or_else(|| Error::Internal {
            cause: "this endpoint was started without the value key".to_owned(),
        })
    }

    /// Unwraps (decrypts) the newest data key before the first request arrives, if the endpoint
    /// uses the value key.
    pub async fn warm_up_value_key(&self) {
        if let Some(key) = &self.value_key
            && let Err(error) = key.warm_up(&self.identity, self.now()).await
        {
            // Continue: each request that needs the key tries again, and returns an error if the
            // key still cannot be used.
            tracing::warn!(cause = ?error, "the value key cannot be used");
        }
    }

    /// Seals (encrypts) a value for the record that `bound_to` identifies.
    pub(crate) async fn seal(&self, value: &str, bound_to: &str) -> Result<Sealed> {
        let key = self.value_key()?;
        key.seal(value, bound_to, &self.identity, &self.random, self.now())
            .await
    }

    /// Opens (decrypts) a value that was sealed for the record that `bound_to` identifies. The
    /// record must have been read already. Returns `None` if the value can never be opened: its
    /// data key was removed, or the stored value was changed.
    pub(crate) async fn open(
        &self,
        sealed: &Sealed,
        bound_to: &str,
    ) -> Result<Option<Zeroizing<String>>> {
        self.value_key()?
            .open(sealed, bound_to, &self.identity, self.now())
            .await
    }

    /// Returns the settings of the deployment.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the identity table.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}
