//! Authorization: what a caller may do, and which records it can see.
//!
//! A handler can get the records that it looked up only through a [`Permit`], which
//! [`Caller::may`] returns for a [`Right`]. A function that changes something requires
//! [`MayWrite`], which the permit for a right to write contains. So a handler that does not check
//! its caller does not compile.

use crate::{
    domain::{
        email::Email,
        error::{Error, Result},
        id::{EcosystemId, EnvironmentId, UserId},
        owner::{Address, Ecosystem, Environment, OwnerId, User},
        time::UnixSeconds,
        token::{Holder, PlainToken, Scope, Token, TokenId, TokenOwner},
    },
    service::verify::{Found, Verified},
};

/// The right that each endpoint requires. Endpoints that are not listed require no credential:
/// exchanging a short code, logging in, and revoking a token with the token itself.
#[expect(missing_docs, reason = "each has the name of its endpoint")]
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
    /// A value lets its holder write, so it is not for a token that only reads.
    pub const GET_EMAIL_TOKEN_VALUE: Right<MayRead> = Right {
        scope: Scope::ReadWrite,
        ..read(Administrator)
    };
    pub const GET_OWN_EMAIL_TOKEN_VALUE: Right<MayRead> = read(User);

    /// A back end that sends its clients' attempts to log in or to exchange a short code.
    pub const SEND_ATTEMPTS: Right<MayWrite> = write(Server);
}

/// The kind of caller and the token scope that an endpoint requires.
#[derive(Clone, Copy, Debug)]
pub struct Right<A> {
    who: Who,
    scope: Scope,
    proof: A,
}

/// The kinds of caller. A right of one kind is also a right of the kinds listed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// An account.
    Account,
    /// The server of an ecosystem.
    Server,
    /// A user who may manage the e-mail tokens of its ecosystem.
    Administrator,
    /// Any user.
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
    /// Returns the right of an operator who has access to the database itself. Only the commands
    /// `bootstrap` and `serve`, and tests, use it. A handler must not use it.
    pub const fn of_operator() -> Self {
        Self(())
    }
}

impl Found {
    /// Returns the caller that sent this credential.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if the token is not valid.
    pub fn caller(&self, credential: &PlainToken) -> Result<Caller<'_>> {
        let token = self.verified(credential);
        let token = token.ok_or(Error::Unauthorized { token_sent: true })?;
        Ok(Caller { found: self, token })
    }
}

/// A caller with a valid token. Its rights are not checked yet.
pub struct Caller<'a> {
    found: &'a Found,
    token: Verified,
}

impl<'a> Caller<'a> {
    /// Checks that the caller has a right in the ecosystem that the request names. `ecosystem` is
    /// `None` if the request names no well-formed ecosystem id.
    ///
    /// This does not check that the ecosystem exists and belongs to the caller's account.
    /// [`Permit::ecosystem`] checks that.
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

    /// Returns whether this is the e-mail address of the calling user.
    pub fn is_own_address(&self, email: &Email) -> bool {
        let user = self.user().and_then(|id| self.found.user_record(id));
        user.is_some_and(|user| user.email.as_ref() == Some(email))
    }
}

/// A caller whose right was checked, with access to the records that it may see of those that were
/// looked up.
pub struct Permit<'a, A> {
    found: &'a Found,
    caller: Verified,
    /// Whether the right is every user's, for itself alone.
    only_own: bool,
    /// [`MayRead`] or [`MayWrite`], for the functions that require it.
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

    /// Returns what there is under a user's id: the user, or nothing.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if the right is for the calling user only and this is another user;
    /// those of [`Permit::ecosystem`] for the user's ecosystem.
    pub fn user_slot<'b>(&'b self, id: &'b UserId) -> Result<UserSlot<'b>> {
        if !self.reaches_user(id) {
            return Err(Error::Forbidden);
        }
        self.ecosystem(id.ecosystem())?;
        Ok(UserSlot {
            id,
            current: self.found.user_record(id),
        })
    }

    /// Returns whether the right is for this user as well.
    pub(super) fn reaches_user(&self, id: &UserId) -> bool {
        !self.only_own || matches!(&self.caller.owner, OwnerId::User(own) if own == id)
    }

    /// Returns a user.
    ///
    /// # Errors
    /// Those of [`Permit::user_slot`], then [`Error::NotFound`] if the user does not exist.
    pub fn user<'b>(&'b self, id: &'b UserId) -> Result<&'b User> {
        self.user_slot(id)?
            .current
            .ok_or_else(|| Error::NotFound(format!("User with id {id} does not exist.")))
    }

    /// Returns an environment. A server can get only the environments of its own ecosystem. An
    /// account can get any environment: this does not check that the environment's ecosystem
    /// belongs to the account.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the environment does not exist or belongs to another ecosystem than
    /// the server.
    pub fn environment(&self, id: &EnvironmentId) -> Result<&Environment> {
        self.found
            .environment(id)
            .filter(|environment| self.caller.reaches(&environment.ecosystem))
            .ok_or_else(|| no_environment(id))
    }

    /// Returns the record of an owner's token, even if the token is invalid.
    pub fn token_of(&self, owner: impl Into<TokenOwner>, id: TokenId) -> Option<&Token> {
        self.found.token_of(owner.into().key, id)
    }

    /// Returns the record of an e-mail address, even if it belongs to another account.
    pub(super) fn address(&self, email: &Email) -> Option<&Address> {
        self.found.address(email)
    }

    /// Returns a token that was looked up, if it is valid and the caller may introspect it. An
    /// account may introspect its own tokens and those of all its ecosystems. A server may
    /// introspect the tokens of its ecosystem.
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

/// A user's id, and the user that was read under it, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct UserSlot<'a> {
    pub(super) id: &'a UserId,
    pub(super) current: Option<&'a User>,
}

impl<'a> UserSlot<'a> {
    /// Returns the slot of a user that is not there yet. Handlers get theirs from
    /// [`Permit::user_slot`].
    pub const fn of_new(id: &'a UserId) -> Self {
        Self { id, current: None }
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

    /// Returns whether the token can have rights in an ecosystem. For an account's token this is
    /// always true: [`Permit::ecosystem`] checks that the ecosystem belongs to the account.
    fn reaches(&self, ecosystem: &EcosystemId) -> bool {
        self.ecosystem().is_none_or(|own| own == ecosystem)
    }

    /// Checks that the caller may get the value of a token with this scope and this expiry time. A
    /// user's token must have at least that scope and must not expire earlier. A sliding token is
    /// compared by its current expiry time, because it expires then if nobody uses it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if a user's token has less scope or expires earlier.
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
