//! A database with an account, a user and a token of each, and reads of it past the service.

use aws_sdk_dynamodb::{Client, types::KeysAndAttributes};
use shared::{
    App,
    directory::{Put, UserChange, create_account, create_ecosystem, mint, put_user},
    id::UserId,
    identity::{Identity, Key},
    owner::Owner,
    schema::create_tables,
    token::{NewToken, PlainToken},
};
use tokenry::embedded::{EPHEMERAL, IDENTITY};

/// Makes the tables and what is in them: the account's token, the user, and a token of the user's.
pub(crate) async fn start(client: Client) -> (App, PlainToken, Owner, PlainToken) {
    create_tables(&client, IDENTITY, EPHEMERAL)
        .await
        .expect("tables");
    let app = App::new(Identity::new(client, IDENTITY.to_owned()));

    let (id, account) = create_account(&app).await.expect("an account");
    let (ecosystem, _) = create_ecosystem(&app, &id).await.expect("an ecosystem");
    let id = UserId::parse(&format!("{ecosystem};demo")).expect("an id");
    let Ok(Put::Created(user)) = put_user(&app, &id, None, UserChange::default()).await else {
        panic!("the user is not made");
    };
    let (account_token, user_token) = (token_of(&app, &account).await, token_of(&app, &user).await);
    (app, account_token, user, user_token)
}

/// A FixedTtl token of an hour, so that its use is no write.
async fn token_of(app: &App, owner: &Owner) -> PlainToken {
    let wanted = NewToken::default();
    mint(app, owner, wanted).await.expect("a token").1
}

/// What a verification reads: the two tokens and their owners.
pub(crate) fn verification(caller: &PlainToken, token: &PlainToken) -> KeysAndAttributes {
    keys([
        Key::owner(caller.owner()),
        Key::of(caller),
        Key::owner(token.owner()),
        Key::of(token),
    ])
}

/// Some keys, as the service asks for them.
pub(crate) fn keys<const N: usize>(keys: [Key; N]) -> KeysAndAttributes {
    let keys = keys.map(|key| serde_dynamo::to_item(key).expect("a key"));
    KeysAndAttributes::builder()
        .set_keys(Some(keys.into()))
        .consistent_read(true)
        .build()
        .expect("keys")
}

/// Reads these items, which are so many, with nothing but the SDK.
pub(crate) async fn read(client: &Client, keys: &KeysAndAttributes, items: usize) {
    let call = client.batch_get_item();
    let call = call.request_items(IDENTITY, keys.clone());
    let read = call.send().await.expect("an answer").responses;
    assert_eq!(read.expect("items")[IDENTITY].len(), items);
}
