//! The database reads of a verification, made by the SDK alone.

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

/// Returns keys in the form in which the service requests them.
pub(crate) fn keys<const N: usize>(keys: [Key; N]) -> KeysAndAttributes {
    let keys = keys.map(|key| serde_dynamo::to_item(key).expect("a key"));
    KeysAndAttributes::builder()
        .set_keys(Some(keys.into()))
        .consistent_read(true)
        .build()
        .expect("keys")
}

/// Reads items by their keys with the SDK alone, and checks their number.
pub(crate) async fn read(client: &Client, keys: &KeysAndAttributes, items: usize) {
    let call = client.batch_get_item();
    let call = call.request_items(IDENTITY, keys.clone());
    let read = call.send().await.expect("an answer").responses;
    assert_eq!(read.expect("items")[IDENTITY].len(), items);
}
