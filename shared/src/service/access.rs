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
        time::UnixSeconds,
        token::{Author, EndedToken, Holder, Maker, PlainToken, Scope, Token, TokenId},
    },
    service::{
        caller_log,
        verify::{Found, Verified},
    },
};

/// The right that each endpoint requires. Three endpoints are not listed, because they require no
/// credential in the `Authorization` header: `POST /api/auth/shortcode/consume`,
/// `POST /_/user-token/value` and `POST /api/auth/revoke`.
#[expect(missing_docs, reason = "each constant has the name of its endpoint")]
pub mod rights {
    use super::{
        MayRead, MayWrite, Right, Scope,
        Who::{Account, Administrator, Server, User},
        read, write,
    };

    pub const CREATE_ECOSYSTEM: Right<MayWrite> = write(Account);
    pub const DELETE_ECOSYSTEM: Right<MayWrite> = write(Account);
    pub const CREATE_ENVIRONMENT: Right<MayWrite> = write(Server);
    pub const DELETE_ENVIRONMENT: Right<MayWrite> = write(Server);

    pub const PUT_USER: Right<MayWrite> = write(Server);
    pub const GET_USER: Right<MayRead> = read(Server);
    pub const DELETE_USER: Right<MayWrite> = write(Server);

    pub const CREATE_USER_TOKEN: Right<MayWrite> = write(Server);
    pub const LIST_USER_TOKENS: Right<MayRead> = read(Server);
    pub const REVOKE_USER_TOKEN: Right<MayWrite> = write(Server);
    pub const REVOKE_USER_TOKENS: Right<MayWrite> = write(Server);

    pub const CREATE_SERVER_TOKEN: Right<MayWrite> = write(Account);
    pub const LIST_SERVER_TOKENS: Right<MayRead> = read(Account);
    pub const REVOKE_SERVER_TOKEN: Right<MayWrite> = write(Account);

    pub const INTROSPECT_TOKEN: Right<MayRead> = read(Server);

    pub const CREATE_SHORTCODE: Right<MayWrite> = write(Server);
    pub const CREATE_OWN_SHORTCODE: Right<MayWrite> = write(User);

    pub const CREATE_EMAIL_TOKEN: Right<MayWrite> = write(Administrator);
    pub const LIST_EMAIL_TOKENS: Right<MayRead> = read(Administrator);
    pub const UPDATE_EMAIL_TOKEN: Right<MayWrite> = write(Administrator);
    pub const DELETE_EMAIL_TOKEN: Right<MayWrite> = write(Administrator);
    /// An e-mail token can have the scope `read write`. So a caller whose token has only the scope
    /// `read` must not get the e-mail token's value.
    pub const GET_EMAIL_TOKEN_VALUE: Right<MayRead> = Right {
        scope: Scope::ReadWrite,
        ..read(Administrator)
    };
    pub const GET_OWN_EMAIL_TOKEN_VALUE: Right<MayRead> = read(User);

    /// Lets a back end send its clients' attempts to log in or to exchange a short code.
    pub const SEND_ATTEMPTS: Right<MayWrite> = write(Server);
}

/// The kind of caller and the token scope that an endpoint requires.
#[derive(Clone, Copy, Debug)]
pub struct Right<A> {
    who: Who,
    scope: Scope,
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

const fn read(who: Who) -> Right<MayRead> {
    Right {
        who,
        scope: Scope::Read,
        proof: MayRead(()),
    }
}

const fn write(who: Who) -> Right<MayWrite> {
    Right {
        who,
        scope: Scope::ReadWrite,
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
    /// `bootstrap` and `serve` and the tests call this function. A handler must not call it.
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
    /// [`Error::Forbidden`] if the caller does not have the right.
    pub fn may<A>(self, right: Right<A>, ecosystem: Option<&EcosystemId>) -> Result<Permit<'a, A>> {
        let is_right = self.token.who() <= right.who && self.token.scope >= right.scope;
        if is_right && ecosystem.is_none_or(|id| self.token.reaches(id)) {
            Ok(Permit {
                found: self.found,
                caller: self.token,
                only_own: right.who == Who::User,
                proof: right.proof,
            })
        } else {
            Err(Error::Forbidden)
        }
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
            .ok_or_else(|| Error::NotFound(format!("Ecosystem with id {id} does not exist.")))
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

    /// Returns the record of an owner's token, even if the token is invalid. This function does not
    /// check the owner: pass an owner that this permit returned.
    pub(super) fn token_of(&self, owner: OwnerKey, id: TokenId) -> Option<&Token> {
        self.found.token_of(owner, id)
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

/// A user id, and the user that was read for this id, if the user exists.
#[derive(Clone, Copy, Debug)]
pub struct UserSlot<'a> {
    pub(super) id: &'a UserId,
    /// The account that owns the user's ecosystem.
    pub(super) account: &'a AccountId,
    pub(super) current: Option<&'a User>,
}

impl<'a> UserSlot<'a> {
    /// Creates a slot without reading the database, for a user that does not exist yet. Handlers
    /// call [`Permit::user_slot`] instead.
    pub const fn of_new(id: &'a UserId, account: &'a AccountId) -> Self {
        Self {
            id,
            account,
            current: None,
        }
    }
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

    /// Checks that the caller may read, create or change an e-mail token with this scope and expiry
    /// time. If the caller is a user, the caller's token must have at least this scope and must not
    /// expire before the e-mail token. If the caller's token has the expiry type `SlidingTtl`, its
    /// present expiry time is compared with the expiry time of the e-mail token, because it is
    /// possible that nobody uses the caller's token again.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if the caller is a user whose token has a smaller scope or an earlier
    /// expiry time than the e-mail token.
    pub fn must_cover(&self, scope: Scope, expires_at: Option<UnixSeconds>) -> Result<()> {
        let outlives = match (self.expiry.expires_at(), expires_at) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own >= other,
        };
        if self.holder() != Holder::User || (outlives && self.scope >= scope) {
            Ok(())
        } else {
            Err(Error::Forbidden)
        }
    }
}
