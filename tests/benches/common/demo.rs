//! Fills a database with an account, a user, and a token for each of them.

use aws_sdk_dynamodb::Client;
use shared::{
    App,
    domain::{
        id::UserId,
        owner::{EcosystemSettings, User},
        token::{NewToken, PlainToken, TokenOwner},
    },
    service::{
        access::{Grant, MayWrite, UserSlot},
        directory::{Put, UserChange, create_account, create_ecosystem, put_user},
        tokens::mint,
    },
    store::{identity::Identity, schema::create_tables},
};
use tokenry::embedded::{EPHEMERAL, IDENTITY};

/// The permission of a bench to write without a token.
const RIGHT: MayWrite = MayWrite::of_operator();

/// Creates the tables and their content. Returns the app, the account's token, the user and the
/// user's token.
pub(crate) async fn start(client: Client) -> (App, PlainToken, User, PlainToken) {
    create_tables(&client, IDENTITY, EPHEMERAL)
        .await
        .expect("the tables are created");
    let app = App::new(Identity::new(client, IDENTITY.to_owned()));

    let account = create_account(&app, RIGHT)
        .await
        .expect("the account is created");
    let ecosystem = create_ecosystem(&app, RIGHT, &account.id).await;
    let ecosystem = ecosystem.expect("the ecosystem is created").id;
    let id = UserId::parse(&format!("{ecosystem};demo")).expect("the id is valid");
    let Ok(Put::Created(user)) = put_user(
        &app,
        RIGHT,
        UserSlot::of_new(&id, &account.id),
        UserChange::default(),
    )
    .await
    else {
        panic!("the user was not created");
    };
    let owner = TokenOwner::of_user(&user, &EcosystemSettings::default());
    let (account_token, user_token) = (token_of(&app, &account).await, token_of(&app, owner).await);
    (app, account_token, user, user_token)
}

/// Mints a FixedTtl token that is valid for an hour. A use of this token does not write to the
/// database.
async fn token_of(app: &App, owner: impl Into<TokenOwner>) -> PlainToken {
    let wanted = NewToken::default();
    mint(app, Grant::of_operator(owner, wanted))
        .await
        .expect("the token is created")
        .1
}
