//! The origin of an attempt to log in or to exchange a short code. The limits on failed attempts
//! apply to each origin separately.

use std::net::IpAddr;

use lambda_http::{Request, RequestExt, request::RequestContext};
use serde_json::Value;

use super::{credential, fields::Fields};
use crate::{
    domain::{
        error::{Error, Result},
        id::EcosystemId,
        token::Holder,
    },
    service::{
        access::rights,
        app::App,
        rate_limit::{self, Budget},
        verify::{Lookup, Verified},
    },
};

/// Returns the verified server token of the back end that sends a client's attempt. The back end
/// sends this token in the `Authorization` header. Returns `None` if the header contains no server
/// token, or if the server token is invalid or has only the scope `read`.
///
/// # Errors
/// The database is unavailable.
pub async fn back_end(app: &App, request: &Request) -> Result<Option<Verified>> {
    let token = match credential(app, request).await {
        Ok(token) if token.holder() == Holder::Server => token,
        Err(error @ (Error::Unavailable { .. } | Error::Internal { .. })) => return Err(error),
        Ok(_) | Err(_) => return Ok(None),
    };
    let found = Lookup::new(app).token(&token).read().await?;
    let caller = found.caller(&token);
    let permit = caller.and_then(|caller| caller.may(rights::SEND_ATTEMPTS, None));
    Ok(permit.ok().map(|permit| permit.caller().clone()))
}

/// The origin of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The ecosystem whose back end sends the attempt, or `None` if the client sends the attempt
    /// directly. If there is an ecosystem, the ecosystem's own limits apply, and users and codes of
    /// other ecosystems are unknown.
    pub ecosystem: Option<EcosystemId>,
    /// The networks of the client's address, as [`rate_limit::sources`] returns them. There are
    /// none if a back end does not send the address.
    pub sources: Vec<String>,
}

impl Origin {
    /// Returns the origin of a request. If a back end sends the request, the client's address is
    /// the field `clientAddress` in the body. If the client sends the request directly, this field
    /// is not allowed, and the client's address is the source address that API Gateway reports. No
    /// header is used.
    pub fn new(
        request: &Request,
        back_end: Option<&Verified>,
        body: &mut Fields<'static, Value>,
    ) -> Self {
        let ecosystem = back_end.and_then(Verified::ecosystem).cloned();
        let client = body.text("clientAddress", |text| match text.parse::<IpAddr>() {
            _ if ecosystem.is_none() => Err("field needs a valid server token"),
            Ok(address) => Ok(address),
            Err(_) => Err("field must be an IPv4 or IPv6 address"),
        });
        let sources = match (&ecosystem, client) {
            (None, _) => return Self::of_client(request),
            (Some(_), Some(client)) => rate_limit::sources(Some(client)),
            (Some(_), None) => Vec::new(),
        };
        Self { ecosystem, sources }
    }

    /// Returns the origin of a request that the client sends directly.
    pub fn of_client(request: &Request) -> Self {
        Self {
            ecosystem: None,
            sources: rate_limit::sources(gateway_source(request)),
        }
    }

    /// Returns the budget of `limit` failures in `window` seconds for a subject. Each ecosystem has
    /// its own budgets.
    pub fn budget(&self, about: &str, subject: &str, window: u64, limit: u32) -> Budget {
        match &self.ecosystem {
            // This text is unambiguous, because no client address or e-mail address starts with an
            // ecosystem id and a space.
            Some(id) => Budget::new(about, &format!("{id} {subject}"), window, limit),
            None => Budget::new(about, subject, window, limit),
        }
    }
}

/// Returns the source address that API Gateway reports.
fn gateway_source(request: &Request) -> Option<IpAddr> {
    let address = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.as_deref(),
        Some(RequestContext::ApiGatewayV1(context)) => context.identity.source_ip.as_deref(),
        _ => None,
    };
    address?.parse().ok()
}
