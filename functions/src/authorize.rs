//! The Lambda authorizer for a customer's own API: decides whether the caller's token is valid and
//! whether the settings allow tokens of its holder and ecosystem. Gives the API the facts about the
//! token.
//!
//! This function has no route. API Gateway calls the function with one of three events:
//!
//! - HTTP APIs with payload 2.0 and simple responses:
//!   <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html>
//! - REST APIs with an authorizer of type `TOKEN` or `REQUEST`:
//!   <https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-input.html>
//! - HTTP APIs with payload 1.0, which send the same event as an authorizer of type `REQUEST`.

use std::collections::HashMap;

use lambda_http::lambda_runtime::LambdaEvent;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::{
    App,
    domain::{
        error::{Error, Result},
        id::{EcosystemId, EnvironmentId},
        token::{Holder, Metadata, PlainToken, Scope},
    },
    http::of_header,
    service::{
        deadline::BUDGET,
        verify::{Lookup, Verified},
    },
};
use tracing::Instrument;

/// The function's name.
pub const NAME: &str = "authorize";

/// The event fields that we use.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    /// Set by REST APIs, and by HTTP APIs with payload 1.0. These APIs expect a policy.
    method_arn: Option<String>,
    /// Set by HTTP APIs with payload 2.0. These APIs expect a simple response.
    route_arn: Option<String>,
    /// The credential in a `TOKEN` event.
    authorization_token: Option<String>,
    /// The values that an HTTP API uses as its cache key.
    identity_source: Option<Sources>,
    headers: Option<HashMap<String, String>>,
    multi_value_headers: Option<HashMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Sources {
    Several(Vec<String>),
    One(String),
}

/// A decision in the format that the API expects.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Decision {
    /// For an HTTP API with payload 2.0.
    #[serde(rename_all = "camelCase")]
    Simple {
        /// Whether the request is allowed.
        is_authorized: bool,
        /// The facts about the caller, for the API's own functions.
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<Context>,
    },
    /// For all other APIs.
    #[serde(rename_all = "camelCase")]
    Policy {
        /// The caller's id.
        principal_id: String,
        /// The policy. It allows or denies this request and all other requests to the API's stage.
        policy_document: Policy,
        /// The facts about the caller, for the API's own functions.
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<Context>,
    },
}

/// The facts about a caller that the API's own functions get.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ecosystem_id: Option<EcosystemId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_id: Option<EnvironmentId>,
    holder: Holder,
    scope: Scope,
    /// The metadata as JSON text: API Gateway accepts only strings, numbers and booleans here.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    token_id: String,
}

/// An IAM policy with one statement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    statement: [Statement; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    action: &'static str,
    effect: &'static str,
    resource: String,
}

/// Decides whether the request of an event is allowed.
///
/// # Errors
/// The database is unavailable, or this is not an authorizer event. In both cases API Gateway
/// rejects the request. API Gateway does not cache these errors. It caches only decisions.
pub async fn handle(app: &App, event: LambdaEvent<Box<RawValue>>) -> Result<Decision, String> {
    let request_id = event.context.request_id;
    let span = tracing::info_span!("request", endpoint = NAME, request_id);
    let deciding = decide(app, event.payload.get()).instrument(span);
    let deciding = tokio::time::timeout(BUDGET, deciding);
    let decided = deciding
        .await
        .unwrap_or_else(|_elapsed| Err(Error::out_of_time()));
    match decided {
        Ok((caller, decision)) => {
            let authorized = caller.is_some();
            let account = caller.as_ref().map(|caller| caller.account.as_str());
            let ecosystem = caller.as_ref().and_then(Verified::ecosystem);
            let ecosystem = ecosystem.map(EcosystemId::as_str);
            let token_id = caller.as_ref().map(|caller| caller.id.to_string());
            tracing::info!(
                endpoint = NAME,
                authorized,
                request_id,
                account,
                ecosystem,
                token_id
            );
            Ok(decision)
        }
        Err(error) => {
            let cause = match error {
                Error::Unavailable { cause } | Error::Internal { cause } => cause,
                Error::InvalidBody(cause) => cause.to_owned(),
                other => format!("{other:?}"),
            };
            tracing::error!(endpoint = NAME, cause, request_id);
            Err("the request cannot be decided".to_owned())
        }
    }
}

/// Returns the caller (`None` if the request is denied), and the decision.
async fn decide(app: &App, event: &str) -> Result<(Option<Verified>, Decision)> {
    let unknown = Error::InvalidBody("this is not an authorizer event");
    let Ok(event) = serde_json::from_str::<Event>(event) else {
        return Err(unknown);
    };
    if event.method_arn.is_none() && event.route_arn.is_none() {
        return Err(unknown);
    }
    // The text of a token contains the kind of its holder and the key of its ecosystem. So a token
    // that the settings do not allow is denied without a read.
    let admission = &app.settings().authorizer;
    let token = event.token(app).await?;
    let verified = match token.filter(|token| admission.admits(token)) {
        None => None,
        Some(token) => Lookup::new(app)
            .token(&token)
            .read()
            .await?
            .verified(&token),
    };
    let authorized = verified.is_some();
    let context = verified.as_ref().map(Context::from);
    let decision = match event.method_arn {
        None => Decision::Simple {
            is_authorized: authorized,
            context,
        },
        Some(arn) => Decision::Policy {
            principal_id: context
                .as_ref()
                .map_or("nobody", |context| &context.sub)
                .to_owned(),
            policy_document: Policy {
                version: "2012-10-17",
                statement: [Statement {
                    action: "execute-api:Invoke",
                    effect: if authorized { "Allow" } else { "Deny" },
                    resource: whole_stage(&arn),
                }],
            },
            context,
        },
    };
    Ok((verified, decision))
}

impl Event {
    /// Returns the token in the event if the token is well-formed. If the event has a cache key,
    /// the token is in the cache key. Otherwise the token is in the `Authorization` header.
    async fn token(&self, app: &App) -> Result<Option<PlainToken>> {
        let sent = match (&self.authorization_token, &self.identity_source) {
            (Some(token), _) => Some(token),
            (None, Some(Sources::Several(sources))) => sources.first(),
            (None, Some(Sources::One(source))) => Some(source),
            (None, None) => self.header(),
        };
        let Some(sent) = sent else {
            return Ok(None);
        };
        match of_header(app, Some(sent)).await {
            Ok(token) => Ok(Some(token)),
            Err(error @ (Error::Unavailable { .. } | Error::Internal { .. })) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Returns the `Authorization` header if there is exactly one.
    fn header(&self) -> Option<&String> {
        fn values<V>(headers: Option<&HashMap<String, V>>) -> Vec<&V> {
            let headers = headers.into_iter().flatten();
            headers
                .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
                .map(|(_, value)| value)
                .collect()
        }
        let several = values(self.multi_value_headers.as_ref());
        let mut sent: Vec<_> = several.into_iter().flatten().collect();
        if sent.is_empty() {
            sent = values(self.headers.as_ref());
        }
        match sent[..] {
            [value] => Some(value),
            _ => None,
        }
    }
}

/// Returns the ARN of all methods and paths in the stage of this method. API Gateway uses a cached
/// policy for all these methods and paths.
fn whole_stage(method_arn: &str) -> String {
    let parts: Vec<_> = method_arn.split('/').take(2).collect();
    format!("{}/*", parts.join("/"))
}

impl From<&Verified> for Context {
    fn from(token: &Verified) -> Self {
        Self {
            sub: token.owner.as_str().to_owned(),
            ecosystem_id: token.ecosystem().cloned(),
            environment_id: token.environment.clone(),
            holder: token.holder(),
            scope: token.scope.clone(),
            metadata: token.metadata.clone(),
            token_id: token.id.to_string(),
        }
    }
}
