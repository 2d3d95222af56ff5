//! The core of Tokenry: tokens, their owners, the tables, and the HTTP edge. It knows no route.
//!
//! # Layout
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`app`] | what a handler is given: clock, random source, tables |
//! | [`token`] | tokens: their text, what is kept of them, how they end, verification |
//! | [`shortcode`], [`attempts`] | short codes, and the limits on guessing them |
//! | [`email_token`], [`email`], [`password`], [`value`] | e-mail tokens, log-in, and the key of their values |
//! | [`owner`], [`directory`] | accounts, ecosystems, environments and users, and changing them |
//! | [`access`] | who may do what, and what exists for whom |
//! | [`id`], [`number`], [`page`], [`time`] | values whose constructors validate |
//! | [`identity`], [`ephemeral`], [`schema`], [`client`] | the two tables, their schema, the client |
//! | [`http`] | events in, responses out: credential, fields, statuses |
//! | [`error`], [`config`], [`log`], [`metrics`] | what goes wrong, what is set, what is written down and counted |

pub mod access;
pub mod app;
pub mod attempts;
pub mod client;
pub mod config;
pub mod directory;
pub mod email;
pub mod email_token;
pub mod ephemeral;
pub mod error;
pub mod http;
pub mod id;
pub mod identity;
pub mod log;
pub mod metrics;
pub mod number;
pub mod owner;
pub mod page;
pub mod password;
pub mod schema;
pub mod shortcode;
pub mod time;
pub mod token;
mod transaction;
pub mod value;

pub use app::App;
