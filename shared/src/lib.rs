//! The core of Tokenry: tokens, their owners, the tables, and the HTTP layer. This crate defines no
//! routes.
//!
//! # Layout
//!
//! A layer may use layers above it in this table. It must not use layers below it.
//!
//! | module | content |
//! | --- | --- |
//! | [`domain`] | values and rules: tokens, expiry, owners, ids, addresses, codes; no I/O |
//! | [`config`], [`log`], [`metrics`] | configuration, logging and metrics |
//! | [`store`] | the database operations: the tables, their items, transactions, the client |
//! | [`service`] | functions for handlers: verification, rights, directory, log-in, codes, limits |
//! | [`http`] | converts API Gateway events to requests, and results to responses |

pub mod config;
pub mod domain;
pub mod http;
pub mod log;
pub mod metrics;
pub mod service;
pub mod store;

pub use service::app::App;
