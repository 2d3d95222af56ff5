//! Tests of `GET /api/ecosystems/{ecosystemId}/users`, and of what all lists have in common.

use serde_json::{Value, json};
use tests::{Answer, Event, Fault, Service};

use crate::{
    assert_forbidden, assert_invalid, create_email_token::token_of_user,
    list_ecosystems::ecosystems, list_environments::environments,
};

async fn users(service: &Service, query: &str) -> Answer {
    let ecosystem = &service.ecosystem.id;
    let path = format!("/api/ecosystems/{ecosystem}/users{query}");
    service.manage("GET", &path, "").await
}

/// Returns the ids on a page.
pub(crate) fn ids(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, 200, "{page:?}");
    let page = page.json();
    let list = ["ecosystems", "environments", "users"];
    let mut list = list.iter().filter_map(|name| page[*name].as_array());
    let entries = list.next().expect("the page has a list");
    let id = |entry: &Value| entry["id"].as_str().expect("the id is a string").to_owned();
    entries.iter().map(id).collect()
}

/// Returns the names on all pages of the list of users.
async fn names(service: &Service, query: &str) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = users(service, &format!("?limit=7&{query}{cursor}")).await;
        let of = |id: String| {
            id.split_once(';')
                .expect("the id of a user contains a semicolon")
                .1
                .to_owned()
        };
        names.extend(ids(&page).into_iter().map(of));
        match page.json()["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return names,
        }
    }
}

#[tokio::test]
async fn a_user_who_is_created_is_in_the_next_list_and_a_user_who_is_deleted_is_not() {
    let service = Service::start().await;
    let answer = users(&service, "").await;
    assert_eq!(answer.json(), json!({ "users": [], "cursor": null }));
    let bob = service.user("bob").await;
    let eve = service
        .person("eve", "eve@example.com", "password of eve")
        .await;
    assert_eq!(ids(&users(&service, "").await), [bob.clone(), eve.clone()]);
    for user in [bob, eve] {
        let path = format!("/api/users/{user}");
        let put = service.manage("PUT", &path, r#"{"admin":true}"#).await;
        assert_eq!(put.status, 200);
        assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
        assert!(!ids(&users(&service, "").await).contains(&user));
    }
}

#[tokio::test]
async fn users_are_listed_by_the_bytes_of_their_names_and_each_page_is_full() {
    let service = Service::start().await;
    let longest = "\u{10ffff}".repeat(256);
    let mut all = vec![
        "bob", "Bob", "bo", "b", "boß", "bz", "owner", "token", &longest,
    ];
    let more: Vec<_> = (0..30).map(|number| format!("user-{number:02}")).collect();
    all.extend(more.iter().map(String::as_str));
    for name in &all {
        service.user(name).await;
    }
    all.sort_unstable();
    assert_eq!(names(&service, "").await, all);
    assert_eq!(names(&service, "prefix=bo").await, ["bo", "bob", "boß"]);
    assert_eq!(names(&service, "prefix=user-1").await, more[10..20]);
    assert_eq!(names(&service, "prefix=nobody").await, [""; 0]);
    let page = users(&service, "?limit=5").await;
    assert_eq!(ids(&page).len(), 5);
    assert_eq!(ids(&users(&service, "").await).len(), all.len());
}

#[tokio::test]
async fn a_cursor_is_valid_only_for_its_list_and_its_prefix() {
    let service = Service::start().await;
    for name in ["ann", "bob", "boris"] {
        service.user(name).await;
    }
    for _ in 0..2 {
        service.environment(&service.ecosystem).await;
    }
    let next = |page: Answer| {
        page.json()["cursor"]
            .as_str()
            .expect("the page has a cursor")
            .to_owned()
    };
    let of_users = next(users(&service, "?limit=1").await);
    let of_environments = next(environments(&service, "?limit=1").await);
    let invalid = [("query", "cursor", "invalid cursor")];
    for answer in [
        users(&service, &format!("?prefix=bo&cursor={of_users}")).await,
        users(&service, &format!("?cursor={of_environments}")).await,
        environments(&service, &format!("?cursor={of_users}")).await,
        ecosystems(&service, &format!("?cursor={of_users}")).await,
    ] {
        assert_invalid(&answer, &invalid);
    }
    let page = users(&service, &format!("?cursor={of_users}")).await;
    assert_eq!(ids(&page).len(), 2);
    let other = service.another_ecosystem().await;
    let path = format!("/api/ecosystems/{}/users?cursor={of_users}", other.id);
    assert_invalid(&service.manage("GET", &path, "").await, &invalid);
    // A cursor stays valid if the entry after which its page starts is deleted.
    let ann = format!("{};ann", service.ecosystem.id);
    service
        .manage("DELETE", &format!("/api/users/{ann}"), "")
        .await;
    let page = users(&service, &format!("?cursor={of_users}")).await;
    assert_eq!(ids(&page).len(), 2);
}

#[tokio::test]
async fn an_invalid_prefix_gets_a_400_and_a_user_may_list_nothing() {
    let service = Service::start().await;
    let long = "a".repeat(257);
    for prefix in ["", "%20", "a%2Fb", "a%3Bb", "a%00", &long] {
        let answer = users(&service, &format!("?prefix={prefix}")).await;
        assert_invalid(&answer, &[("query", "prefix", "invalid prefix")]);
    }
    let answer = environments(&service, "?prefix=a&limit=0").await;
    let not_allowed = "contains fields that are not allowed: [ prefix ]";
    let invalid = [
        ("query", "limit", "field must be a positive number"),
        ("query", "additional parameters", not_allowed),
    ];
    assert_invalid(&answer, &invalid);
    let bob = service.user("bob").await;
    let token = token_of_user(&service, &bob).await;
    let path = format!("/api/ecosystems/{}/users", service.ecosystem.id);
    assert_forbidden(&service.call(&token, "GET", &path, "").await);
}

#[tokio::test]
async fn the_users_of_short_codes_are_not_listed() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let body = json!({ "environmentId": environment }).to_string();
    let path = "/api/auth/shortcode/create";
    let code = service.manage("POST", path, &body).await.json();
    let body = json!({ "shortcode": code["shortcode"] }).to_string();
    let path = "/api/auth/shortcode/consume";
    assert_eq!(service.manage("POST", path, &body).await.status, 200);
    assert_eq!(names(&service, "").await, [""; 0]);
}

#[tokio::test]
async fn an_entry_is_stored_and_deleted_only_together_with_what_it_lists() {
    let service = Service::start().await;
    let ecosystem = service.ecosystem.id.to_string();
    let path = format!("/api/users/{ecosystem};bob");
    let everything = r#"{"email":"bob@example.com","password":"password of bob"}"#;
    for body in ["{}", everything] {
        service
            .database
            .fail([("TransactWriteItems", Fault::Denied)]);
        assert_eq!(service.manage("PUT", &path, body).await.status, 500);
        assert_eq!(names(&service, "").await, [""; 0]);
        assert_eq!(service.manage("PUT", &path, body).await.status, 201);
        assert_eq!(names(&service, "").await, ["bob"]);
        service
            .database
            .fail([("TransactWriteItems", Fault::Denied)]);
        assert_eq!(service.manage("DELETE", &path, "").await.status, 500);
        assert_eq!(names(&service, "").await, ["bob"]);
        assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
        assert_eq!(names(&service, "").await, [""; 0]);
    }
}

#[tokio::test]
async fn before_the_migration_each_list_gets_a_409() {
    let service = Service::start().await;
    let ecosystem = service.ecosystem.id.to_string();
    for version in [1, 2] {
        service.set_schema(version).await;
        let app = service.environment_of_stored_version().await;
        for list in ["list-ecosystems", "list-environments", "list-users"] {
            let event = Event::to(list).header("authorization", &service.account_token);
            let event = event.parameter("ecosystemId", &ecosystem);
            let answer = event.send(&app).await;
            assert_eq!(answer.status, 409, "{answer:?}");
            let message = json!([{ "message": "run tokenry migrate first" }]);
            assert_eq!(answer.json()["errors"], message);
        }
    }
}
