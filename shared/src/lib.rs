//! The core of Tokenry: tokens, their owners, the tables, and the HTTP layer. It defines no routes.
//!
//! # Layout
//!
//! A layer may use the layers above it in this table, but none below it.
//!
//! | module | content |
//! | --- | --- |
//! | [`domain`] | values and rules: tokens, expiry, owners, ids, addresses, codes; no I/O |
//! | [`config`], [`log`], [`metrics`] | configuration, logging and metrics |
//! | [`store`] | the calls to DynamoDB: the tables, their items, transactions, the client |
//! | [`service`] | what handlers call: verification, rights, directory, log-in, codes, limits |
//! | [`http`] | API Gateway events in, responses out: credentials, fields, status codes |

pub mod config;
pub mod domain;
pub mod http;
pub mod log;
pub mod metrics;
pub mod service;
pub mod store;

pub use service::app::App;
