//! Creates short codes and exchanges them for tokens.

use std::collections::BTreeSet;

use crate::{
    domain::{
        deployment::Schema,
        error::{Error, Result},
        id::{EcosystemId, EnvironmentId, UserId},
        owner::{Environment, TokenLimit, User},
        shortcode::{Code, Grantee, NewCode, Record},
        time::{Timestamp, UnixSeconds},
        token::{Ancestry, Draft, Holder, Maker, PlainToken, Scope, Token, TokenOwner},
    },
    service::{
        access::{MayWrite, Permit},
        app::App,
        directory::environment_of_caller,
        limit::{self, Relatives},
        tokens::{self, OtherWrites},
    },
    store::{
        ephemeral::{CodeWrite, ExchangeOwner, ExchangeWrite},
        identity::{Descent, Key},
    },
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
    permit: &Permit<'_, MayWrite>,
    user: &User,
    wanted: &NewCode,
) -> Result<Code> {
    let grantee = Grantee::User {
        user: user.id.clone(),
        epoch: user.state.epoch,
        environment: user.environment.clone(),
    };
    let maker = permit.caller().maker();
    for _ in 0..DRAWS {
        let code = app.settings().code_space.draw(&mut *app.rng());
        let now = app.now();
        let record = Record::new(wanted, grantee.clone(), maker, now, &mut *app.rng());
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

/// Creates a code for an environment that was looked up, if the environment belongs to the caller.
/// Returns the code, the id of the user that the exchange of the code will create, and the
/// environment.
///
/// # Errors
/// [`Error::NotFound`] if the environment does not exist, or if its ecosystem belongs to another
/// account or was deleted; [`Error::Unavailable`] if the database is unavailable or if no free code
/// was found.
pub async fn create_for_environment<'a>(
    app: &App,
    permit: &'a Permit<'_, MayWrite>,
    id: &EnvironmentId,
    wanted: &NewCode,
) -> Result<(Code, UserId, &'a Environment)> {
    let environment = environment_of_caller(app, permit, id).await?;
    let maker = permit.caller().maker();
    for _ in 0..DRAWS {
        let code = app.settings().code_space.draw(&mut *app.rng());
        let user = UserId::of_code(&environment.ecosystem, code.reveal());
        let grantee = Grantee::Environment {
            user: user.clone(),
            environment: environment.id.clone(),
        };
        let now = app.now();
        let record = Record::new(wanted, grantee, maker, now, &mut *app.rng());
        let written = app.ephemeral()?.insert_code_of_environment(
            &app.identity,
            &code,
            &record,
            now.seconds(),
        );
        match written.await? {
            CodeWrite::Written => return Ok((code, user, environment)),
            CodeWrite::OwnerChanged | CodeWrite::Taken => {}
        }
    }
    Err(none_free())
}

/// The result of [`exchange`].
#[derive(Debug)]
pub enum Exchange {
    /// The code was exchanged for a token.
    Token(Box<Exchanged>),
    /// The code was found but is invalid, so it was deleted. Each of these facts makes a code
    /// invalid: its user, ecosystem or environment has changed or was deleted; the token that
    /// created it was revoked or is expired; it was created before
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
/// After one more read, one transaction deletes the code and stores the token. So only one of
/// several concurrent attempts gets a token. If `ecosystem` is given, a code of another ecosystem
/// counts as unknown.
///
/// The read finds what many codes share: the ecosystem, the environment, and the token of an
/// account or a server that created the code. They are not in the transaction, because concurrent
/// exchanges would conflict. If the ecosystem or the environment is deleted between the read and
/// the transaction, the new token is never valid: verification requires both, and their ids are not
/// used again. A user's own token that created the code is checked in the transaction.
///
/// # Errors
/// [`Error::Conflict`] if the user of the code has the most tokens allowed; then the code stays
/// valid. [`Error::Unavailable`] if the database is unavailable.
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

    // A user's own token creates codes only for the same user.
    let (own, other) = match &record.maker {
        Some(maker) if maker.owner == user.into() => (Some(maker), None),
        maker => (None, maker.as_ref()),
    };
    // After the migration to schema version 2, tokens without a tag are invalid.
    let must_have_tag = app.deployment().await?.schema != Schema::One;
    let makers = Makers { own, other };
    let limits = limits_if_valid(app, &record.grantee, makers, must_have_tag, now).await?;
    let Some(limits) = limits else {
        ephemeral.delete_code(code, &record).await?;
        return Ok(Exchange::Invalid);
    };
    let own = limits.own;

    // The new token will belong to the user of the code, or to a new user if the code is for an
    // environment. The transaction below fails if the user of the code has changed since the code
    // was created.
    let new;
    let (epoch, owner, limit) = match &record.grantee {
        Grantee::User { epoch, .. } => {
            let owner = ExchangeOwner::Existing(user, *epoch);
            (*epoch, owner, limits.tokens)
        }
        Grantee::Environment { environment, .. } => {
            new = User {
                environment: Some(environment.clone()),
                ..User::new(user.clone(), &mut *app.rng())
            };
            // This is the first token of the user, so the limit allows it.
            (new.state.epoch, ExchangeOwner::New(&new), None)
        }
    };
    let for_user = TokenOwner {
        holder: Holder::User,
        key: user.into(),
        epoch,
        limit,
    };
    let draft = Draft {
        ancestry: own.map_or_else(Ancestry::default, |maker| maker.ancestry_of_child()),
        scope: limits.scope,
        ..Draft::new(for_user, record.token(now.seconds(), limits.ends_at), now)
    };
    let with_exchange = async |token: &Token, _: &PlainToken| {
        let of = (code, &record);
        let descent = own.as_ref().map(|maker| Descent {
            maker,
            must_have_tag,
            child: token.id,
        });
        let exchange = ephemeral.code_exchange(&app.identity, of, owner, descent, now.seconds());
        exchange.map(OtherWrites::Some)
    };
    let relatives = Relatives {
        replaced: None,
        maker: own,
    };
    let created = tokens::create(app, draft, relatives, with_exchange).await;
    let (exchanged, token, plain) = match created {
        // Another request may just have exchanged the code, which took the last place.
        Err(error) if limit::is_full(&error) => {
            let stored = ephemeral.code(code).await?;
            let is_there = stored.is_some_and(|stored| stored.nonce == record.nonce);
            return if is_there {
                Err(error)
            } else {
                Ok(Exchange::Unknown)
            };
        }
        created => created?,
    };
    match exchanged {
        ExchangeWrite::Written => Ok(Exchange::Token(Box::new(Exchanged {
            token,
            plain,
            user: user.clone(),
            environment: record.grantee.environment().cloned(),
        }))),
        ExchangeWrite::CodeGone => Ok(Exchange::Unknown),
        ExchangeWrite::OwnerChanged => {
            ephemeral.delete_code(code, &record).await?;
            Ok(Exchange::Invalid)
        }
    }
}

/// The token that created a code: a token of the code's user, or the token of an account or a
/// server.
#[derive(Clone, Copy)]
struct Makers<'a> {
    own: Option<&'a Maker>,
    other: Option<&'a Maker>,
}

/// The limits of the token that a code is exchanged for.
struct Limits {
    scope: Scope,
    ends_at: Option<UnixSeconds>,
    /// The token of the code's user that created the code, with its present ancestry. The ancestry
    /// in the code may be out of date: a change of the password by the token may have come between
    /// the read of the token and the creation of the code.
    own: Option<Maker>,
    /// The limit of tokens of the ecosystem's users.
    tokens: Option<TokenLimit>,
}

/// Returns the limits of the new token if the ecosystem and the environment of the code exist, and
/// if the token that created the code is valid. Otherwise returns `None`. The transaction checks a
/// token of the code's user again.
///
/// If the user's own token created the code, the limits are its present scope and expiry time. Both
/// may have been reduced since it created the code.
async fn limits_if_valid(
    app: &App,
    grantee: &Grantee,
    Makers { own, other }: Makers<'_>,
    must_have_tag: bool,
    now: Timestamp,
) -> Result<Option<Limits>> {
    let ecosystem = grantee.user().ecosystem();
    let environment = grantee.environment();
    let mut keys = BTreeSet::from([Key::owner(ecosystem.into())]);
    keys.extend(environment.map(Key::environment));
    keys.extend(other.map(|maker| Key::owner(maker.owner)));
    let maker = own.or(other);
    keys.extend(maker.map(|maker| Key::token(maker.owner, maker.token)));
    let found = app.identity.read(&keys).await?;
    let token = maker.and_then(|maker| found.token(maker.owner, maker.token));
    let is_maker_valid = maker.is_none_or(|maker| {
        let is_token_valid = token.is_some_and(|token| {
            token.expiry.is_valid_at(now.seconds()) && (token.tag_key.is_some() || !must_have_tag)
        });
        let is_owner_valid = other.is_none_or(|maker| {
            let both = token.zip(found.owner(maker.owner));
            both.is_some_and(|(token, owner)| token.is_valid_for(owner.state(), now.seconds()))
        });
        is_token_valid && is_owner_valid && !app.is_rejected(maker.token)
    });
    let environment_exists = environment.is_none_or(|id| found.environment(id).is_some());
    let ecosystem = found.ecosystem(ecosystem);
    let ecosystem = ecosystem.filter(|_| is_maker_valid && environment_exists);
    let own = own.zip(token);
    Ok(ecosystem.map(|ecosystem| Limits {
        scope: own.map_or_else(Scope::read_write, |(_, token)| token.scope.clone()),
        ends_at: own.and_then(|(_, token)| token.expiry.expires_at()),
        own: own.map(|(maker, token)| Maker {
            ancestry: token.ancestry,
            ..*maker
        }),
        tokens: ecosystem.settings.token_limit(),
    }))
}

fn none_free() -> Error {
    Error::Unavailable {
        cause: "no free short code was found: codes should be longer".to_owned(),
    }
}
