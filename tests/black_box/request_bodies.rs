//! Tests of request bodies for endpoints that take no body, and of requests with many unknown
//! fields.

use serde_json::json;
use tests::Event;

use crate::{
    ROWS, assert_invalid,
    create_email_token::with_bob,
    refusals::{Case, Row},
};

#[tokio::test]
async fn an_endpoint_that_takes_no_body_accepts_only_an_empty_object() {
    // Minting takes an optional body. `whoami` ignores a body.
    let others = ["create-user-token", "create-server-token", "whoami"];
    let takes_none = |row: &&Row| row.body.is_empty() && !others.contains(&row.endpoint);
    for row in ROWS.iter().filter(takes_none) {
        let case = Case::new(row).await;
        let send = async |body: &str| {
            let token = &case.service.account_token;
            case.service
                .call(token, case.method, &case.path, body)
                .await
        };
        let fields = send(r#"{"expiryType":"Infinite","ttl":1}"#).await;
        let message = "contains fields that are not allowed: [ expiryType, ttl ]";
        assert_invalid(&fields, &[("body", "additional parameters", message)]);
        for body in ["[]", "null", "{", "\"text\""] {
            let answer = send(body).await;
            assert_eq!(answer.status, 400, "{} {body}: {answer:?}", row.endpoint);
            let message = "this endpoint takes no body";
            assert_eq!(
                answer.json(),
                json!({ "errorType": "InvalidBody", "errors": [{ "message": message }] })
            );
        }
        let answer = send(" { } ").await;
        assert_eq!(answer.status, row.good, "{}: {answer:?}", row.endpoint);
    }
}

#[tokio::test]
async fn minting_ignores_a_body_whose_content_type_is_not_json() {
    let (service, bob) = with_bob().await;
    let ecosystem = service.ecosystem.id.as_str();
    for path in [
        format!("/api/users/{bob}/tokens"),
        format!("/api/ecosystems/{ecosystem}/tokens"),
    ] {
        for (content_type, body, status) in [
            (
                "application/x-www-form-urlencoded",
                "expiryType=Infinite",
                200,
            ),
            ("text/plain", r#"{"expiryType":"Infinite"}"#, 200),
            (
                "application/json; charset=utf-8",
                r#"{"query":"Infinite"}"#,
                400,
            ),
            ("Application/JSON", "ttl=1", 400),
            ("text/json", "[]", 400),
            ("application/vnd.api+json", "[null]", 400),
            ("application/json", "null", 200),
            ("application/json", "", 200),
        ] {
            let request = service
                .request("POST", &path)
                .header("authorization", &service.account_token)
                .header("content-type", content_type)
                .body(body);
            let answer = service.send(request).await;
            assert_eq!(answer.status, status, "{content_type} {body}: {answer:?}");
            if status == 200 {
                assert_eq!(answer.json()["expiryType"], "FixedTtl");
            }
        }
    }
}

#[tokio::test]
async fn an_error_lists_at_most_20_fields_that_are_not_allowed() {
    let (service, bob) = with_bob().await;
    let names = |count: usize| (0..count).map(|n| format!("f{n}")).collect::<Vec<_>>();
    for (sent, named) in [
        (names(20), names(20)),
        (names(21), [names(20), vec!["...".to_owned()]].concat()),
        (names(1500), [names(20), vec!["...".to_owned()]].concat()),
        // A repeated name is listed once.
        (vec!["a".to_owned(); 1500], vec!["a".to_owned()]),
    ] {
        let message = format!(
            "contains fields that are not allowed: [ {} ]",
            named.join(", ")
        );
        let in_query = service.mint(&bob, &sent.join("=&")).await;
        assert_invalid(&in_query, &[("query", "additional parameters", &message)]);
        let members: Vec<_> = sent.iter().map(|name| format!("\"{name}\":1")).collect();
        let body = format!(r#"{{"shortcode":"A6ER7D",{}}}"#, members.join(","));
        let event = Event::to("consume-shortcode").json_body(&body);
        let in_body = event.send(&service.app).await;
        assert_invalid(&in_body, &[("body", "additional parameters", &message)]);
    }
}
