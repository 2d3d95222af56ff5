//! The address of the API, as clients see it.

use std::net::IpAddr;

use lambda_http::{Request, http::uri::Authority};

use super::event::Raw;
use crate::{
    domain::error::{Error, Location, Problem, Result},
    service::app::App,
};

/// Returns the public address of the API, without a slash at its end: the setting
/// [`Settings::public_url`](crate::config::Settings::public_url), or else the address to which the
/// request was sent. `route` is the path of the request's route, without the stage.
///
/// # Errors
/// [`Error::Invalid`] if there is no setting and the request has no valid host.
pub fn public_url(app: &App, request: &Request, route: &str) -> Result<String> {
    let configured = app.settings().public_url.clone();
    let sent_to = || {
        let raw = request.extensions().get::<Raw>()?;
        let base = raw
            .path
            .as_deref()
            .and_then(|path| path.strip_suffix(route));
        address(raw.host.as_deref()?, base.unwrap_or_default())
    };
    configured.or_else(sent_to).ok_or_else(|| {
        Error::from(Problem {
            location: Location::Header,
            path: "Host",
            message: "invalid host name".into(),
        })
    })
}

/// Returns the address of a host and a path. API Gateway accepts only HTTPS. Only a local server
/// uses HTTP. Returns `None` if the host or the path has unusual characters, because the address is
/// shown to clients.
fn address(host: &str, path: &str) -> Option<String> {
    let is_usual = |text: &str, more: &[u8]| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    let scheme = if is_this_machine(host) {
        "http"
    } else {
        "https"
    };
    let is_host = host.parse::<Authority>().is_ok() && is_usual(host, b".-_:[]");
    (is_host && is_usual(path, b".-_~/")).then(|| format!("{scheme}://{host}{path}"))
}

/// Returns whether a host, with or without a port, is this machine: `localhost`, a name that ends
/// with `.localhost` (RFC 6761 section 6.3), or a loopback address.
pub fn is_this_machine(host: &str) -> bool {
    let Ok(host) = host.parse::<Authority>() else {
        return false;
    };
    let name = host.host().trim_end_matches('.').to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_scheme_of_its_host_and_no_unusual_characters() {
        for (host, path, expected) in [
            ("auth.example.com", "", "https://auth.example.com"),
            (
                "auth.example.com:8443",
                "/prod",
                "https://auth.example.com:8443/prod",
            ),
            ("localhost:3000", "", "http://localhost:3000"),
            ("[::1]:3000", "", "http://[::1]:3000"),
            ("127.0.0.1", "", "http://127.0.0.1"),
        ] {
            assert_eq!(address(host, path).as_deref(), Some(expected));
        }
        for (host, path) in [
            ("", ""),
            ("user@auth.example.com", ""),
            ("auth.example.com/other", ""),
            ("auth.example.com?a", ""),
            ("auth.example.com\"", ""),
            ("a b", ""),
            ("b\u{f6}b.example.com", ""),
            ("x';alert(1)//.localhost", ""),
            ("auth.example.com", "/<script>"),
            ("auth.example.com", "/a?b"),
        ] {
            assert_eq!(address(host, path), None, "{host}{path}");
        }
    }
}
