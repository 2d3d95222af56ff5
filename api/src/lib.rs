//! The request and response types of Tokenry's HTTP API, as `openapi.yaml` describes them.
//!
//! The service and its clients share these types. Each type has the name of its schema in
//! `openapi.yaml`. Unknown fields are ignored, so a client can call a newer service.
//!
//! Ids are strings: an ecosystem id is `C` and 24 hex digits, an environment id `E` and 24 hex
//! digits, a user id `ECOSYSTEM;NAME`, a token id a ULID. Secrets have the type [`Secret`], whose
//! `Debug` output does not contain them.

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
    token::{ExpiryType, Holder, Introspection, ListedToken, MintedToken, TokenList},
};
