//! `GET /_/user-token`: lists the e-mail tokens of an account or of one ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{
        email_token::ListKey,
        error::{Result, combine},
        id::EcosystemId,
    },
    http::{
        credential,
        cursor::{MAX_LIMIT, list_key_cursor, parse_limit, parse_list_key_cursor},
        email_token::record,
        fields::{self, Fields},
        ok,
    },
    service::{
        access::rights,
        email_token,
        verify::{Lookup, Verified},
    },
};
use tokenry_api::EmailTokenList;

/// Returns 200 with a page of the records of e-mail tokens, without the values. For an account
/// token, the list contains the e-mail tokens of all ecosystems of the account. For a server token
/// or an admin user's token, the list contains the e-mail tokens of the caller's ecosystem.
///
/// # Errors
/// 400 if a query field is invalid (for example, if the cursor is from another list), or if there
/// is a body; 401; 403; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let found = Lookup::new(app).caller(&credential).read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::LIST_EMAIL_TOKENS, None)?;
    let caller = permit.caller();
    let (limit, after) = page(&request, caller)?;

    let (tokens, last) = email_token::list(app, &permit, after.as_ref(), limit).await?;
    let records = tokens.iter().map(|(token, user)| record(token, user));
    ok(&EmailTokenList {
        data: records.collect(),
        cursor: last.map(|place| list_key_cursor(list(caller), &place)),
    })
}

/// Parses the query: the page's length, and the key that the page starts after.
fn page(request: &Request, caller: &Verified) -> Result<(u32, Option<ListKey>)> {
    let mut query = Fields::query(request);
    let limit = query.optional("limit", parse_limit);
    let after = query.optional("cursor", |text| {
        let place = parse_list_key_cursor(text, list(caller))?;
        // A client can compute a cursor for a key in another ecosystem. Reject such a cursor.
        match caller.ecosystem() {
            Some(own) if place.ecosystem().as_ref() != Some(own) => Err("invalid cursor"),
            _ => Ok(place),
        }
    });
    combine(fields::no_body(request), query.finish())?;
    Ok((limit.unwrap_or(MAX_LIMIT), after))
}

/// Returns the text that identifies this caller's list.
fn list(caller: &Verified) -> &str {
    let ecosystem = caller.ecosystem().map(EcosystemId::as_str);
    ecosystem.unwrap_or(caller.account.as_str())
}
