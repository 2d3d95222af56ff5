//! Values and rules: no I/O, no async code, no AWS SDK. Constructors validate their input.

pub mod deployment;
pub mod email;
pub mod email_token;
pub mod error;
pub mod id;
pub mod number;
pub mod owner;
pub mod password;
pub mod shortcode;
pub mod time;
pub mod token;
