//! What handlers call: each module is one concern of the service, over the store.

pub mod access;
pub mod app;
pub(crate) mod cache;
pub mod deadline;
pub mod directory;
pub mod email_token;
pub mod log_in;
pub(crate) mod password;
pub mod random;
pub mod rate_limit;
pub mod sealing;
pub mod shortcode;
pub mod tokens;
pub mod verify;
