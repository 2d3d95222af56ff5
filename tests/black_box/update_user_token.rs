//! Tests of `PATCH /api/users/{id}/tokens/{tokenId}`: changes of a token, and disabled tokens.

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use shared::{App, store::item::Item};
use tests::{Answer, Event, Fault, Service, rounds};

use crate::{
    assert_invalid, assert_unauthorized, assert_unknown,
    authorize::{allows, decide_with, events},
    consume_shortcode::consume,
    create_email_token::{BOB, ask, datum, with_bob},
    get_user_token::{Minted, NO_TOKEN, assert_no_token, get, mint, path, record, revoke_itself},
};

const DISABLE: &str = r#"{"disabled":true}"#;
const ENABLE: &str = r#"{"disabled":false}"#;

/// Changes a user's token.
async fn patch(service: &Service, user: &str, id: &str, body: &str) -> Answer {
    service.manage("PATCH", &path(user, id), body).await
}

/// Returns the same request as [`patch`] for any execution environment.
fn change(service: &Service, user: &str, id: &str, body: &str) -> Event {
    Event::to("update-user-token")
        .header("authorization", &service.account_token)
        .parameter("id", user)
        .parameter("tokenId", id)
        .json_body(body)
}

/// Asserts a 409 with this message.
pub(crate) fn assert_conflict(answer: &Answer, message: &str) {
    assert_eq!(answer.status, 409, "{answer:?}");
    let expected = json!({ "errorType": "Conflict", "errors": [{ "message": message }] });
    assert_eq!(answer.json(), expected);
}

/// Returns whether introspection in this execution environment says that a token is active.
async fn is_active_in(service: &Service, app: &App, token: &str) -> bool {
    let answer = service.introspection(token).send(app).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["active"] == true
}

#[tokio::test]
async fn each_field_changes_alone_and_what_is_omitted_stays() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let body = json!({
        "expiryType": "SlidingTtl",
        "ttl": 60,
        "name": "phone",
        "scope": "read write orders",
        "metadata": { "plan": "pro" },
    });
    let minted = mint(&service, &bob, &body).await;
    let mut expected = record(&service, &bob, &minted.id).await;
    for (body, name, value) in [
        (r#"{"name":"tablet"}"#, "name", json!("tablet")),
        (r#"{"scope":"read"}"#, "scope", json!("read")),
        // An account may also add scopes.
        (r#"{"scope":"write bills"}"#, "scope", json!("write bills")),
        (
            r#"{"metadata":{"seats":2,"trial":true}}"#,
            "metadata",
            json!({ "seats": 2, "trial": true }),
        ),
        (r#"{"metadata":{}}"#, "metadata", json!({})),
        (r#"{"name":null}"#, "name", Value::Null),
        ("{}", "name", Value::Null),
        (ENABLE, "disabled", json!(false)),
        (r#"{"metadata":null}"#, "metadata", Value::Null),
    ] {
        let answer = patch(&service, &bob, &minted.id, body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        expected[name] = value;
        if expected["metadata"].is_null() {
            expected.as_object_mut().unwrap().remove("metadata");
        }
        assert_eq!(answer.json(), expected, "{body}");
        assert_eq!(record(&service, &bob, &minted.id).await, expected, "{body}");
        let claims = service.introspect(&minted.token).await.json();
        assert_eq!(claims["scope"], expected["scope"], "{body}");
        assert_eq!(claims.get("metadata"), expected.get("metadata"), "{body}");
        expected["lastUsedAt"] = "2100-01-01T00:00:00Z".into();
    }
    let all = r#"{"name":"a","scope":"x","metadata":{"b":1},"disabled":true}"#;
    let answer = patch(&service, &bob, &minted.id, all).await;
    for (name, value) in [
        ("name", json!("a")),
        ("scope", json!("x")),
        ("metadata", json!({ "b": 1 })),
        ("disabled", json!(true)),
        ("state", json!("disabled")),
    ] {
        expected[name] = value;
    }
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn a_change_does_not_shorten_or_extend_the_life_of_a_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for body in [
        json!({ "ttl": 60 }),
        json!({ "expiryType": "SlidingTtl", "ttl": 60 }),
    ] {
        let minted = mint(&service, &bob, &body).await;
        service.clock.advance(59);
        for body in [DISABLE, r#"{"name":"phone","scope":"read"}"#, ENABLE] {
            assert_eq!(patch(&service, &bob, &minted.id, body).await.status, 200);
        }
        service.clock.advance(1);
        assert!(!service.is_active(&minted.token).await);
    }
}

#[tokio::test]
async fn an_invalid_body_gets_a_400_that_names_the_field_and_changes_nothing() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = mint(&service, &bob, &json!({ "name": "phone" })).await;
    let before = record(&service, &bob, &minted.id).await;
    let name = "field must be 1 to 64 characters, none of them a control character";
    let scope = "field must be scopes separated by single spaces, each of 1 to 64 printable ASCII \
                 characters without \" and \\";
    for (body, path, message) in [
        (r#"{"name":""}"#, "name", name),
        (r#"{"name":1}"#, "name", "expected field to be a string"),
        (r#"{"scope":null}"#, "scope", scope),
        (r#"{"scope":""}"#, "scope", scope),
        (r#"{"scope":["read"]}"#, "scope", scope),
        (
            r#"{"metadata":"a"}"#,
            "metadata",
            "expected field to be an object",
        ),
        (
            r#"{"disabled":null}"#,
            "disabled",
            "expected field to be a boolean",
        ),
        (
            r#"{"disabled":"true"}"#,
            "disabled",
            "expected field to be a boolean",
        ),
        (
            r#"{"name":"a","name":"b"}"#,
            "name",
            "field must be given once",
        ),
        (
            r#"{"name":"tablet","ttl":60,"expiryType":"Infinite"}"#,
            "additional parameters",
            "contains fields that are not allowed: [ ttl, expiryType ]",
        ),
    ] {
        let answer = patch(&service, &bob, &minted.id, body).await;
        assert_invalid(&answer, &[("body", path, message)]);
    }
    let answer = service
        .manage(
            "PATCH",
            "/api/users/bob/tokens/nonsense?name=tablet",
            r#"{"scope":" ","disabled":0}"#,
        )
        .await;
    let query = "contains fields that are not allowed: [ name ]";
    assert_invalid(
        &answer,
        &[
            ("path", "id", "invalid user id"),
            ("path", "tokenId", "invalid token id"),
            ("query", "additional parameters", query),
            ("body", "scope", scope),
            ("body", "disabled", "expected field to be a boolean"),
        ],
    );
    for body in ["", "[]", "null", "{"] {
        let event = change(&service, &bob, &minted.id, body);
        let answer = event.send(&service.app).await;
        let error = json!([{ "message": "the body is not a JSON object" }]);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert_eq!(answer.json()["errors"], error, "{body}");
    }
    let event = change(&service, &bob, &minted.id, "{}").header("content-type", "text/plain");
    assert_eq!(event.send(&service.app).await.status, 415);
    assert_eq!(record(&service, &bob, &minted.id).await, before);
}

#[tokio::test]
async fn a_token_that_ended_and_an_e_mail_token_get_a_409_and_an_unknown_token_a_404() {
    let (service, bob) = with_bob().await;
    let made = datum(&ask(&service, "POST", &json!({ "email": BOB })).await);
    let id = made["tokenId"].as_str().unwrap();
    for body in ["{}", r#"{"name":"a"}"#, DISABLE, ENABLE] {
        let answer = patch(&service, &bob, id, body).await;
        assert_conflict(&answer, "token is an e-mail token");
    }
    assert_eq!(record(&service, &bob, id).await["name"], Value::Null);

    let eve = service.user("eve").await;
    let of_eve = mint(&service, &eve, &json!({})).await.id;
    for id in [NO_TOKEN, &of_eve] {
        assert_no_token(&patch(&service, &bob, id, DISABLE).await, id);
    }
    assert_eq!(record(&service, &eve, &of_eve).await["state"], "active");
    let nobody = format!("{};nobody", service.ecosystem.id.as_str());
    let answer = patch(&service, &nobody, &of_eve, DISABLE).await;
    assert_unknown(&answer, &format!("User with id {nobody} does not exist."));

    for expiry in [
        json!({ "ttl": 60 }),
        json!({ "expiryType": "SlidingTtl", "ttl": 60 }),
        json!({ "expiryType": "SlidingTtl", "ttl": 100, "maxTtl": 60 }),
    ] {
        let [expired, disabled, revoked] = [
            mint(&service, &bob, &expiry).await,
            mint(&service, &bob, &expiry).await,
            mint(&service, &bob, &expiry).await,
        ];
        patch(&service, &bob, &disabled.id, DISABLE).await;
        service.manage("DELETE", &path(&bob, &revoked.id), "").await;
        service.clock.advance(60);
        for made in [&expired, &disabled, &revoked] {
            let before = record(&service, &bob, &made.id).await;
            for body in ["{}", r#"{"name":"a"}"#, DISABLE, ENABLE] {
                let answer = patch(&service, &bob, &made.id, body).await;
                assert_conflict(&answer, "token has ended");
            }
            assert_eq!(record(&service, &bob, &made.id).await, before);
            assert!(!service.is_active(&made.token).await);
        }
    }
}

/// Asserts that a user's token is invalid wherever a token is verified.
async fn assert_invalid_everywhere(service: &Service, apps: &[&App], user: &str, minted: &Minted) {
    let token = &minted.token;
    for app in apps {
        // Twice, because an execution environment remembers rejections.
        for _ in 0..2 {
            assert!(!is_active_in(service, app, token).await);
            for event in events(token) {
                match decide_with(app, &event).await {
                    Ok(decision) => assert!(!allows(&decision), "{decision}"),
                    // API Gateway turns this error into a 401 for the client.
                    Err(error) => assert_eq!(error, "Unauthorized"),
                }
            }
            let list = Event::to("list-user-tokens")
                .header("authorization", token)
                .parameter("id", user);
            let challenge = r#"Bearer realm="tokenry", error="invalid_token""#;
            assert_unauthorized(&list.send(app).await, challenge);
            let whoami = Event::to("whoami").header("authorization", token);
            assert_eq!(whoami.send(app).await.status, 401);
            let code = Event::to("create-shortcode")
                .header("authorization", token)
                .json_body(&json!({ "userId": user }).to_string());
            assert_unauthorized(&code.send(app).await, challenge);
        }
    }
}

#[tokio::test]
async fn a_disabled_token_is_invalid_everywhere_until_it_is_enabled_in_the_same_second_or_later() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    // This execution environment verifies the token only while it is disabled.
    let other = service.another_environment();
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let minted = mint(&service, &bob, &json!({ "expiryType": kind })).await;
        for seconds in [0, 0, 1, 40] {
            service.clock.advance(seconds);
            assert!(service.is_active(&minted.token).await, "{kind} {seconds}");
            let disabled = patch(&service, &bob, &minted.id, DISABLE).await;
            assert_eq!(disabled.json()["state"], "disabled");
            let fresh = service.another_environment();
            let apps = [&*service.app, &other, &fresh];
            assert_invalid_everywhere(&service, &apps, &bob, &minted).await;
            // A second request to disable the token changes nothing.
            let again = patch(&service, &bob, &minted.id, DISABLE).await;
            assert_eq!(again.json(), disabled.json());
            service.clock.advance(seconds);
            assert_invalid_everywhere(&service, &apps, &bob, &minted).await;

            let enabled = patch(&service, &bob, &minted.id, ENABLE).await;
            assert_eq!(enabled.json()["state"], "active");
            for app in [apps[0], apps[1], apps[2], &service.another_environment()] {
                let is_active = is_active_in(&service, app, &minted.token).await;
                assert!(is_active, "{kind} {seconds}");
            }
        }
    }
}

#[tokio::test]
async fn the_item_of_a_disabled_token_has_no_token_hash_so_earlier_releases_reject_it() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = mint(&service, &bob, &json!({ "expiryType": "SlidingTtl" })).await;
    let key = service.owner(&bob).await.id;
    let enabled = service.token_item(&key, &minted.id).await.unwrap();
    let hash = enabled["token_hash"].clone();
    patch(&service, &bob, &minted.id, DISABLE).await;
    let mut expected = enabled.clone();
    expected.remove("token_hash");
    expected.insert("disabled_hash".to_owned(), hash);
    let revision = |revision: u32| aws_sdk_dynamodb::types::AttributeValue::N(revision.to_string());
    expected.insert("revision".to_owned(), revision(2));
    assert_eq!(
        service.token_item(&key, &minted.id).await.unwrap(),
        expected
    );
    // A renewal does not change the item.
    service.clock.advance(1);
    assert!(!service.is_active(&minted.token).await);
    assert_eq!(
        service.token_item(&key, &minted.id).await.unwrap(),
        expected
    );
    patch(&service, &bob, &minted.id, ENABLE).await;
    let mut again = enabled;
    again.insert("revision".to_owned(), revision(3));
    assert_eq!(service.token_item(&key, &minted.id).await.unwrap(), again);
}

#[tokio::test]
async fn a_disabled_sliding_token_costs_one_write_a_second_and_is_renewed_once_it_is_enabled() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = mint(&service, &bob, &json!({ "expiryType": "SlidingTtl" })).await;
    service.clock.advance(1);
    patch(&service, &bob, &minted.id, DISABLE).await;
    let operations = async || {
        service.database.take_calls();
        let is_active = service.is_active(&minted.token).await;
        (is_active, service.database.take_operations().join(" "))
    };
    let both = "BatchGetItem UpdateItem".to_owned();
    let read = "BatchGetItem".to_owned();
    assert_eq!(operations().await, (false, both.clone()));
    for _ in 0..3 {
        assert_eq!(operations().await, (false, read.clone()));
        service.clock.advance(1);
        assert_eq!(operations().await, (false, both.clone()));
    }
    patch(&service, &bob, &minted.id, ENABLE).await;
    assert_eq!(operations().await, (true, both.clone()));
    assert_eq!(operations().await, (true, read));
    let record = record(&service, &bob, &minted.id).await;
    assert_eq!(record["lastUsedAt"], "2100-01-01T00:00:04Z");
}

#[tokio::test]
async fn a_use_that_begins_after_the_token_was_enabled_does_not_get_an_earlier_rejection() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let other = service.another_environment();
    let minted = mint(&service, &bob, &json!({ "expiryType": "SlidingTtl" })).await;
    service.clock.advance(1);
    patch(&service, &bob, &minted.id, DISABLE).await;
    service.database.take_calls();
    // The first use's renewal is rejected, but its response arrives only after the second use has
    // begun: the creation of another token makes the call `PutItem`.
    let database = &service.database;
    database.fail([("UpdateItem", Fault::AnswerNotBefore("PutItem"))]);
    let verify = service.introspection(&minted.token);
    let enable = change(&service, &bob, &minted.id, ENABLE);
    let another = Event::to("create-user-token")
        .header("authorization", &service.account_token)
        .parameter("id", &bob);
    let later = async {
        database.has_arrived("UpdateItem").await;
        assert_eq!(enable.send(&other).await.status, 200);
        join(verify.send(&service.app), another.send(&other))
            .await
            .0
    };
    let (_, second) = Box::pin(join(verify.send(&service.app), later)).await;
    assert_eq!(second.json()["active"], true, "{second:?}");
}

#[tokio::test]
async fn a_code_whose_maker_is_disabled_gives_no_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let environment = service.environment(&service.ecosystem).await;
    let (server_id, server) = service.server_token(&service.ecosystem).await;
    let minted = mint(&service, &bob, &json!({})).await;
    let ecosystem = service.ecosystem.id.as_str();
    let server_path = format!("/api/ecosystems/{ecosystem}/tokens/{server_id}");
    let for_user = json!({ "userId": bob }).to_string();
    let for_environment = json!({ "environmentId": environment }).to_string();
    for (credential, path, body) in [
        (&minted.token, &path(&bob, &minted.id), &for_user),
        (&server, &server_path, &for_user),
        (&server, &server_path, &for_environment),
    ] {
        let create = "/api/auth/shortcode/create";
        let made = service.call(credential, "POST", create, body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let code = made.json()["shortcode"].as_str().unwrap().to_owned();
        assert_eq!(service.manage("PATCH", path, DISABLE).await.status, 200);
        let tokens = service.count_tokens().await;
        let text = format!("Shortcode {code} does not exist.");
        assert_unknown(&consume(&service, &code).await, &text);
        assert_eq!(service.count_tokens().await, tokens);
        assert_eq!(service.manage("PATCH", path, ENABLE).await.status, 200);
        let made = service.call(credential, "POST", create, body).await;
        let code = made.json()["shortcode"].as_str().unwrap().to_owned();
        assert_eq!(consume(&service, &code).await.status, 200);
    }
}

#[tokio::test]
async fn a_code_whose_maker_is_disabled_during_the_exchange_gives_no_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let other = service.another_environment();
    let minted = mint(&service, &bob, &json!({})).await;
    let body = json!({ "userId": bob }).to_string();
    let made = service
        .call(&minted.token, "POST", "/api/auth/shortcode/create", &body)
        .await;
    let code = made.json()["shortcode"].as_str().unwrap().to_owned();
    let (disable, list) = (
        change(&service, &bob, &minted.id, DISABLE),
        Event::to("list-user-tokens")
            .header("authorization", &service.account_token)
            .parameter("id", &bob),
    );
    service.database.take_calls();
    // The transaction of the exchange waits until the maker is disabled: the list of tokens makes
    // the call `Query`.
    let database = &service.database;
    database.fail([("TransactWriteItems", Fault::NotBefore("Query"))]);
    let disabled = async {
        database.has_arrived("TransactWriteItems").await;
        assert_eq!(disable.send(&other).await.status, 200);
        list.send(&other).await
    };
    let (exchanged, listed) = Box::pin(join(consume(&service, &code), disabled)).await;
    assert_unknown(&exchanged, &format!("Shortcode {code} does not exist."));
    assert_eq!(listed.json()["tokens"].as_array().unwrap().len(), 1);
    assert_eq!(service.token_items(&bob).await.len(), 1);
}

#[tokio::test]
async fn a_disabled_token_can_be_revoked_in_each_way_and_then_not_be_enabled() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for by in ["its id", "its value", "a revocation of all tokens"] {
        let minted = mint(&service, &bob, &json!({ "expiryType": "SlidingTtl" })).await;
        // The token has made another token, which ends with it.
        let body = json!({ "userId": bob }).to_string();
        let made = service
            .call(&minted.token, "POST", "/api/auth/shortcode/create", &body)
            .await;
        let code = made.json()["shortcode"].as_str().unwrap().to_owned();
        let child = Minted::of(&consume(&service, &code).await);
        patch(&service, &bob, &minted.id, DISABLE).await;
        // A token that was made before stays valid while its maker is disabled.
        assert!(service.is_active(&child.token).await);
        let all = format!("/api/users/{bob}/tokens");
        match by {
            "its id" => {
                let answer = service.manage("DELETE", &path(&bob, &minted.id), "").await;
                assert_eq!(answer.status, 204);
            }
            "its value" => revoke_itself(&service, &minted.token).await,
            _ => assert_eq!(service.manage("DELETE", &all, "").await.status, 204),
        }
        for _ in 0..2 {
            let answer = patch(&service, &bob, &minted.id, ENABLE).await;
            if by == "a revocation of all tokens" {
                assert_no_token(&answer, &minted.id);
            } else {
                assert_conflict(&answer, "token has ended");
                let state = record(&service, &bob, &minted.id).await["state"].clone();
                assert_eq!(state, "revoked");
            }
            for made in [&minted, &child] {
                assert!(!service.is_active(&made.token).await, "revoked by {by}");
            }
            service.clock.advance(1);
        }
        let key = service.owner(&bob).await.id;
        let item = service.token_item(&key, &minted.id).await;
        let has_hash =
            |item: &Item| item.contains_key("token_hash") || item.contains_key("disabled_hash");
        assert!(!item.is_some_and(|item| has_hash(&item)));
    }
}

#[tokio::test]
async fn no_concurrent_change_is_lost_and_a_revoked_token_is_never_enabled_in_200_rounds() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let other = service.another_environment();
    let key = service.owner(&bob).await.id;
    for round in 0..rounds(200) {
        let is_revoked = round % 2 == 1;
        // Each use renews the sliding token, or stores the first use after an hour.
        let (kind, seconds) = match round % 3 {
            0 => ("Infinite", 2 * 60 * 60),
            _ => ("SlidingTtl", 1),
        };
        let body = json!({ "expiryType": kind, "ttl": 100, "name": "old" });
        let minted = mint(&service, &bob, &body).await;
        if round % 4 >= 2 {
            patch(&service, &bob, &minted.id, DISABLE).await;
        }
        service.clock.advance(seconds);
        let toggle = if round % 4 >= 2 { ENABLE } else { DISABLE };
        let mut changes = [
            r#"{"name":"new"}"#,
            r#"{"scope":"read"}"#,
            r#"{"metadata":{"round":1}}"#,
            toggle,
        ];
        let first = round as usize % changes.len();
        changes.rotate_left(first);
        let changes = changes.iter().enumerate().map(|(number, body)| {
            let app = if number % 2 == 0 {
                &*service.app
            } else {
                &other
            };
            let event = change(&service, &bob, &minted.id, body);
            async move { event.send(app).await }
        });
        let verify = service.introspection(&minted.token);
        let uses = [&*service.app, &other, &service.app, &other];
        let uses = join_all(uses.map(|app| verify.send(app)));
        let revoked = async {
            if !is_revoked {
                return;
            }
            let revoke = match round % 8 {
                1 | 7 => Event::to("revoke-token").form(&format!("token={}", minted.token)),
                _ => Event::to("revoke-user-token")
                    .header("authorization", &service.account_token)
                    .parameter("id", &bob)
                    .parameter("tokenId", &minted.id),
            };
            let answer = revoke.send(&other).await;
            assert!([200, 204].contains(&answer.status), "{answer:?}");
            for app in [&*service.app, &other] {
                let is_active = is_active_in(&service, app, &minted.token).await;
                assert!(!is_active, "round {round}");
            }
        };
        let both = join(join_all(changes), uses);
        let ((answers, _), ()) = Box::pin(join(both, revoked)).await;
        for answer in &answers {
            match answer.status {
                409 if is_revoked => assert_conflict(answer, "token has ended"),
                status => assert_eq!(status, 200, "round {round}: {answer:?}"),
            }
        }
        let record = record(&service, &bob, &minted.id).await;
        if is_revoked {
            assert_eq!(record["state"], "revoked", "round {round}");
            for app in [&*service.app, &other] {
                let enable = change(&service, &bob, &minted.id, ENABLE).send(app).await;
                assert_conflict(&enable, "token has ended");
                assert!(!is_active_in(&service, app, &minted.token).await);
            }
            let item = service.token_item(&key, &minted.id).await.unwrap();
            assert!(item.contains_key("ended_hash"), "round {round}");
            assert!(!item.contains_key("token_hash"), "round {round}");
            assert!(!item.contains_key("disabled_hash"), "round {round}");
        } else {
            assert_eq!(
                (&record["name"], &record["scope"], &record["metadata"]),
                (&json!("new"), &json!("read"), &json!({ "round": 1 })),
                "round {round}"
            );
            assert_eq!(record["disabled"], toggle == DISABLE, "round {round}");
            for app in [&*service.app, &other] {
                let is_active = is_active_in(&service, app, &minted.token).await;
                assert_eq!(is_active, toggle == ENABLE, "round {round}");
            }
            assert_eq!(get(&service, &bob, &minted.id).await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_change_whose_response_was_lost_is_stored_once() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = mint(&service, &bob, &json!({})).await;
    for (body, state) in [(DISABLE, "disabled"), (ENABLE, "active")] {
        service.database.fail([("UpdateItem", Fault::AnswerLost)]);
        let event = change(&service, &bob, &minted.id, body);
        let answer = event.send(&service.app).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["state"], state);
        assert_eq!(record(&service, &bob, &minted.id).await, answer.json());
    }
}
