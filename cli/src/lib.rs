//! The `tokenry` command's parts: the local gateway, the embedded database, and what `serve` and
//! `bootstrap` do.

pub mod bootstrap;
pub mod embedded;
pub mod gateway;
pub mod serve;
