//! Tests of `GET /_/user-token/value`.

use serde_json::json;
use tests::TestClock;

use crate::{
    assert_forbidden, assert_invalid, assert_scope_missing, assert_unknown,
    create_email_token::{
        BOB, PASSWORD, VALUE, administrator, ask, datum, server, token_of_user, value, with_bob,
    },
};

#[tokio::test]
async fn every_caller_that_is_allowed_to_read_the_value_gets_the_same_value() {
    let (service, bob) = with_bob().await;
    ask(&service, "POST", &json!({ "email": BOB })).await;
    let token = value(&service, BOB).await;
    assert!(service.is_active(&token).await);
    let server = server(&service, &service.ecosystem).await;
    let admin = administrator(&service).await;
    let user = token_of_user(&service, &bob).await;
    // Bob may read the value with an ordinary token (`user`) or with the e-mail token (`token`).
    // The address in the query may be in upper case.
    for credential in [&server, &admin, &user, &token] {
        let path = format!("{VALUE}?email=BOB@Example.com");
        let answer = service.call(credential, "GET", &path, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json(), json!({ "data": [{ "token": token }] }));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn a_users_token_reads_a_value_only_if_the_value_expires_no_later_than_the_token() {
    let (service, bob) = with_bob().await;
    let admin = administrator(&service).await;
    let admin_id = service.introspect(&admin).await.json()["sub"].clone();
    let path = format!("{VALUE}?email={BOB}");
    let read = async |credential: &str| service.call(credential, "GET", &path, "").await;
    for (expires_in, refused, granted) in [
        // The value never expires. The refused tokens expire.
        (
            None,
            vec!["ttl=5", "expiryType=SlidingTtl", "ttl=315360000"],
            vec!["expiryType=Infinite"],
        ),
        (
            Some(100),
            vec!["ttl=99", "expiryType=SlidingTtl&ttl=99"],
            vec![
                "ttl=100",
                "expiryType=SlidingTtl&ttl=100",
                "expiryType=Infinite",
            ],
        ),
    ] {
        let date = expires_in.map(|seconds| (TestClock::START + seconds) * 1000);
        let mut body = json!({ "email": BOB });
        if let Some(date) = date {
            body["expiration_date"] = date.into();
        }
        ask(&service, "POST", &body).await;
        let value = value(&service, BOB).await;
        for user in [&bob, admin_id.as_str().unwrap()] {
            for query in &refused {
                let credential = service.mint(user, query).await.token();
                assert_forbidden(&read(&credential).await);
            }
            for query in &granted {
                let credential = service.mint(user, query).await.token();
                let answer = read(&credential).await;
                assert_eq!(answer.status, 200, "{user} {query}: {answer:?}");
                assert_eq!(datum(&answer)["token"], value.as_str());
            }
        }
        ask(&service, "DELETE", &json!({ "email": BOB })).await;
    }
}

#[tokio::test]
async fn a_users_token_reads_a_value_only_if_the_token_has_all_scopes_of_the_value() {
    let (service, bob) = with_bob().await;
    ask(&service, "POST", &json!({ "email": BOB })).await;
    let minted = service.mint(&bob, "expiryType=Infinite").await.json();
    let (id, credential) = (&minted["tokenId"], &minted["token"]);
    let owner = service.owner(&bob).await;
    service
        .set_scope(&owner.id, id.as_str().unwrap(), "read")
        .await;
    let path = format!("{VALUE}?email={BOB}");
    let read = async || {
        let credential = credential.as_str().unwrap();
        service.call(credential, "GET", &path, "").await
    };
    assert_scope_missing(&read().await, "write");
    ask(&service, "PUT", &json!({ "email": BOB, "write": false })).await;
    assert_eq!(read().await.status, 200);
}

#[tokio::test]
async fn a_user_is_not_allowed_to_read_the_value_of_another_user() {
    let (service, _) = with_bob().await;
    let eve = service.person("eve", "eve@example.com", PASSWORD).await;
    ask(&service, "POST", &json!({ "email": BOB })).await;
    let eve = token_of_user(&service, &eve).await;
    for address in [BOB, "nobody@example.com", "nonsense"] {
        let path = format!("{VALUE}?email={address}");
        assert_forbidden(&service.call(&eve, "GET", &path, "").await);
    }
}

#[tokio::test]
async fn a_missing_token_an_unknown_address_and_an_invalid_query_get_different_responses() {
    let (service, bob) = with_bob().await;
    let get = async |query: &str| service.manage("GET", &format!("{VALUE}{query}"), "").await;
    let none = "User with email bob@example.com has no token.";
    assert_unknown(&get("?email=bob@example.com").await, none);
    let unknown = "User with email eve@example.com does not exist.";
    assert_unknown(&get("?email=eve@example.com").await, unknown);
    assert_invalid(&get("").await, &[("query", "email", "field is required")]);
    assert_invalid(
        &get("?email=").await,
        &[("query", "email", "invalid email address")],
    );
    let twice = get("?email=bob@example.com&email=eve@example.com").await;
    assert_invalid(&twice, &[("query", "email", "field must be given once")]);

    // A new password revokes all tokens of the user. The response is then the same as if the user
    // had no e-mail token.
    ask(&service, "POST", &json!({ "email": BOB })).await;
    let path = format!("/api/users/{bob}");
    service
        .manage("PUT", &path, r#"{"password":"another one"}"#)
        .await;
    assert_unknown(&get("?email=bob@example.com").await, none);
}
