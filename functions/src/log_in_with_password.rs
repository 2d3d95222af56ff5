//! `POST /_/user-token/value`: logs a user in with a password and returns the value of the user's
//! e-mail token.

use std::iter::zip;

use futures_util::future::join;
use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{
        email::Email,
        error::{Error, Result, combine},
        id::{EcosystemId, InvalidId},
        password::Password,
    },
    http::{Origin, back_end, deadline, email_token::value, fields::Fields},
    service::{
        log_in::{self, Among, try_log_in},
        rate_limit::{Limits, TAKE_BACK_MARGIN, count_and_read, failed, take_back},
        verify::Verified,
    },
};

/// The length of the window, in seconds.
const WINDOW: u64 = 15 * 60;
/// How many attempts for one e-mail address may fail in a window: from one source, from one /56
/// network and from one /48 network. The owner of an e-mail address uses few networks, so the
/// limits of the networks are only twice and four times the limit of a source. All three limits are
/// less than [`OF_ADDRESS`], so a single /48 network cannot lock an e-mail address.
const OF_ADDRESS_AND_SOURCE: Limits = [10, 20, 40];
/// How many attempts may fail in a window: from one source, from one /56 network and from one /48
/// network. The limits of the networks are only four times and sixteen times the limit of a source,
/// because a /56 network (256 sources) usually belongs to one customer, and a /48 network (65,536
/// sources) to one organization.
const OF_SOURCE: Limits = [30, 120, 480];
/// How many attempts for one e-mail address from all sources may fail in a window.
const OF_ADDRESS: u32 = 100;

/// Returns 200 with the value of the user's e-mail token. If the user has no valid e-mail token, a
/// new e-mail token is created. The password is the only credential that is needed.
///
/// Before the password is checked, the attempt is counted for its source and for its e-mail
/// address. If the log-in does not fail with a 401, the attempt is taken back.
///
/// A back end may send its server token and the client's address. Then the limits of the back end's
/// ecosystem apply, and users of other ecosystems are unknown. If the body contains an ecosystem
/// id, users of other ecosystems are unknown too. The limits do not depend on this id. Otherwise a
/// client could avoid the limit of an e-mail address by sending many different ids.
///
/// # Errors
/// 400 if the body is invalid, or if there is any query field. Such a request does not count as an
/// attempt. 401 if the password is wrong, if the address is unknown, or if the user is inactive,
/// has no password or belongs to a deleted environment. The response is the same in all these
/// cases. 413, 415, 429.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let back_end = back_end(app, &request).await?;
    let Attempt {
        email,
        password,
        origin,
        among,
    } = given(&request, back_end)?;
    let of_address = email.normal();
    let table = app.ephemeral()?;
    let now = app.now().seconds();
    let budget = |about, subject: &str, limit| origin.budget(about, subject, WINDOW, limit);
    let limits = zip(OF_ADDRESS_AND_SOURCE, OF_SOURCE);
    let mut own: Vec<_> = zip(&origin.sources, limits)
        .flat_map(|(source, (of_pair, of_source))| {
            let pair = format!("{source} {of_address}");
            [
                budget("log-in of address and source", &pair, of_pair),
                budget("log-in of source", source, of_source),
            ]
        })
        .collect();
    let mut shared = own.split_off(own.len().min(2));
    shared.push(budget("log-in of address", of_address, OF_ADDRESS));
    let read = log_in::addresses(app, &email, &among);
    let (counted, addresses) = count_and_read(table, &own, &shared, now, read).await?;

    let attempt = async {
        match addresses {
            Ok(addresses) => try_log_in(app, &email, addresses, password).await,
            Err(error) => Err(error),
        }
    };
    let attempt = deadline(&request).before(TAKE_BACK_MARGIN, attempt);
    match attempt.await.flatten() {
        Ok(Some(user)) => {
            let (token, ()) = join(user.value(app), take_back(table, counted)).await;
            value(&token?.ok_or(Error::WrongPassword)?)
        }
        Ok(None) => {
            failed(table, counted).await;
            Err(Error::WrongPassword)
        }
        // The response does not tell the caller whether the password is correct, so take the
        // attempt back.
        Err(error) => {
            take_back(table, counted).await;
            Err(error)
        }
    }
}

/// The content of a request. `among` says which users the log-in considers.
struct Attempt {
    email: Email,
    password: Password,
    origin: Origin,
    among: Among,
}

fn given(request: &Request, back_end: Option<Verified>) -> Result<Attempt> {
    let mut body = Fields::json(request)?;
    let email = body.required("email", Email::parse);
    let password = body.required("password", Password::parse);
    let asked = body.text("ecosystemId", |id| {
        EcosystemId::parse(id).map_err(|InvalidId| "invalid ecosystem id")
    });
    let origin = Origin::new(request, back_end.as_ref(), &mut body);
    combine(Fields::query(request).finish(), body.finish())?;
    let (email, password) = email.zip(password).ok_or(Error::InvalidBody(
        "the body contains no email or no password",
    ))?;
    let among = Among {
        account: back_end.map(|back_end| back_end.account),
        ecosystems: origin.ecosystem.iter().cloned().chain(asked).collect(),
    };
    Ok(Attempt {
        email,
        password,
        origin,
        among,
    })
}
