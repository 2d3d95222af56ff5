//! Who may do what, and what exists for whom (contract, section 1).

use crate::{
    domain::{
        email::Email,
        error::{Error, Result},
        id::{EcosystemId, EnvironmentId, UserId},
        owner::{Environment, Owner, OwnerId},
        time::UnixSeconds,
        token::{Holder, PlainToken, Scope},
    },
    service::verify::{Found, Verified},
};

impl Found {
    /// The caller behind a credential.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if the token does not count.
    pub fn caller(&self, credential: &PlainToken) -> Result<Verified> {
        self.verified(credential)
            .ok_or(Error::Unauthorized { token_sent: true })
    }

    /// An ecosystem of the caller's account.
    ///
    /// # Errors
    /// [`Error::NotFound`], for another account's as well.
    pub fn ecosystem(&self, caller: &Verified, id: &EcosystemId) -> Result<Owner> {
        self.ecosystem_record(id)
            .filter(|ecosystem| ecosystem.account.as_ref() == Some(&caller.account))
            .cloned()
            .ok_or_else(|| Error::NotFound(format!("Ecosystem with id {id} does not exist.")))
    }

    /// A user of the caller's account, if there is one.
    ///
    /// # Errors
    /// [`Error::NotFound`] for its ecosystem.
    pub fn user_if_any(&self, caller: &Verified, id: &UserId) -> Result<Option<Owner>> {
        self.ecosystem(caller, id.ecosystem())?;
        Ok(self.user_record(id).cloned())
    }

    /// A user of the caller's account.
    ///
    /// # Errors
    /// [`Error::NotFound`] for its ecosystem, then for itself.
    pub fn user(&self, caller: &Verified, id: &UserId) -> Result<Owner> {
        self.user_if_any(caller, id)?
            .ok_or_else(|| Error::NotFound(format!("User with id {id} does not exist.")))
    }

    /// Whether an address is that of the user who calls.
    pub fn is_callers(&self, email: &Email, caller: &Verified) -> bool {
        match &caller.owner {
            OwnerId::User(id) => {
                let user = self.user_record(id);
                user.is_some_and(|user| user.email.as_ref() == Some(email))
            }
            OwnerId::Account(_) | OwnerId::Ecosystem(_) => false,
        }
    }

    /// An environment that may be the caller's: of a server's own ecosystem, or of one that is an
    /// account's if [`Found::ecosystem`] says so.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn environment_for(&self, caller: &Verified, id: &EnvironmentId) -> Result<Environment> {
        let own = |environment: &&Environment| match caller.ecosystem() {
            Some(ecosystem) => *ecosystem == environment.ecosystem,
            None => true,
        };
        let environment = self.environment(id).filter(own).cloned();
        environment.ok_or_else(|| no_environment(id))
    }
}

/// What a client is told of an environment that does not exist.
pub fn no_environment(id: &EnvironmentId) -> Error {
    Error::NotFound(format!("Environment with id {id} does not exist."))
}

impl Verified {
    /// What kind of owner holds the token.
    pub fn holder(&self) -> Holder {
        Holder::from(&self.owner)
    }

    /// The ecosystem that the token is of; an account's is of none.
    pub fn ecosystem(&self) -> Option<&EcosystemId> {
        match &self.owner {
            OwnerId::Account(_) => None,
            OwnerId::Ecosystem(id) => Some(id),
            OwnerId::User(id) => Some(id.ecosystem()),
        }
    }

    /// Whether this is an account's token, of at least this scope.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for any other.
    pub fn must_be_account(&self, scope: Scope) -> Result<()> {
        if self.holder() == Holder::Account && self.scope >= scope {
            Ok(())
        } else {
            Err(Error::Forbidden)
        }
    }

    /// Whether this is a token, of at least this scope, of an account or of the server of this
    /// ecosystem, whether or not that exists; of any server, if the request names no ecosystem.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for any other.
    pub fn must_be_in(&self, ecosystem: Option<&EcosystemId>, scope: Scope) -> Result<()> {
        let reaches = match (&self.owner, ecosystem) {
            (OwnerId::User(_), _) => false,
            (OwnerId::Ecosystem(own), Some(asked)) => own == asked,
            (OwnerId::Ecosystem(_), None) | (OwnerId::Account(_), _) => true,
        };
        if reaches && self.scope >= scope {
            Ok(())
        } else {
            Err(Error::Forbidden)
        }
    }

    /// Whether this is a token, of at least this scope, of an account, of a server, or of a user that
    /// may manage the e-mail tokens of its ecosystem.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for any other.
    pub fn must_manage_email_tokens(&self, scope: Scope) -> Result<()> {
        let manages = self.holder() != Holder::User || self.admin;
        if manages && self.scope >= scope {
            Ok(())
        } else {
            Err(Error::Forbidden)
        }
    }

    /// Checks that a caller may be given another token's value: a user's token must have the scopes of
    /// that token and must not end before it. A sliding token counts as it stands: it ends when nobody
    /// uses it from now on.
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

    /// Whether this caller may know of that token: an account of all its ecosystems' and its own,
    /// a server of its ecosystem's.
    pub fn sees(&self, token: &Verified) -> bool {
        match self.holder() {
            Holder::Account => self.account == token.account,
            Holder::Server => self.ecosystem() == token.ecosystem(),
            Holder::User => false,
        }
    }
}
