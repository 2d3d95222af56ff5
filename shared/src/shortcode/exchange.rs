//! Making codes and exchanging them: the calls.

use super::{Code, Grantee, NewCode, Record};
use crate::{
    app::App,
    ephemeral::{self, Ephemeral},
    error::{Error, Result},
    id::{AccountId, EcosystemId, EnvironmentId, UserId},
    identity::{Item, Key, number, owner_item, to_item, to_value},
    owner::{Environment, Epoch, Owner, OwnerId},
    token::{PlainToken, Token},
    transaction::{Transacted, check, delete, put, transact},
};
use aws_sdk_dynamodb::{
    operation::delete_item::DeleteItemError,
    types::{AttributeValue, TransactWriteItem},
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
    id: &UserId,
    user: &Owner,
    wanted: &NewCode,
) -> Result<Code> {
    let grantee = Grantee::User {
        user: id.clone(),
        epoch: user.epoch,
        environment: user.environment.clone(),
    };
    let unchanged = unchanged(app, id, user.epoch)?;
    for _ in 0..DRAWS {
        let code = app.settings().code_space.draw(&mut *app.rng());
        match insert(app, &code, grantee.clone(), wanted, vec![unchanged.clone()]).await? {
            Transacted::Written => return Ok(code),
            Transacted::Refused(refused) if refused[1].is_some() => {
                return Err(Error::Conflict("user has changed"));
            }
            Transacted::Refused(_) => {}
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
    account: &AccountId,
    environment: &Environment,
    wanted: &NewCode,
) -> Result<Option<(Code, UserId)>> {
    let ecosystem = Key::owner((&environment.ecosystem).into());
    let account = [(":account", text(account.as_str()))];
    let table = &app.identity.table;
    let ecosystem = check(table, ecosystem.to_item()?, "account = :account", &account)?;
    for _ in 0..DRAWS {
        let code = app.settings().code_space.draw(&mut *app.rng());
        let user = UserId::of_code(&environment.ecosystem, code.reveal());
        let grantee = Grantee::Environment {
            user: user.clone(),
            environment: environment.id.clone(),
        };
        let nobody = Key::owner((&user).into());
        let nobody = check(table, nobody.to_item()?, "attribute_not_exists(epoch)", &[])?;
        match insert(app, &code, grantee, wanted, vec![ecosystem.clone(), nobody]).await? {
            Transacted::Written => return Ok(Some((code, user))),
            Transacted::Refused(refused) if refused[1].is_some() => return Ok(None),
            // The code is taken, or its user is still there.
            Transacted::Refused(_) => {}
        }
    }
    Err(none_free())
}

/// Writes a code where none lives, if these conditions hold: a transaction, because that arrives
/// once. A put that was held up and tried again could bring a spent code back.
async fn insert(
    app: &App,
    code: &Code,
    grantee: Grantee,
    wanted: &NewCode,
    conditions: Vec<TransactWriteItem>,
) -> Result<Transacted> {
    let (ephemeral, now) = (app.ephemeral()?, app.now());
    let record = Record::new(wanted, grantee, now, &mut *app.rng());
    let mut writes = vec![put(
        &ephemeral.table,
        code_item(code, &record)?,
        "attribute_not_exists(nonce) OR expires_at <= :now",
        &[(":now", number(now.seconds()))],
    )?];
    writes.extend(conditions);
    transact(&ephemeral.client, writes).await
}

/// That a user is as it was when a code was made for it.
fn unchanged(app: &App, id: &UserId, epoch: Epoch) -> Result<TransactWriteItem> {
    let values = [
        (":epoch", to_value(&epoch)?),
        (":true", AttributeValue::Bool(true)),
    ];
    let key = Key::owner(id.into()).to_item()?;
    check(
        &app.identity.table,
        key,
        "epoch = :epoch AND active = :true",
        &values,
    )
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
/// other, or neither. Of any number of attempts at once, one gets the token; tried again after a
/// lost answer, the transaction is the same one (its request token is). With an ecosystem, the codes of
/// others are unknown.
///
/// # Errors
/// The database is away.
pub async fn exchange(app: &App, code: &Code, ecosystem: Option<&EcosystemId>) -> Result<Exchange> {
    let (ephemeral, now) = (app.ephemeral()?, app.now());
    let Some(record) = ephemeral.code(code).await? else {
        return Ok(Exchange::Unknown);
    };
    let is_foreign = ecosystem.is_some_and(|own| own != record.grantee.user().ecosystem());
    if is_foreign || record.expires_at <= now.seconds() {
        return Ok(Exchange::Unknown);
    }
    if app.settings().voids(record.made_at) {
        // By a token, perhaps, that does not count any more.
        ephemeral.spend(code, &record).await?;
        return Ok(Exchange::Void);
    }
    let user = record.grantee.user().clone();
    let id = OwnerId::User(user.clone());

    let table = &app.identity.table;
    // The owner: as it was when the code was made, or new.
    let (epoch, environment, owner_write) = match &record.grantee {
        Grantee::User {
            epoch, environment, ..
        } => (*epoch, environment.clone(), unchanged(app, &user, *epoch)?),
        Grantee::Environment { environment, .. } => {
            let owner = Owner {
                environment: Some(environment.clone()),
                ..Owner::new(id.clone(), None, &mut *app.rng())
            };
            let new = put(
                table,
                owner_item(&owner)?,
                "attribute_not_exists(epoch)",
                &[],
            )?;
            (owner.epoch, Some(environment.clone()), new)
        }
    };
    let (token, plain) = Token::mint(
        &id,
        epoch,
        record.token(now.seconds()),
        now,
        &mut *app.rng(),
    );

    let spend = delete(
        &ephemeral.table,
        code_key(code),
        Some("nonce = :nonce AND expires_at > :now"),
        &[
            (":nonce", to_value(&record.nonce)?),
            (":now", number(now.seconds())),
        ],
    )?;
    let ecosystem = Key::owner(user.ecosystem().into()).to_item()?;
    let mut writes = vec![
        spend,
        put(
            table,
            to_item(&token)?,
            "attribute_not_exists(token_hash)",
            &[],
        )?,
        owner_write,
        check(table, ecosystem, "attribute_exists(epoch)", &[])?,
    ];
    if let Some(environment) = &environment {
        let environment = Key::environment(environment).to_item()?;
        writes.push(check(
            table,
            environment,
            "attribute_exists(ecosystem)",
            &[],
        )?);
    }
    match transact(&ephemeral.client, writes).await? {
        Transacted::Written => Ok(Exchange::Token(Box::new(Exchanged {
            token,
            plain,
            user,
            environment,
        }))),
        Transacted::Refused(refused) if refused[0].is_some() => Ok(Exchange::Unknown),
        Transacted::Refused(_) => {
            ephemeral.spend(code, &record).await?;
            Ok(Exchange::Void)
        }
    }
}

impl Ephemeral {
    async fn code(&self, code: &Code) -> Result<Option<Record>> {
        let read = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(ephemeral::PARTITION_KEY, text(&key(code)))
            .consistent_read(true)
            .send()
            .await?;
        read.item.map(|item| self.read_as(item)).transpose()
    }

    /// Deletes a code that gives nothing, unless it is another by now.
    async fn spend(&self, code: &Code, record: &Record) -> Result<()> {
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(ephemeral::PARTITION_KEY, text(&key(code)))
            .condition_expression("attribute_not_exists(nonce) OR nonce = :nonce")
            .expression_attribute_values(":nonce", to_value(&record.nonce)?)
            .send()
            .await;
        match deleted {
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DeleteItemError::is_conditional_check_failed_exception) =>
            {
                Ok(())
            }
            other => other.map(|_| ()).map_err(Error::from),
        }
    }
}

fn key(code: &Code) -> String {
    format!("code#{}", code.reveal())
}

fn code_key(code: &Code) -> Item {
    Item::from([(ephemeral::PARTITION_KEY.to_owned(), text(&key(code)))])
}

fn code_item(code: &Code, record: &Record) -> Result<Item> {
    let mut item = to_item(record)?;
    item.insert(ephemeral::PARTITION_KEY.to_owned(), text(&key(code)));
    Ok(item)
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn none_free() -> Error {
    Error::Unavailable {
        cause: "no short code is free: codes should be longer".to_owned(),
    }
}
