//! Database reads that call the AWS SDK directly, without the service. The benches compare the
//! service with these reads.

use aws_sdk_dynamodb::{Client, types::KeysAndAttributes};
use shared::{domain::token::PlainToken, store::identity::Key};
use tokenry::embedded::IDENTITY;

/// Returns the four keys that a verification reads: the caller's token, the token to verify, and
/// the owner of each of these tokens.
pub(crate) fn verification(caller: &PlainToken, token: &PlainToken) -> KeysAndAttributes {
    keys([
        Key::owner(caller.owner()),
        Key::of(caller),
        Key::owner(token.owner()),
        Key::of(token),
    ])
}

/// Returns these keys in the form that a `BatchGetItem` request needs for one table. The read is
/// strongly consistent, like the reads of the service.
pub(crate) fn keys<const N: usize>(keys: [Key; N]) -> KeysAndAttributes {
    let keys =
        keys.map(|key| serde_dynamo::to_item(key).expect("the key can be written as an item"));
    KeysAndAttributes::builder()
        .set_keys(Some(keys.into()))
        .consistent_read(true)
        .build()
        .expect("the request has keys")
}

/// Reads the items with these keys, without the service. Asserts that the response contains `items`
/// items.
pub(crate) async fn read(client: &Client, keys: &KeysAndAttributes, items: usize) {
    let call = client.batch_get_item();
    let call = call.request_items(IDENTITY, keys.clone());
    let read = call
        .send()
        .await
        .expect("the database returns a response")
        .responses;
    assert_eq!(
        read.expect("the response has a list of items")[IDENTITY].len(),
        items
    );
}
