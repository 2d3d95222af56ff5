//! Tests of `POST /api/auth/password`.

use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::json;
use shared::{App, service::deadline::Deadline};
use tests::{Answer, Event, Fault, Service, rounds};

use crate::{
    assert_forbidden, assert_invalid, assert_scope_missing, assert_unauthorized,
    calls::shape,
    consume_shortcode::consume,
    create_email_token::{BOB, PASSWORD, ask, datum, value, with_bob},
    get_user_token::{Minted, mint, path, record, revoke_itself},
    list_user_tokens::ids,
    update_ecosystem,
};

const NEW: &str = "staple battery";

/// Returns a request that changes a password.
pub(crate) fn change(token: &str, current: &str, new: &str) -> Event {
    let body = json!({ "currentPassword": current, "newPassword": new });
    Event::to("change-password")
        .header("authorization", token)
        .source("192.0.2.1")
        .json_body(&body.to_string())
}

/// Changes bob's password from [`PASSWORD`] to [`NEW`].
async fn changed(service: &Service, token: &str) {
    let answer = change(token, PASSWORD, NEW).send(&service.app).await;
    assert_eq!((answer.status, &*answer.body), (204, ""), "{answer:?}");
}

fn assert_wrong(answer: &Answer) {
    assert_eq!(answer.status, 403, "{answer:?}");
    let error = json!({ "in": "body", "path": "currentPassword", "message": "wrong password" });
    let expected = json!({ "errorType": "Forbidden", "errors": [error] });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("www-authenticate"), None);
}

/// Returns whether a token is active in an execution environment.
async fn is_active_in(service: &Service, app: &App, token: &str) -> bool {
    let answer = service.introspection(token).send(app).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["active"] == true
}

/// Mints a token with all scopes of this kind.
async fn of_kind(service: &Service, bob: &str, kind: &str) -> Minted {
    let body = json!({ "expiryType": kind, "ttl": 600, "name": "phone", "metadata": { "a": 1 } });
    mint(service, bob, &body).await
}

#[tokio::test]
async fn every_other_token_ends_and_the_calling_token_stays_as_it_was() {
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let (service, bob) = with_bob().await;
        let environments = [service.another_environment(), service.another_environment()];
        let caller = of_kind(&service, &bob, kind).await;
        let others = [
            of_kind(&service, &bob, "Infinite").await.token,
            of_kind(&service, &bob, "SlidingTtl").await.token,
            datum(&service.log_in("192.0.2.1", BOB, PASSWORD).await)["token"]
                .as_str()
                .unwrap()
                .to_owned(),
        ];
        for app in &environments {
            assert!(is_active_in(&service, app, &caller.token).await);
            assert!(is_active_in(&service, app, &others[0]).await);
        }
        let before = record(&service, &bob, &caller.id).await;
        changed(&service, &caller.token).await;

        for app in environments.iter().chain([&*service.app]) {
            assert!(is_active_in(&service, app, &caller.token).await, "{kind}");
            for other in &others {
                assert!(!is_active_in(&service, app, other).await, "{kind}");
            }
        }
        let mut after = record(&service, &bob, &caller.id).await;
        after["lastUsedAt"] = before["lastUsedAt"].clone();
        assert_eq!(after, before);
        assert_eq!(ids(&service, &bob).await, [&*caller.id]);
        let old = service.log_in("192.0.2.1", BOB, PASSWORD).await;
        assert_eq!(old.status, 401, "{old:?}");
        assert_eq!(service.log_in("192.0.2.1", BOB, NEW).await.status, 200);

        // Each use still renews a sliding token, and the token can be changed and revoked.
        service.clock.advance(400);
        assert!(service.is_active(&caller.token).await);
        service.clock.advance(400);
        assert_eq!(service.is_active(&caller.token).await, kind != "FixedTtl");
        if kind != "FixedTtl" {
            let path = path(&bob, &caller.id);
            let renamed = service.manage("PATCH", &path, r#"{"name":"b"}"#).await;
            assert_eq!(renamed.status, 200, "{renamed:?}");
            assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
            assert!(!service.is_active(&caller.token).await);
        }
    }
}

#[tokio::test]
async fn a_wrong_current_password_and_a_user_without_one_get_the_same_403_after_the_same_work() {
    let (service, bob) = with_bob().await;
    let ann = service.user("ann").await;
    let put = json!({ "email": "ann@example.com" }).to_string();
    service
        .manage("PUT", &format!("/api/users/{ann}"), &put)
        .await;
    let mut shapes = Vec::new();
    for user in [&bob, &ann] {
        let caller = of_kind(&service, user, "Infinite").await;
        let other = of_kind(&service, user, "Infinite").await;
        let app = service.another_environment();
        service.database.take_calls();
        let answer = change(&caller.token, "a wrong one", NEW).send(&app).await;
        assert_wrong(&answer);
        let calls = service.database.take_calls();
        let calls = shape(&calls).into_iter();
        shapes.push(
            calls
                .map(|(name, units)| (name.to_owned(), units))
                .collect::<Vec<_>>(),
        );
        for token in [&caller.token, &other.token] {
            assert!(service.is_active(token).await);
        }
    }
    assert_eq!(shapes[0], shapes[1]);
    assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_wrong_current_password_counts_as_a_failed_log_in_and_a_correct_one_is_taken_back() {
    let (service, bob) = with_bob().await;
    let caller = of_kind(&service, &bob, "Infinite").await.token;
    for _ in 0..15 {
        let answer = change(&caller, PASSWORD, PASSWORD).send(&service.app).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    for _ in 0..5 {
        assert_wrong(&change(&caller, "wrong", NEW).send(&service.app).await);
        assert_eq!(service.log_in("192.0.2.1", BOB, "wrong").await.status, 401);
    }
    for answer in [
        change(&caller, PASSWORD, NEW).send(&service.app).await,
        service.log_in("192.0.2.1", BOB, PASSWORD).await,
    ] {
        assert_eq!(answer.status, 429, "{answer:?}");
        assert_eq!(answer.header("retry-after"), Some("900"));
    }
    // Another source has its own limit.
    let event = change(&caller, PASSWORD, NEW).source("192.0.2.2");
    assert_eq!(event.send(&service.app).await.status, 204);

    // A user without an address has limits of its own.
    let ann = service.user("ann").await;
    let caller = of_kind(&service, &ann, "Infinite").await.token;
    for source in ["192.0.2.3", "192.0.2.4"] {
        for _ in 0..10 {
            let event = change(&caller, "wrong", NEW).source(source);
            assert_wrong(&event.send(&service.app).await);
        }
        let event = change(&caller, "wrong", NEW).source(source);
        assert_eq!(event.send(&service.app).await.status, 429);
    }
}

#[tokio::test]
async fn an_invalid_request_does_not_count_as_an_attempt() {
    let (service, bob) = with_bob().await;
    let caller = of_kind(&service, &bob, "Infinite").await.token;
    let event = Event::to("change-password").header("authorization", &caller);
    let long = "x".repeat(257);
    service.database.take_calls();
    for (body, path, message) in [
        (
            json!({ "newPassword": NEW }),
            "currentPassword",
            "field is required",
        ),
        (
            json!({ "currentPassword": "x" }),
            "newPassword",
            "field is required",
        ),
        (
            json!({ "currentPassword": 1, "newPassword": NEW }),
            "currentPassword",
            "expected field to be a string",
        ),
        (
            json!({ "currentPassword": long, "newPassword": NEW }),
            "currentPassword",
            "field must be at most 256 characters",
        ),
        (
            json!({ "currentPassword": "x", "newPassword": "1234567" }),
            "newPassword",
            "field must be at least 8 characters",
        ),
        (
            json!({ "currentPassword": "x", "newPassword": "Password1" }),
            "newPassword",
            "password is too common",
        ),
        (
            json!({ "currentPassword": "x", "newPassword": NEW, "clientAddress": "192.0.2.1" }),
            "additional parameters",
            "contains fields that are not allowed: [ clientAddress ]",
        ),
    ] {
        let answer = event
            .clone()
            .json_body(&body.to_string())
            .send(&service.app)
            .await;
        assert_invalid(&answer, &[("body", path, message)]);
    }
    let operations = service.database.take_operations();
    assert!(
        operations.iter().all(|one| one == "BatchGetItem"),
        "{operations:?}"
    );
    // A common password that is stored already can be the current one.
    let query = change(&caller, PASSWORD, NEW)
        .query("a=1")
        .send(&service.app)
        .await;
    let message = "contains fields that are not allowed: [ a ]";
    assert_invalid(&query, &[("query", "additional parameters", message)]);
}

#[tokio::test]
async fn a_token_without_the_scope_and_the_token_of_an_inactive_user_change_nothing() {
    let (service, bob) = with_bob().await;
    for scope in ["read", "read tokenry:tokens:write"] {
        let caller = mint(&service, &bob, &json!({ "scope": scope })).await.token;
        let answer = change(&caller, PASSWORD, NEW).send(&service.app).await;
        assert_scope_missing(&answer, "tokenry:users:write");
    }
    let answer = change(&service.account_token, PASSWORD, NEW)
        .send(&service.app)
        .await;
    assert_forbidden(&answer);
    let caller = of_kind(&service, &bob, "Infinite").await.token;
    service.set_active(&bob, false).await;
    let answer = change(&caller, PASSWORD, NEW).send(&service.app).await;
    assert_unauthorized(&answer, r#"Bearer realm="tokenry", error="invalid_token""#);
    service.set_active(&bob, true).await;
    assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);
}

/// Creates a code with a user's own token.
async fn code_by(service: &Service, user: &str, token: &str) -> String {
    let body = json!({ "userId": user, "tokenExpiryType": "Infinite" }).to_string();
    let made = service
        .call(token, "POST", "/api/auth/shortcode/create", &body)
        .await;
    made.json()["shortcode"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_the_calling_token_made_ends_and_the_calling_token_leaves_its_maker() {
    let (service, bob) = with_bob().await;
    let maker = of_kind(&service, &bob, "Infinite").await;
    let code = code_by(&service, &bob, &maker.token).await;
    let caller = Minted::of(&consume(&service, &code).await);
    let child = code_by(&service, &bob, &caller.token).await;
    let child = Minted::of(&consume(&service, &child).await);
    let unused = code_by(&service, &bob, &caller.token).await;
    changed(&service, &caller.token).await;

    assert_eq!(consume(&service, &unused).await.status, 404);
    for ended in [&maker, &child] {
        assert!(!service.is_active(&ended.token).await);
        // A revocation of a token that ended already does not end the calling token.
        revoke_itself(&service, &ended.token).await;
        service.manage("DELETE", &path(&bob, &ended.id), "").await;
        assert!(service.is_active(&caller.token).await);
    }
    // The calling token still makes tokens, and they end with it.
    let child = code_by(&service, &bob, &caller.token).await;
    let child = Minted::of(&consume(&service, &child).await);
    assert!(service.is_active(&child.token).await);
    revoke_itself(&service, &caller.token).await;
    assert!(!service.is_active(&child.token).await);
}

#[tokio::test]
async fn an_e_mail_token_that_changes_the_password_stays_the_users_e_mail_token() {
    let (service, bob) = with_bob().await;
    let token = datum(&service.log_in("192.0.2.1", BOB, PASSWORD).await)["token"].clone();
    let token = token.as_str().unwrap();
    changed(&service, token).await;
    assert!(service.is_active(token).await);
    assert_eq!(value(&service, BOB).await, token);
    let again = service.log_in("192.0.2.1", BOB, NEW).await;
    assert_eq!(datum(&again)["token"], token);
    let deleted = ask(&service, "DELETE", &json!({ "email": BOB })).await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    assert!(!service.is_active(token).await);
    assert!(ids(&service, &bob).await.is_empty());
}

#[tokio::test]
async fn the_calling_token_still_takes_a_place_of_the_limit() {
    for has_item in [true, false] {
        let (service, bob) = with_bob().await;
        let limit = json!({ "maxTokensPerUser": 2 });
        if has_item {
            update_ecosystem::change(&service, &limit).await;
        }
        let caller = of_kind(&service, &bob, "Infinite").await.token;
        of_kind(&service, &bob, "Infinite").await;
        update_ecosystem::change(&service, &limit).await;
        changed(&service, &caller).await;
        assert_eq!(service.mint(&bob, "").await.status, 200);
        assert_eq!(service.mint(&bob, "").await.status, 409);
        assert!(service.is_active(&caller).await);
    }
}

#[tokio::test]
async fn the_user_of_an_environments_code_changes_its_password() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let body = json!({ "environmentId": environment });
    let (made, code) = crate::consume_shortcode::code(&service, body).await;
    let caller = consume(&service, &code).await.token();
    let user = made["userId"].as_str().unwrap();
    assert_wrong(&change(&caller, PASSWORD, NEW).send(&service.app).await);
    let path = format!("/api/users/{user}");
    let put = service
        .manage("PUT", &path, &json!({ "password": PASSWORD }).to_string())
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    assert!(!service.is_active(&caller).await);
    let caller = service.mint(user, "").await.token();
    changed(&service, &caller).await;
    let claims = service.introspect(&caller).await.json();
    assert_eq!(claims["environment_id"], environment);
}

#[tokio::test]
async fn a_repeated_request_whose_response_was_lost_gets_403_and_the_caller_is_valid() {
    let (service, bob) = with_bob().await;
    let caller = of_kind(&service, &bob, "Infinite").await.token;
    // The SDK repeats the transaction, which takes effect once.
    service
        .database
        .fail([("TransactWriteItems", Fault::AnswerLost)]);
    changed(&service, &caller).await;
    assert_wrong(&change(&caller, PASSWORD, NEW).send(&service.app).await);
    assert!(service.is_active(&caller).await);
    assert_eq!(service.log_in("192.0.2.1", BOB, NEW).await.status, 200);
}

#[tokio::test]
async fn a_database_failure_causes_a_503_and_does_not_count_as_an_attempt() {
    let (service, bob) = with_bob().await;
    let caller = of_kind(&service, &bob, "Infinite").await.token;
    for operation in ["GetItem", "TransactWriteItems"] {
        for _ in 0..12 {
            service.database.fail([(operation, Fault::Rubbish)]);
            let answer = change(&caller, PASSWORD, NEW).send(&service.app).await;
            assert_eq!(answer.status, 503, "{operation} {answer:?}");
        }
    }
    changed(&service, &caller).await;
}

#[tokio::test]
async fn a_reader_that_sees_only_a_part_of_the_change_still_accepts_the_calling_token() {
    let (service, bob) = with_bob().await;
    // The records of the user's old tokens could not be deleted, so the eraser deletes them.
    let all = format!("/api/users/{bob}/tokens");
    of_kind(&service, &bob, "Infinite").await;
    service.database.fail([("Query", Fault::Rubbish)]);
    assert_eq!(service.manage("DELETE", &all, "").await.status, 204);
    let caller = of_kind(&service, &bob, "SlidingTtl").await;
    let other = of_kind(&service, &bob, "Infinite").await;
    let items = async || {
        let token = service
            .token_item(&service.owner(&bob).await.id, &caller.id)
            .await;
        (service.owner_item(&bob).await.unwrap(), token.unwrap())
    };
    let (old_user, old_token) = items().await;
    changed(&service, &caller.token).await;
    let (new_user, new_token) = items().await;
    // Without the attributes of this release, an older release reads the same epoch in both.
    assert_eq!(new_user["epoch"], new_token["epoch"]);
    assert_ne!(new_user["epoch"], old_user["epoch"]);
    for (user, token) in [(&old_user, &new_token), (&new_user, &old_token)] {
        service.put_identity_item(user.clone()).await;
        service.put_identity_item(token.clone()).await;
        let app = service.another_environment();
        assert!(is_active_in(&service, &app, &caller.token).await);
        let got = service.manage("GET", &path(&bob, &caller.id), "").await;
        assert_eq!(got.status, 200, "{got:?}");
        let until = Deadline::after(Duration::from_mins(1));
        let erased = functions::erase::handle(&app, until).await;
        assert_eq!(erased.unwrap().queued, 1);
        let kept = service
            .token_item(&service.owner(&bob).await.id, &caller.id)
            .await;
        assert_eq!(kept.expect("the record stays")["epoch"], token["epoch"]);
        service.put_identity_item(new_user.clone()).await;
        service.put_identity_item(new_token.clone()).await;
        assert!(is_active_in(&service, &app, &caller.token).await);
        assert!(!is_active_in(&service, &app, &other.token).await);
    }
    // After the next new epoch, no part of the old change makes the token valid.
    assert_eq!(service.manage("DELETE", &all, "").await.status, 204);
    for token in [&old_token, &new_token] {
        service.put_identity_item(token.clone()).await;
        let app = service.another_environment();
        assert!(!is_active_in(&service, &app, &caller.token).await);
    }
}

/// What happens at the same time as a change of the password.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Other {
    Renewal,
    Revocation,
    RevocationOfItself,
    RevocationOfAll,
    Narrowing,
    Renaming,
    Disabling,
    LogIn,
    Caller,
    Sibling,
    Exchange,
    Address,
}

/// What the two requests of a race are about.
struct Scene<'a> {
    service: &'a Service,
    bob: &'a str,
    email: &'a str,
    caller: &'a Minted,
    sibling: &'a Minted,
}

impl Scene<'_> {
    /// Returns the request that is sent at the same time as the change. `code` is a short code of
    /// the caller.
    fn request(&self, other: Other, code: &str) -> Event {
        let by_account = |endpoint| {
            Event::to(endpoint)
                .header("authorization", &self.service.account_token)
                .parameter("id", self.bob)
                .parameter("tokenId", &self.caller.id)
        };
        match other {
            Other::Renewal => self.service.introspection(&self.caller.token),
            Other::Revocation => by_account("revoke-user-token"),
            Other::RevocationOfItself => {
                Event::to("revoke-token").form(&format!("token={}", self.caller.token))
            }
            Other::RevocationOfAll => by_account("revoke-user-tokens"),
            Other::Narrowing => by_account("update-user-token").json_body(r#"{"scope":"read"}"#),
            Other::Renaming => by_account("update-user-token").json_body(r#"{"name":"new"}"#),
            Other::Disabling => by_account("update-user-token").json_body(r#"{"disabled":true}"#),
            Other::LogIn => Event::to("log-in-with-password")
                .source("192.0.2.1")
                .json_body(&json!({ "email": self.email, "password": PASSWORD }).to_string()),
            Other::Caller => change(&self.caller.token, PASSWORD, "another one"),
            Other::Sibling => change(&self.sibling.token, PASSWORD, "another one"),
            Other::Exchange => {
                let body = json!({ "shortcode": code }).to_string();
                Event::to("consume-shortcode").json_body(&body)
            }
            Other::Address => {
                let body = json!({ "email": format!("b{}", self.email) }).to_string();
                by_account("put-user").json_body(&body)
            }
        }
    }

    /// Checks the response to the other request. Returns whether the caller must be active now, and
    /// which password is the right one.
    async fn check(
        &self,
        other: Other,
        app: &App,
        is_changed: bool,
        beside: &Answer,
        about: &str,
    ) -> (bool, &'static str) {
        let (mut caller_is_active, mut winner) = (true, if is_changed { NEW } else { PASSWORD });
        match other {
            Other::Revocation | Other::RevocationOfItself => {
                assert!([200, 204].contains(&beside.status), "{about}");
                caller_is_active = false;
            }
            Other::RevocationOfAll | Other::Address => {
                assert!(beside.status < 300, "{about}");
                caller_is_active = false;
            }
            Other::Disabling => {
                assert_eq!(beside.status, 200, "{about}");
                caller_is_active = false;
            }
            Other::Narrowing | Other::Renaming => {
                assert_eq!(beside.status, 200, "{about}");
                let record = record(self.service, self.bob, &self.caller.id).await;
                let scope = if other == Other::Narrowing {
                    "read"
                } else {
                    "read write"
                };
                assert_eq!(record["scope"], scope, "{about}");
            }
            Other::Renewal => {
                assert_eq!(beside.json()["active"], true, "{about}");
                assert!(is_changed, "{about}");
            }
            Other::LogIn => {
                assert!(is_changed, "{about}");
                assert!([200, 401].contains(&beside.status), "{about}");
                if beside.status == 200 {
                    let token = datum(beside)["token"].clone();
                    let token = token.as_str().unwrap();
                    assert!(!is_active_in(self.service, app, token).await, "{about}");
                }
            }
            Other::Exchange => {
                assert!(is_changed, "{about}");
                assert!([200, 404].contains(&beside.status), "{about}");
                if beside.status == 200 {
                    assert!(
                        !is_active_in(self.service, app, &beside.token()).await,
                        "{about}"
                    );
                }
            }
            Other::Caller | Other::Sibling => {
                assert_ne!(is_changed, beside.status == 204, "{about}");
                if !is_changed {
                    winner = "another one";
                    caller_is_active = other == Other::Caller;
                }
            }
        }
        (caller_is_active, winner)
    }
}

/// One round of a race. Returns the status of the change.
async fn race(service: &Service, apps: [&App; 2], other: Other, round: u32) -> u16 {
    let name = format!("user{round}");
    let email = format!("{name}-{other:?}@example.com");
    let bob = service
        .person(&format!("{name}-{other:?}"), &email, PASSWORD)
        .await;
    let kind = ["SlidingTtl", "Infinite"][round as usize % 2];
    let caller = of_kind(service, &bob, kind).await;
    let sibling = of_kind(service, &bob, "SlidingTtl").await;
    let code = match other {
        Other::Exchange => code_by(service, &bob, &caller.token).await,
        _ => String::new(),
    };
    service.clock.advance(1);
    let scene = Scene {
        service,
        bob: &bob,
        email: &email,
        caller: &caller,
        sibling: &sibling,
    };
    let event = scene.request(other, &code);
    // The other request ends before the transaction of the change, or it reads before this
    // transaction and writes after it, or it starts after this transaction.
    let delayed = async {
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        if round % 3 == 2 {
            service.database.has_arrived("TransactWriteItems").await;
        }
        event.send(apps[1]).await
    };
    service.database.take_calls();
    if round % 3 == 1 {
        let late = Fault::AnswerNotBefore("TransactWriteItems");
        service
            .database
            .fail([("BatchGetItem", Fault::None), ("BatchGetItem", late)]);
    }
    let changing = change(&caller.token, PASSWORD, NEW);
    let changing = changing.send(apps[0]);
    let (answer, beside) = Box::pin(join(changing, delayed)).await;

    let about = format!("{other:?}, round {round}: {answer:?} {beside:?}");
    assert!([204, 401, 403, 409].contains(&answer.status), "{about}");
    assert!(beside.status < 500, "{about}");
    let is_changed = answer.status == 204;
    let (caller_is_active, winner) = scene
        .check(other, apps[1], is_changed, &beside, &about)
        .await;
    let sibling_is_active = match other {
        Other::Sibling => !is_changed,
        _ => {
            !is_changed
                && [
                    Other::Revocation,
                    Other::RevocationOfItself,
                    Other::Narrowing,
                    Other::Disabling,
                ]
                .contains(&other)
        }
    };
    for app in apps {
        let active = is_active_in(service, app, &caller.token).await;
        assert_eq!(active, caller_is_active, "{about}");
        let active = is_active_in(service, app, &sibling.token).await;
        assert_eq!(active, sibling_is_active, "{about}");
    }
    let email = if other == Other::Address {
        format!("b{email}")
    } else {
        email
    };
    for password in [PASSWORD, NEW, "another one"] {
        let log_in = service.log_in("192.0.2.9", &email, password).await;
        let expected = if password == winner { 200 } else { 401 };
        assert_eq!(log_in.status, expected, "{about} {password}");
    }
    service.clock.advance(900);
    answer.status
}

async fn races(others: &[Other]) {
    let service = Service::start().await;
    let second = service.another_environment();
    for other in others {
        let mut statuses = Vec::new();
        for round in 0..rounds(300) {
            let apps = [&*service.app, &second];
            statuses.push(Box::pin(race(&service, apps, *other, round)).await);
        }
        statuses.sort_unstable();
        statuses.dedup();
        assert!(statuses.contains(&204), "{other:?}: {statuses:?}");
    }
}

#[tokio::test]
async fn only_the_calling_token_is_valid_after_a_change_beside_a_use_or_a_new_token() {
    races(&[Other::Renewal, Other::LogIn, Other::Exchange]).await;
}

#[tokio::test]
async fn a_change_beside_a_revocation_does_not_keep_the_calling_token() {
    races(&[
        Other::Revocation,
        Other::RevocationOfItself,
        Other::RevocationOfAll,
    ])
    .await;
}

#[tokio::test]
async fn a_change_beside_a_change_of_the_calling_token_or_of_the_user_loses_nothing() {
    races(&[
        Other::Narrowing,
        Other::Renaming,
        Other::Disabling,
        Other::Address,
    ])
    .await;
}

#[tokio::test]
async fn exactly_one_of_two_changes_with_the_same_current_password_succeeds() {
    races(&[Other::Caller, Other::Sibling]).await;
}

#[tokio::test]
async fn exactly_one_of_8_changes_with_the_same_token_succeeds() {
    let (service, bob) = with_bob().await;
    let caller = of_kind(&service, &bob, "Infinite").await.token;
    let changes = (0..8).map(|number| {
        let new = format!("new password {number}");
        let event = change(&caller, PASSWORD, &new);
        let app = &service.app;
        async move { (new, event.send(app).await) }
    });
    let answers: Vec<(String, Answer)> = join_all(changes).await;
    let won: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| answer.status == 204)
        .collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    for (_, answer) in &answers {
        assert!([204, 403, 409].contains(&answer.status), "{answer:?}");
    }
    assert!(service.is_active(&caller).await);
    assert_eq!(
        service.log_in("192.0.2.1", BOB, &won[0].0).await.status,
        200
    );
}

/// Reads one item of the table. A call that waits for a `Scan` is then sent.
async fn scan(service: &Service) {
    let scan = service.client.scan();
    let scan = scan.table_name(&service.tables.identity).limit(1);
    scan.send().await.expect("the table is read");
}

#[tokio::test]
async fn a_change_whose_token_was_narrowed_or_disabled_before_its_transaction_is_rejected() {
    for (body, status) in [(r#"{"scope":"read"}"#, 403), (r#"{"disabled":true}"#, 401)] {
        let (service, bob) = with_bob().await;
        let caller = of_kind(&service, &bob, "Infinite").await;
        service.database.take_calls();
        let late = ("TransactWriteItems", Fault::NotBefore("Scan"));
        service.database.fail([late]);
        let event = change(&caller.token, PASSWORD, NEW);
        let meanwhile = async {
            service.database.has_arrived("TransactWriteItems").await;
            let path = path(&bob, &caller.id);
            let answer = service.manage("PATCH", &path, body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            scan(&service).await;
        };
        let (answer, ()) = Box::pin(join(event.send(&service.app), meanwhile)).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn a_patch_that_arrives_after_the_change_still_changes_the_calling_token() {
    // After two changes, the token's record does not contain the epoch that the PATCH has read.
    for changes in [1, 2] {
        let (service, bob) = with_bob().await;
        let caller = of_kind(&service, &bob, "Infinite").await;
        service.database.take_calls();
        service
            .database
            .fail([("UpdateItem", Fault::NotBefore("Scan"))]);
        let of_caller = path(&bob, &caller.id);
        let patch = service.manage("PATCH", &of_caller, r#"{"disabled":true}"#);
        let meanwhile = async {
            service.database.has_arrived("UpdateItem").await;
            for _ in 0..changes {
                let event = change(&caller.token, PASSWORD, PASSWORD);
                assert_eq!(event.send(&service.app).await.status, 204);
            }
            scan(&service).await;
        };
        let (answer, ()) = Box::pin(join(patch, meanwhile)).await;
        assert_eq!(answer.status, 200, "{changes}: {answer:?}");
        assert!(!service.is_active(&caller.token).await, "{changes}");
    }
}

/// Returns a token and the token that it made.
async fn maker_and_child(service: &Service, bob: &str) -> (Minted, Minted) {
    let maker = of_kind(service, bob, "Infinite").await;
    let child = child_of(service, bob, &maker).await;
    (maker, child)
}

/// Returns a token that this token makes.
async fn child_of(service: &Service, bob: &str, maker: &Minted) -> Minted {
    let code = code_by(service, bob, &maker.token).await;
    Minted::of(&consume(service, &code).await)
}

#[tokio::test]
async fn a_code_that_was_created_with_an_older_record_of_the_token_makes_a_child_that_ends_with_it()
{
    let (service, bob) = with_bob().await;
    let (_, caller) = maker_and_child(&service, &bob).await;
    let id = service.owner(&bob).await.id;
    let item = async || service.token_item(&id, &caller.id).await.unwrap();
    let old = item().await;
    changed(&service, &caller.token).await;
    // The read of the creation finds the caller's record from before the change, and the user's
    // record from after it.
    let new = item().await;
    service.put_identity_item(old).await;
    let code = code_by(&service, &bob, &caller.token).await;
    service.put_identity_item(new).await;
    let child = Minted::of(&consume(&service, &code).await);
    assert!(service.is_active(&child.token).await);
    revoke_itself(&service, &caller.token).await;
    assert!(!service.is_active(&child.token).await);
    assert!(ids(&service, &bob).await.is_empty());
}

/// Waits until a write of a revocation has arrived. Then changes the password with the token
/// `caller`, makes a child of this token, and lets the write continue. Returns the child.
async fn change_and_make_child(
    service: &Service,
    bob: &str,
    caller: &Minted,
    write: &'static str,
) -> Minted {
    service.database.has_arrived(write).await;
    changed(service, &caller.token).await;
    let child = child_of(service, bob, caller).await;
    scan(service).await;
    child
}

#[tokio::test]
async fn a_revocation_that_read_the_token_before_the_change_ends_what_the_token_made_after_it() {
    for has_descendants in [false, true] {
        let (service, bob) = with_bob().await;
        let (_, caller) = maker_and_child(&service, &bob).await;
        let mut write = "UpdateItem";
        if has_descendants {
            child_of(&service, &bob, &caller).await;
            write = "TransactWriteItems";
        }
        service.database.take_calls();
        service.database.fail([(write, Fault::NotBefore("Scan"))]);
        let of_caller = path(&bob, &caller.id);
        let revocation = service.manage("DELETE", &of_caller, "");
        let meanwhile = change_and_make_child(&service, &bob, &caller, write);
        let (answer, child) = Box::pin(join(revocation, meanwhile)).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert!(!service.is_active(&caller.token).await);
        assert!(!service.is_active(&child.token).await, "{has_descendants}");
    }
}

#[tokio::test]
async fn a_revocation_of_the_maker_that_ends_its_children_after_the_change_does_not_end_the_caller()
{
    for generations in [1, 2] {
        let (service, bob) = with_bob().await;
        let (mut maker, mut caller) = maker_and_child(&service, &bob).await;
        if generations == 2 {
            let grandchild = child_of(&service, &bob, &caller).await;
            (maker, caller) = (caller, grandchild);
        }
        service.database.take_calls();
        // The revocation has ended the maker and read its links.
        let late = ("UpdateItem", Fault::NotBefore("Scan"));
        service.database.fail([late]);
        let of_maker = path(&bob, &maker.id);
        let revocation = service.manage("DELETE", &of_maker, "");
        let meanwhile = change_and_make_child(&service, &bob, &caller, "UpdateItem");
        let (answer, child) = Box::pin(join(revocation, meanwhile)).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert!(!service.is_active(&maker.token).await);
        assert!(service.is_active(&caller.token).await, "{generations}");
        assert!(service.is_active(&child.token).await, "{generations}");
        revoke_itself(&service, &caller.token).await;
        assert!(!service.is_active(&child.token).await, "{generations}");
    }
}

#[tokio::test]
async fn a_reader_that_sees_only_a_part_of_the_change_still_finds_the_e_mail_token() {
    let (service, bob) = with_bob().await;
    let token = datum(&service.log_in("192.0.2.1", BOB, PASSWORD).await)["token"].clone();
    let token = token.as_str().unwrap();
    let items = async || {
        let items = service.identity_items().await.into_iter();
        let record = items.filter(|item| item["item"].as_s().is_ok_and(|key| key == "email-token"));
        let record = record.last().expect("the user has an e-mail token");
        (service.owner_item(&bob).await.unwrap(), record)
    };
    let (old_user, old_record) = items().await;
    changed(&service, token).await;
    let (new_user, new_record) = items().await;
    for (user, record) in [(&old_user, &new_record), (&new_user, &old_record)] {
        service.put_identity_item(user.clone()).await;
        service.put_identity_item(record.clone()).await;
        assert_eq!(value(&service, BOB).await, token);
        let deleted = ask(&service, "DELETE", &json!({ "email": BOB })).await;
        assert_eq!(deleted.status, 200, "{deleted:?}");
        assert!(!service.is_active(token).await);
    }
    // After the next new epoch, the token is not the user's e-mail token any more.
    let all = format!("/api/users/{bob}/tokens");
    service.put_identity_item(new_user).await;
    assert_eq!(service.manage("DELETE", &all, "").await.status, 204);
    for record in [old_record, new_record] {
        service.put_identity_item(record).await;
        let deleted = ask(&service, "DELETE", &json!({ "email": BOB })).await;
        assert_eq!(deleted.status, 404, "{deleted:?}");
    }
}

#[tokio::test]
async fn a_token_that_changes_the_password_twice_during_a_read_is_not_remembered_as_dead() {
    let (service, bob) = with_bob().await;
    let caller = of_kind(&service, &bob, "Infinite").await;
    let items = async || {
        let owner = service.owner(&bob).await.id;
        let token = service.token_item(&owner, &caller.id).await;
        (service.owner_item(&bob).await.unwrap(), token.unwrap())
    };
    let (old_user, old_token) = items().await;
    for _ in 0..2 {
        let answer = change(&caller.token, PASSWORD, PASSWORD)
            .send(&service.app)
            .await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    let (new_user, new_token) = items().await;
    for (user, token) in [(&old_user, &new_token), (&new_user, &old_token)] {
        service.put_identity_item(user.clone()).await;
        service.put_identity_item(token.clone()).await;
        let app = service.another_environment();
        assert!(!is_active_in(&service, &app, &caller.token).await);
        service.put_identity_item(new_user.clone()).await;
        service.put_identity_item(new_token.clone()).await;
        assert!(is_active_in(&service, &app, &caller.token).await);
    }
}
