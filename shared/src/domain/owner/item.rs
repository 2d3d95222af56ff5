//! The item of an owner in the identity table.

use serde::{Deserialize, Serialize};

use super::{Account, Ecosystem, EcosystemSettings, Epoch, KeptToken, Owner, State, User};
use crate::domain::{
    email::Email,
    id::{AccountId, EnvironmentId},
};

/// An owner's item. A new attribute must be optional, because old items do not have it.
/// `has_password`, `active` and `admin` are written for every kind of owner, because earlier
/// releases cannot read an item without these attributes.
#[derive(Serialize, Deserialize)]
pub(super) struct OwnerItem {
    kind: OwnerKind,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountId>,
    /// Absent if all settings have their default values.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<EcosystemSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<Email>,
    #[serde(default)]
    has_password: bool,
    active: bool,
    admin: bool,
    epoch: Epoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<KeptToken>,
    #[serde(rename = "born")]
    incarnation: Epoch,
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OwnerKind {
    Account,
    Ecosystem,
    User,
}

impl TryFrom<OwnerItem> for Owner {
    type Error = &'static str;

    fn try_from(item: OwnerItem) -> Result<Self, Self::Error> {
        let state = State {
            active: item.active,
            epoch: item.epoch,
            kept: item.kept,
            incarnation: item.incarnation,
            version: item.version,
        };
        Ok(match item.kind {
            OwnerKind::Account => Self::Account(Account {
                id: item.id.try_into()?,
                state,
            }),
            OwnerKind::Ecosystem => Self::Ecosystem(Ecosystem {
                id: item.id.try_into()?,
                account: item.account.ok_or("`account` is missing")?,
                settings: item.settings.unwrap_or_default(),
                state,
            }),
            OwnerKind::User => Self::User(User {
                id: item.id.try_into()?,
                environment: item.environment,
                email: item.email,
                has_password: item.has_password,
                admin: item.admin,
                state,
            }),
        })
    }
}

impl From<Owner> for OwnerItem {
    fn from(owner: Owner) -> Self {
        let state = *owner.state();
        let item = |kind, id| Self {
            kind,
            id,
            account: None,
            settings: None,
            environment: None,
            email: None,
            has_password: false,
            active: state.active,
            admin: false,
            epoch: state.epoch,
            kept: state.kept,
            incarnation: state.incarnation,
            version: state.version,
        };
        match owner {
            Owner::Account(account) => item(OwnerKind::Account, account.id.to_string()),
            Owner::Ecosystem(ecosystem) => Self {
                account: Some(ecosystem.account),
                settings: Some(ecosystem.settings)
                    .filter(|settings| *settings != EcosystemSettings::default()),
                ..item(OwnerKind::Ecosystem, ecosystem.id.to_string())
            },
            Owner::User(user) => Self {
                environment: user.environment,
                email: user.email,
                has_password: user.has_password,
                admin: user.admin,
                ..item(OwnerKind::User, user.id.as_str().to_owned())
            },
        }
    }
}
