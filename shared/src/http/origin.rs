//! Where an attempt to log in or to exchange a short code comes from: what its limits count by
//! (contract, section 13).

use std::net::IpAddr;

use lambda_http::{Request, RequestExt, request::RequestContext};
use serde_json::Value;

use super::{credential, fields::Fields};
use crate::{
    domain::{
        error::Result,
        id::EcosystemId,
        token::{Holder, Scope},
    },
    service::{
        app::App,
        rate_limit::{self, Budget},
        verify::Lookup,
    },
};

/// Returns the ecosystem of the server token in the `Authorization` header: a back end sends it with
/// its clients' attempts. Ignores any other `Authorization`, and a server token that is not valid or may
/// only read.
///
/// # Errors
/// The database is unavailable.
pub async fn back_end(app: &App, request: &Request) -> Result<Option<EcosystemId>> {
    let token = credential(app, request).ok();
    let Some(token) = token.filter(|token| token.holder() == Holder::Server) else {
        return Ok(None);
    };
    let found = Lookup::new(app).token(&token).read().await?;
    let server = found.verified(&token);
    let server = server.filter(|server| server.scope == Scope::ReadWrite);
    Ok(server.and_then(|server| server.ecosystem().cloned()))
}

/// Where an attempt comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The ecosystem whose back end sends the attempt. Its limits are its own, and only its users and
    /// codes are found. `None` if no back end does.
    pub ecosystem: Option<EcosystemId>,
    /// The client's address as [`rate_limit::source`] writes it; `None` if a back end does not say it.
    pub address: Option<String>,
}

impl Origin {
    /// Takes `clientAddress` from the body of a back end's request. Without a back end, the address is
    /// what API Gateway says, never what a header says, and the field is a problem of the body.
    pub fn new(
        request: &Request,
        ecosystem: Option<EcosystemId>,
        body: &mut Fields<'static, Value>,
    ) -> Self {
        let client = body.text("clientAddress", |text| match text.parse::<IpAddr>() {
            _ if ecosystem.is_none() => Err("field needs a valid server token"),
            Ok(address) => Ok(address),
            Err(_) => Err("field must be an IPv4 or IPv6 address"),
        });
        let address = match ecosystem {
            None => Some(rate_limit::source(gateway_source(request))),
            Some(_) => client.map(|address| rate_limit::source(Some(address))),
        };
        Self { ecosystem, address }
    }

    /// The limit of `limit` failures in `window` seconds for a subject, which the ecosystem counts for
    /// itself.
    pub fn budget(&self, about: &str, subject: &str, window: u64, limit: u32) -> Budget {
        match &self.ecosystem {
            // No address of a client or of a user begins with an ecosystem's id and a space.
            Some(id) => Budget::new(about, &format!("{id} {subject}"), window, limit),
            None => Budget::new(about, subject, window, limit),
        }
    }
}

/// The address that API Gateway took the request from.
fn gateway_source(request: &Request) -> Option<IpAddr> {
    let address = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.as_deref(),
        Some(RequestContext::ApiGatewayV1(context)) => context.identity.source_ip.as_deref(),
        _ => None,
    };
    address?.parse().ok()
}
