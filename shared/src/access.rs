//! Who may do what, and what exists for whom (contract, section 1).

use crate::{
    error::{Error, Result},
    id::{EcosystemId, EnvironmentId, UserId},
    owner::{Owner, OwnerId},
    token::{
        Holder, PlainToken, Scope,
        verify::{Found, Verified},
    },
};

impl Found {
    /// The caller behind a credential.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if the token does not count.
    pub fn caller(&self, credential: &PlainToken) -> Result<Verified> {
        self.verified(credential)?
            .ok_or(Error::Unauthorized { token_sent: true })
    }

    /// An ecosystem of the caller's account.
    ///
    /// # Errors
    /// [`Error::NotFound`], for another account's as well.
    pub fn ecosystem(&self, caller: &Verified, id: &EcosystemId) -> Result<Owner> {
        self.record(&OwnerId::Ecosystem(id.clone()))?
            .filter(|ecosystem| ecosystem.account.as_ref() == Some(&caller.account))
            .ok_or_else(|| Error::NotFound(format!("Ecosystem with id {id} does not exist.")))
    }

    /// A user of the caller's account, if there is one.
    ///
    /// # Errors
    /// [`Error::NotFound`] for its ecosystem.
    pub fn user_if_any(&self, caller: &Verified, id: &UserId) -> Result<Option<Owner>> {
        self.ecosystem(caller, id.ecosystem())?;
        self.record(&OwnerId::User(id.clone()))
    }

    /// A user of the caller's account.
    ///
    /// # Errors
    /// [`Error::NotFound`] for its ecosystem, then for itself.
    pub fn user(&self, caller: &Verified, id: &UserId) -> Result<Owner> {
        self.user_if_any(caller, id)?
            .ok_or_else(|| Error::NotFound(format!("User with id {id} does not exist.")))
    }
}

/// What a client is told of an environment that does not exist.
pub(crate) fn no_environment(id: &EnvironmentId) -> Error {
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

    /// Whether this caller is an account.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for anybody else's token, and for one that only reads.
    pub fn must_be_account(&self) -> Result<()> {
        match (self.holder(), self.scope) {
            (Holder::Account, Scope::ReadWrite) => Ok(()),
            _ => Err(Error::Forbidden),
        }
    }

    /// Whether this is an account's or a server's token; says nothing of its scope.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a user's token.
    pub fn must_be_account_or_server(&self) -> Result<()> {
        match self.holder() {
            Holder::Account | Holder::Server => Ok(()),
            Holder::User => Err(Error::Forbidden),
        }
    }

    /// Whether this caller may change things in this ecosystem, if it exists; in any, if the
    /// request names none that can be read.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a user's token, for one that only reads, and for a server's in
    /// another ecosystem, whether or not that exists.
    pub fn must_manage(&self, ecosystem: Option<&EcosystemId>) -> Result<()> {
        self.must_be_account_or_server()?;
        let elsewhere = match (self.ecosystem(), ecosystem) {
            (Some(own), Some(asked)) => own != asked,
            _ => false,
        };
        if elsewhere || self.scope == Scope::Read {
            return Err(Error::Forbidden);
        }
        Ok(())
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
