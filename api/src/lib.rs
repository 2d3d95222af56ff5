//! The request and response types of Tokenry's HTTP API, as `openapi.yaml` describes them.
//!
//! The service and its clients share these types. Each type has the name of its schema in
//! `openapi.yaml`. Unknown fields in a response are ignored, so a client can call a newer service.
//!
//! Ids are strings. An ecosystem id is `C` and 24 hex digits. An environment id is `E` and 24 hex
//! digits. A user id is `ECOSYSTEM;NAME`. A token id is a ULID. Secrets have the type [`Secret`],
//! whose `Debug` output does not contain the secret.

mod directory;
mod email_token;
mod error;
mod secret;
mod shortcode;
mod token;

pub use self::{
    directory::{
        Change, CreatedEcosystem, CreatedEnvironment, Ecosystem, EcosystemChange, EcosystemList,
        EnvironmentList, ListedEcosystem, ListedEnvironment, ListedUser, User, UserChange,
        UserList, WhenFull,
    },
    email_token::{
        ChangedEmailToken, Data, EmailToken, EmailTokenData, EmailTokenList, EmailTokenValue,
        EmailTokenValueData, EndedEmailToken, LogIn, NewEmailToken, PasswordChange,
    },
    error::{ApiError, Location, Problem},
    secret::Secret,
    shortcode::{CreatedShortcode, ExchangedToken, NewShortcode, TypedShortcode},
    token::{
        CreatedSession, EndedBy, ExpiryType, Holder, Introspection, ListedToken, MintedToken,
        NewSession, NewToken, Revoked, ServerMetadata, TokenChange, TokenList, TokenRecord,
        TokenState,
    },
};
