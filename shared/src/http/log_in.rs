//! The requests that prove who the user is with a password, and the limits on failed attempts.

use std::iter::zip;

use lambda_http::Request;
use serde_json::Value;

use super::{Origin, deadline, fields::Fields};
use crate::{
    domain::{
        email::Email,
        error::{Error, Result},
        id::{EcosystemId, InvalidId},
        password::Password,
    },
    service::{
        app::App,
        log_in::{self, Among, LoggedIn, try_log_in},
        rate_limit::{CountedAttempt, Limits, TAKE_BACK_MARGIN, count_and_read, failed, take_back},
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

/// An attempt to log in.
pub struct LogIn {
    email: Email,
    password: Password,
    origin: Origin,
    /// The users that the log-in considers.
    among: Among,
}

impl LogIn {
    /// Takes the fields of a log-in from a body. Returns `None` if the body contains no valid
    /// e-mail address or no valid password.
    ///
    /// A back end may send its server token and the client's address. Then the limits of the back
    /// end's ecosystem apply, and users of other ecosystems are unknown. If the body contains an
    /// ecosystem id, users of other ecosystems are unknown too. The limits do not depend on this
    /// id. Otherwise a client could avoid the limit of an e-mail address by sending many different
    /// ids.
    pub fn take(
        request: &Request,
        back_end: Option<&Verified>,
        body: &mut Fields<'static, Value>,
    ) -> Option<Self> {
        let email = body.required("email", Email::parse);
        let password = body.required("password", Password::parse);
        let asked = body.text("ecosystemId", |id| {
            EcosystemId::parse(id).map_err(|InvalidId| "invalid ecosystem id")
        });
        let origin = Origin::new(request, back_end, body);
        let (email, password) = email.zip(password)?;
        let among = Among {
            account: back_end.map(|back_end| back_end.account.clone()),
            ecosystems: origin.ecosystem.iter().cloned().chain(asked).collect(),
        };
        Some(Self {
            email,
            password,
            origin,
            among,
        })
    }

    /// Checks the password, within the limits ([`check`]).
    ///
    /// # Errors
    /// [`Error::WrongPassword`] if the password is wrong, if the address is unknown, or if the user
    /// is inactive, has no password or belongs to a deleted environment. Also returns the errors of
    /// [`check`].
    pub async fn run(self, app: &App, request: &Request) -> Result<(LoggedIn, CountedAttempt)> {
        let Self {
            email,
            password,
            origin,
            among,
        } = self;
        let read = log_in::addresses(app, &email, &among);
        let log_in = async |addresses| try_log_in(app, &email, addresses, password).await;
        let checked = Box::pin(check(app, request, &origin, email.normal(), read, log_in)).await?;
        checked.ok_or(Error::WrongPassword)
    }
}

/// Runs an attempt to prove who the user is with a password. `subject` identifies the user in the
/// limits: the normal form of the e-mail address, or the id of a user without an address.
///
/// Before the password is checked, the attempt is counted for its source and for the subject.
/// `read` runs at the same time. `attempt` gets the result of `read`, and returns `None` if the
/// password is wrong. Then the attempt stays counted, and this function returns `None`. If `read`
/// or `attempt` fails, the attempt is taken back, because the error does not tell the caller
/// whether the password is correct. If the password is correct, the caller must take the attempt
/// back.
///
/// # Errors
/// [`Error::TooManyRequests`] if a limit is used up. Also returns the errors of `read` and of
/// `attempt`.
pub async fn check<T, R>(
    app: &App,
    request: &Request,
    origin: &Origin,
    subject: &str,
    read: impl Future<Output = Result<T>>,
    attempt: impl AsyncFnOnce(T) -> Result<Option<R>>,
) -> Result<Option<(R, CountedAttempt)>> {
    let (table, now) = (app.ephemeral()?, app.now().seconds());
    let budget = |about, subject: &str, limit| origin.budget(about, subject, WINDOW, limit);
    let limits = zip(OF_ADDRESS_AND_SOURCE, OF_SOURCE);
    let mut own: Vec<_> = zip(&origin.sources, limits)
        .flat_map(|(source, (of_pair, of_source))| {
            let pair = format!("{source} {subject}");
            [
                budget("log-in of address and source", &pair, of_pair),
                budget("log-in of source", source, of_source),
            ]
        })
        .collect();
    let mut shared = own.split_off(own.len().min(2));
    shared.push(budget("log-in of address", subject, OF_ADDRESS));
    // Without this limit, the request could end after the attempt was counted and before it is
    // taken back.
    let in_time = deadline(request);
    let read = async { in_time.before(TAKE_BACK_MARGIN, read).await.flatten() };
    let (counted, read) = count_and_read(table, &own, &shared, now, read).await?;

    let attempt = async { attempt(read?).await };
    let attempt = in_time.before(TAKE_BACK_MARGIN, attempt);
    match attempt.await.flatten() {
        Ok(Some(correct)) => Ok(Some((correct, counted))),
        Ok(None) => {
            failed(table, counted).await;
            Ok(None)
        }
        Err(error) => {
            take_back(table, counted).await;
            Err(error)
        }
    }
}
