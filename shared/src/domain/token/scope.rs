//! The scope of a token: what the token allows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An action that Tokenry checks. A token allows the action if it has the action's own scope, or
/// the scope `read` or `write` that implies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Introspect tokens.
    Introspect,
    /// Look at tokens and list them.
    TokensRead,
    /// Create, change and revoke tokens.
    TokensWrite,
    /// Look at users, environments and ecosystems, and list them.
    UsersRead,
    /// Create, change and delete users and environments.
    UsersWrite,
    /// Create short codes.
    CodesWrite,
    /// List e-mail tokens.
    EmailTokensRead,
    /// Create, change and delete e-mail tokens, and read their values.
    EmailTokensWrite,
    /// Create and delete ecosystems, and change their settings.
    EcosystemsWrite,
}

impl Permission {
    /// All permissions, in the order of the tables in the documentation.
    pub const ALL: [Self; 9] = [
        Self::Introspect,
        Self::TokensRead,
        Self::TokensWrite,
        Self::UsersRead,
        Self::UsersWrite,
        Self::CodesWrite,
        Self::EmailTokensRead,
        Self::EmailTokensWrite,
        Self::EcosystemsWrite,
    ];

    /// Returns the scope that allows only this action.
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Introspect => "tokenry:introspect",
            Self::TokensRead => "tokenry:tokens:read",
            Self::TokensWrite => "tokenry:tokens:write",
            Self::UsersRead => "tokenry:users:read",
            Self::UsersWrite => "tokenry:users:write",
            Self::CodesWrite => "tokenry:codes:write",
            Self::EmailTokensRead => "tokenry:email-tokens:read",
            Self::EmailTokensWrite => "tokenry:email-tokens:write",
            Self::EcosystemsWrite => "tokenry:ecosystems:write",
        }
    }

    /// Returns the general scope that implies this action.
    const fn implied_by(self) -> &'static str {
        match self {
            Self::Introspect | Self::TokensRead | Self::UsersRead | Self::EmailTokensRead => READ,
            Self::TokensWrite
            | Self::UsersWrite
            | Self::CodesWrite
            | Self::EmailTokensWrite
            | Self::EcosystemsWrite => WRITE,
        }
    }

    /// Returns the action that a scope of Tokenry allows, or `None` for any other scope.
    fn of(scope: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.scope() == scope)
    }
}

const READ: &str = "read";
const WRITE: &str = "write";
/// Scopes that begin with this text belong to Tokenry. All others belong to the application, except
/// `read` and `write`.
const OWN: &str = "tokenry:";

/// The scope of a token: one or more RFC 6749 §3.3 scopes, separated by single spaces.
///
/// Tokenry checks its own scopes: `read`, `write`, and the scope of each [`Permission`]. It stores
/// and returns all other scopes for the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(String);

impl Scope {
    /// The maximum number of scopes.
    pub const MAX_COUNT: usize = 32;
    /// The maximum length of one scope, in characters.
    pub const MAX_ONE: usize = 64;
    /// The maximum length of all scopes with the spaces, in bytes.
    pub const MAX_LENGTH: usize = 512;

    /// Parses the scopes of a new token.
    ///
    /// # Errors
    /// If the text is not a valid scope, the error is the message for the client.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let scopes: Vec<_> = text.split(' ').collect();
        let is_character = |c: char| matches!(c, '!' | '#'..='[' | ']'..='~');
        let is_well_formed = |scope: &&str| {
            (1..=Self::MAX_ONE).contains(&scope.len()) && scope.chars().all(is_character)
        };
        if text.len() > Self::MAX_LENGTH || scopes.len() > Self::MAX_COUNT {
            return Err("field must contain at most 32 scopes and 512 bytes");
        }
        if !scopes.iter().all(is_well_formed) {
            return Err(
                "field must be scopes separated by single spaces, each of 1 to 64 printable ASCII \
                 characters without \" and \\",
            );
        }
        if (1..scopes.len()).any(|at| scopes[..at].contains(&scopes[at])) {
            return Err("field must contain each scope once");
        }
        let is_unknown = |scope: &&str| scope.starts_with(OWN) && Permission::of(scope).is_none();
        if scopes.iter().any(is_unknown) {
            return Err("field contains a scope that begins with tokenry: and does not exist");
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the scope `read`.
    pub fn read() -> Self {
        Self(READ.to_owned())
    }

    /// Returns the scopes `read write`, which allow everything that the holder may do.
    pub fn read_write() -> Self {
        Self(format!("{READ} {WRITE}"))
    }

    /// Returns the scopes as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the scopes allow an action.
    pub fn allows(&self, permission: Permission) -> bool {
        self.has(permission.scope()) || self.has(permission.implied_by())
    }

    /// Returns whether the scopes contain `write`.
    pub fn can_write(&self) -> bool {
        self.has(WRITE)
    }

    /// Returns the scopes of `other` that these scopes neither contain nor imply, separated by
    /// spaces. Returns `None` if there are none.
    pub fn missing(&self, other: &Self) -> Option<String> {
        self.missing_among(other.0.split(' '))
    }

    /// Returns the same as [`Scope::missing`], but ignores the application's scopes.
    pub fn missing_own(&self, other: &Self) -> Option<String> {
        let is_own = |scope: &&str| matches!(*scope, READ | WRITE) || scope.starts_with(OWN);
        self.missing_among(other.0.split(' ').filter(is_own))
    }

    /// Returns those of Tokenry's scopes in `new` that these scopes neither contain nor imply.
    /// Returns `None` if there are none.
    pub fn added_own(&self, new: &Self) -> Option<Self> {
        self.missing_own(new).map(Self)
    }

    fn missing_among<'a>(&self, scopes: impl Iterator<Item = &'a str>) -> Option<String> {
        let is_missing = |scope: &&str| {
            let permission = Permission::of(scope);
            !self.has(scope) && !permission.is_some_and(|permission| self.allows(permission))
        };
        let missing: Vec<_> = scopes.filter(is_missing).collect();
        (!missing.is_empty()).then(|| missing.join(" "))
    }

    fn has(&self, scope: &str) -> bool {
        self.0.split(' ').any(|own| own == scope)
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::read_write()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        Scope::parse(text).expect("the scope is valid")
    }

    #[test]
    fn read_and_write_imply_exactly_the_matching_scopes() {
        for permission in Permission::ALL {
            let own = scope(permission.scope());
            for other in Permission::ALL {
                assert_eq!(own.allows(other), permission == other);
            }
            let reads =
                permission.scope().ends_with(":read") || permission == Permission::Introspect;
            assert_eq!(scope("read").allows(permission), reads);
            assert_eq!(scope("write").allows(permission), !reads);
            assert!(scope("read write").allows(permission));
            assert!(!scope("orders:read reader").allows(permission));
        }
    }

    #[test]
    fn missing_scopes_are_named_in_their_order() {
        let own = scope("read tokenry:tokens:write orders");
        let missing = |other| own.missing(&scope(other));
        assert_eq!(missing("tokenry:users:read orders read"), None);
        assert_eq!(missing("tokenry:tokens:write"), None);
        assert_eq!(
            missing("write read bills tokenry:codes:write").as_deref(),
            Some("write bills tokenry:codes:write")
        );
        let missing_own = |other| own.missing_own(&scope(other));
        assert_eq!(missing_own("bills write").as_deref(), Some("write"));
        assert_eq!(missing_own("bills"), None);
        // `read` may imply more scopes in a later release.
        assert_eq!(
            scope("tokenry:tokens:read")
                .missing(&scope("read"))
                .as_deref(),
            Some("read")
        );
    }

    #[test]
    fn malformed_scopes_are_rejected() {
        let many = |count| {
            (0..count)
                .map(|n: u32| format!("s{n}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        for bad in [
            "",
            " ",
            "read  write",
            " read",
            "read ",
            "read\twrite",
            "a\"b",
            "a\\b",
            "ü",
            "a\u{7f}",
            "read read",
            "tokenry:",
            "tokenry:all",
            "tokenry:tokens",
            &"a".repeat(65),
            &many(33),
            &[
                "a".repeat(64),
                "b".repeat(64),
                "c".repeat(64),
                "d".repeat(64),
                "e".repeat(64),
                "f".repeat(64),
                "g".repeat(64),
                "h".repeat(64),
            ]
            .join(" "),
        ] {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
        for good in [
            "!",
            "~",
            "Tokenry:all",
            &"a".repeat(64),
            &many(32),
            "https://example.com/orders",
        ] {
            assert!(Scope::parse(good).is_ok(), "{good}");
        }
    }
}
