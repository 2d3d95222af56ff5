//! The core of Tokenry: tokens, their owners, the tables, and the HTTP edge. It knows no route.
//!
//! # Layout
//!
//! Each layer uses the ones above it in this table, and none below.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`domain`] | values and rules: tokens and when they end, owners, ids, addresses, codes; no I/O |
//! | [`config`], [`log`], [`metrics`] | what is set, what is logged, what is counted |
//! | [`store`] | the calls to DynamoDB: the tables, their items, transactions, the client |
//! | [`service`] | what handlers call: verification, rights, directory, log-in, short codes, limits |
//! | [`http`] | API Gateway's events in, responses out: credential, fields, statuses |

pub mod config;
pub mod domain;
pub mod http;
pub mod log;
pub mod metrics;
pub mod service;
pub mod store;

pub use service::app::App;
