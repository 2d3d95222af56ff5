//! The service layer, which handlers call. Each module covers one concern and uses the store.

pub mod access;
pub(crate) mod addresses;
pub mod app;
pub(crate) mod cache;
pub mod caller_log;
pub mod deadline;
pub mod deployment;
mod descendants;
pub mod directory;
pub mod email_token;
pub mod erase;
mod limit;
pub mod lists;
pub mod log_in;
pub mod migrate;
pub mod own_password;
pub(crate) mod password;
pub mod random;
pub mod rate_limit;
pub mod rotation;
pub mod sealing;
pub mod session;
pub mod shortcode;
pub mod tokens;
pub mod verify;
