//! The same database reads as in a verification, but made with the SDK alone.

use aws_sdk_dynamodb::{Client, types::KeysAndAttributes};
use shared::{domain::token::PlainToken, store::identity::Key};
use tokenry::embedded::IDENTITY;

/// Returns the keys that a verification reads: the keys of two tokens and of their owners.
pub(crate) fn verification(caller: &PlainToken, token: &PlainToken) -> KeysAndAttributes {
    keys([
        Key::owner(caller.owner()),
        Key::of(caller),
        Key::owner(token.owner()),
        Key::of(token),
    ])
}

/// Returns the part of a `BatchGetItem` request that contains these keys, as the service builds it.
pub(crate) fn keys<const N: usize>(keys: [Key; N]) -> KeysAndAttributes {
    let keys = keys.map(|key| serde_dynamo::to_item(key).expect("a key"));
    KeysAndAttributes::builder()
        .set_keys(Some(keys.into()))
        .consistent_read(true)
        .build()
        .expect("keys")
}

/// Reads the items with these keys, with the SDK alone. Asserts that the response contains `items`
/// items.
pub(crate) async fn read(client: &Client, keys: &KeysAndAttributes, items: usize) {
    let call = client.batch_get_item();
    let call = call.request_items(IDENTITY, keys.clone());
    let read = call.send().await.expect("an answer").responses;
    assert_eq!(read.expect("items")[IDENTITY].len(), items);
}
