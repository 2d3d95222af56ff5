//! Values and rules: no I/O, nothing asynchronous, no AWS SDK. Constructors validate.

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
