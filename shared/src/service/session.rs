//! Sessions: tokens that users create with their passwords.

use super::{
    access::TokenRecipient,
    app::App,
    limit::Relatives,
    tokens::{self, OtherWrites},
    verify::Verified,
};
use crate::domain::{
    error::{Error, Location, Problem, Result},
    id::UserId,
    number::NotInRange,
    owner::{EcosystemSettings, User},
    token::{
        Draft, ExpiryType, Metadata, NewToken, PlainToken, Scope, Token, TokenName, TokenOwner, Ttl,
    },
};

/// The properties of a new session that a client may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// How the session expires: `FixedTtl` or `SlidingTtl`.
    pub expiry_type: ExpiryType,
    /// How long the session is valid after its creation, or after a use if it is a sliding token.
    pub ttl: Option<Ttl>,
    /// The maximum time from the creation of the session to its end, even if it is used.
    pub max_ttl: Option<Ttl>,
    /// The session's label.
    pub name: Option<TokenName>,
    /// What the session allows, if a back end chooses it.
    pub scope: Option<Scope>,
    /// Values that a back end stores with the session.
    pub metadata: Option<Metadata>,
}

impl NewSession {
    /// Returns the properties of the token. The settings of the user's ecosystem supply the
    /// properties that the client did not choose.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the settings do not allow such a long time.
    fn within(&self, settings: &EcosystemSettings) -> Result<NewToken> {
        let times = [
            ("ttl", self.ttl, settings.session_ttl),
            ("maxTtl", self.max_ttl, settings.session_max_ttl),
        ];
        let too_long = times.iter().filter_map(|(path, wanted, max)| {
            let is_too_long = wanted.is_some_and(|wanted| wanted > *max);
            is_too_long.then(|| Problem {
                location: Location::Body,
                path,
                message: String::from(NotInRange::MoreThan(max.seconds().into())).into(),
            })
        });
        let problems: Vec<_> = too_long.collect();
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        let max_ttl = match self.expiry_type {
            ExpiryType::SlidingTtl => self.max_ttl.or(Some(settings.session_max_ttl)),
            ExpiryType::FixedTtl | ExpiryType::Infinite => self.max_ttl,
        };
        // No session may be valid for longer than `session_max_ttl`, whatever its expiry type is.
        let ttl = self.ttl.unwrap_or(settings.session_ttl);
        Ok(NewToken {
            expiry_type: self.expiry_type,
            ttl: ttl.min(settings.session_max_ttl),
            max_ttl,
            name: self.name.clone(),
            scope: self
                .scope
                .as_ref()
                .unwrap_or(&settings.session_scope)
                .clone(),
            metadata: self.metadata.clone(),
        })
    }
}

/// A session that was just created.
pub struct CreatedSession {
    /// The record of the token.
    pub token: Token,
    /// The token.
    pub plain: PlainToken,
    /// The user that the session belongs to.
    pub user: UserId,
}

/// Creates a session of a user who has given the correct password. Returns `None` if the user has
/// changed since it was read.
///
/// # Errors
/// The errors of [`LoggedIn::session`](super::log_in::LoggedIn::session).
pub(super) async fn create(
    app: &App,
    user: &User,
    settings: &EcosystemSettings,
    back_end: Option<&Verified>,
    wanted: &NewSession,
) -> Result<Option<CreatedSession>> {
    if let (Some(scope), Some(back_end)) = (&wanted.scope, back_end) {
        back_end.must_be_able_to_grant(scope, TokenRecipient::User(user))?;
    }
    let new = wanted.within(settings)?;
    let owner = TokenOwner::of_user(user, settings);
    let if_unchanged = async |_: &Token, _: &PlainToken| {
        let change = app.identity.if_user_unchanged(owner.key, owner.epoch)?;
        Ok(OtherWrites::Some(change))
    };
    let draft = Draft::new(owner, new, app.now());
    let created = tokens::create(app, draft, Relatives::default(), if_unchanged).await?;
    let (is_stored, token, plain) = created;
    Ok(is_stored.then(|| CreatedSession {
        token,
        plain,
        user: user.id.clone(),
    }))
}
