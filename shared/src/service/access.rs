//! Who may do what, and what exists for whom (contract, section 1).
//!
//! A handler gets at what was looked up only by a [`Permit`], which [`Caller::may`] gives for a [`Right`]. What changes
//! something demands [`MayWrite`], which the permit of a right to write contains. So a handler that does not check its
//! caller does not compile.

use crate::{
    domain::{
        email::Email,
        error::{Error, Result},
        id::{EcosystemId, EnvironmentId, UserId},
        owner::{Address, Ecosystem, Environment, OwnerId, OwnerKey, User},
        time::UnixSeconds,
        token::{Holder, PlainToken, Scope, Token, TokenId},
    },
    service::verify::{Found, Verified},
};

/// The right that each endpoint requires. What is not here requires no credential: exchanging a short code, logging in
/// and revoking a token by the token itself.
#[expect(missing_docs, reason = "each has the name of its endpoint")]
pub mod rights {
    use super::{
        MayRead, MayWrite, Right,
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
    pub const GET_EMAIL_TOKEN_VALUE: Right<MayWrite> = write(Administrator);
    pub const GET_OWN_EMAIL_TOKEN_VALUE: Right<MayRead> = read(User);
}

/// What a caller must be and which scope its token must have.
#[derive(Clone, Copy, Debug)]
pub struct Right<A> {
    who: Who,
    scope: Scope,
    proof: A,
}

/// The callers that have a right. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// An account.
    Account,
    /// An ecosystem's server.
    Server,
    /// A user that may manage the e-mail tokens of its ecosystem.
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

/// Proof that a caller with a right to read was found.
#[derive(Clone, Copy, Debug)]
pub struct MayRead(());

/// Proof that a caller with a right to write was found.
#[derive(Clone, Copy, Debug)]
pub struct MayWrite(());

impl MayWrite {
    /// The right of whoever has the database itself: the commands `bootstrap` and `serve`, and tests. A handler has no
    /// use for it.
    pub const fn of_operator() -> Self {
        Self(())
    }
}

impl Found {
    /// The caller that sends a credential.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if the token is not valid.
    pub fn caller(&self, credential: &PlainToken) -> Result<Caller<'_>> {
        let token = self.verified(credential);
        let token = token.ok_or(Error::Unauthorized { token_sent: true })?;
        Ok(Caller { found: self, token })
    }
}

/// A caller with a valid token, whose right is not checked yet.
pub struct Caller<'a> {
    found: &'a Found,
    token: Verified,
}

impl<'a> Caller<'a> {
    /// Checks a right, in the ecosystem that the request names. Whether that exists, and whether it is the account's, is
    /// not checked here: [`Permit::ecosystem`] does it. `None` if the request names none that is well-formed.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the right.
    pub fn may<A>(self, right: Right<A>, ecosystem: Option<&EcosystemId>) -> Result<Permit<'a, A>> {
        let is_right = self.token.who() <= right.who && self.token.scope >= right.scope;
        if is_right && ecosystem.is_none_or(|id| self.token.reaches(id)) {
            Ok(Permit {
                found: self.found,
                caller: self.token,
                proof: right.proof,
            })
        } else {
            Err(Error::Forbidden)
        }
    }

    /// The user that calls, if it is one.
    pub fn user(&self) -> Option<&UserId> {
        match &self.token.owner {
            OwnerId::User(id) => Some(id),
            OwnerId::Account(_) | OwnerId::Ecosystem(_) => None,
        }
    }

    /// Whether this is the address of the user that calls.
    pub fn is_own_address(&self, email: &Email) -> bool {
        let user = self.user().and_then(|id| self.found.user_record(id));
        user.is_some_and(|user| user.email.as_ref() == Some(email))
    }
}

/// A caller whose right was checked, and what exists for it of what was looked up.
pub struct Permit<'a, A> {
    found: &'a Found,
    caller: Verified,
    /// [`MayRead`] or [`MayWrite`], for the functions that demand it.
    pub proof: A,
}

impl<A> Permit<'_, A> {
    /// The caller.
    pub const fn caller(&self) -> &Verified {
        &self.caller
    }

    /// An ecosystem.
    ///
    /// # Errors
    /// [`Error::NotFound`] also if it is another account's; [`Error::Forbidden`] if the right was checked for another one.
    pub fn ecosystem(&self, id: &EcosystemId) -> Result<&Ecosystem> {
        if !self.caller.reaches(id) {
            return Err(Error::Forbidden);
        }
        self.found
            .ecosystem_record(id)
            .filter(|ecosystem| ecosystem.account == self.caller.account)
            .ok_or_else(|| Error::NotFound(format!("Ecosystem with id {id} does not exist.")))
    }

    /// A user, if there is one.
    ///
    /// # Errors
    /// As [`Permit::ecosystem`] for the user's ecosystem.
    pub fn user_if_any(&self, id: &UserId) -> Result<Option<&User>> {
        self.ecosystem(id.ecosystem())?;
        Ok(self.found.user_record(id))
    }

    /// A user.
    ///
    /// # Errors
    /// As [`Permit::ecosystem`] for the user's ecosystem, then [`Error::NotFound`] for the user.
    pub fn user(&self, id: &UserId) -> Result<&User> {
        self.user_if_any(id)?
            .ok_or_else(|| Error::NotFound(format!("User with id {id} does not exist.")))
    }

    /// An environment: for a server one of its own ecosystem, for an account any. Whether its ecosystem is the account's
    /// is not known yet.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn environment(&self, id: &EnvironmentId) -> Result<&Environment> {
        self.found
            .environment(id)
            .filter(|environment| self.caller.reaches(&environment.ecosystem))
            .ok_or_else(|| no_environment(id))
    }

    /// The record of an owner's token, valid or not.
    pub fn token_of(&self, owner: impl Into<OwnerKey>, id: TokenId) -> Option<&Token> {
        self.found.token_of(owner, id)
    }

    /// The record of an e-mail address, whoever's.
    pub(super) fn address(&self, email: &Email) -> Option<&Address> {
        self.found.address(email)
    }

    /// A token that was looked up, if it is valid and the caller may know of it: an account of its own and of all its
    /// ecosystems', a server of its ecosystem's.
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

/// What a client is told of an environment that does not exist.
pub fn no_environment(id: &EnvironmentId) -> Error {
    Error::NotFound(format!("Environment with id {id} does not exist."))
}

impl Verified {
    /// The kind of owner that holds the token.
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

    /// The ecosystem that the token belongs to; an account's belongs to none.
    pub fn ecosystem(&self) -> Option<&EcosystemId> {
        match &self.owner {
            OwnerId::Account(_) => None,
            OwnerId::Ecosystem(id) => Some(id),
            OwnerId::User(id) => Some(id.ecosystem()),
        }
    }

    /// Whether its rights can hold in an ecosystem: an account's in any of its own, others' in theirs.
    fn reaches(&self, ecosystem: &EcosystemId) -> bool {
        self.ecosystem().is_none_or(|own| own == ecosystem)
    }

    /// Checks that a caller may be given another token's value: a user's token must have the scopes of that token and
    /// must not end before it. A sliding token is compared by the end that it has now: it ends then if nobody uses it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a user's token that has less or ends earlier.
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
