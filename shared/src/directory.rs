//! What tokens refer to: accounts, ecosystems and users.

use crate::{
    app::App,
    error::{Error, Result},
    id::{AccountId, EcosystemId, UserId},
    identity::Inserted,
    owner::{Owner, OwnerId},
    token::{NewToken, PlainToken, Token},
};

/// Makes a new account.
///
/// # Errors
/// The database is away.
pub async fn create_account(app: &App) -> Result<Owner> {
    let id = AccountId::generate(&mut *app.rng());
    create(app, OwnerId::Account(id), None).await
}

/// Makes a new ecosystem of an account.
///
/// # Errors
/// The database is away.
pub async fn create_ecosystem(app: &App, account: &AccountId) -> Result<Owner> {
    let id = EcosystemId::generate(&mut *app.rng());
    create(app, OwnerId::Ecosystem(id), Some(account.clone())).await
}

/// Makes a user that does not exist.
///
/// # Errors
/// The user exists, its key is another's, or the database is away.
pub async fn create_user(app: &App, id: &UserId) -> Result<Owner> {
    create(app, OwnerId::User(id.clone()), None).await
}

async fn create(app: &App, id: OwnerId, account: Option<AccountId>) -> Result<Owner> {
    let owner = Owner::new(id, account, &mut *app.rng());
    match app.identity().insert_owner(&owner).await? {
        Inserted::New => Ok(owner),
        Inserted::Existing(_) => Err(Error::Conflict("the id is in use")),
        Inserted::KeyTaken => Err(Error::Conflict("the id's key is another id's")),
    }
}

/// Makes a token for an owner as it was just read or made.
///
/// # Errors
/// The database is away.
pub async fn mint(app: &App, owner: &Owner, wanted: NewToken) -> Result<(Token, PlainToken)> {
    let (token, plain) = Token::mint(owner, wanted, app.now(), &mut *app.rng());
    app.identity().insert_token(&token).await?;
    Ok((token, plain))
}
