//! Tests of `PUT /api/users/{id}`.

use futures_util::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tests::{Event, Fault, Service};

use crate::{assert_invalid, assert_unknown};

fn path(service: &Service, name: &str) -> String {
    format!("/api/users/{};{name}", service.ecosystem.id.as_str())
}

#[tokio::test]
async fn a_new_user_gets_a_201_and_a_change_gets_a_200_and_keeps_omitted_fields() {
    let service = Service::start().await;
    let path = path(&service, "auth0|59ad5e8843f89ba26c5b80ca");
    let id = path.trim_start_matches("/api/users/");
    let (_, server) = service.server_token(&service.ecosystem).await;
    for (credential, body, status, admin, active) in [
        (&service.account_token, "{}", 201, false, true),
        (&server, r#"{"admin":true}"#, 200, true, true),
        (
            &service.account_token,
            r#"{"active":false}"#,
            200,
            true,
            false,
        ),
        (&service.account_token, "{}", 200, true, false),
        (
            &server,
            r#"{"active":true,"admin":false}"#,
            200,
            false,
            true,
        ),
    ] {
        let answer = service.call(credential, "PUT", &path, body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        let expected = json!({ "id": id, "email": null, "admin": admin, "active": active });
        assert_eq!(answer.json(), expected, "{body}");
        assert_eq!(
            service.manage("GET", &path, "").await.json(),
            expected,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_user_can_be_created_inactive() {
    let service = Service::start().await;
    let path = path(&service, "bob");
    let answer = service
        .manage("PUT", &path, r#"{"active":false,"admin":true}"#)
        .await;
    assert_eq!(answer.status, 201);
    let bob = path.trim_start_matches("/api/users/");
    assert_eq!(service.mint(bob, "").await.status, 409);
}

#[tokio::test]
async fn deactivation_invalidates_all_tokens_at_once_and_reactivation_restores_no_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let path = path(&service, "bob");
    let mut tokens = Vec::new();
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        tokens.push(
            service
                .mint(&bob, &format!("expiryType={kind}"))
                .await
                .token(),
        );
    }
    for token in &tokens {
        assert!(service.is_active(token).await);
    }
    assert_eq!(
        service
            .manage("PUT", &path, r#"{"active":false}"#)
            .await
            .status,
        200
    );
    for token in &tokens {
        assert!(!service.is_active(token).await);
    }
    assert_eq!(
        service
            .manage("PUT", &path, r#"{"active":true}"#)
            .await
            .status,
        200
    );
    for token in &tokens {
        assert!(!service.is_active(token).await);
    }
    let token = service.mint(&bob, "").await.token();
    assert!(service.is_active(&token).await);
    assert_eq!(
        service
            .manage("PUT", &path, r#"{"admin":true,"active":true}"#)
            .await
            .status,
        200
    );
    assert!(
        service.is_active(&token).await,
        "the tokens of a user who stays active stay valid"
    );
}

#[tokio::test]
async fn two_concurrent_changes_of_different_fields_both_take_effect() {
    let service = Service::start().await;
    for round in 0..20 {
        let bob = service.user(&format!("bob{round}")).await;
        // Activation writes no new epoch, so only the user's `version` attribute shows the change.
        service.set_active(&bob, false).await;
        let put = |body: &str| {
            let event = Event::to("put-user")
                .header("authorization", &service.account_token)
                .parameter("id", &bob)
                .json_body(body);
            let app = &service.app;
            async move { event.send(app).await }
        };
        let (one, other) = tokio::join!(put(r#"{"admin":true}"#), put(r#"{"active":true}"#));
        assert_eq!((one.status, other.status), (200, 200));
        let user = service
            .manage("GET", &format!("/api/users/{bob}"), "")
            .await
            .json();
        assert_eq!(
            (&user["admin"], &user["active"]),
            (&json!(true), &json!(true))
        );
    }
}

#[tokio::test]
async fn exactly_one_of_several_concurrent_creations_of_a_user_gets_a_201() {
    let service = Service::start().await;
    for round in 0..10 {
        let id = format!("{};bob{round}", service.ecosystem.id.as_str());
        let event = Event::to("put-user")
            .header("authorization", &service.account_token)
            .parameter("id", &id)
            .json_body("{}");
        let answers = join_all((0..8).map(|_| event.send(&service.app))).await;
        let made = answers.iter().filter(|answer| answer.status == 201).count();
        let there = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!((made, there), (1, 7));
    }
}

#[tokio::test]
async fn a_creation_gets_a_201_even_if_the_database_response_is_lost() {
    let service = Service::start().await;
    let path = path(&service, "bob");
    service.database.fail([("PutItem", Fault::AnswerLost)]);
    assert_eq!(
        service
            .manage("PUT", &path, r#"{"admin":true}"#)
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn a_write_that_arrives_after_the_user_was_deleted_and_created_again_restores_no_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let path = path(&service, "bob");
    let token = service.mint(&bob, "expiryType=Infinite").await.token();
    service.database.take_calls();
    service
        .database
        .fail([("PutItem", Fault::NotBefore("Scan"))]);
    let late = service.manage("PUT", &path, r#"{"admin":true}"#);
    let meanwhile = async {
        service.database.has_arrived("PutItem").await;
        assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
        assert_eq!(service.manage("PUT", &path, "{}").await.status, 201);
        let scan = service
            .client
            .scan()
            .table_name(&service.tables.identity)
            .limit(1);
        scan.send().await.unwrap();
    };
    let (late, ()) = tokio::join!(late, meanwhile);
    assert_eq!(late.status, 200);
    assert!(!service.is_active(&token).await);
    assert_eq!(service.manage("GET", &path, "").await.json()["admin"], true);
}

#[tokio::test]
async fn an_invalid_field_changes_nothing() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let path = path(&service, "bob");
    let boolean = "expected field to be a boolean";
    let once = "field must be given once";
    for (body, errors) in [
        (r#"{"active":"no"}"#, vec![("body", "active", boolean)]),
        (r#"{"active":0}"#, vec![("body", "active", boolean)]),
        (
            r#"{"active":null,"admin":[],"b":1,"a":{"c":2},"b":3}"#,
            vec![
                ("body", "admin", boolean),
                ("body", "active", boolean),
                (
                    "body",
                    "additional parameters",
                    "contains fields that are not allowed: [ b, a ]",
                ),
            ],
        ),
        (
            r#"{"active":false,"active":false}"#,
            vec![("body", "active", once)],
        ),
        (
            r#"{"active":false,"\u0061ctive":true}"#,
            vec![("body", "active", once)],
        ),
        (
            r#"{"Active":false}"#,
            vec![(
                "body",
                "additional parameters",
                "contains fields that are not allowed: [ Active ]",
            )],
        ),
    ] {
        assert_invalid(&service.manage("PUT", &path, body).await, &errors);
    }
    assert_unchanged(&service, &bob, &path).await;
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_changes_nothing() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let path = path(&service, "bob");
    let deep = format!(
        r#"{{"active":{}false{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    for body in [
        "[]",
        "null",
        "\"\"",
        "1",
        "{",
        "{}x",
        "{\"a\":1,}",
        "\u{feff}{}",
        &deep,
    ] {
        let answer = service.manage("PUT", &path, body).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        let expected = json!({
            "errorType": "InvalidBody",
            "errors": [{ "message": "the body is not a JSON object" }],
        });
        assert_eq!(answer.json(), expected, "{body}");
    }
    let answer = service.manage("PUT", &path, "").await;
    assert_eq!(answer.json()["errorType"], "InvalidBody");
    let large = format!(r#"{{"active":{}false}}"#, " ".repeat(16 * 1024));
    assert_eq!(service.manage("PUT", &path, &large).await.status, 413);
    let request = service
        .request("PUT", &path)
        .header("authorization", &service.account_token)
        .header("content-type", "text/plain")
        .body(r#"{"active":false}"#);
    assert_eq!(service.send(request).await.status, 415);
    let answer = service
        .manage("PUT", &format!("{path}?active=false"), "{}")
        .await;
    let message = "contains fields that are not allowed: [ active ]";
    assert_invalid(&answer, &[("query", "additional parameters", message)]);
    assert_unchanged(&service, &bob, &path).await;
}

/// Asserts that a user still has the initial state, and that no `PutItem` was sent.
async fn assert_unchanged(service: &Service, bob: &str, path: &str) {
    let user: Value = service.manage("GET", path, "").await.json();
    assert_eq!(
        user,
        json!({ "id": bob, "email": null, "admin": false, "active": true })
    );
    assert!(
        !service
            .database
            .take_operations()
            .contains(&"PutItem".to_owned())
    );
}

#[tokio::test]
async fn special_characters_in_a_user_id_have_no_special_meaning() {
    let service = Service::start().await;
    let longest = "\u{1f511}".repeat(256);
    for name in [
        ":v",
        "attribute_exists(x)",
        "..",
        "\"'<>{}",
        "owner",
        "token:01KDVDNAFMFDHADR9JK9PFNKW4",
        "\u{130}\u{df}\u{212a}",
        "e\u{301}",
        "\u{e9}",
        &longest,
    ] {
        let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
        let path = path(&service, &encoded);
        let id = format!("{};{name}", service.ecosystem.id.as_str());
        let answer = service.manage("PUT", &path, "{}").await;
        assert_eq!(answer.status, 201, "{name}: {answer:?}");
        assert_eq!(answer.json()["id"], id);
        assert_eq!(service.manage("GET", &path, "").await.json()["id"], id);
        let token = service
            .mint(path.trim_start_matches("/api/users/"), "")
            .await
            .token();
        assert_eq!(service.introspect(&token).await.json()["sub"], id);
    }
    for name in [
        "%20",
        "a%2Fb",
        "a%2e%2e%2fb",
        "a%23b",
        "a%253Bb",
        &"%F0%9F%94%91".repeat(257),
    ] {
        let answer = service.manage("PUT", &path(&service, name), "{}").await;
        assert_invalid(&answer, &[("path", "id", "invalid user id")]);
    }
}

#[tokio::test]
async fn a_user_id_that_is_reserved_for_short_codes_cannot_be_created() {
    let service = Service::start().await;
    let path = path(&service, "short|A6ER7D");
    let answer = service.manage("PUT", &path, "{}").await;
    assert_invalid(&answer, &[("path", "id", "invalid user id")]);
    let id = path.trim_start_matches("/api/users/");
    assert_unknown(
        &service.manage("GET", &path, "").await,
        &format!("User with id {id} does not exist."),
    );
    assert_eq!(
        service
            .manage("PUT", &path.replace("short|", "short-"), "{}")
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn a_user_id_whose_key_belongs_to_another_id_gets_a_409_and_overwrites_nothing() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let ann = bob.replace(";bob", ";ann");
    // Simulates a collision of hashes: ann's record is stored under bob's key.
    service.set_owner_id(&bob, &ann).await;
    let before = service.owner_item(&bob).await;

    let path = format!("/api/users/{bob}");
    let answer = service.manage("PUT", &path, r#"{"active":false}"#).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    let expected = json!({
        "errorType": "Conflict",
        "errors": [{ "message": "this id cannot be used: another id has its key" }],
    });
    assert_eq!(answer.json(), expected);
    let text = format!("User with id {bob} does not exist.");
    assert_unknown(&service.manage("GET", &path, "").await, &text);
    assert_unknown(&service.manage("DELETE", &path, "").await, &text);
    assert_unknown(&service.mint(&bob, "").await, &text);
    assert_eq!(service.owner_item(&bob).await, before);
}

/// Returns a request that creates or changes the user `name` only if its `If-None-Match` allows it.
fn put_if_none_match(service: &Service, name: &str, value: &str, body: &str) -> Event {
    Event::to("put-user")
        .header("authorization", &service.account_token)
        .header("if-none-match", value)
        .parameter("id", path(service, name).trim_start_matches("/api/users/"))
        .json_body(body)
}

fn assert_exists(answer: &tests::Answer) {
    assert_eq!(answer.status, 412, "{answer:?}");
    let error =
        json!({ "errorType": "PreconditionFailed", "errors": [{ "message": "user exists" }] });
    assert_eq!(answer.json(), error);
}

#[tokio::test]
async fn with_if_none_match_a_user_is_created_but_not_changed() {
    let service = Service::start().await;
    let put = async |body: &str| {
        let event = put_if_none_match(&service, "bob", "*", body);
        event.send(&service.app).await
    };
    let body = r#"{"email":"bob@example.com","password":"correct horse"}"#;
    assert_eq!(put(body).await.status, 201);
    let before = service.manage("GET", &path(&service, "bob"), "").await;
    let id = path(&service, "bob");
    let token = service
        .mint(id.trim_start_matches("/api/users/"), "")
        .await
        .token();
    for body in [
        "{}",
        body,
        r#"{"admin":true}"#,
        r#"{"active":false}"#,
        r#"{"password":"another one"}"#,
        r#"{"email":null}"#,
    ] {
        assert_exists(&put(body).await);
    }
    let after = service.manage("GET", &path(&service, "bob"), "").await;
    assert_eq!(after.body, before.body);
    assert!(service.is_active(&token).await);
    // A deleted user does not exist.
    service.manage("DELETE", &path(&service, "bob"), "").await;
    assert_eq!(put("{}").await.status, 201);
}

#[tokio::test]
async fn any_other_if_none_match_gets_a_400_and_changes_nothing() {
    let service = Service::start().await;
    for value in ["", "\"*\"", "\"etag\"", "W/\"etag\"", "*, *", "**", "* x"] {
        let event = put_if_none_match(&service, "bob", value, "{}");
        let answer = event.send(&service.app).await;
        assert_invalid(&answer, &[("header", "If-None-Match", "field must be *")]);
    }
    let event = put_if_none_match(&service, "bob", "\"etag\"", r#"{"admin":1}"#);
    let answer = event.query("a=1").send(&service.app).await;
    assert_invalid(
        &answer,
        &[
            ("header", "If-None-Match", "field must be *"),
            (
                "query",
                "additional parameters",
                "contains fields that are not allowed: [ a ]",
            ),
            ("body", "admin", "expected field to be a boolean"),
        ],
    );
    let request = service
        .request("PUT", &path(&service, "bob"))
        .header("authorization", &service.account_token)
        .header("if-none-match", "*")
        .header("if-none-match", "*")
        .header("content-type", "application/json")
        .body("{}");
    let answer = service.send(request).await;
    assert_invalid(&answer, &[("header", "If-None-Match", "field must be *")]);
    let id = path(&service, "bob");
    let text = format!(
        "User with id {} does not exist.",
        id.trim_start_matches("/api/users/")
    );
    assert_unknown(&service.manage("GET", &id, "").await, &text);
}

#[tokio::test]
async fn of_50_concurrent_creators_exactly_one_gets_a_201() {
    let service = Service::start().await;
    let other = service.another_environment();
    for (round, body) in [
        "{}",
        r#"{"email":"EMAIL"}"#,
        r#"{"admin":true,"active":false}"#,
        "{}",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("user{round}");
        let creators = (0..50).map(|number| {
            let email = format!("user{round}-{number}@example.com");
            let body = body.replace("EMAIL", &email);
            let event = put_if_none_match(&service, &name, "*", &body);
            let app = if number % 2 == 0 {
                &*service.app
            } else {
                &other
            };
            async move { (email, event.send(app).await) }
        });
        let answers = join_all(creators).await;
        let (created, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|(_, answer)| answer.status == 201);
        assert_eq!((created.len(), refused.len()), (1, 49), "{answers:?}");
        for (_, answer) in refused {
            assert_exists(answer);
        }
        let (email, answer) = created[0];
        let user = service.manage("GET", &path(&service, &name), "").await;
        assert_eq!(user.json(), answer.json());
        if body.contains("EMAIL") {
            assert_eq!(user.json()["email"], *email);
        }
    }
}

#[tokio::test]
async fn a_creation_whose_response_was_lost_gets_a_201() {
    let service = Service::start().await;
    for (name, body) in [
        ("bob", "{}"),
        (
            "eve",
            r#"{"email":"eve@example.com","password":"correct horse"}"#,
        ),
    ] {
        let lost = ("TransactWriteItems", Fault::AnswerLost);
        service.database.fail([lost]);
        let event = put_if_none_match(&service, name, "*", body);
        let answer = event.send(&service.app).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}
