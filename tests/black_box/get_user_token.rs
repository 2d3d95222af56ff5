//! Tests of `GET /api/users/{id}/tokens/{tokenId}`: the record of a token in each of its states.

use serde_json::{Value, json};
use shared::domain::token::PlainToken;
use tests::{Answer, Event, Service};

use crate::{
    assert_invalid, assert_unknown,
    consume_shortcode::{code, consume},
    create_email_token::{BOB, ask, datum, value, with_bob},
};

/// A token id that no token has.
pub(crate) const NO_TOKEN: &str = "01KDVDNAFMFDHADR9JK9PFNKW4";

/// A token, and its id.
#[derive(Clone, Debug)]
pub(crate) struct Minted {
    pub(crate) id: String,
    pub(crate) token: String,
}

impl Minted {
    pub(crate) fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        Self {
            id: answer.json()["tokenId"].as_str().unwrap().to_owned(),
            token: answer.token(),
        }
    }
}

/// Mints a token for a user. `body` contains its properties.
pub(crate) async fn mint(service: &Service, user: &str, body: &Value) -> Minted {
    let path = format!("/api/users/{user}/tokens");
    Minted::of(&service.manage("POST", &path, &body.to_string()).await)
}

/// Returns the path of a user's token.
pub(crate) fn path(user: &str, id: &str) -> String {
    format!("/api/users/{user}/tokens/{id}")
}

/// Asks for the record of a user's token.
pub(crate) async fn get(service: &Service, user: &str, id: &str) -> Answer {
    service.manage("GET", &path(user, id), "").await
}

/// Returns the record of a user's token.
pub(crate) async fn record(service: &Service, user: &str, id: &str) -> Value {
    let answer = get(service, user, id).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Asserts that a response says that there is no token with this id.
pub(crate) fn assert_no_token(answer: &Answer, id: &str) {
    assert_unknown(answer, &format!("Token with id {id} does not exist."));
}

/// Returns the id of a token.
pub(crate) fn id_of(token: &str) -> String {
    PlainToken::parse(token).unwrap().id().to_string()
}

/// Revokes a token with `POST /api/auth/revoke`, without another credential.
pub(crate) async fn revoke_itself(service: &Service, token: &str) {
    let revoke = Event::to("revoke-token").form(&format!("token={token}"));
    assert_eq!(revoke.send(&service.app).await.status, 200);
}

#[tokio::test]
async fn the_record_of_an_active_token_has_its_properties_but_not_the_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let body = json!({
        "expiryType": "SlidingTtl",
        "ttl": 60,
        "name": "phone",
        "scope": "read orders:read",
        "metadata": { "plan": "pro", "seats": 3, "trial": false },
    });
    let minted = mint(&service, &bob, &body).await;
    service.clock.advance(2);
    assert!(service.is_active(&minted.token).await);
    let answer = get(&service, &bob, &minted.id).await;
    assert_eq!(
        answer.json(),
        json!({
            "tokenId": minted.id,
            "name": "phone",
            "expiryType": "SlidingTtl",
            "createdAt": "2100-01-01T00:00:00Z",
            "lastUsedAt": "2100-01-01T00:00:02Z",
            "expiresAt": "2100-01-01T00:01:02Z",
            "scope": "read orders:read",
            "metadata": { "plan": "pro", "seats": 3, "trial": false },
            "disabled": false,
            "state": "active",
        })
    );
    assert!(!answer.body.contains(&minted.token));

    let minted = mint(&service, &bob, &json!({ "expiryType": "Infinite" })).await;
    assert_eq!(
        record(&service, &bob, &minted.id).await,
        json!({
            "tokenId": minted.id,
            "name": null,
            "expiryType": "Infinite",
            "createdAt": "2100-01-01T00:00:02Z",
            "lastUsedAt": null,
            "expiresAt": null,
            "scope": "read write",
            "disabled": false,
            "state": "active",
        })
    );
}

#[tokio::test]
async fn the_record_is_the_entry_of_the_list_and_the_state() {
    let (service, bob) = with_bob().await;
    ask(&service, "POST", &json!({ "email": BOB })).await;
    mint(&service, &bob, &json!({ "metadata": { "a": 1 } })).await;
    let minted = mint(&service, &bob, &json!({ "name": "phone" })).await;
    let disable = r#"{"disabled":true}"#;
    service
        .manage("PATCH", &path(&bob, &minted.id), disable)
        .await;
    let list = service
        .manage("GET", &format!("/api/users/{bob}/tokens"), "")
        .await
        .json();
    let tokens = list["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 3);
    for listed in tokens {
        let mut expected = listed.clone();
        expected["state"] = if listed["disabled"] == true {
            json!("disabled")
        } else {
            json!("active")
        };
        let id = listed["tokenId"].as_str().unwrap();
        assert_eq!(record(&service, &bob, id).await, expected);
    }
}

#[tokio::test]
async fn the_state_is_expired_from_the_expiry_on_even_if_the_token_is_disabled() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for (body, is_used) in [
        (json!({ "ttl": 60 }), false),
        (json!({ "expiryType": "SlidingTtl", "ttl": 60 }), false),
        // A use after the expiry makes the expiry permanent.
        (json!({ "expiryType": "SlidingTtl", "ttl": 60 }), true),
        (
            json!({ "expiryType": "SlidingTtl", "ttl": 100, "maxTtl": 60 }),
            false,
        ),
    ] {
        let minted = mint(&service, &bob, &body).await;
        let disabled = mint(&service, &bob, &body).await;
        let disable = r#"{"disabled":true}"#;
        let path = path(&bob, &disabled.id);
        let answer = service.manage("PATCH", &path, disable).await;
        assert_eq!(answer.status, 200);
        service.clock.advance(59);
        let active = record(&service, &bob, &minted.id).await;
        assert_eq!(active["state"], "active", "{body}");
        assert!(active.get("endedAt").is_none());
        let state = record(&service, &bob, &disabled.id).await["state"].clone();
        assert_eq!(state, "disabled", "{body}");

        service.clock.advance(1);
        if is_used {
            assert!(!service.is_active(&minted.token).await);
        }
        let mut expected = active.clone();
        expected["state"] = "expired".into();
        expected["endedAt"] = active["expiresAt"].clone();
        expected["endReason"] = "expired".into();
        assert_eq!(record(&service, &bob, &minted.id).await, expected, "{body}");
        expected["tokenId"] = disabled.id.clone().into();
        expected["disabled"] = true.into();
        assert_eq!(
            record(&service, &bob, &disabled.id).await,
            expected,
            "{body}"
        );
    }
}

#[tokio::test]
async fn the_record_of_a_revoked_token_says_when_why_and_with_which_token_it_was_revoked() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (server_id, server) = service.server_token(&service.ecosystem).await;
    let own = mint(&service, &bob, &json!({})).await;
    let account_id = id_of(&service.account_token);
    let body = json!({ "name": "phone", "scope": "orders", "metadata": { "a": 1 }, "ttl": 600 });
    for by in ["account", "server", "user", "itself", "disabled itself"] {
        let minted = mint(&service, &bob, &body).await;
        let active = record(&service, &bob, &minted.id).await;
        service.clock.advance(5);
        let path = path(&bob, &minted.id);
        let (credential, holder, ended_by) = match by {
            "account" => (&service.account_token, "account", &account_id),
            "server" => (&server, "server", &server_id),
            "user" => (&own.token, "user", &own.id),
            _ => (&minted.token, "user", &minted.id),
        };
        if by == "disabled itself" {
            service.manage("PATCH", &path, r#"{"disabled":true}"#).await;
        }
        if by.ends_with("itself") {
            revoke_itself(&service, &minted.token).await;
        } else {
            let answer = service.call(credential, "DELETE", &path, "").await;
            assert_eq!(answer.status, 204, "{answer:?}");
        }
        let ended = record(&service, &bob, &minted.id).await;
        let mut expected = active;
        expected["expiresAt"] = ended["endedAt"].clone();
        expected["state"] = "revoked".into();
        expected["endedAt"] = shared::domain::time::UnixSeconds(service.clock.seconds())
            .to_rfc3339()
            .into();
        expected["endReason"] = "revoked".into();
        expected["endedBy"] = json!({ "holder": holder, "tokenId": ended_by });
        assert_eq!(ended, expected, "{by}");
        // A later revocation, and the expiry of the token, do not change the record.
        service.clock.advance(1000);
        service.manage("DELETE", &path, "").await;
        revoke_itself(&service, &minted.token).await;
        assert_eq!(record(&service, &bob, &minted.id).await, expected, "{by}");
    }
}

#[tokio::test]
async fn the_record_of_a_token_whose_maker_was_revoked_says_so() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let maker = mint(&service, &bob, &json!({})).await;
    let mut chain = vec![maker.clone()];
    for _ in 0..2 {
        let last = &chain[chain.len() - 1].token;
        let made = service
            .call(last, "POST", "/api/auth/shortcode/create", "{}")
            .await;
        assert_eq!(made.status, 400, "{made:?}");
        let body = json!({ "userId": bob }).to_string();
        let made = service
            .call(last, "POST", "/api/auth/shortcode/create", &body)
            .await;
        let code = made.json()["shortcode"].as_str().unwrap().to_owned();
        chain.push(Minted::of(&consume(&service, &code).await));
    }
    service.manage("DELETE", &path(&bob, &maker.id), "").await;
    let by = json!({ "holder": "account", "tokenId": id_of(&service.account_token) });
    for (made, reason) in chain
        .iter()
        .zip(["revoked", "maker-revoked", "maker-revoked"])
    {
        let record = record(&service, &bob, &made.id).await;
        assert_eq!(record["state"], "revoked");
        assert_eq!(record["endReason"], reason);
        assert_eq!(record["endedBy"], by);
        assert_eq!(record["endedAt"], "2100-01-01T00:00:00Z");
    }
}

#[tokio::test]
async fn the_record_of_a_revoked_token_is_shown_for_90_days_even_if_all_tokens_are_revoked() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = mint(&service, &bob, &json!({})).await;
    service.manage("DELETE", &path(&bob, &minted.id), "").await;
    let ended = record(&service, &bob, &minted.id).await;
    service
        .manage("DELETE", &format!("/api/users/{bob}/tokens"), "")
        .await;
    assert_eq!(record(&service, &bob, &minted.id).await, ended);
    let items = service.token_items(&bob).await;
    let delete_at: u64 = items[0]["expires_at"].as_n().unwrap().parse().unwrap();
    assert_eq!(delete_at, service.clock.seconds() + 90 * 24 * 60 * 60);
}

#[tokio::test]
async fn a_token_that_ended_with_all_others_of_its_user_gets_a_404() {
    let (service, bob) = with_bob().await;
    let user = format!("/api/users/{bob}");
    for (method, path, body) in [
        ("DELETE", format!("{user}/tokens"), ""),
        ("PUT", user.clone(), r#"{"password":"another one"}"#),
        ("PUT", user.clone(), r#"{"email":"b@example.com"}"#),
        // An inactive user's tokens end permanently.
        ("PUT", user.clone(), r#"{"active":false}"#),
    ] {
        let minted = mint(&service, &bob, &json!({})).await;
        let disabled = mint(&service, &bob, &json!({})).await;
        let disable = r#"{"disabled":true}"#;
        service
            .manage("PATCH", &self::path(&bob, &disabled.id), disable)
            .await;
        let answer = service.manage(method, &path, body).await;
        assert!(answer.status < 300, "{answer:?}");
        for made in [&minted, &disabled] {
            assert_no_token(&get(&service, &bob, &made.id).await, &made.id);
            let path = self::path(&bob, &made.id);
            let answer = service
                .manage("PATCH", &path, r#"{"disabled":false}"#)
                .await;
            assert_no_token(&answer, &made.id);
            assert_no_token(&service.manage("DELETE", &path, "").await, &made.id);
            assert_no_token(&get(&service, &bob, &made.id).await, &made.id);
            assert!(!service.is_active(&made.token).await, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_token_that_ended_with_the_environment_of_its_user_gets_a_404() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let body = json!({ "environmentId": environment });
    let (made, code) = code(&service, body).await;
    let user = made["userId"].as_str().unwrap();
    let minted = Minted::of(&consume(&service, &code).await);
    let path = path(user, &minted.id);
    assert_eq!(record(&service, user, &minted.id).await["state"], "active");
    service
        .manage("DELETE", &format!("/api/environments/{environment}"), "")
        .await;
    assert_no_token(&get(&service, user, &minted.id).await, &minted.id);
    let answer = service.manage("PATCH", &path, r#"{"name":"a"}"#).await;
    assert_no_token(&answer, &minted.id);
    let answer = service.manage("DELETE", &path, "").await;
    assert_no_token(&answer, &minted.id);
    assert_no_token(&get(&service, user, &minted.id).await, &minted.id);
}

#[tokio::test]
async fn a_later_revocation_of_an_expired_token_leaves_its_record() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = mint(&service, &bob, &json!({ "ttl": 60, "name": "phone" })).await;
    service.clock.advance(60);
    let expired = record(&service, &bob, &minted.id).await;
    service.clock.advance(5);
    let answer = service.manage("DELETE", &path(&bob, &minted.id), "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(record(&service, &bob, &minted.id).await, expired);
}

#[tokio::test]
async fn the_state_of_a_sliding_token_is_the_state_at_the_moment_of_the_response() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let body = json!({ "expiryType": "SlidingTtl", "ttl": 60 });
    let minted = mint(&service, &bob, &body).await;
    service.clock.advance(60);
    service.database.take_calls();
    assert_eq!(record(&service, &bob, &minted.id).await["state"], "expired");
    // A request for the record changes nothing, so it does not end the token permanently.
    assert_eq!(service.database.take_operations(), ["BatchGetItem"]);
    // A use from the last second before the expiry arrives late.
    service.clock.go_back(1);
    assert!(service.is_active(&minted.token).await);
    service.clock.advance(1);
    assert_eq!(record(&service, &bob, &minted.id).await["state"], "active");
    // A use after the expiry ends the token permanently.
    service.clock.advance(60);
    assert!(!service.is_active(&minted.token).await);
    service.clock.go_back(60);
    assert!(!service.is_active(&minted.token).await);
}

#[tokio::test]
async fn an_unknown_token_and_the_token_of_somebody_else_get_the_same_404() {
    let service = Service::start().await;
    let (bob, eve) = (service.user("bob").await, service.user("eve").await);
    let of_eve = mint(&service, &eve, &json!({})).await.id;
    let (of_server, _) = service.server_token(&service.ecosystem).await;
    let of_account = id_of(&service.account_token);
    // This is what an earlier release left of a token that it revoked.
    let marked = mint(&service, &bob, &json!({})).await.id;
    let key = service.owner(&bob).await.id;
    service.put_old_mark(&key, &marked).await;
    for id in [NO_TOKEN, &of_eve, &of_server, &of_account, &marked] {
        service.database.take_calls();
        assert_no_token(&get(&service, &bob, id).await, id);
        assert_eq!(service.database.take_operations(), ["BatchGetItem"]);
    }
    // A user with the same name in another ecosystem.
    let elsewhere = service.another_ecosystem().await;
    let other = format!("{};eve", elsewhere.id.as_str());
    service
        .manage("PUT", &format!("/api/users/{other}"), "{}")
        .await;
    assert_no_token(&get(&service, &other, &of_eve).await, &of_eve);
    let nobody = format!("{};nobody", service.ecosystem.id.as_str());
    let answer = get(&service, &nobody, &of_eve).await;
    assert_unknown(&answer, &format!("User with id {nobody} does not exist."));
    let (foreign, _) = service.another_account().await;
    let answer = service
        .call(&foreign, "GET", &path(&eve, &of_eve), "")
        .await;
    let ecosystem = service.ecosystem.id.as_str();
    let text = format!("Ecosystem with id {ecosystem} does not exist.");
    assert_unknown(&answer, &text);
}

#[tokio::test]
async fn an_e_mail_token_has_a_record_too() {
    let (service, bob) = with_bob().await;
    let date = (service.clock.seconds() + 60) * 1000;
    let body = json!({ "email": BOB, "expiration_date": date, "write": false });
    let made = datum(&ask(&service, "POST", &body).await);
    let id = made["tokenId"].as_str().unwrap();
    let active = record(&service, &bob, id).await;
    assert_eq!(
        (&active["state"], &active["scope"], &active["expiresAt"]),
        (
            &json!("active"),
            &json!("read"),
            &json!("2100-01-01T00:01:00Z")
        )
    );
    service.clock.advance(60);
    assert_eq!(record(&service, &bob, id).await["state"], "expired");
    // Only an e-mail token can become valid again.
    ask(&service, "PUT", &json!({ "email": BOB, "write": true })).await;
    let renewed = record(&service, &bob, id).await;
    assert_eq!(
        (&renewed["state"], &renewed["scope"], &renewed["expiresAt"]),
        (&json!("active"), &json!("read write"), &Value::Null)
    );
    revoke_itself(&service, &value(&service, BOB).await).await;
    let ended = record(&service, &bob, id).await;
    assert_eq!(
        (&ended["state"], &ended["expiryType"]),
        (&json!("revoked"), &json!("Infinite"))
    );
    assert_eq!(ended["endedBy"]["tokenId"], id);
    // An e-mail token with a date keeps its expiry type.
    let date = (service.clock.seconds() + 60) * 1000;
    let body = json!({ "email": BOB, "expiration_date": date });
    let made = datum(&ask(&service, "POST", &body).await);
    let id = made["tokenId"].as_str().unwrap();
    let active = record(&service, &bob, id).await;
    revoke_itself(&service, &value(&service, BOB).await).await;
    let ended = record(&service, &bob, id).await;
    for record in [active, ended] {
        assert_eq!(record["expiryType"], "FixedTtl");
    }
}

#[tokio::test]
async fn an_invalid_id_or_a_query_field_gets_a_400() {
    let service = Service::start().await;
    let answer = service
        .manage("GET", "/api/users/bob/tokens/nonsense?query=1", "")
        .await;
    let query = "contains fields that are not allowed: [ query ]";
    assert_invalid(
        &answer,
        &[
            ("path", "id", "invalid user id"),
            ("path", "tokenId", "invalid token id"),
            ("query", "additional parameters", query),
        ],
    );
}
