//! Making short codes and exchanging them.

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
        tokens::{self, Rest},
    },
    store::ephemeral::{CodeWrite, ExchangeOwner, ExchangeWrite},
};

/// How often another code is drawn when one is taken. Of a million live codes of six characters,
/// one draw in 700 meets one.
const DRAWS: usize = 10;

/// Makes a code for a user that was just read.
///
/// # Errors
/// [`Error::Conflict`] if it has changed since; the database is away, or no code is free.
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

/// Makes a code for an environment, and names the user that it will make; nothing if the account
/// has no such ecosystem (any more).
///
/// # Errors
/// The database is away, or no code is free.
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

/// What became of an attempt with a code.
#[derive(Debug)]
pub enum Exchange {
    /// It gave a token.
    Token(Box<Exchanged>),
    /// It was right but is void, since its user or environment is not what it was. It is spent.
    Void,
    /// There is no such code.
    Unknown,
}

/// What a code gave.
#[derive(Debug)]
pub struct Exchanged {
    /// The token as it is kept.
    pub token: Token,
    /// Its text.
    pub plain: PlainToken,
    /// Whose it is.
    pub user: UserId,
    /// The environment, of an environment's code.
    pub environment: Option<EnvironmentId>,
}

/// Exchanges a code for its token: a read, and one transaction that spends the one and writes the
/// other, or neither. Of any number of attempts at once, one gets the token. With an ecosystem, the
/// codes of others are unknown.
///
/// # Errors
/// The database is away.
pub async fn exchange(app: &App, code: &Code, ecosystem: Option<&EcosystemId>) -> Result<Exchange> {
    let (ephemeral, now) = (app.ephemeral()?, app.now());
    let Some(record) = ephemeral.code(code).await? else {
        return Ok(Exchange::Unknown);
    };
    let user = record.grantee.user();
    let is_foreign = ecosystem.is_some_and(|own| own != user.ecosystem());
    if is_foreign || record.expires_at <= now.seconds() {
        return Ok(Exchange::Unknown);
    }
    if app.settings().voids(record.made_at) {
        // By a token, perhaps, that does not count any more.
        ephemeral.spend_code(code, &record).await?;
        return Ok(Exchange::Void);
    }

    // The owner: as it was when the code was made, or new.
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
    let spending = async |_: &Token, _: &PlainToken| {
        let of = (code, &record);
        let exchange =
            ephemeral.exchange_code(&app.identity, of, owner, environment, now.seconds());
        exchange.map(Rest::Transaction)
    };
    let (exchanged, token, plain) = tokens::make(app, draft, spending).await?;
    match exchanged {
        ExchangeWrite::Written => Ok(Exchange::Token(Box::new(Exchanged {
            token,
            plain,
            user: user.clone(),
            environment: environment.cloned(),
        }))),
        ExchangeWrite::CodeGone => Ok(Exchange::Unknown),
        ExchangeWrite::OwnerChanged => {
            ephemeral.spend_code(code, &record).await?;
            Ok(Exchange::Void)
        }
    }
}

fn none_free() -> Error {
    Error::Unavailable {
        cause: "no short code is free: codes should be longer".to_owned(),
    }
}
