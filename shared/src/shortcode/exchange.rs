//! Making codes and exchanging them: the calls.

use super::{Code, Grantee, NewCode, Record};
use crate::{
    app::App,
    ephemeral::{self, Ephemeral},
    error::{Error, Result},
    id::{AccountId, EnvironmentId, UserId},
    identity::{Item, Key, number, owner_item, to_item, to_value},
    owner::{Environment, Epoch, Owner, OwnerId},
    token::{PlainToken, Token},
};
use aws_sdk_dynamodb::{
    error::BuildError,
    operation::{delete_item::DeleteItemError, transact_write_items::TransactWriteItemsError},
    types::{AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, builders::PutBuilder},
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
            Transacted::Refused(refused) if refused.get(1) == Some(&true) => {
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
    let ecosystem = check(app, &ecosystem, "account = :account", &account)?;
    for _ in 0..DRAWS {
        let code = app.settings().code_space.draw(&mut *app.rng());
        let user = UserId::of_code(&environment.ecosystem, code.reveal());
        let grantee = Grantee::Environment {
            user: user.clone(),
            environment: environment.id.clone(),
        };
        let nobody = Key::owner((&user).into());
        let nobody = check(app, &nobody, "attribute_not_exists(epoch)", &[])?;
        match insert(app, &code, grantee, wanted, vec![ecosystem.clone(), nobody]).await? {
            Transacted::Written => return Ok(Some((code, user))),
            Transacted::Refused(refused) if refused.get(1) == Some(&true) => return Ok(None),
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
    let (ephemeral, now) = (app.ephemeral()?, app.now().seconds());
    let record = Record::new(wanted, grantee, now, &mut *app.rng());
    let put = Put::builder()
        .table_name(&ephemeral.table)
        .set_item(Some(code_item(code, &record)?))
        .condition_expression("attribute_not_exists(nonce) OR expires_at <= :now")
        .expression_attribute_values(":now", number(now));
    let mut writes = vec![put_write(put)?];
    writes.extend(conditions);
    transact(ephemeral, writes).await
}

/// That a user is as it was when a code was made for it.
fn unchanged(app: &App, id: &UserId, epoch: Epoch) -> Result<TransactWriteItem> {
    let values = [
        (":epoch", to_value(&epoch)?),
        (":true", AttributeValue::Bool(true)),
    ];
    let key = Key::owner(id.into());
    check(app, &key, "epoch = :epoch AND active = :true", &values)
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
/// lost answer, the transaction is the same one (its request token is).
///
/// # Errors
/// The database is away.
pub async fn exchange(app: &App, code: &Code) -> Result<Exchange> {
    let (ephemeral, now) = (app.ephemeral()?, app.now());
    let Some(record) = ephemeral.code(code).await? else {
        return Ok(Exchange::Unknown);
    };
    if record.expires_at <= now.seconds() {
        return Ok(Exchange::Unknown);
    }
    let user = record.grantee.user().clone();
    let id = OwnerId::User(user.clone());

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
            let put = Put::builder()
                .table_name(&app.identity.table)
                .set_item(Some(owner_item(&owner)?))
                .condition_expression("attribute_not_exists(epoch)");
            (owner.epoch, Some(environment.clone()), put_write(put)?)
        }
    };
    let (token, plain) = Token::mint(
        &id,
        epoch,
        record.token(now.seconds()),
        now,
        &mut *app.rng(),
    );

    let spend = Delete::builder()
        .table_name(&ephemeral.table)
        .key(ephemeral::PARTITION_KEY, text(&key(code)))
        .condition_expression("nonce = :nonce AND expires_at > :now")
        .expression_attribute_values(":nonce", to_value(&record.nonce)?)
        .expression_attribute_values(":now", number(now.seconds()));
    let put = Put::builder()
        .table_name(&app.identity.table)
        .set_item(Some(to_item(&token)?))
        .condition_expression("attribute_not_exists(token_hash)");
    let ecosystem = Key::owner(user.ecosystem().into());
    let spend = spend.build().map_err(|error| incomplete(&error))?;
    let mut writes = vec![
        TransactWriteItem::builder().delete(spend).build(),
        put_write(put)?,
        owner_write,
        check(app, &ecosystem, "attribute_exists(epoch)", &[])?,
    ];
    if let Some(environment) = &environment {
        let environment = Key::environment(environment);
        writes.push(check(
            app,
            &environment,
            "attribute_exists(ecosystem)",
            &[],
        )?);
    }
    match transact(ephemeral, writes).await? {
        Transacted::Written => Ok(Exchange::Token(Box::new(Exchanged {
            token,
            plain,
            user,
            environment,
        }))),
        Transacted::Refused(refused) if refused.first() == Some(&true) => Ok(Exchange::Unknown),
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

/// What became of a transaction.
enum Transacted {
    Written,
    /// Nothing was written: which of its conditions did not hold.
    Refused(Vec<bool>),
}

async fn transact(ephemeral: &Ephemeral, writes: Vec<TransactWriteItem>) -> Result<Transacted> {
    let conditions = writes.len();
    let call = ephemeral.client.transact_write_items();
    let Err(error) = call.set_transact_items(Some(writes)).send().await else {
        return Ok(Transacted::Written);
    };
    if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
        error.as_service_error()
    {
        let reasons = cancelled.cancellation_reasons().iter();
        let refused: Vec<_> = reasons
            .map(|reason| reason.code() == Some("ConditionalCheckFailed"))
            .collect();
        if refused.len() == conditions && refused.contains(&true) {
            return Ok(Transacted::Refused(refused));
        }
    }
    Err(error.into())
}

/// A condition on an item of the identity table.
fn check(
    app: &App,
    key: &Key,
    condition: &str,
    values: &[(&str, AttributeValue)],
) -> Result<TransactWriteItem> {
    let mut check = ConditionCheck::builder()
        .table_name(&app.identity.table)
        .set_key(Some(to_item(key)?))
        .condition_expression(condition);
    for (name, value) in values {
        check = check.expression_attribute_values(*name, value.clone());
    }
    let check = check.build().map_err(|error| incomplete(&error))?;
    Ok(TransactWriteItem::builder().condition_check(check).build())
}

fn put_write(put: PutBuilder) -> Result<TransactWriteItem> {
    let put = put.build().map_err(|error| incomplete(&error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

fn key(code: &Code) -> String {
    format!("code#{}", code.reveal())
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

fn incomplete(error: &BuildError) -> Error {
    Error::Internal {
        cause: error.to_string(),
    }
}
