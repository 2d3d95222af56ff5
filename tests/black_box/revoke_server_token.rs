//! Tests of `DELETE /api/ecosystems/{ecosystemId}/tokens/{tokenId}`.

use tests::Service;

use crate::{assert_invalid, assert_unauthorized, assert_unknown};

#[tokio::test]
async fn a_revoked_token_is_invalid_at_once_and_not_listed() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (id, token) = service.server_token(&service.ecosystem).await;
    let (_, other) = service.server_token(&service.ecosystem).await;
    let tokens = format!("/api/ecosystems/{}/tokens", service.ecosystem.id.as_str());
    for _ in 0..2 {
        let answer = service
            .manage("DELETE", &format!("{tokens}/{id}"), "")
            .await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (204, ""),
            "{answer:?}"
        );
    }
    let answer = service.mint_as(&token, &bob, "").await;
    assert_unauthorized(&answer, r#"Bearer realm="tokenry", error="invalid_token""#);
    assert!(!service.is_active(&token).await);
    assert!(service.is_active(&other).await);
    let list = service.manage("GET", &tokens, "").await;
    assert_eq!(list.json()["tokens"].as_array().unwrap().len(), 1);
    assert!(!list.body.contains(&id));
}

#[tokio::test]
async fn a_user_token_or_a_token_of_another_ecosystem_is_not_revoked() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let users = service.mint(&bob, "").await;
    let elsewhere = service.another_ecosystem().await;
    let (id, server) = service.server_token(&elsewhere).await;
    let tokens = format!("/api/ecosystems/{}/tokens", service.ecosystem.id.as_str());
    for id in [users.json()["tokenId"].as_str().unwrap(), &id] {
        let answer = service
            .manage("DELETE", &format!("{tokens}/{id}"), "")
            .await;
        assert_unknown(&answer, &format!("Token with id {id} does not exist."));
    }
    assert!(service.is_active(&users.token()).await);
    assert!(service.is_active(&server).await);
}

#[tokio::test]
async fn an_unknown_ecosystem_gets_a_404_and_malformed_ids_get_a_400() {
    let service = Service::start().await;
    let unknown = "C58521fd8a5d9b5cc21987501";
    let id = "01KDVDNAFMFDHADR9JK9PFNKW4";
    let answer = service
        .manage(
            "DELETE",
            &format!("/api/ecosystems/{unknown}/tokens/{id}"),
            "",
        )
        .await;
    assert_unknown(
        &answer,
        &format!("Ecosystem with id {unknown} does not exist."),
    );
    for wrong in [
        "x",
        &id.to_lowercase(),
        &format!("{id}0"),
        "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    ] {
        let path = format!("/api/ecosystems/C1/tokens/{wrong}");
        assert_invalid(
            &service.manage("DELETE", &path, "").await,
            &[
                ("path", "ecosystemId", "invalid ecosystem id"),
                ("path", "tokenId", "invalid token id"),
            ],
        );
    }
}
