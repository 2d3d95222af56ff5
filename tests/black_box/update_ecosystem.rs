//! Tests of `PATCH /api/ecosystems/{ecosystemId}`.

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tests::{Answer, Event, Fault, Service};

use crate::{assert_forbidden, assert_invalid, assert_unknown};

/// Sends a change of the settings of the service's ecosystem.
pub(crate) async fn change(service: &Service, body: &Value) -> Answer {
    let path = format!("/api/ecosystems/{}", service.ecosystem.id.as_str());
    service.manage("PATCH", &path, &body.to_string()).await
}

#[tokio::test]
async fn a_field_that_is_left_out_keeps_its_value_and_null_removes_the_limit() {
    let service = Service::start().await;
    let id = service.ecosystem.id.as_str();
    for (body, max, when_full) in [
        (json!({}), None, "reject"),
        (
            json!({ "whenFull": "revoke-oldest" }),
            None,
            "revoke-oldest",
        ),
        (json!({ "maxTokensPerUser": 1 }), Some(1), "revoke-oldest"),
        (
            json!({ "maxTokensPerUser": 100.0 }),
            Some(100),
            "revoke-oldest",
        ),
        (json!({ "whenFull": "reject" }), Some(100), "reject"),
        (json!({}), Some(100), "reject"),
        (
            json!({ "maxTokensPerUser": null, "whenFull": "revoke-oldest" }),
            None,
            "revoke-oldest",
        ),
    ] {
        let answer = change(&service, &body).await;
        let expected = json!({
            "id": id,
            "maxTokensPerUser": max,
            "whenFull": when_full,
            "sessionTtl": 1_209_600,
            "sessionMaxTtl": 7_776_000,
            "sessionScope": "read write",
        });
        assert_eq!((answer.status, answer.json()), (200, expected), "{body}");
    }
}

#[tokio::test]
async fn a_setting_of_sessions_keeps_its_value_until_it_is_changed_and_null_restores_its_default() {
    let service = Service::start().await;
    let (ttl, max_ttl, scope) = (1_209_600, 7_776_000, "read write");
    let all_scopes = format!("read {}", "a".repeat(64));
    for (body, expected) in [
        (json!({ "sessionTtl": 1 }), (1, max_ttl, scope)),
        (
            json!({ "sessionMaxTtl": 315_360_000, "whenFull": "revoke-oldest" }),
            (1, 315_360_000, scope),
        ),
        (
            json!({ "sessionScope": all_scopes }),
            (1, 315_360_000, &*all_scopes),
        ),
        (
            json!({ "maxTokensPerUser": 5 }),
            (1, 315_360_000, &*all_scopes),
        ),
        (
            json!({ "sessionTtl": null }),
            (ttl, 315_360_000, &*all_scopes),
        ),
        (json!({ "sessionScope": null }), (ttl, 315_360_000, scope)),
        (json!({ "sessionMaxTtl": null }), (ttl, max_ttl, scope)),
    ] {
        let answer = change(&service, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let (ttl, max_ttl, scope) = expected;
        let said = answer.json();
        assert_eq!(said["sessionTtl"], ttl, "{body}");
        assert_eq!(said["sessionMaxTtl"], max_ttl, "{body}");
        assert_eq!(said["sessionScope"], scope, "{body}");
    }
}

#[tokio::test]
async fn each_invalid_field_is_named() {
    let service = Service::start().await;
    let number = "expected field to be a number";
    let positive = "field must be a positive number";
    let values = "field must be one of the following values: reject, revoke-oldest";
    for (value, message) in [
        (json!(0), positive),
        (json!(-1), positive),
        (json!(101), "field must be at most 100"),
        (json!(1.5), number),
        (json!("5"), number),
        (json!(true), number),
        (json!([5]), number),
    ] {
        let answer = change(&service, &json!({ "maxTokensPerUser": value })).await;
        assert_invalid(&answer, &[("body", "maxTokensPerUser", message)]);
    }
    for value in [json!("Reject"), json!(""), json!(null), json!(1)] {
        let answer = change(&service, &json!({ "whenFull": value })).await;
        assert_invalid(&answer, &[("body", "whenFull", values)]);
    }
    for name in ["sessionTtl", "sessionMaxTtl"] {
        for (value, message) in [
            (json!(0), positive),
            (json!(315_360_001), "field must be at most 315360000"),
            (json!("5"), number),
        ] {
            let answer = change(&service, &json!({ name: value })).await;
            assert_invalid(&answer, &[("body", name, message)]);
        }
    }
    for (value, message) in [
        (json!(["read"]), "expected field to be a string"),
        (json!("read read"), "field must contain each scope once"),
        (
            json!("tokenry:all"),
            "field contains a scope that begins with tokenry: and does not exist",
        ),
    ] {
        let answer = change(&service, &json!({ "sessionScope": value })).await;
        assert_invalid(&answer, &[("body", "sessionScope", message)]);
    }
    let path = format!("/api/ecosystems/{}", service.ecosystem.id.as_str());
    let twice = r#"{"maxTokensPerUser":5,"maxTokensPerUser":5}"#;
    let answer = service.manage("PATCH", &path, twice).await;
    let given_twice = "field must be given once";
    assert_invalid(&answer, &[("body", "maxTokensPerUser", given_twice)]);
    let all = r#"{"maxTokensPerUser":101,"whenFull":"no","id":1}"#;
    let answer = service.manage("PATCH", "/api/ecosystems/x?y=1", all).await;
    assert_invalid(
        &answer,
        &[
            ("path", "ecosystemId", "invalid ecosystem id"),
            (
                "query",
                "additional parameters",
                "contains fields that are not allowed: [ y ]",
            ),
            ("body", "maxTokensPerUser", "field must be at most 100"),
            ("body", "whenFull", values),
            (
                "body",
                "additional parameters",
                "contains fields that are not allowed: [ id ]",
            ),
        ],
    );
    for body in ["", "[]", "5", "{"] {
        let to = service
            .request("PATCH", &path)
            .header("authorization", &service.account_token)
            .header("content-type", "application/json");
        let answer = service.send(to.body(body)).await;
        let message = json!([{ "message": "the body is not a JSON object" }]);
        let said = (answer.status, answer.json()["errors"].clone());
        assert_eq!(said, (400, message), "{body}");
    }
    let writes = service.database.take_operations();
    assert!(!writes.contains(&"PutItem".to_owned()), "{writes:?}");
}

#[tokio::test]
async fn only_the_account_changes_the_settings() {
    let service = Service::start().await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let bob = service.user("bob").await;
    let user = service.mint(&bob, "").await.token();
    let path = format!("/api/ecosystems/{}", service.ecosystem.id.as_str());
    for credential in [&server, &user] {
        let answer = service.call(credential, "PATCH", &path, "{}").await;
        assert_forbidden(&answer);
    }
}

#[tokio::test]
async fn concurrent_changes_of_different_fields_are_all_stored() {
    let service = Service::start().await;
    let event = |body: Value| {
        Event::to("update-ecosystem")
            .header("authorization", &service.account_token)
            .parameter("ecosystemId", service.ecosystem.id.as_str())
            .json_body(&body.to_string())
    };
    let changes = [
        event(json!({ "maxTokensPerUser": 9 })),
        event(json!({ "whenFull": "revoke-oldest" })),
    ];
    // Both requests have read the ecosystem before the first of them writes.
    let both = ("PutItem", Fault::NotBeforeAll("PutItem", 2));
    service.database.fail([both.clone(), both]);
    let answers = join_all(changes.iter().map(|change| change.send(&service.app))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let settings = change(&service, &json!({})).await.json();
    assert_eq!(settings["maxTokensPerUser"], 9);
    assert_eq!(settings["whenFull"], "revoke-oldest");
}

#[tokio::test]
async fn a_change_whose_response_was_lost_takes_effect_once() {
    let service = Service::start().await;
    service.database.fail([("PutItem", Fault::AnswerLost)]);
    let answer = change(&service, &json!({ "maxTokensPerUser": 3 })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["maxTokensPerUser"], 3);
    let writes = service.database.take_operations();
    assert_eq!(writes, ["BatchGetItem", "PutItem", "PutItem"]);
}

#[tokio::test]
async fn a_change_does_not_restore_an_ecosystem_that_is_deleted_at_the_same_time() {
    let service = Service::start().await;
    let id = service.ecosystem.id.as_str();
    let to = |name| {
        Event::to(name)
            .header("authorization", &service.account_token)
            .parameter("ecosystemId", id)
    };
    // The write of the change waits until another ecosystem is created after the deletion.
    let late = ("PutItem", Fault::NotBeforeAll("TransactWriteItems", 2));
    service.database.fail([late]);
    let change = to("update-ecosystem").json_body(r#"{"maxTokensPerUser":3}"#);
    let delete = async {
        service.database.has_arrived("PutItem").await;
        let deleted = to("delete-ecosystem").send(&service.app).await;
        to("create-ecosystem").send(&service.app).await;
        deleted
    };
    let (deleted, changed) = join(delete, change.send(&service.app)).await;
    assert_eq!(deleted.status, 204);
    let text = format!("Ecosystem with id {id} does not exist.");
    assert_unknown(&changed, &text);
    assert_unknown(&to("get-ecosystem").send(&service.app).await, &text);
}
