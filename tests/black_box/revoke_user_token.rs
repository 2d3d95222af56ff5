//! Tests of `DELETE /api/users/{id}/tokens/{tokenId}`.

use serde_json::json;
use tests::Service;

use crate::{
    assert_invalid, assert_unknown,
    create_email_token::{BOB, PASSWORD, ask, datum, value, with_bob},
    list_user_tokens::ids,
};

async fn revoke(service: &Service, user: &str, id: &str) -> u16 {
    let path = format!("/api/users/{user}/tokens/{id}");
    let answer = service.manage("DELETE", &path, "").await;
    assert_eq!(answer.body, "");
    answer.status
}

#[tokio::test]
async fn a_revoked_token_is_invalid_and_not_listed_and_other_tokens_stay_valid() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let query = format!("expiryType={kind}");
        let kept = service.mint(&bob, &query).await.json();
        let revoked = service.mint(&bob, &query).await.json();
        let (kept_token, token) = (
            kept["token"].as_str().unwrap(),
            revoked["token"].as_str().unwrap(),
        );
        let id = revoked["tokenId"].as_str().unwrap();
        assert!(service.is_active(token).await);
        assert_eq!(revoke(&service, &bob, id).await, 204);
        assert!(!service.is_active(token).await);
        assert!(service.is_active(kept_token).await);
        assert!(!ids(&service, &bob).await.contains(&id.to_owned()));
        // A second revocation of the token gets the same response.
        assert_eq!(revoke(&service, &bob, id).await, 204);
    }
}

#[tokio::test]
async fn an_unknown_token_id_and_the_token_id_of_another_user_get_the_same_404() {
    let service = Service::start().await;
    let (bob, eve) = (service.user("bob").await, service.user("eve").await);
    let minted = service.mint(&eve, "expiryType=Infinite").await.json();
    let (id, token) = (
        minted["tokenId"].as_str().unwrap(),
        minted["token"].as_str().unwrap(),
    );
    service.database.take_calls();
    for id in [id, "01KDVDNAFMFDHADR9JK9PFNKW4"] {
        let path = format!("/api/users/{bob}/tokens/{id}");
        let answer = service.manage("DELETE", &path, "").await;
        assert_unknown(&answer, &format!("Token with id {id} does not exist."));
        assert_eq!(service.database.take_operations(), ["BatchGetItem"]);
    }
    assert!(service.is_active(token).await);
    let answer = service
        .manage("DELETE", &format!("/api/users/{bob}/tokens/nonsense"), "")
        .await;
    assert_invalid(&answer, &[("path", "tokenId", "invalid token id")]);
    let nobody = format!("{};nobody", service.ecosystem.id.as_str());
    let answer = service
        .manage("DELETE", &format!("/api/users/{nobody}/tokens/{id}"), "")
        .await;
    assert_unknown(&answer, &format!("User with id {nobody} does not exist."));
}

#[tokio::test]
async fn after_an_e_mail_token_is_revoked_a_log_in_returns_a_new_token() {
    let (service, bob) = with_bob().await;
    let id = datum(&ask(&service, "POST", &json!({ "email": BOB })).await)["tokenId"].clone();
    let token = value(&service, BOB).await;
    assert_eq!(revoke(&service, &bob, id.as_str().unwrap()).await, 204);
    assert!(!service.is_active(&token).await);
    assert_eq!(
        ask(&service, "PUT", &json!({ "email": BOB })).await.status,
        404
    );
    let answer = service.log_in("192.0.2.1", BOB, PASSWORD).await;
    let new = datum(&answer)["token"].as_str().unwrap().to_owned();
    assert_ne!(new, token);
    assert!(service.is_active(&new).await);
    assert!(!service.is_active(&token).await);
}
