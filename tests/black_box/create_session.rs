//! Tests of `POST /api/auth/sessions`. The tests that use [`tests::LOG_INS`] check what this
//! endpoint and `POST /_/user-token/value` have in common.

use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use shared::domain::{time::UnixSeconds, token::ExpiryType};
use tests::{Answer, Event, Fault, Service, pause, rounds};

use crate::{
    assert_invalid, assert_scope_missing,
    create_email_token::{BOB, PASSWORD, server, with_bob},
    update_ecosystem::change,
};

const PATH: &str = "/api/auth/sessions";

/// Returns the session's token.
pub(crate) fn session(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let token = answer.json()["token"].clone();
    token.as_str().expect("the token is a string").to_owned()
}

/// Sends a log-in of `bob` with these additional fields and this credential.
async fn send(service: &Service, credential: &str, fields: Value) -> Answer {
    let mut body = json!({ "email": BOB, "password": PASSWORD });
    for (name, value) in fields.as_object().expect("the fields are an object") {
        body[name] = value.clone();
    }
    Event::to("create-session")
        .header("authorization", credential)
        .json_body(&body.to_string())
        .send(&service.app)
        .await
}

#[tokio::test]
async fn each_log_in_creates_a_session_that_every_use_renews_until_its_max_ttl() {
    let (service, bob) = with_bob().await;
    let body = json!({ "email": BOB, "password": PASSWORD, "name": "phone" }).to_string();
    let request = service.request("POST", PATH);
    let request = request.header("content-type", "application/json");
    let answer = service.send(request.body(body)).await;
    let first = session(&answer);
    let now = service.app.now().seconds().0;
    let time = |seconds| UnixSeconds(seconds).to_rfc3339();
    let expected = json!({
        "token": first,
        "tokenId": answer.json()["tokenId"],
        "expiryType": "SlidingTtl",
        "expiresAt": time(now + 1_209_600),
        "scope": "read write",
        "userId": bob,
    });
    assert_eq!(answer.json(), expected);
    // Another device gets another token. Its log-in changes nothing about the first one.
    let second = session(
        &service
            .create_session("192.0.2.2", "BOB@example.com", PASSWORD)
            .await,
    );
    assert_ne!(first, second);

    service.clock.advance(1_209_599);
    let claims = service.introspect(&first).await.json();
    assert_eq!(claims["sub"], bob.as_str());
    assert_eq!(claims["expiry_type"], "SlidingTtl");
    assert_eq!(claims["exp"], now + 1_209_599 + 1_209_600);
    service.clock.advance(1);
    assert!(
        !service.is_active(&second).await,
        "nobody used this session"
    );
    let tokens = format!("/api/users/{bob}/tokens");
    let listed = service.call(&first, "GET", &tokens, "").await.json();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 1);
    assert_eq!(listed["tokens"][0]["name"], "phone");
    assert_eq!(
        listed["tokens"][0]["lastUsedAt"],
        json!(time(now + 1_209_600))
    );
    for _ in 0..6 {
        assert!(service.is_active(&first).await);
        service.clock.advance(1_000_000);
    }
    assert!(service.is_active(&first).await);
    let left = now + 7_776_000 - service.app.now().seconds().0;
    service.clock.advance(left - 1);
    assert!(service.is_active(&first).await);
    service.clock.advance(1);
    assert!(!service.is_active(&first).await);
}

#[tokio::test]
async fn a_user_lists_renames_and_revokes_its_sessions_and_logs_out_with_the_token_alone() {
    let (service, bob) = with_bob().await;
    let own = session(&service.create_session("192.0.2.1", BOB, PASSWORD).await);
    service.clock.advance(1);
    let other = send(&service, "", json!({ "name": "lost phone" })).await;
    let (id, other) = (other.json()["tokenId"].clone(), session(&other));
    let id = id.as_str().unwrap();
    let tokens = format!("/api/users/{bob}/tokens");
    let listed = service.call(&own, "GET", &tokens, "").await.json();
    assert_eq!(listed["tokens"][0]["tokenId"], id);
    assert_eq!(listed["tokens"][0]["name"], "lost phone");
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2);
    let path = format!("{tokens}/{id}");
    let renamed = service.call(&own, "PATCH", &path, r#"{"name":"found phone"}"#);
    assert_eq!(renamed.await.json()["name"], "found phone");
    assert_eq!(service.call(&own, "DELETE", &path, "").await.status, 204);
    assert!(!service.is_active(&other).await);
    let log_out = Event::to("revoke-token").form(&format!("token={own}"));
    assert_eq!(log_out.send(&service.app).await.status, 200);
    assert!(!service.is_active(&own).await);
    // The next log-in is not affected.
    session(&service.create_session("192.0.2.1", BOB, PASSWORD).await);
}

#[tokio::test]
async fn the_settings_are_the_defaults_and_the_maxima_of_a_session() {
    let (service, _) = with_bob().await;
    let settings = json!({ "sessionTtl": 100, "sessionMaxTtl": 300, "sessionScope": "read app:1" });
    assert_eq!(change(&service, &settings).await.status, 200);
    // The fields of the request, and then: how long the session is valid without a use, and with a
    // use each second.
    for (fields, unused, used) in [
        (json!({}), 100, 300),
        (json!({ "expiryType": "SlidingTtl" }), 100, 300),
        (json!({ "ttl": 100, "maxTtl": 300 }), 100, 300),
        (json!({ "ttl": 10 }), 10, 300),
        (json!({ "maxTtl": 20 }), 20, 20),
        (json!({ "ttl": 10, "maxTtl": 20 }), 10, 20),
        (json!({ "expiryType": "FixedTtl" }), 100, 100),
        (json!({ "expiryType": "FixedTtl", "ttl": 10 }), 10, 10),
        (
            json!({ "expiryType": "FixedTtl", "ttl": 30, "maxTtl": 20 }),
            20,
            20,
        ),
    ] {
        let answer = send(&service, "", fields.clone()).await;
        let token = session(&answer);
        assert_eq!(answer.json()["scope"], "read app:1");
        let start = service.app.now().seconds().0;
        let end = UnixSeconds(start + unused).to_rfc3339();
        assert_eq!(answer.json()["expiresAt"], json!(end), "{fields}");
        let unused_one = session(&send(&service, "", fields.clone()).await);
        let mut lived = 0;
        while service.is_active(&token).await {
            lived += 5;
            service.clock.advance(5);
            if lived == unused {
                assert!(!service.is_active(&unused_one).await, "{fields}");
            }
        }
        assert_eq!(lived, used, "{fields}");
    }
    // No session is valid for longer than `sessionMaxTtl`, whatever its kind.
    assert_eq!(
        change(&service, &json!({ "sessionMaxTtl": 50 }))
            .await
            .status,
        200
    );
    for expiry_type in ["FixedTtl", "SlidingTtl"] {
        let token = session(&send(&service, "", json!({ "expiryType": expiry_type })).await);
        service.clock.advance(49);
        assert!(service.is_active(&token).await, "{expiry_type}");
        service.clock.advance(1);
        assert!(!service.is_active(&token).await, "{expiry_type}");
    }
}

#[tokio::test]
async fn a_time_above_the_settings_gets_a_400_only_after_the_correct_password_and_is_not_counted() {
    let (service, _) = with_bob().await;
    let settings = json!({ "sessionTtl": 100, "sessionMaxTtl": 300 });
    assert_eq!(change(&service, &settings).await.status, 200);
    let ttl = ("body", "ttl", "field must be at most 100");
    let max_ttl = ("body", "maxTtl", "field must be at most 300");
    for _ in 0..15 {
        for (fields, errors) in [
            (json!({ "ttl": 101 }), &[ttl][..]),
            (
                json!({ "maxTtl": 301, "expiryType": "FixedTtl" }),
                &[max_ttl],
            ),
            (
                json!({ "ttl": 315_360_000, "maxTtl": 315_360_000 }),
                &[ttl, max_ttl],
            ),
        ] {
            assert_invalid(&send(&service, "", fields).await, errors);
        }
    }
    let wrong = json!({ "password": "wrong", "ttl": 101, "maxTtl": 301 });
    let unknown = json!({ "email": "nobody@example.com", "ttl": 101 });
    for fields in [wrong, unknown, json!({ "password": "wrong" })] {
        let answer = send(&service, "", fields).await;
        let message = json!([{ "message": "wrong email address or password" }]);
        assert_eq!((answer.status, &answer.json()["errors"]), (401, &message));
    }
    session(&send(&service, "", json!({})).await);
}

#[tokio::test]
async fn an_invalid_body_gets_errors_for_its_fields_and_does_not_count_as_an_attempt() {
    let (service, _) = with_bob().await;
    let types = "field must be one of the following values: FixedTtl, SlidingTtl";
    let back_end = "field needs a valid server token";
    let name = "field must be 1 to 64 characters, none of them a control character";
    for (fields, path, message) in [
        (json!({ "expiryType": "Infinite" }), "expiryType", types),
        (json!({ "expiryType": "Never" }), "expiryType", types),
        (
            json!({ "ttl": 0 }),
            "ttl",
            "field must be a positive number",
        ),
        (
            json!({ "ttl": "60" }),
            "ttl",
            "expected field to be a number",
        ),
        (
            json!({ "maxTtl": 315_360_001 }),
            "maxTtl",
            "field must be at most 315360000",
        ),
        (json!({ "name": "" }), "name", name),
        (json!({ "scope": "read" }), "scope", back_end),
        (json!({ "metadata": {} }), "metadata", back_end),
        (json!({ "email": "bob" }), "email", "invalid email address"),
        (
            json!({ "password": null }),
            "password",
            "expected field to be a string",
        ),
        (
            json!({ "ecosystemId": "C1" }),
            "ecosystemId",
            "invalid ecosystem id",
        ),
        (
            json!({ "clientAddress": "192.0.2.1" }),
            "clientAddress",
            back_end,
        ),
        (
            json!({ "write": true }),
            "additional parameters",
            "contains fields that are not allowed: [ write ]",
        ),
    ] {
        let answer = send(&service, "", fields).await;
        assert_invalid(&answer, &[("body", path, message)]);
    }
    let answer = Event::to("create-session").query("ttl=1").json_body("{}");
    assert_invalid(
        &answer.send(&service.app).await,
        &[
            (
                "query",
                "additional parameters",
                "contains fields that are not allowed: [ ttl ]",
            ),
            ("body", "email", "field is required"),
            ("body", "password", "field is required"),
        ],
    );
    assert!(service.database.take_calls().is_empty());
}

#[tokio::test]
async fn any_other_credential_than_a_valid_server_token_is_ignored_unless_a_field_needs_one() {
    let (service, bob) = with_bob().await;
    let (revoked_id, revoked) = service.server_token(&service.ecosystem).await;
    let ecosystem = service.ecosystem.id.as_str();
    let path = format!("/api/ecosystems/{ecosystem}/tokens/{revoked_id}");
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    let user_token = service.mint(&bob, "").await.token();
    for credential in [
        "",
        "nonsense",
        &revoked,
        &user_token,
        &service.account_token,
    ] {
        session(&send(&service, credential, json!({})).await);
        for (name, value) in [
            ("clientAddress", json!("192.0.2.1")),
            ("scope", json!("read")),
            ("metadata", json!({ "a": 1 })),
        ] {
            let answer = send(&service, credential, json!({ name: value })).await;
            let message = "field needs a valid server token";
            assert_invalid(&answer, &[("body", name, message)]);
        }
    }
}

#[tokio::test]
async fn a_back_end_chooses_scope_and_metadata_of_a_session() {
    let (service, _) = with_bob().await;
    let server = server(&service, &service.ecosystem).await;
    let chosen = json!({
        "scope": "orders tokenry:tokens:read",
        "metadata": { "plan": "pro" },
        "clientAddress": "192.0.2.1",
    });
    let answer = send(&service, &server, chosen.clone()).await;
    let claims = service.introspect(&session(&answer)).await.json();
    for name in ["scope", "metadata"] {
        assert_eq!(answer.json()[name], chosen[name]);
        assert_eq!(claims[name], chosen[name]);
    }
    for (fields, path, message) in [
        (
            json!({ "scope": "tokenry:all" }),
            "scope",
            "field contains a scope that begins with tokenry: and does not exist",
        ),
        (
            json!({ "metadata": 7 }),
            "metadata",
            "expected field to be an object",
        ),
    ] {
        let answer = send(&service, &server, fields).await;
        assert_invalid(&answer, &[("body", path, message)]);
    }
}

#[tokio::test]
async fn only_a_back_end_that_manages_e_mail_tokens_chooses_the_scope_of_an_admin_users_session() {
    let (service, bob) = with_bob().await;
    let path = format!("/api/users/{bob}");
    let admin = service.manage("PUT", &path, r#"{"admin":true}"#).await;
    assert_eq!(admin.status, 200);
    let (id, server) = service.server_token(&service.ecosystem).await;
    let needed = "tokenry:email-tokens:write";
    service
        .set_scope(&service.ecosystem.id, &id, "tokenry:tokens:write")
        .await;
    for _ in 0..12 {
        // These attempts do not count as failed attempts.
        let refused = send(
            &service,
            &server,
            json!({ "scope": "read", "ttl": 315_360_000 }),
        );
        assert_scope_missing(&refused.await, needed);
    }
    let wrong = json!({ "scope": "read", "password": "wrong" });
    assert_eq!(send(&service, &server, wrong).await.status, 401);
    let answer = send(&service, &server, json!({})).await;
    session(&answer);
    assert_eq!(answer.json()["scope"], "read write");
    service
        .set_scope(
            &service.ecosystem.id,
            &id,
            &format!("tokenry:tokens:write {needed}"),
        )
        .await;
    let answer = send(&service, &server, json!({ "scope": "read" })).await;
    session(&answer);
    assert_eq!(answer.json()["scope"], "read");
}

#[tokio::test]
async fn a_full_user_gets_a_409_only_with_the_correct_password_and_is_not_counted() {
    let (service, bob) = with_bob().await;
    change(&service, &json!({ "maxTokensPerUser": 1 })).await;
    let first = session(&send(&service, "", json!({})).await);
    for _ in 0..12 {
        let full = send(&service, "", json!({})).await;
        let message = json!([{ "message": "user has the most tokens allowed" }]);
        assert_eq!((full.status, &full.json()["errors"]), (409, &message));
    }
    let wrong = send(&service, "", json!({ "password": "wrong" })).await;
    assert_eq!(wrong.status, 401);
    change(&service, &json!({ "whenFull": "revoke-oldest" })).await;
    let second = session(&send(&service, "", json!({})).await);
    assert!(!service.is_active(&first).await);
    assert!(service.is_active(&second).await);
    assert_eq!(
        service.token_items(&bob).await.len(),
        2,
        "one of them is the record of the revoked session"
    );
}

#[tokio::test]
async fn a_session_needs_no_value_key() {
    let (service, _) = with_bob().await;
    session(&send(&service, "", json!({})).await);
    let calls = service.database.take_calls();
    let reads_keys = |call: &tests::Call| call.request.to_string().contains("data-key");
    assert!(!calls.iter().any(reads_keys), "{calls:?}");
}

#[tokio::test]
async fn a_database_failure_causes_a_503_and_the_log_in_does_not_count_as_an_attempt() {
    let (service, bob) = with_bob().await;
    for operation in ["GetItem", "TransactGetItems", "TransactWriteItems"] {
        for _ in 0..12 {
            service.database.fail([(operation, Fault::Rubbish)]);
            let answer = send(&service, "", json!({})).await;
            assert_eq!(answer.status, 503, "{operation} {answer:?}");
        }
    }
    let before = service.token_items(&bob).await.len();
    // The transaction is sent again, and takes effect once.
    service
        .database
        .fail([("TransactWriteItems", Fault::AnswerLost)]);
    let token = session(&send(&service, "", json!({})).await);
    assert!(service.is_active(&token).await);
    assert_eq!(service.token_items(&bob).await.len(), before + 1);
}

/// Returns the position of the last call of this operation, or `None` if there is none.
fn last(calls: &[tests::Call], operation: &str) -> Option<usize> {
    calls.iter().rposition(|call| call.operation == operation)
}

#[tokio::test]
async fn concurrent_changes_of_the_user_leave_no_wrong_session_in_300_rounds() {
    #[expect(
        clippy::disallowed_methods,
        reason = "in each round, the change begins at another time of the log-in"
    )]
    async fn wait(milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    let (service, bob) = with_bob().await;
    let other = service.another_environment();
    let put = |body: &Value| {
        let put = Event::to("put-user").header("authorization", &service.account_token);
        put.parameter("id", &bob).json_body(&body.to_string())
    };
    let revoke_all = Event::to("revoke-user-tokens")
        .header("authorization", &service.account_token)
        .parameter("id", &bob);
    for round in 0..rounds(300) {
        // Half of the rounds are under a limit of tokens.
        let limit = if round % 2 == 0 {
            json!(null)
        } else {
            json!(5)
        };
        let settings = json!({ "maxTokensPerUser": limit, "whenFull": "revoke-oldest" });
        assert_eq!(change(&service, &settings).await.status, 200);
        let again = put(&json!({ "active": true, "password": PASSWORD }));
        assert_eq!(again.send(&service.app).await.status, 200);
        service.clock.advance(900);
        let kind = ["revoke-all", "deactivation", "password"][round as usize / 2 % 3];
        let event = match kind {
            "revoke-all" => revoke_all.clone(),
            "deactivation" => put(&json!({ "active": false })),
            _ => put(&json!({ "password": "another one" })),
        };
        let log_in = Event::to("create-session")
            .json_body(&json!({ "email": BOB, "password": PASSWORD }).to_string());
        service.database.take_calls();
        let is_late = round % 7 == 0;
        if is_late && kind != "password" {
            // The session is stored only after the change.
            let late = ("TransactWriteItems", Fault::NotBefore("PutItem"));
            service.database.fail([late]);
        }
        let changed = async {
            if is_late {
                service.database.has_arrived("TransactGetItems").await;
            }
            wait(u64::from(round * 37 % 60)).await;
            event.send(&other).await
        };
        let (answer, changed) = Box::pin(join(log_in.send(&service.app), changed)).await;
        assert!(changed.status < 300, "{changed:?}");
        let about = format!("round {round}, {kind}: {answer:?}");
        let calls = service.database.take_calls();
        let stored = last(&calls, "TransactWriteItems");
        let active = match answer.status {
            201 => service.is_active(&session(&answer)).await,
            401 => false,
            _ => panic!("{about}"),
        };
        let is_after = stored > last(&calls, "PutItem");
        match kind {
            // A session that was stored after the change is valid. No other session is.
            "revoke-all" => {
                assert_eq!(answer.status, 201, "{about}");
                assert_eq!(active, is_after, "{about}");
            }
            "deactivation" => {
                assert_eq!(
                    answer.status == 201,
                    !is_after && stored.is_some(),
                    "{about}"
                );
                assert!(!active, "{about}");
            }
            _ => assert!(!active, "{about}"),
        }
        // The test knows all valid sessions.
        let path = format!("/api/users/{bob}/tokens");
        let listed = service.manage("GET", &path, "").await.json();
        let listed = listed["tokens"].as_array().unwrap().len();
        assert_eq!(listed, usize::from(active), "{about}");
    }
}

#[tokio::test]
async fn sixteen_concurrent_log_ins_create_sixteen_sessions() {
    let (service, bob) = with_bob().await;
    let _paused = pause();
    let sources: Vec<_> = (1..=16).map(|n| format!("192.0.2.{n}")).collect();
    let log_ins = sources
        .iter()
        .map(|source| service.create_session(source, BOB, PASSWORD));
    for answer in join_all(log_ins).await {
        assert!(service.is_active(&session(&answer)).await);
    }
    assert_eq!(service.token_items(&bob).await.len(), 16);
}

#[tokio::test]
async fn a_server_token_of_another_ecosystem_finds_no_user_of_this_one() {
    let (service, _) = with_bob().await;
    let elsewhere = service.another_ecosystem().await;
    let foreign = service.token_of(&elsewhere, ExpiryType::Infinite).await;
    assert_eq!(send(&service, &foreign, json!({})).await.status, 401);
    let own = json!({ "ecosystemId": service.ecosystem.id.as_str() });
    assert_eq!(send(&service, &foreign, own.clone()).await.status, 401);
    session(&send(&service, "", own).await);
}
