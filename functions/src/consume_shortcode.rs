//! `POST /api/auth/shortcode/consume`: exchanges a short code for its token.

use std::iter::zip;

use lambda_http::{Body, Request, Response};
use serde_json::Value;
use shared::{
    App,
    domain::{
        error::{Error, Location, Problem, Result, combine},
        time::UnixSeconds,
    },
    http::{Origin, back_end, deadline, fields::Fields, ok_secret},
    service::{
        rate_limit::{Limits, TAKE_BACK_MARGIN, count_and_read, count_attempt, failed, take_back},
        shortcode::{Exchange, Exchanged, exchange, record},
        verify::Verified,
    },
};
use tokenry_api::ExchangedToken;

/// How many attempts may fail in a window: from one source, from one /56 network and from one /48
/// network. The limits of the networks are only four times and sixteen times the limit of a source,
/// because a /56 network (256 sources) usually belongs to one customer, and a /48 network (65,536
/// sources) to one organization.
const FAILURES: Limits = [5, 20, 80];
/// The length of the window, in seconds.
const WINDOW: u64 = 15 * 60;

/// Returns 200 with the token, which is shown only once. The code is the only credential that is
/// needed.
///
/// Before the code is checked, the attempt is counted for its source and for the deployment. If the
/// code is malformed or unknown, the attempt stays counted. Otherwise the attempt is taken back.
///
/// A back end may send its server token and the client's address. Then the limits of the back end's
/// ecosystem apply, and codes of other ecosystems are unknown.
///
/// # Errors
/// 400 if the body is invalid, or if there is any query field. Such a request does not count as an
/// attempt. 400 if the code is malformed. Such a request counts as a failed attempt. 404 if the
/// code is unknown, used, expired or invalid. 409 if the user has the most tokens allowed; then the
/// code stays valid. 413, 415, 429.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let back_end = back_end(app, &request).await?;
    let (typed, origin) = given(&request, back_end.as_ref())?;
    let per_minute = app.settings().shortcode_failures_per_minute;
    let mut own: Vec<_> = zip(&origin.sources, FAILURES)
        .map(|(source, limit)| origin.budget("shortcode", source, WINDOW, limit))
        .collect();
    let mut shared = own.split_off(own.len().min(1));
    shared.push(origin.budget("shortcode", "deployment", 60, per_minute));
    let (table, now) = (app.ephemeral()?, app.now().seconds());

    // A value that is not a string counts as a malformed code.
    let code = typed.as_str();
    let Some(code) = code.and_then(|typed| app.settings().code_space.parse(typed)) else {
        let counted = count_attempt(table, &[own, shared].concat(), now).await?;
        failed(table, counted).await;
        return Err(Error::from(Problem {
            location: Location::Body,
            path: "shortcode",
            message: "invalid shortcode".into(),
        }));
    };
    let unknown = || Error::NotFound(format!("Shortcode {} does not exist.", code.reveal()));
    let read = record(app, &code);
    let (counted, record) = count_and_read(table, &own, &shared, now, read).await?;
    let exchange = async { exchange(app, &code, record?, origin.ecosystem.as_ref()).await };
    let attempt = deadline(&request).before(TAKE_BACK_MARGIN, exchange);
    match attempt.await.flatten() {
        Ok(Exchange::Token(exchanged)) => {
            let answer = shown(&exchanged);
            take_back(table, counted).await;
            answer
        }
        Ok(Exchange::Invalid) => {
            take_back(table, counted).await;
            Err(unknown())
        }
        Ok(Exchange::Unknown) => {
            failed(table, counted).await;
            Err(unknown())
        }
        // The response does not tell the caller whether the code is valid, so take the attempt
        // back.
        Err(error) => {
            take_back(table, counted).await;
            Err(error)
        }
    }
}

/// Returns the code as the person typed it, and the origin of the attempt.
fn given(request: &Request, back_end: Option<&Verified>) -> Result<(Value, Origin)> {
    let mut body = Fields::json(request)?;
    let typed = body.required_value("shortcode");
    let origin = Origin::new(request, back_end, &mut body);
    combine(Fields::query(request).finish(), body.finish())?;
    let typed = typed.ok_or(Error::InvalidBody("the body has no shortcode"))?;
    Ok((typed, origin))
}

fn shown(exchanged: &Exchanged) -> Result<Response<Body>> {
    let expiry = &exchanged.token.expiry;
    ok_secret(&ExchangedToken {
        token: exchanged.plain.reveal().to_owned().into(),
        token_id: exchanged.token.id.to_string(),
        expiry_type: expiry.expiry_type(),
        expires_at: expiry.expires_at().and_then(UnixSeconds::to_rfc3339),
        ecosystem_id: exchanged.user.ecosystem().to_string(),
        environment_id: exchanged.environment.as_ref().map(ToString::to_string),
        user_id: exchanged.user.to_string(),
    })
}
