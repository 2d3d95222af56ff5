//! The request and response types of Tokenry's HTTP API, as `openapi.yaml` describes them.
//!
//! The service answers with these types, and clients read and send them. Each type has the name of its schema in
//! `openapi.yaml`. Fields that this version does not know are ignored, so a client can talk to a newer service.
//!
//! Ids are texts: an ecosystem is `C` and 24 hex digits, an environment `E` and 24 hex digits, a user
//! `ECOSYSTEM;NAME`, a token a ULID. Secrets are [`Secret`] and do not appear in `Debug`.

mod directory;
mod email_token;
mod error;
mod secret;
mod shortcode;
mod token;

pub use self::{
    directory::{Change, CreatedEcosystem, CreatedEnvironment, User, UserChange},
    email_token::{
        ChangedEmailToken, Data, EmailToken, EmailTokenData, EmailTokenList, EmailTokenValue,
        EmailTokenValueData, EndedEmailToken, LogIn, NewEmailToken,
    },
    error::{ApiError, Location, Problem},
    secret::Secret,
    shortcode::{CreatedShortcode, ExchangedToken, NewShortcode, TypedShortcode},
    token::{ExpiryType, Holder, Introspection, ListedToken, MintedToken, Scope, TokenList},
};
