//! Reads of what a verification reads, with nothing but the SDK.

use aws_sdk_dynamodb::{Client, types::KeysAndAttributes};
use shared::{domain::token::PlainToken, store::identity::Key};
use tokenry::embedded::IDENTITY;

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
