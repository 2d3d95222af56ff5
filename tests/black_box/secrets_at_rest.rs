//! Checks that the tables contain no secrets in plain text. The test dumps both tables and searches
//! all values.

use serde_json::json;
use shared::store::item::Item;
use tests::Service;

use crate::create_email_token::{BOB, PASSWORD, ask, datum, value, with_bob};

/// Returns whether the attribute `name` of an item contains a secret, as text or as bytes, in upper
/// or lower case.
fn holds(item: &Item, name: &str, secret: &str) -> bool {
    use aws_sdk_dynamodb::types::AttributeValue::{B, M, N, S};
    let found = |bytes: &[u8]| {
        let secret = secret.to_lowercase();
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        text.contains(&secret)
    };
    match &item[name] {
        S(text) | N(text) => found(text.as_bytes()),
        B(blob) => found(blob.as_ref()),
        M(map) => map.keys().any(|key| holds(map, key, secret)),
        _ => false,
    }
}

/// Searches both tables for a secret. Returns the names of the attributes that contain
/// the secret.
async fn attributes(service: &Service, secret: &str) -> Vec<String> {
    let mut items = service.identity_items().await;
    assert!(items.len() > 5, "the dump has more than 5 items");
    items.extend(service.ephemeral_items().await);
    let mut names: Vec<_> = items
        .iter()
        .flat_map(|item| {
            item.keys()
                .filter(|name| holds(item, name, secret))
                .cloned()
        })
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn the_tables_contain_no_token_and_no_password_and_only_one_attribute_contains_the_address() {
    let (service, bob) = with_bob().await;
    ask(&service, "POST", &json!({ "email": BOB })).await;
    let token = value(&service, BOB).await;
    service.log_in("192.0.2.1", BOB, PASSWORD).await;
    service.log_in("192.0.2.1", BOB, "a wrong one").await;
    let minted = service.mint(&bob, "expiryType=SlidingTtl").await.token();
    service.is_active(&minted).await;
    let code = json!({ "userId": bob }).to_string();
    let code = service
        .manage("POST", "/api/auth/shortcode/create", &code)
        .await;
    assert_eq!(code.status, 201);

    for secret in [
        token.as_str(),
        &token[6..],
        &minted,
        &minted[6..],
        &service.account_token,
        PASSWORD,
        "a wrong one",
        // Parts and encodings of the secrets. An index or a log could contain them.
        &token[20..40],
        &hex::encode(&token),
        &hex::encode(PASSWORD),
    ] {
        assert_eq!(attributes(&service, secret).await, [""; 0], "{secret}");
    }
    // Only one attribute contains the address: `email` in the user's record.
    assert_eq!(attributes(&service, BOB).await, ["email"]);
    assert_eq!(attributes(&service, "bob@").await, ["email"]);
    // The search works: it finds a value that the tables contain.
    let id = datum(&ask(&service, "PUT", &json!({ "email": BOB })).await)["tokenId"].clone();
    assert_eq!(
        attributes(&service, id.as_str().unwrap()).await,
        ["item", "token_id"]
    );
}
