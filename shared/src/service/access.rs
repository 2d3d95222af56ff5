//! Authorization: what a caller may do, and which records a caller is allowed to see.
//!
//! A handler gets the records of its lookup only from a [`Permit`]. [`Caller::may`] checks a
//! [`Right`] and returns the permit. A function that changes records requires a [`MayWrite`], and
//! only the permit for a right to write contains a [`MayWrite`]. So a handler that does not check
//! its caller does not compile.

use crate::{
    domain::{
        email::Email,
        error::{Error, Result},
        id::{AccountId, EcosystemId, EnvironmentId, UserId},
        owner::{Ecosystem, Environment, OwnerId, OwnerKey, User},
        time::{Timestamp, UnixSeconds},
        token::{
            Author, Draft, EndedToken, Holder, Maker, NewToken, Permission, PlainToken, Scope,
            Token, TokenId, TokenOwner,
        },
    },
    service::{
        caller_log,
        verify::{Found, Verified},
    },
};

/// The right that each endpoint requires. For the tokens of a user, the user has the same rights
/// for itself ([`Caller::may_for_user`]), except the right to create a token. Endpoints that
/// require no credential in the `Authorization` header are not listed, and neither is
/// `GET /api/auth/whoami`, which any valid token may call.
#[expect(missing_docs, reason = "each constant has the name of its endpoint")]
pub mod rights {
    use super::{
        MayRead, MayWrite,
        Permission::{
            CodesWrite, EcosystemsWrite, EmailTokensRead, EmailTokensWrite, Introspect, TokensRead,
            TokensWrite, UsersRead, UsersWrite,
        },
        Right,
        Who::{Account, Administrator, Server, User},
        read, write,
    };

    pub const CREATE_ECOSYSTEM: Right<MayWrite> = write(Account, EcosystemsWrite);
    pub const LIST_ECOSYSTEMS: Right<MayRead> = read(Account, UsersRead);
    pub const GET_ECOSYSTEM: Right<MayRead> = read(Server, UsersRead);
    pub const UPDATE_ECOSYSTEM: Right<MayWrite> = write(Account, EcosystemsWrite);
    pub const DELETE_ECOSYSTEM: Right<MayWrite> = write(Account, EcosystemsWrite);
    pub const CREATE_ENVIRONMENT: Right<MayWrite> = write(Server, UsersWrite);
    pub const LIST_ENVIRONMENTS: Right<MayRead> = read(Server, UsersRead);
    pub const DELETE_ENVIRONMENT: Right<MayWrite> = write(Server, UsersWrite);

    pub const PUT_USER: Right<MayWrite> = write(Server, UsersWrite);
    pub const GET_USER: Right<MayRead> = read(Server, UsersRead);
    pub const LIST_USERS: Right<MayRead> = read(Server, UsersRead);
    /// This requires `UsersWrite`, because a token that may only manage tokens must not change the
    /// password.
    pub const CHANGE_PASSWORD: Right<MayWrite> = write(User, UsersWrite);
    pub const DELETE_USER: Right<MayWrite> = write(Server, UsersWrite);

    pub const CREATE_USER_TOKEN: Right<MayWrite> = write(Server, TokensWrite);
    pub const LIST_USER_TOKENS: Right<MayRead> = read(Server, TokensRead);
    pub const GET_USER_TOKEN: Right<MayRead> = read(Server, TokensRead);
    pub const UPDATE_USER_TOKEN: Right<MayWrite> = write(Server, TokensWrite);
    pub const REVOKE_USER_TOKEN: Right<MayWrite> = write(Server, TokensWrite);
    pub const REVOKE_USER_TOKENS: Right<MayWrite> = write(Server, TokensWrite);

    pub const CREATE_SERVER_TOKEN: Right<MayWrite> = write(Account, TokensWrite);
    pub const LIST_SERVER_TOKENS: Right<MayRead> = read(Account, TokensRead);
    pub const GET_SERVER_TOKEN: Right<MayRead> = read(Account, TokensRead);
    pub const UPDATE_SERVER_TOKEN: Right<MayWrite> = write(Account, TokensWrite);
    pub const REVOKE_SERVER_TOKEN: Right<MayWrite> = write(Account, TokensWrite);

    pub const INTROSPECT_TOKEN: Right<MayRead> = read(Server, Introspect);

    pub const CREATE_SHORTCODE: Right<MayWrite> = write(Server, CodesWrite);
    pub const CREATE_OWN_SHORTCODE: Right<MayWrite> = write(User, CodesWrite);

    pub const CREATE_EMAIL_TOKEN: Right<MayWrite> = write(Administrator, EmailTokensWrite);
    pub const LIST_EMAIL_TOKENS: Right<MayRead> = read(Administrator, EmailTokensRead);
    pub const UPDATE_EMAIL_TOKEN: Right<MayWrite> = write(Administrator, EmailTokensWrite);
    pub const DELETE_EMAIL_TOKEN: Right<MayWrite> = write(Administrator, EmailTokensWrite);
    /// An e-mail token can have the scopes `read write`. So a caller that may only list e-mail
    /// tokens must not get the e-mail token's value.
    pub const GET_EMAIL_TOKEN_VALUE: Right<MayRead> = read(Administrator, EmailTokensWrite);
    /// [`Verified::must_cover`](super::Verified::must_cover) checks the scopes of the e-mail token.
    pub const GET_OWN_EMAIL_TOKEN_VALUE: Right<MayRead> = read(User, EmailTokensRead);

    /// Lets a back end send its clients' attempts to log in or to exchange a short code. A
    /// successful attempt creates a token or returns one.
    pub const SEND_ATTEMPTS: Right<MayWrite> = write(Server, TokensWrite);
}

/// The kind of caller and the permission that an endpoint requires.
#[derive(Clone, Copy, Debug)]
pub struct Right<A> {
    who: Who,
    permission: Permission,
    proof: A,
}

/// The kinds of caller, from the one with the most rights to the one with the fewest. If a right
/// requires a kind, [`Caller::may`] accepts callers of that kind and of every kind listed above
/// that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// An account.
    Account,
    /// The server of an ecosystem.
    Server,
    /// An admin user, who may manage the e-mail tokens of the admin user's ecosystem.
    Administrator,
    /// Any other user.
    User,
}

const fn read(who: Who, permission: Permission) -> Right<MayRead> {
    Right {
        who,
        permission,
        proof: MayRead(()),
    }
}

const fn write(who: Who, permission: Permission) -> Right<MayWrite> {
    Right {
        who,
        permission,
        proof: MayWrite(()),
    }
}

/// Proof that the caller has a right to read.
#[derive(Clone, Copy, Debug)]
pub struct MayRead(());

/// Proof that the caller has a right to write.
#[derive(Clone, Copy, Debug)]
pub struct MayWrite(());

impl MayWrite {
    /// Returns the proof for an operator, who has direct access to the database. Only the commands
    /// of an operator, such as `bootstrap` and `migrate`, and the tests call this function. A
    /// handler must not call it.
    pub const fn of_operator() -> Self {
        Self(())
    }
}

impl Found {
    /// Returns the caller that sent this credential. From then on, the log line of the request
    /// contains the caller.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if the credential is not a valid token.
    pub fn caller(&self, credential: &PlainToken) -> Result<Caller<'_>> {
        let remembered = self.remembered_caller.clone();
        let token = remembered.or_else(|| self.verified(credential));
        let token = token.ok_or(Error::Unauthorized { token_sent: true })?;
        caller_log::set(&token);
        Ok(Caller { found: self, token })
    }
}

/// A caller with a valid token. The caller's rights are not checked yet.
pub struct Caller<'a> {
    found: &'a Found,
    token: Verified,
}

impl<'a> Caller<'a> {
    /// Checks that the caller has a right in an ecosystem. `ecosystem` is the ecosystem id in the
    /// request, or `None` if the request contains no well-formed ecosystem id.
    ///
    /// This function does not check that the ecosystem exists or that it belongs to the caller's
    /// account. [`Permit::ecosystem`] checks both.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if this kind of caller does not have the right;
    /// [`Error::InsufficientScope`] if the caller's token lacks the scope for it.
    pub fn may<A>(self, right: Right<A>, ecosystem: Option<&EcosystemId>) -> Result<Permit<'a, A>> {
        let is_right = self.token.who() <= right.who;
        if !is_right || ecosystem.is_some_and(|id| !self.token.reaches(id)) {
            return Err(Error::Forbidden);
        }
        self.token.must_allow(right.permission)?;
        Ok(Permit {
            found: self.found,
            caller: self.token,
            only_own: right.who == Who::User,
            proof: right.proof,
        })
    }

    /// Checks that the caller has a right in an ecosystem, as [`Caller::may`] does. A user also has
    /// this right for itself: then the permit is only for this user. `user` is the user in the
    /// request.
    ///
    /// # Errors
    /// The errors of [`Caller::may`].
    pub fn may_for_user<A>(
        self,
        right: Right<A>,
        ecosystem: Option<&EcosystemId>,
        user: Option<&UserId>,
    ) -> Result<Permit<'a, A>> {
        let is_own = self.user().is_some() && self.user() == user;
        let who = if is_own { Who::User } else { right.who };
        self.may(Right { who, ..right }, ecosystem)
    }

    /// Returns the caller's own token. Every caller may look at it, without any right.
    pub const fn own_token(&self) -> &Verified {
        &self.token
    }

    /// Returns the calling user, or `None` if the caller is not a user.
    pub fn user(&self) -> Option<&UserId> {
        match &self.token.owner {
            OwnerId::User(id) => Some(id),
            OwnerId::Account(_) | OwnerId::Ecosystem(_) => None,
        }
    }

    /// Returns whether `email` is the address of the calling user.
    pub fn is_own_address(&self, email: &Email) -> bool {
        let user = self.user().and_then(|id| self.found.user_record(id));
        user.is_some_and(|user| user.email.as_ref() == Some(email))
    }
}

/// A caller whose right was checked. A permit gives access to the records that were looked up. A
/// method of a permit returns only records that the caller is allowed to see, unless the comment of
/// the method says otherwise.
pub struct Permit<'a, A> {
    found: &'a Found,
    caller: Verified,
    /// Whether the caller has the right only for itself, not for other users. This is true if the
    /// right requires the kind `Who::User`.
    only_own: bool,
    /// The proof, for functions that require a [`MayRead`] or a [`MayWrite`].
    pub proof: A,
}

impl<A> Permit<'_, A> {
    /// Returns the caller.
    pub const fn caller(&self) -> &Verified {
        &self.caller
    }

    /// Returns an ecosystem.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if the caller's token belongs to another ecosystem;
    /// [`Error::NotFound`] if the ecosystem does not exist or belongs to another account.
    pub fn ecosystem(&self, id: &EcosystemId) -> Result<&Ecosystem> {
        if !self.caller.reaches(id) {
            return Err(Error::Forbidden);
        }
        self.found
            .ecosystem_record(id)
            .filter(|ecosystem| ecosystem.account == self.caller.account)
            .ok_or_else(|| no_ecosystem(id))
    }

    /// Returns a slot with the given user id and, if a user with this id exists, that user.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if the right is only for the calling user and `id` is the id of another
    /// user. Also returns the errors of [`Permit::ecosystem`] for the ecosystem in `id`.
    pub fn user_slot<'b>(&'b self, id: &'b UserId) -> Result<UserSlot<'b>> {
        if !self.reaches_user(id) {
            return Err(Error::Forbidden);
        }
        let ecosystem = self.ecosystem(id.ecosystem())?;
        Ok(UserSlot {
            id,
            account: &ecosystem.account,
            current: self.found.user_record(id),
            may_manage_email_tokens: self.caller.scope.allows(Permission::EmailTokensWrite),
        })
    }

    /// Returns whether the caller has the right for this user. This function does not check the
    /// user's ecosystem.
    pub(super) fn reaches_user(&self, id: &UserId) -> bool {
        !self.only_own || matches!(&self.caller.owner, OwnerId::User(own) if own == id)
    }

    /// Returns a user.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the user does not exist. Also returns the errors of
    /// [`Permit::user_slot`].
    pub fn user<'b>(&'b self, id: &'b UserId) -> Result<&'b User> {
        self.user_slot(id)?
            .current
            .ok_or_else(|| Error::NotFound(format!("User with id {id} does not exist.")))
    }

    /// Returns an environment. A server gets only the environments of its own ecosystem. An account
    /// gets any environment, even one of another account: this function does not check whether the
    /// environment's ecosystem belongs to the account.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the environment does not exist, or if the caller is the server of
    /// another ecosystem.
    pub fn environment(&self, id: &EnvironmentId) -> Result<&Environment> {
        self.found
            .environment(id)
            .filter(|environment| self.caller.reaches(&environment.ecosystem))
            .ok_or_else(|| no_environment(id))
    }

    /// Returns the record of an owner's token that was not revoked, even if the token is expired or
    /// disabled. This function does not check the owner: pass an owner that this permit returned.
    pub(super) fn token_of(&self, owner: OwnerKey, id: TokenId) -> Option<&Token> {
        let enabled = self.found.token_of(owner, id);
        enabled.or_else(|| self.found.disabled_token(owner, id))
    }

    /// Returns whether the caller has the right only for itself.
    pub(super) const fn is_only_own(&self) -> bool {
        self.only_own
    }

    /// Returns the record of an owner's token that was revoked. See [`Permit::token_of`] for the
    /// owner.
    pub(super) fn ended_token_of(&self, owner: OwnerKey, id: TokenId) -> Option<&EndedToken> {
        self.found.ended_token(owner, id)
    }

    /// Returns a token that was looked up, if the token is valid and the caller may introspect it.
    /// An account may introspect its account tokens, and the server and user tokens of all its
    /// ecosystems. A server may introspect the server and user tokens of its own ecosystem.
    pub fn introspect(&self, token: &PlainToken) -> Option<Verified> {
        self.found
            .verified(token)
            .filter(|token| match self.caller.holder() {
                Holder::Account => self.caller.account == token.account,
                Holder::Server => self.caller.ecosystem() == token.ecosystem(),
                Holder::User => false,
            })
    }
}

impl Permit<'_, MayWrite> {
    /// Checks that the caller may create this token for a user.
    ///
    /// # Errors
    /// [`Error::InsufficientScope`] if the caller's token lacks a scope
    /// (`Verified::must_be_able_to_grant`). Also returns the errors of [`Permit::ecosystem`] for
    /// the user's ecosystem.
    pub fn grant_to_user(&self, user: &User, wanted: NewToken) -> Result<Grant> {
        self.caller
            .must_be_able_to_grant(&wanted.scope, TokenRecipient::User(user))?;
        let settings = &self.ecosystem(user.id.ecosystem())?.settings;
        Ok(Grant {
            owner: TokenOwner::of_user(user, settings),
            wanted,
        })
    }

    /// Checks that the caller may create this token for the servers of an ecosystem.
    ///
    /// # Errors
    /// [`Error::InsufficientScope`] if the caller's token lacks a scope
    /// (`Verified::must_be_able_to_grant`).
    pub fn grant_to_server(&self, ecosystem: &Ecosystem, wanted: NewToken) -> Result<Grant> {
        self.caller
            .must_be_able_to_grant(&wanted.scope, TokenRecipient::Server)?;
        Ok(Grant {
            owner: ecosystem.into(),
            wanted,
        })
    }
}

/// A new token that the caller may create. [`mint`](super::tokens::mint) creates only granted
/// tokens. So a handler that does not check the scope of a new token does not compile.
#[derive(Clone, Debug)]
pub struct Grant {
    owner: TokenOwner,
    wanted: NewToken,
}

impl Grant {
    /// Returns the grant of an operator. See [`MayWrite::of_operator`]. A handler must not call
    /// this function.
    pub fn of_operator(owner: impl Into<TokenOwner>, wanted: NewToken) -> Self {
        Self {
            owner: owner.into(),
            wanted,
        }
    }

    pub(super) fn draft(self, now: Timestamp) -> Draft {
        Draft::new(self.owner, self.wanted, now)
    }
}

/// A user id, and the user that was read for this id, if the user exists.
#[derive(Clone, Copy, Debug)]
pub struct UserSlot<'a> {
    pub(super) id: &'a UserId,
    /// The account that owns the user's ecosystem.
    pub(super) account: &'a AccountId,
    pub(super) current: Option<&'a User>,
    /// Whether the caller's scopes allow changes of e-mail tokens.
    pub(super) may_manage_email_tokens: bool,
}

impl<'a> UserSlot<'a> {
    /// Creates a slot without reading the database, for a user that does not exist yet. Handlers
    /// call [`Permit::user_slot`] instead.
    pub const fn of_new(id: &'a UserId, account: &'a AccountId) -> Self {
        Self {
            id,
            account,
            current: None,
            may_manage_email_tokens: true,
        }
    }
}

/// Returns the error for an ecosystem that does not exist.
pub(super) fn no_ecosystem(id: &EcosystemId) -> Error {
    Error::NotFound(format!("Ecosystem with id {id} does not exist."))
}

/// Returns the error for an environment that does not exist.
pub fn no_environment(id: &EnvironmentId) -> Error {
    Error::NotFound(format!("Environment with id {id} does not exist."))
}

impl Verified {
    /// Returns the kind of owner that holds the token.
    pub const fn holder(&self) -> Holder {
        match &self.owner {
            OwnerId::Account(_) => Holder::Account,
            OwnerId::Ecosystem(_) => Holder::Server,
            OwnerId::User(_) => Holder::User,
        }
    }

    /// Returns the [`Author`] to store for each token that is revoked with this token.
    pub const fn author(&self) -> Author {
        Author {
            holder: self.holder(),
            token: self.id,
        }
    }

    /// Returns the [`Maker`] to store for each code that is created with this token.
    pub(super) fn maker(&self) -> Maker {
        Maker {
            owner: self.owner.key(),
            token: self.id,
            ancestry: self.ancestry,
        }
    }

    const fn who(&self) -> Who {
        match self.holder() {
            Holder::Account => Who::Account,
            Holder::Server => Who::Server,
            Holder::User if self.admin => Who::Administrator,
            Holder::User => Who::User,
        }
    }

    /// Returns the ecosystem that the token belongs to, or `None` for an account's token.
    pub fn ecosystem(&self) -> Option<&EcosystemId> {
        match &self.owner {
            OwnerId::Account(_) => None,
            OwnerId::Ecosystem(id) => Some(id),
            OwnerId::User(id) => Some(id.ecosystem()),
        }
    }

    /// Returns whether the token can have rights in an ecosystem. For an account token, this
    /// function returns `true` for every ecosystem, and [`Permit::ecosystem`] checks that the
    /// ecosystem belongs to the account.
    fn reaches(&self, ecosystem: &EcosystemId) -> bool {
        self.ecosystem().is_none_or(|own| own == ecosystem)
    }

    /// Checks that the token's scopes allow an action.
    ///
    /// # Errors
    /// [`Error::InsufficientScope`] if they do not.
    pub fn must_allow(&self, permission: Permission) -> Result<()> {
        if self.scope.allows(permission) {
            Ok(())
        } else {
            Err(Error::InsufficientScope(permission.scope().into()))
        }
    }

    /// Checks that the caller may create a token with this scope for this owner.
    ///
    /// A token of a server can do at most what the caller's token can do. A token of a user may
    /// have any scope, because it acts only for the user. But a token of an admin user can manage
    /// e-mail tokens, so the caller must be allowed to do that too.
    ///
    /// # Errors
    /// [`Error::InsufficientScope`] if the caller's token lacks a scope.
    pub(super) fn must_be_able_to_grant(
        &self,
        scope: &Scope,
        owner: TokenRecipient<'_>,
    ) -> Result<()> {
        let missing = match owner {
            TokenRecipient::Server => self.scope.missing_own(scope),
            TokenRecipient::User(user) if user.admin => {
                return self.must_allow(Permission::EmailTokensWrite);
            }
            TokenRecipient::User(_) => None,
        };
        missing.map_or(Ok(()), |missing| {
            Err(Error::InsufficientScope(missing.into()))
        })
    }

    /// Checks that the caller may read, create or change an e-mail token with this scope and expiry
    /// time. If the caller is a user, the caller's token must have all these scopes and must not
    /// expire before the e-mail token. If the caller's token has the expiry type `SlidingTtl`, its
    /// present expiry time is compared with the expiry time of the e-mail token, because it is
    /// possible that nobody uses the caller's token again.
    ///
    /// # Errors
    /// If the caller is a user: [`Error::InsufficientScope`] if the caller's token lacks a scope of
    /// the e-mail token; [`Error::Forbidden`] if it has an earlier expiry time.
    pub fn must_cover(&self, scope: &Scope, expires_at: Option<UnixSeconds>) -> Result<()> {
        if self.holder() != Holder::User {
            return Ok(());
        }
        if let Some(missing) = self.scope.missing(scope) {
            return Err(Error::InsufficientScope(missing.into()));
        }
        match (self.expiry.expires_at(), expires_at) {
            (None, _) => Ok(()),
            (Some(own), Some(other)) if own >= other => Ok(()),
            (Some(_), _) => Err(Error::Forbidden),
        }
    }
}

/// The owner of a new token, as far as it matters for the right to create the token.
#[derive(Clone, Copy, Debug)]
pub(super) enum TokenRecipient<'a> {
    /// The servers of an ecosystem.
    Server,
    /// A user.
    User(&'a User),
}
