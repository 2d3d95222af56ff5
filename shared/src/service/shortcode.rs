//! Creates short codes and exchanges them for tokens.

use crate::{
    domain::{
        error::{Error, Result},
        id::{AccountId, EcosystemId, EnvironmentId, UserId},
        owner::{Environment, User},
        shortcode::{Code, Grantee, NewCode, Record},
        token::{Draft, Holder, PlainToken, Token, TokenOwner},
    },
    service::{
        access::MayWrite,
        app::App,
        tokens::{self, OtherWrites},
    },
    store::ephemeral::{CodeWrite, ExchangeOwner, ExchangeWrite},
};

/// The maximum number of random codes that are generated to find a free code. If a million codes of
/// six characters are valid, about one generated code in 700 is not free.
const DRAWS: usize = 10;

/// Creates a code for a user that was just read.
///
/// # Errors
/// [`Error::Conflict`] if the user has changed since the read; [`Error::Unavailable`] if the
/// database is unavailable or if no free code was found.
pub async fn create_for_user(
    app: &App,
    _right: MayWrite,
    user: &User,
    wanted: &NewCode,
) -> Result<Code> {
    let grantee = Grantee::User {
        user: user.id.clone(),
        epoch: user.state.epoch,
        environment: user.environment.clone(),
    };
    for _ in 0..DRAWS {
        let code = app.settings().code_space.draw(&mut *app.rng());
        let now = app.now();
        let record = Record::new(wanted, grantee.clone(), now, &mut *app.rng());
        let of = (&user.id, user.state.epoch);
        let written =
            app.ephemeral()?
                .insert_code_of_user(&app.identity, &code, &record, of, now.seconds());
        match written.await? {
            CodeWrite::Written => return Ok(code),
            CodeWrite::OwnerChanged => return Err(Error::Conflict("user has changed")),
            CodeWrite::Taken => {}
        }
    }
    Err(none_free())
}

/// Creates a code for an environment. Returns the code, and the id of the user that the exchange of
/// the code will create. Returns `None` if the ecosystem of the environment belongs to another
/// account or was deleted.
///
/// # Errors
/// The database is unavailable, or no free code was found.
pub async fn create_for_environment(
    app: &App,
    _right: MayWrite,
    account: &AccountId,
    environment: &Environment,
    wanted: &NewCode,
) -> Result<Option<(Code, UserId)>> {
    for _ in 0..DRAWS {
        let code = app.settings().code_space.draw(&mut *app.rng());
        let user = UserId::of_code(&environment.ecosystem, code.reveal());
        let grantee = Grantee::Environment {
            user: user.clone(),
            environment: environment.id.clone(),
        };
        let now = app.now();
        let record = Record::new(wanted, grantee, now, &mut *app.rng());
        let of = (account, environment);
        let written = app.ephemeral()?.insert_code_of_environment(
            &app.identity,
            &code,
            &record,
            of,
            now.seconds(),
        );
        match written.await? {
            CodeWrite::Written => return Ok(Some((code, user))),
            CodeWrite::OwnerChanged => return Ok(None),
            CodeWrite::Taken => {}
        }
    }
    Err(none_free())
}

/// The result of [`exchange`].
#[derive(Debug)]
pub enum Exchange {
    /// The code was exchanged for a token.
    Token(Box<Exchanged>),
    /// The code was found but is invalid, so it was deleted. Its user, ecosystem or environment has
    /// changed or was deleted, or the code was created before
    /// [`Settings::not_before`](crate::config::Settings::not_before).
    Invalid,
    /// The code does not exist, has expired, or belongs to another ecosystem.
    Unknown,
}

/// The token that a code was exchanged for.
#[derive(Debug)]
pub struct Exchanged {
    /// The stored record of the token.
    pub token: Token,
    /// The text of the token.
    pub plain: PlainToken,
    /// The user that owns the token.
    pub user: UserId,
    /// The environment of the user, if the user has one.
    pub environment: Option<EnvironmentId>,
}

/// Reads a code's record with strong consistency.
///
/// # Errors
/// The database is unavailable.
pub async fn record(app: &App, code: &Code) -> Result<Option<Record>> {
    app.ephemeral()?.code(code).await
}

/// Exchanges a code for a new token. `record` is the code's record, which the caller has just read.
/// One transaction deletes the code and stores the token. So only one of several concurrent attempts gets a token. If `ecosystem` is given, a
/// code of another ecosystem counts as unknown.
///
/// # Errors
/// The database is unavailable.
pub async fn exchange(
    app: &App,
    code: &Code,
    record: Option<Record>,
    ecosystem: Option<&EcosystemId>,
) -> Result<Exchange> {
    let (ephemeral, now) = (app.ephemeral()?, app.now());
    let Some(record) = record else {
        return Ok(Exchange::Unknown);
    };
    let user = record.grantee.user();
    let is_foreign = ecosystem.is_some_and(|own| own != user.ecosystem());
    if is_foreign || record.expires_at <= now.seconds() {
        return Ok(Exchange::Unknown);
    }
    if app.settings().rejects(record.created_at) {
        // The code may have been created with a token that is rejected now.
        ephemeral.delete_code(code, &record).await?;
        return Ok(Exchange::Invalid);
    }

    // The new token will belong to the user of the code, or to a new user if the code is for an
    // environment. The transaction below fails if the user of the code has changed since the code
    // was created.
    let new;
    let (epoch, environment, owner) = match &record.grantee {
        Grantee::User {
            epoch, environment, ..
        } => (
            *epoch,
            environment.as_ref(),
            ExchangeOwner::Existing(user, *epoch),
        ),
        Grantee::Environment { environment, .. } => {
            new = User {
                environment: Some(environment.clone()),
                ..User::new(user.clone(), &mut *app.rng())
            };
            (new.state.epoch, Some(environment), ExchangeOwner::New(&new))
        }
    };
    let for_user = TokenOwner {
        holder: Holder::User,
        key: user.into(),
        epoch,
    };
    let draft = Draft::new(for_user, record.token(now.seconds()), now);
    let with_exchange = async |_: &Token, _: &PlainToken| {
        let of = (code, &record);
        let exchange =
            ephemeral.code_exchange(&app.identity, of, owner, environment, now.seconds());
        exchange.map(OtherWrites::Some)
    };
    let (exchanged, token, plain) = tokens::create(app, draft, with_exchange).await?;
    match exchanged {
        ExchangeWrite::Written => Ok(Exchange::Token(Box::new(Exchanged {
            token,
            plain,
            user: user.clone(),
            environment: environment.cloned(),
        }))),
        ExchangeWrite::CodeGone => Ok(Exchange::Unknown),
        ExchangeWrite::OwnerChanged => {
            ephemeral.delete_code(code, &record).await?;
            Ok(Exchange::Invalid)
        }
    }
}

fn none_free() -> Error {
    Error::Unavailable {
        cause: "no free short code was found: codes should be longer".to_owned(),
    }
}
