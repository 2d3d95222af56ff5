//! The limit of tokens per user, for each way to create a token.

use std::{collections::HashSet, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use shared::{
    domain::id::UserId,
    store::{
        identity::{PARTITION_KEY, SORT_KEY},
        item::Item,
    },
};
use tests::{Answer, Event, Fault, LOG_INS, Service, pause, rounds};

use crate::{
    assert_unknown,
    calls::shape,
    change_password,
    consume_shortcode::{attempt, code, consume, without_minute_limit},
    create_email_token::{BOB, PASSWORD, ask, datum, value},
    erase::erase_all,
    list_user_tokens::list,
    update_ecosystem::change,
};

/// A service with a limit of tokens, and a user `bob` with an e-mail address and a password.
struct Scene {
    service: Service,
    bob: String,
}

impl Scene {
    async fn new(max: u32, when_full: &str) -> Self {
        let service = without_minute_limit().await;
        let bob = service.person("bob", BOB, PASSWORD).await;
        let scene = Self { service, bob };
        scene.limit(json!(max), when_full).await;
        scene
    }

    async fn limit(&self, max: Value, when_full: &str) {
        let settings = json!({ "maxTokensPerUser": max, "whenFull": when_full });
        let answer = change(&self.service, &settings).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.service.database.take_calls();
    }

    /// Mints a token and returns its id.
    async fn mint(&self, query: &str) -> String {
        // The new token must have a later time of creation, and a higher id, than the others.
        self.service.clock.advance(1);
        id(&self.service.mint(&self.bob, query).await)
    }

    /// Mints tokens that never expire, and returns their ids.
    async fn mint_many(&self, count: usize) -> Vec<String> {
        let mut made = Vec::new();
        for _ in 0..count {
            made.push(self.mint("expiryType=Infinite").await);
        }
        made
    }

    async fn is_full(&self) -> bool {
        let answer = self.service.mint(&self.bob, "").await;
        if answer.status == 409 {
            assert_full(&answer);
        }
        answer.status == 409
    }

    /// Returns the ids of the user's valid tokens, newest first, from all pages of the list.
    async fn ids(&self) -> Vec<String> {
        let (mut ids, mut query) = (Vec::new(), String::new());
        loop {
            let page = list(&self.service, &self.bob, &query).await.json();
            let tokens = page["tokens"].as_array().unwrap().iter();
            ids.extend(tokens.map(|token| token["tokenId"].as_str().unwrap().to_owned()));
            match page["cursor"].as_str() {
                Some(cursor) => query = format!("?cursor={cursor}"),
                None => return ids,
            }
        }
    }

    async fn revoke(&self, id: &str) {
        let path = format!("/api/users/{}/tokens/{id}", self.bob);
        let answer = self.service.manage("DELETE", &path, "").await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    /// Creates a code for `bob` with this credential.
    async fn code(&self, credential: &str) -> String {
        let body =
            json!({ "userId": self.bob, "tokenExpiryType": "Infinite", "shortCodeTtl": 3600 });
        let (path, body) = ("/api/auth/shortcode/create", body.to_string());
        let made = self.service.call(credential, "POST", path, &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["shortcode"].as_str().unwrap().to_owned()
    }

    async fn item(&self, id: &str) -> Item {
        let key = &UserId::parse(&self.bob).unwrap();
        let item = self.service.token_item(key, id).await;
        item.expect("the token has an item")
    }

    /// Returns this many requests that create a token in this way.
    async fn requests(&self, way: &str, count: usize) -> Vec<Event> {
        let account = &self.service.account_token;
        self.service.clock.advance(1);
        let own = match way {
            "an own code" => self.service.mint(&self.bob, "expiryType=Infinite").await,
            _ => self.service.introspect(account).await,
        };
        let mut events = Vec::new();
        for number in 0..count {
            let source = format!("198.18.{}.{}", number / 250, number % 250);
            let email = json!({ "email": BOB }).to_string();
            events.push(match way {
                "a code" => attempt(&self.code(account).await).source(&source),
                "an own code" => attempt(&self.code(&own.token()).await).source(&source),
                "an e-mail token" => Event::to("create-email-token")
                    .header("authorization", account)
                    .json_body(&email),
                "a log-in" | "a session" => {
                    let body = json!({ "email": BOB, "password": PASSWORD }).to_string();
                    let is_session = way == "a session";
                    let log_in = Event::to(LOG_INS[usize::from(is_session)]).source(&source);
                    log_in.json_body(&body)
                }
                _ => Event::to("create-user-token")
                    .header("authorization", account)
                    .parameter("id", &self.bob)
                    .query("expiryType=Infinite"),
            });
        }
        events
    }

    /// Sends these requests at the same time to a database with the limits of a real one. If the
    /// response is 429 or 503, sends the request again later. Returns the other responses.
    #[expect(
        clippy::disallowed_methods,
        reason = "requests take time, and repeated requests begin one after the other"
    )]
    async fn send_all(&self, events: &[Event]) -> Vec<Answer> {
        let service = &self.service;
        let _paused = pause();
        service.database.limit_partitions(&service.clock);
        // The limits of a partition are per second of the test's clock.
        let seconds = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                service.clock.advance(1);
            }
        };
        let answers = async {
            let (mut waiting, mut answers): (Vec<&Event>, _) = (events.iter().collect(), vec![]);
            let mut between = Duration::ZERO;
            while !waiting.is_empty() {
                let sent = (0..).zip(&waiting).map(async |(number, event)| {
                    tokio::time::sleep(between * number).await;
                    event.send(&service.app).await
                });
                let sent = join_all(sent).await;
                let sent = waiting.into_iter().zip(sent);
                let (again, done): (Vec<_>, Vec<_>) =
                    sent.partition(|(_, answer)| [429, 503].contains(&answer.status));
                answers.extend(done.into_iter().map(|(_, answer)| answer));
                waiting = again.into_iter().map(|(event, _)| event).collect();
                between = Duration::from_millis(40);
            }
            answers
        };
        let answers = tokio::select! {
            answers = answers => answers,
            () = seconds => unreachable!("the loop never ends"),
        };
        // The next request is in a new second, in which no units are used yet.
        service.clock.advance(1);
        answers
    }
}

fn id(answer: &Answer) -> String {
    // Only the response to the creation of a session has both fields.
    let is_session = ["userId", "scope"].map(|name| answer.json()[name].is_string());
    let expected = if is_session == [true; 2] { 201 } else { 200 };
    assert_eq!(answer.status, expected, "{answer:?}");
    answer.json()["tokenId"].as_str().unwrap().to_owned()
}

fn assert_full(answer: &Answer) {
    assert_eq!(answer.status, 409, "{answer:?}");
    let expected = json!({
        "errorType": "Conflict",
        "errors": [{ "message": "user has the most tokens allowed" }],
    });
    assert_eq!(answer.json(), expected);
}

/// Returns how many responses have the status 200 or 201, and how many have the status 409.
fn counted(answers: &[Answer]) -> (usize, usize) {
    let made = answers.iter().filter(|answer| answer.status < 300).count();
    let full = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!(made + full, answers.len());
    (made, full)
}

const PARALLEL: u32 = 200;

#[tokio::test]
async fn exactly_the_free_places_are_taken_by_200_parallel_requests_if_a_full_user_is_rejected() {
    let count = rounds(PARALLEL) as usize;
    for way in ["minting", "a code", "an own code", "a session"] {
        let scene = Scene::new(7, "reject").await;
        let before = scene.mint_many(2).await;
        let requests = scene.requests(way, count).await;
        let free = 7 - scene.ids().await.len();
        let answers = scene.send_all(&requests).await;
        assert_eq!(
            counted(&answers),
            (free.min(count), count - free.min(count)),
            "{way}"
        );
        for answer in answers.iter().filter(|answer| answer.status == 409) {
            assert_full(answer);
        }
        let valid = scene.ids().await;
        assert_eq!(valid.len(), 7.min(7 - free + count), "{way}");
        assert!(before.iter().all(|id| valid.contains(id)), "{way}");
        for answer in answers.iter().filter(|answer| answer.status < 300) {
            assert!(scene.service.is_active(&answer.token()).await, "{way}");
        }
    }
}

#[tokio::test]
async fn exactly_the_newest_tokens_stay_after_200_parallel_requests_if_the_oldest_are_revoked() {
    let count = rounds(PARALLEL) as usize;
    for way in ["minting", "a code", "an own code", "a session"] {
        let scene = Scene::new(7, "revoke-oldest").await;
        let before = scene.mint_many(7).await;
        let requests = scene.requests(way, count).await;
        let maker = scene.ids().await[0].clone();
        let answers = scene.send_all(&requests).await;
        assert_eq!(counted(&answers), (count, 0), "{way}");
        let valid: HashSet<_> = scene.ids().await.into_iter().collect();
        assert_eq!(valid.len(), 7, "{way}");
        let made = answers.iter().map(id).collect::<HashSet<_>>();
        // The maker of own codes is never revoked.
        let kept = usize::from(way == "an own code");
        assert_eq!(valid.contains(&maker), kept == 1 || count < 7, "{way}");
        if count >= 7 {
            assert_eq!(valid.intersection(&made).count(), 7 - kept, "{way}");
            assert!(!before.iter().any(|id| valid.contains(id)), "{way}");
        }
        let mut active = 0;
        for answer in &answers {
            let is_listed = valid.contains(&id(answer));
            assert_eq!(scene.service.is_active(&answer.token()).await, is_listed);
            active += usize::from(is_listed);
        }
        assert_eq!(active, valid.intersection(&made).count());
    }
}

#[tokio::test]
async fn of_two_requests_that_read_the_same_free_place_only_one_takes_it() {
    for when_full in ["reject", "revoke-oldest"] {
        // Without a token, the item of the user's tokens does not exist yet.
        for tokens in [0, 1] {
            let max = tokens + 1;
            let scene = Scene::new(max, when_full).await;
            scene.mint_many(tokens as usize).await;
            let requests = scene.requests("minting", 2).await;
            scene.service.database.take_calls();
            // Both requests have read the item before the first of them writes.
            let both = Fault::NotBeforeAll("TransactWriteItems", 2);
            let both = ("TransactWriteItems", both);
            scene.service.database.fail([both.clone(), both]);
            let sent = requests.iter().map(|event| event.send(&scene.service.app));
            let made = usize::from(when_full == "revoke-oldest") + 1;
            assert_eq!(counted(&join_all(sent).await), (made, 2 - made));
            assert_eq!(scene.ids().await.len(), max as usize, "{when_full}");
        }
    }
}

#[tokio::test]
async fn an_e_mail_token_takes_a_place_under_200_parallel_requests() {
    let count = rounds(PARALLEL) as usize;
    for way in ["an e-mail token", "a log-in"] {
        for (when_full, tokens) in [("reject", 2), ("reject", 3), ("revoke-oldest", 3)] {
            let about = format!("{way}, {when_full}, {tokens} tokens");
            let scene = Scene::new(3, when_full).await;
            let before = scene.mint_many(tokens).await;
            let is_full = when_full == "reject" && tokens == 3;
            // A log-in takes a long time, and all these log-ins get the same response.
            let count = if is_full { count.min(20) } else { count };
            let requests = scene.requests(way, count).await;
            let answers = scene.send_all(&requests).await;
            let made = match (is_full, way) {
                (true, _) => 0,
                // There is one e-mail token. Each log-in returns its value.
                (false, "a log-in") => count,
                (false, _) => 1,
            };
            assert_eq!(counted(&answers), (made, count - made), "{about}");
            let values = answers.iter().filter(|answer| answer.status < 300);
            let values: HashSet<_> = values.map(|answer| answer.body.clone()).collect();
            assert_eq!(values.len(), usize::from(!is_full), "{about}");
            let valid = scene.ids().await;
            assert_eq!(valid.len(), 3, "{about}");
            assert_eq!(valid.contains(&before[0]), when_full == "reject", "{about}");
        }
    }
}

#[tokio::test]
async fn all_ways_together_keep_the_limit_under_200_parallel_requests() {
    let count = rounds(PARALLEL) as usize / 5;
    for when_full in ["reject", "revoke-oldest"] {
        let scene = Scene::new(5, when_full).await;
        let mut requests = Vec::new();
        for way in [
            "minting",
            "a code",
            "an own code",
            "an e-mail token",
            "a log-in",
            "a session",
        ] {
            requests.extend(scene.requests(way, count).await);
        }
        let answers = scene.send_all(&requests).await;
        assert_eq!(answers.len(), requests.len());
        if when_full == "revoke-oldest" {
            // The oldest token may have made another token with its own code. Both end together, so
            // places may be free now. The new tokens take these places.
            scene.mint_many(5).await;
        }
        assert_eq!(scene.ids().await.len(), 5, "{when_full}");
        let mut active = HashSet::new();
        for answer in answers.iter().filter(|answer| answer.status < 300) {
            let token = match answer.json().get("token") {
                Some(token) => token.clone(),
                None => datum(answer)["token"].clone(),
            };
            // The response to the creation of an e-mail token does not contain the token.
            let is_record = answer.status == 201 && token.is_null();
            if !is_record && scene.service.is_active(token.as_str().unwrap()).await {
                active.insert(token.to_string());
            }
        }
        assert!(active.len() <= 5, "{when_full}");
    }
}

#[tokio::test]
async fn a_place_is_free_again_after_each_kind_of_end() {
    for end in [
        "revocation",
        "expiry",
        "idle",
        "revoke-all",
        "its value",
        "new user",
    ] {
        let scene = Scene::new(2, "reject").await;
        let service = &scene.service;
        let query = match end {
            "expiry" => "ttl=10",
            "idle" => "expiryType=SlidingTtl&ttl=10",
            _ => "expiryType=Infinite",
        };
        scene.mint("expiryType=Infinite").await;
        let token = service.mint(&scene.bob, query).await;
        assert!(scene.is_full().await, "{end}");
        match end {
            "revocation" => scene.revoke(&id(&token)).await,
            "revoke-all" => scene.revoke_all().await,
            "its value" => {
                let form = format!("token={}", token.token());
                Event::to("revoke-token")
                    .form(&form)
                    .send(&service.app)
                    .await;
            }
            "new user" => {
                let path = format!("/api/users/{}", scene.bob);
                assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
                assert_eq!(service.manage("PUT", &path, "{}").await.status, 201);
            }
            _ => service.clock.advance(10),
        }
        let free = if ["revoke-all", "new user"].contains(&end) {
            2
        } else {
            1
        };
        for _ in 0..free {
            assert!(!scene.is_full().await, "{end}");
        }
        assert!(scene.is_full().await, "{end}");
        assert_eq!(scene.ids().await.len(), 2, "{end}");
    }
}

#[tokio::test]
async fn the_limit_applies_to_each_user_separately() {
    let scene = Scene::new(1, "reject").await;
    let ann = scene.service.user("ann").await;
    scene.mint("").await;
    assert!(scene.is_full().await);
    assert_eq!(scene.service.mint(&ann, "").await.status, 200);
    // A limit of another ecosystem does not apply.
    let other = scene.service.another_ecosystem().await;
    let path = format!("/api/users/{};bob", other.id.as_str());
    assert_eq!(scene.service.manage("PUT", &path, "{}").await.status, 201);
    let bob = format!("{};bob", other.id.as_str());
    for _ in 0..3 {
        assert_eq!(scene.service.mint(&bob, "").await.status, 200);
    }
}

#[tokio::test]
async fn tokens_from_before_the_limit_count_and_nothing_is_revoked_until_the_next_token() {
    let scene = Scene::new(100, "reject").await;
    scene.limit(json!(null), "reject").await;
    let before = scene.mint_many(4).await;
    scene.limit(json!(2), "reject").await;
    assert_eq!(scene.ids().await.len(), 4);
    assert!(scene.is_full().await);
    for id in &before[..2] {
        scene.revoke(id).await;
        assert!(scene.is_full().await);
    }
    scene.revoke(&before[2]).await;
    assert!(!scene.is_full().await);
    assert!(scene.is_full().await);
    assert_eq!(scene.ids().await.len(), 2);
}

#[tokio::test]
async fn a_smaller_limit_revokes_all_tokens_above_it_with_the_next_token() {
    // 60 tokens are more than one transaction ends.
    for (old, new) in [(5, 2), (60, 2), (60, 1), (120, 100)] {
        let scene = Scene::new(100, "reject").await;
        scene.limit(json!(null), "revoke-oldest").await;
        let before = scene.mint_many(old).await;
        scene.limit(json!(new), "revoke-oldest").await;
        let made = scene.mint("").await;
        let mut valid = scene.ids().await;
        assert_eq!(valid.remove(0), made, "{old} {new}");
        let newest: Vec<_> = before.into_iter().rev().take(new - 1).collect();
        assert_eq!(valid, newest, "{old} {new}");
    }
}

#[tokio::test]
async fn a_limit_that_was_removed_and_set_again_counts_the_tokens_made_in_between() {
    let scene = Scene::new(3, "reject").await;
    scene.mint_many(2).await;
    scene.limit(json!(null), "reject").await;
    let between = scene.mint_many(2).await;
    scene.limit(json!(3), "reject").await;
    assert!(scene.is_full().await);
    scene.revoke(&between[0]).await;
    assert!(scene.is_full().await);
    scene.revoke(&between[1]).await;
    assert!(!scene.is_full().await);
    // If only the number of the limit changes, the tokens are not counted again.
    scene.limit(json!(4), "reject").await;
    assert!(!scene.is_full().await);
    assert!(scene.is_full().await);
    assert_eq!(scene.ids().await.len(), 4);
}

#[tokio::test]
async fn the_oldest_token_ends_with_its_descendants_and_its_record_says_why() {
    for way in [
        "minting",
        "a code",
        "an e-mail token",
        "a log-in",
        "a session",
    ] {
        let scene = Scene::new(3, "revoke-oldest").await;
        let service = &scene.service;
        let oldest = service.mint(&scene.bob, "expiryType=Infinite").await;
        service.clock.advance(1);
        let child = consume(service, &scene.code(&oldest.token()).await).await;
        service.clock.advance(1);
        let other = service.mint(&scene.bob, "expiryType=Infinite").await;
        service.clock.advance(1);
        let request = &scene.requests(way, 1).await[0];
        let answer = request.send(&service.app).await;
        assert!(answer.status < 300, "{way}: {answer:?}");
        for (token, is_valid) in [(&oldest, false), (&child, false), (&other, true)] {
            let is_active = service.is_active(&token.token()).await;
            assert_eq!(is_active, is_valid, "{way}");
        }
        let valid = scene.ids().await;
        assert_eq!((valid.len(), &valid[1]), (2, &id(&other)), "{way}");
        let text = |item: &Item, name: &str| item[name].as_s().unwrap().clone();
        for (token, reason) in [(&oldest, "limit-reached"), (&child, "maker-revoked")] {
            let item = scene.item(&id(token)).await;
            assert_eq!(text(&item, "end_reason"), reason, "{way}");
            assert!(!item.contains_key("token_hash") && !item.contains_key("descendants"));
            let by = item["ended_by"].as_m().unwrap();
            assert_eq!(by["holder"].as_s().unwrap(), "user");
            assert_eq!(text(by, "token"), format!("token#{}", valid[0]), "{way}");
        }
        // Clients see why the token ended.
        let path = format!("/api/users/{}/tokens/{}", scene.bob, id(&oldest));
        let record = service.manage("GET", &path, "").await.json();
        assert_eq!(record["state"], "revoked");
        assert_eq!(record["endReason"], "limit-reached");
        assert_eq!(record["endedBy"]["tokenId"], valid[0].as_str());
    }
}

#[tokio::test]
async fn a_disabled_token_takes_a_place_and_can_be_the_oldest_one() {
    let scene = Scene::new(2, "reject").await;
    let service = &scene.service;
    let disabled = scene.mint("expiryType=Infinite").await;
    scene.mint("expiryType=Infinite").await;
    let path = format!("/api/users/{}/tokens/{disabled}", scene.bob);
    let change = async |body: &str| {
        let answer = service.manage("PATCH", &path, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    change(r#"{"disabled":true}"#).await;
    assert!(scene.is_full().await);
    // The tokens are counted again, because the limit is new.
    scene.limit(json!(null), "reject").await;
    scene.limit(json!(2), "reject").await;
    assert!(scene.is_full().await);
    change(r#"{"disabled":false}"#).await;
    assert_eq!(scene.ids().await.len(), 2);
    change(r#"{"disabled":true}"#).await;
    scene.limit(json!(2), "revoke-oldest").await;
    scene.mint("").await;
    let item = scene.item(&disabled).await;
    assert_eq!(item["end_reason"].as_s().unwrap(), "limit-reached");
    assert!(!item.contains_key("disabled_hash"));
    // A disabled token that expires frees its place.
    let scene = Scene::new(1, "reject").await;
    let service = &scene.service;
    for query in ["ttl=10", "expiryType=SlidingTtl&ttl=10"] {
        let id = scene.mint(query).await;
        let path = format!("/api/users/{}/tokens/{id}", scene.bob);
        service.manage("PATCH", &path, r#"{"disabled":true}"#).await;
        assert!(scene.is_full().await);
        service.clock.advance(10);
    }
    assert!(!scene.is_full().await);
}

#[tokio::test]
async fn an_e_mail_token_is_never_revoked_for_another_token() {
    let scene = Scene::new(1, "revoke-oldest").await;
    let service = &scene.service;
    let log_in = service.log_in("192.0.2.1", BOB, PASSWORD).await;
    assert_eq!(log_in.status, 200);
    assert!(scene.is_full().await);
    let code = scene.code(&service.account_token).await;
    assert_full(&consume(service, &code).await);

    scene.limit(json!(2), "revoke-oldest").await;
    let first = scene.mint("").await;
    let second = consume(service, &code).await;
    assert_eq!(second.status, 200);
    let valid = scene.ids().await;
    assert_eq!(valid.len(), 2);
    assert!(!valid.contains(&first) && valid.contains(&id(&second)));
    assert!(service.is_active(&value(service, BOB).await).await);
}

#[tokio::test]
async fn an_expired_e_mail_token_takes_a_place_until_it_is_deleted_or_replaced() {
    let scene = Scene::new(2, "reject").await;
    let service = &scene.service;
    let past = json!({ "email": BOB, "expiration_date": 1_444_514_400_000_u64 });
    assert_eq!(ask(service, "POST", &past).await.status, 201);
    scene.mint("").await;
    assert!(scene.is_full().await);
    // A PUT can give the token a later end.
    let later = json!({ "email": BOB, "write": true });
    assert_eq!(ask(service, "PUT", &later).await.status, 200);
    assert_eq!(scene.ids().await.len(), 2);
    assert_eq!(ask(service, "PUT", &past).await.status, 200);
    // The new e-mail token takes the place of the old one.
    let log_in = service.log_in("192.0.2.1", BOB, PASSWORD).await;
    assert_eq!(log_in.status, 200, "{log_in:?}");
    assert_eq!(scene.ids().await.len(), 2);
    assert!(scene.is_full().await);
    let deleted = ask(service, "DELETE", &json!({ "email": BOB })).await;
    assert_eq!(deleted.status, 200);
    assert!(!scene.is_full().await);
    assert!(scene.is_full().await);
    // Now there is no place for an e-mail token.
    assert_full(&service.log_in("192.0.2.1", BOB, PASSWORD).await);
    assert_full(&ask(service, "POST", &json!({ "email": BOB })).await);
}

#[tokio::test]
async fn an_e_mail_token_is_replaced_even_if_the_user_has_more_tokens_than_allowed() {
    let scene = Scene::new(100, "reject").await;
    let service = &scene.service;
    let past = json!({ "email": BOB, "expiration_date": 1_444_514_400_000_u64 });
    assert_eq!(ask(service, "POST", &past).await.status, 201);
    scene.limit(json!(null), "reject").await;
    // More than the item of the user's tokens can contain.
    scene.mint_many(110).await;
    scene.limit(json!(100), "reject").await;
    assert!(scene.is_full().await);
    let log_in = service.log_in("192.0.2.1", BOB, PASSWORD).await;
    assert_eq!(log_in.status, 200, "{log_in:?}");
    assert!(scene.is_full().await);
    scene.limit(json!(100), "revoke-oldest").await;
    scene.mint("").await;
    let log_in_again = service.log_in("192.0.2.1", BOB, PASSWORD).await;
    assert_eq!(log_in_again.body, log_in.body);
    assert_eq!(scene.ids().await.len(), 100);
}

#[tokio::test]
async fn a_full_exchange_does_not_spend_the_code_and_is_no_failed_attempt() {
    let scene = Scene::new(1, "reject").await;
    let service = &scene.service;
    let own = scene.mint("expiryType=Infinite").await;
    let code = scene.code(&service.account_token).await;
    // After 5 failed attempts, the response would be a 429.
    for _ in 0..7 {
        assert_full(&consume(service, &code).await);
    }
    scene.revoke(&own).await;
    let exchanged = consume(service, &code).await;
    assert_eq!(exchanged.status, 200, "{exchanged:?}");
    let text = format!("Shortcode {code} does not exist.");
    assert_unknown(&consume(service, &code).await, &text);
}

#[tokio::test]
async fn a_code_of_a_user_whose_tokens_were_all_revoked_is_unknown_even_if_the_user_was_full() {
    let scene = Scene::new(1, "reject").await;
    let service = &scene.service;
    scene.mint("expiryType=Infinite").await;
    let code = scene.code(&service.account_token).await;
    assert_full(&consume(service, &code).await);
    scene.revoke_all().await;
    let text = format!("Shortcode {code} does not exist.");
    assert_unknown(&consume(service, &code).await, &text);
}

#[tokio::test]
async fn the_makers_of_a_new_token_are_not_revoked_to_make_room_for_it() {
    let scene = Scene::new(3, "revoke-oldest").await;
    let service = &scene.service;
    // The first token makes the second one, and the second one makes the third one.
    let first = service.mint(&scene.bob, "expiryType=Infinite").await;
    let second = consume(service, &scene.code(&first.token()).await).await;
    service.clock.advance(1);
    let other = scene.mint("expiryType=Infinite").await;
    let code = scene.code(&second.token()).await;
    let third = consume(service, &code).await;
    assert_eq!(third.status, 200, "{third:?}");
    let valid: HashSet<_> = scene.ids().await.into_iter().collect();
    assert_eq!(valid, HashSet::from([id(&first), id(&second), id(&third)]));
    assert!(!valid.contains(&other));
    // Of the three tokens, only the third one does not make the next token.
    let fourth = consume(service, &scene.code(&second.token()).await).await;
    let valid: HashSet<_> = scene.ids().await.into_iter().collect();
    assert_eq!(valid, HashSet::from([id(&first), id(&second), id(&fourth)]));
    // All three tokens make the next token.
    assert_full(&consume(service, &scene.code(&fourth.token()).await).await);
}

#[tokio::test]
async fn a_new_user_of_a_code_has_one_token_under_a_limit_of_one() {
    let scene = Scene::new(1, "reject").await;
    let service = &scene.service;
    let environment = service.environment(&service.ecosystem).await;
    let (made, code) = code(service, json!({ "environmentId": environment })).await;
    assert_eq!(consume(service, &code).await.status, 200);
    let user = made["userId"].as_str().unwrap();
    assert_full(&service.mint(user, "").await);
}

#[tokio::test]
async fn a_late_renewal_does_not_revive_a_token_that_gave_up_its_place() {
    let scene = Scene::new(1, "reject").await;
    let service = &scene.service;
    let query = "expiryType=SlidingTtl&ttl=10";
    let old = service.mint(&scene.bob, query).await.token();
    service.clock.advance(9);
    service.database.take_calls();
    let late = Fault::NotBefore("TransactWriteItems");
    service.database.fail([("UpdateItem", late)]);
    let use_old = service.introspection(&old);
    let mint = async {
        service.database.has_arrived("UpdateItem").await;
        service.clock.advance(1);
        service.mint(&scene.bob, query).await
    };
    let (_, new) = join(use_old.send(&service.app), mint).await;
    assert_eq!(new.status, 200, "{new:?}");
    assert!(!service.is_active(&old).await);
    assert!(service.is_active(&new.token()).await);
}

#[tokio::test]
async fn a_renewal_that_is_in_time_keeps_the_place() {
    let scene = Scene::new(1, "reject").await;
    let service = &scene.service;
    let query = "expiryType=SlidingTtl&ttl=10";
    let token = service.mint(&scene.bob, query).await.token();
    service.clock.advance(9);
    // The use renews the token after the request has read it as expired. The second `UpdateItem` is
    // the one that would end the token permanently.
    service.database.take_calls();
    let late = Fault::NotBeforeAll("UpdateItem", 2);
    service.database.fail([("UpdateItem", late)]);
    let use_it = service.introspection(&token);
    let mint = async {
        service.database.has_arrived("UpdateItem").await;
        service.clock.advance(1);
        service.mint(&scene.bob, query).await
    };
    let (used, refused) = join(use_it.send(&service.app), mint).await;
    assert_eq!(used.json()["active"], true);
    assert_full(&refused);
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn a_creation_whose_response_was_lost_takes_one_place() {
    let scene = Scene::new(2, "reject").await;
    let service = &scene.service;
    let lost = ("TransactWriteItems", Fault::AnswerLost);
    service.database.fail([lost]);
    let token = service.mint(&scene.bob, "").await;
    assert!(service.is_active(&token.token()).await);
    assert!(!scene.is_full().await);
    assert!(scene.is_full().await);
}

#[tokio::test]
async fn a_user_whose_every_transaction_conflicts_gets_a_503_at_the_deadline() {
    let scene = Scene::new(2, "reject").await;
    let service = &scene.service;
    let _paused = pause();
    let conflict = Fault::TransactionCancelled(&["None", "TransactionConflict"]);
    service.database.take_calls();
    let conflicts = std::iter::repeat_n(("TransactWriteItems", conflict), 1000);
    service.database.fail(conflicts);
    let mint = &scene.requests("minting", 1).await[0];
    let answer = mint.send(&service.app).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let attempts = service.database.take_calls();
    let is_transaction = |call: &&tests::Call| call.operation == "TransactWriteItems";
    let transactions = attempts.iter().filter(is_transaction).count();
    // The pauses get longer, so a request does not send hundreds of transactions.
    assert!(
        (4..=40).contains(&transactions),
        "{transactions} transactions"
    );
    service.database.take_faults();
    assert!(!scene.is_full().await);
}

#[tokio::test]
async fn a_limit_of_100_fits_into_one_item_and_an_ended_token_frees_one_place() {
    let scene = Scene::new(100, "reject").await;
    let made = scene.mint_many(100).await;
    assert!(scene.is_full().await);
    scene.revoke(&made[50]).await;
    assert!(!scene.is_full().await);
    assert!(scene.is_full().await);
}

#[tokio::test]
async fn the_calls_of_a_user_with_a_limit() {
    let service = without_minute_limit().await;
    let bob = service.person("bob", BOB, PASSWORD).await;
    let scene = Scene { service, bob };
    let mint = async || {
        scene.service.database.take_calls();
        scene.mint("expiryType=Infinite").await;
        scene.service.database.take_calls()
    };
    // Without a limit, no request reads or writes the item that counts the user's tokens.
    let without = [("BatchGetItem", 4.0), ("PutItem", 1.0)];
    assert_eq!(shape(&mint().await), without);
    scene.limit(json!(3), "revoke-oldest").await;
    // The first token reads the user's tokens.
    let first = [
        ("BatchGetItem", 4.0),
        ("BatchGetItem", 2.0),
        ("Query", 1.0),
        ("TransactWriteItems", 4.0),
    ];
    assert_eq!(shape(&mint().await), first);
    let later = [
        ("BatchGetItem", 4.0),
        ("BatchGetItem", 2.0),
        ("TransactWriteItems", 4.0),
    ];
    assert_eq!(shape(&mint().await), later);
    // If all places are taken, the tokens are read, and the oldest one ends.
    let full = [
        ("BatchGetItem", 4.0),
        ("BatchGetItem", 2.0),
        ("BatchGetItem", 3.0),
        ("TransactWriteItems", 6.0),
    ];
    assert_eq!(shape(&mint().await), full);
    scene.limit(json!(null), "reject").await;
    assert_eq!(shape(&mint().await), without);
}

/// A size of records in bytes. Three such records fit on a page of a `Query`. A page has at most
/// 1 MB.
const THIRD_OF_A_PAGE: usize = 340_000;

impl Scene {
    /// Stores copies of a token's record, each with at least this many bytes, and returns their
    /// ids.
    async fn copy(&self, id: &str, count: usize, bytes: usize) -> Vec<String> {
        let mut item = self.item(id).await;
        item.insert("filler".to_owned(), AttributeValue::S("x".repeat(bytes)));
        // The first 10 characters of an id are its time of creation.
        let ids = (0..count).map(|number| format!("{}{number:016}", &id[..10]));
        let ids: Vec<_> = ids.collect();
        let items = ids.iter().map(|id| {
            let mut item = item.clone();
            let key = AttributeValue::S(format!("token#{id}"));
            item.insert(SORT_KEY.to_owned(), key);
            item
        });
        self.service.put_identity_items(items.collect()).await;
        ids
    }

    /// Stores records of revoked tokens that fill this many pages.
    async fn fill(&self, pages: usize) {
        let ended = self.mint("expiryType=Infinite").await;
        self.revoke(&ended).await;
        self.copy(&ended, 3 * pages, THIRD_OF_A_PAGE).await;
    }

    /// Sends a request that has the time to read this many pages of the user's tokens.
    async fn send_with_time_for(&self, pages: usize, event: &Event) -> Answer {
        let _paused = pause();
        let in_time = std::iter::repeat_n(("Query", Fault::None), pages);
        let late = std::iter::repeat_n(("Query", Fault::NoAnswer), 100);
        self.service.database.fail(in_time.chain(late));
        let answer = event.send(&self.service.app).await;
        self.service.database.take_faults();
        answer
    }

    /// Repeats a request that has the time to read two pages until the response is not 503. Returns
    /// the response, and how often it was 503.
    async fn send_until_answered(&self, event: &Event) -> (Answer, usize) {
        for late in 0..100 {
            let answer = self.send_with_time_for(2, event).await;
            if answer.status != 503 {
                return (answer, late);
            }
        }
        panic!("the request never has enough time");
    }

    async fn revoke_all(&self) {
        let path = format!("/api/users/{}/tokens", self.bob);
        let answer = self.service.manage("DELETE", &path, "").await;
        assert_eq!(answer.status, 204);
        self.service.database.take_calls();
    }

    /// Stores a token that ended together with all others, so that it is valid again. A change of
    /// the password does this with the token that makes the request.
    async fn keep(&self, mut token: Item) {
        let owner = self.service.owner_item(&self.bob).await.unwrap();
        token.insert("epoch".to_owned(), owner["epoch"].clone());
        self.service.put_identity_item(token).await;
    }

    /// Returns the item that counts the user's tokens.
    async fn places(&self) -> Item {
        let items = self.service.identity_items().await.into_iter();
        let mut places = items.filter(|item| item[SORT_KEY].as_s().unwrap() == "limit");
        let item = places.next().expect("there is an item");
        assert!(places.next().is_none(), "there is one item");
        item
    }
}

#[tokio::test]
async fn a_user_with_more_records_than_a_request_can_read_gets_a_token_after_some_requests() {
    for item in ["none", "of another limit", "of an earlier release"] {
        let scene = Scene::new(4, "reject").await;
        if item == "none" {
            scene.limit(json!(null), "reject").await;
        }
        scene.mint_many(2).await;
        scene.fill(7).await;
        scene.mint("expiryType=Infinite").await;
        if item == "of an earlier release" {
            // If the user has too many tokens for the item, earlier releases store only this.
            let mut places = scene.places().await;
            places.insert("tokens".to_owned(), AttributeValue::Null(true));
            scene.service.put_identity_item(places).await;
        } else {
            scene.limit(json!(null), "reject").await;
            scene.limit(json!(4), "reject").await;
        }
        let mint = &scene.requests("minting", 1).await[0];
        let (answer, late) = scene.send_until_answered(mint).await;
        assert_eq!(answer.status, 200, "{item}: {answer:?}");
        assert_eq!(late, 3, "{item}");
        assert!(scene.is_full().await, "{item}");
        assert_eq!(scene.ids().await.len(), 4, "{item}");
        scene.revoke(&id(&answer)).await;
        assert!(!scene.is_full().await, "{item}");
        assert!(scene.is_full().await, "{item}");
    }
}

#[tokio::test]
async fn tokens_that_end_while_the_tokens_are_counted_take_no_place() {
    let scene = Scene::new(3, "reject").await;
    let older = scene.mint_many(2).await;
    scene.fill(7).await;
    let newer = scene.mint("expiryType=Infinite").await;
    scene.limit(json!(null), "reject").await;
    scene.limit(json!(3), "reject").await;
    let mint = &scene.requests("minting", 1).await[0];
    assert_eq!(scene.send_with_time_for(4, mint).await.status, 503);
    // The newer token was read already, and the older one was not.
    scene.revoke(&newer).await;
    scene.revoke(&older[0]).await;
    let (answer, _) = scene.send_until_answered(mint).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!scene.is_full().await);
    assert!(scene.is_full().await);
    assert_eq!(scene.ids().await.len(), 3);
}

#[tokio::test]
async fn a_user_that_is_full_is_rejected_before_all_records_are_read() {
    let scene = Scene::new(2, "reject").await;
    scene.fill(5).await;
    scene.mint_many(1).await;
    scene.fill(5).await;
    let newest = scene.mint("expiryType=Infinite").await;
    scene.limit(json!(null), "reject").await;
    scene.limit(json!(2), "reject").await;
    let mint = &scene.requests("minting", 1).await[0];
    let (answer, late) = scene.send_until_answered(mint).await;
    assert_full(&answer);
    assert_eq!(late, 2);
    // The progress is stored, so one page is enough now.
    assert_full(&scene.send_with_time_for(1, mint).await);
    scene.revoke(&newest).await;
    let (answer, _) = scene.send_until_answered(mint).await;
    assert_eq!(answer.status, 200);
    assert!(scene.is_full().await);
}

#[tokio::test]
async fn more_tokens_than_one_request_can_end_are_revoked_by_some_requests() {
    let scene = Scene::new(5, "revoke-oldest").await;
    scene.limit(json!(null), "revoke-oldest").await;
    let first = scene.mint("expiryType=Infinite").await;
    let many = scene.copy(&first, 225, THIRD_OF_A_PAGE / 10).await;
    let newest = scene.mint("expiryType=Infinite").await;
    scene.limit(json!(5), "revoke-oldest").await;
    let mint = &scene.requests("minting", 1).await[0];
    assert_eq!(scene.send_with_time_for(4, mint).await.status, 503);
    // Four pages contain more than 100 of the 227 tokens.
    assert!(scene.ids().await.len() < 127);
    let (answer, late) = scene.send_until_answered(mint).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(late, 1);
    let expected = [&id(&answer), &newest, &first, &many[224], &many[223]];
    assert_eq!(scene.ids().await.iter().collect::<Vec<_>>(), expected);
    for id in [&many[0], &many[222]] {
        let item = scene.item(id).await;
        assert_eq!(item["end_reason"].as_s().unwrap(), "limit-reached");
    }
}

#[tokio::test]
async fn an_e_mail_token_that_is_replaced_while_the_tokens_are_counted_is_counted_once() {
    for max in [2, 3] {
        let scene = Scene::new(max, "reject").await;
        let service = &scene.service;
        scene.mint_many(1).await;
        scene.fill(7).await;
        let past = json!({ "email": BOB, "expiration_date": 1_444_514_400_000_u64 });
        assert_eq!(ask(service, "POST", &past).await.status, 201);
        scene.limit(json!(null), "reject").await;
        scene.limit(json!(max), "reject").await;
        // The first log-in begins to count the tokens, and the second log-in continues.
        for _ in 0..2 {
            let log_in = &scene.requests("a log-in", 1).await[0];
            let answer = scene.send_with_time_for(1, log_in).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(ask(service, "PUT", &past).await.status, 200);
        }
        let mint = &scene.requests("minting", 1).await[0];
        let (answer, late) = scene.send_until_answered(mint).await;
        assert!(late > 1, "{late}");
        let is_full = max == 2;
        assert_eq!(answer.status, if is_full { 409 } else { 200 }, "{max}");
        assert!(scene.is_full().await);
    }
}

#[tokio::test]
async fn exactly_the_free_places_are_taken_while_the_tokens_are_counted() {
    let count = rounds(PARALLEL / 5) as usize;
    for when_full in ["reject", "revoke-oldest"] {
        let scene = Scene::new(7, when_full).await;
        scene.mint_many(2).await;
        scene.fill(7).await;
        scene.mint_many(2).await;
        scene.limit(json!(null), when_full).await;
        scene.limit(json!(7), when_full).await;
        let requests = scene.requests("minting", count).await;
        let answers = scene.send_all(&requests).await;
        let made = if when_full == "reject" {
            count.min(3)
        } else {
            count
        };
        assert_eq!(counted(&answers), (made, count - made), "{when_full}");
        assert_eq!(scene.ids().await.len(), 7.min(4 + count), "{when_full}");
    }
}

#[tokio::test]
async fn a_request_that_counts_slowly_does_not_overwrite_a_newer_count() {
    let scene = Scene::new(3, "reject").await;
    let service = &scene.service;
    scene.mint("expiryType=Infinite").await;
    scene.fill(2).await;
    scene.limit(json!(null), "reject").await;
    scene.limit(json!(3), "reject").await;
    let requests = scene.requests("minting", 3).await;
    service.database.take_calls();
    // The first request stores its progress when the second one has stored a token.
    let late = Fault::NotBeforeAll("TransactWriteItems", 2);
    service.database.fail([("PutItem", late)]);
    let others = async {
        service.database.has_arrived("PutItem").await;
        let second = requests[1].send(&service.app).await;
        [second, requests[2].send(&service.app).await]
    };
    let (first, others) = join(requests[0].send(&service.app), others).await;
    assert_eq!(counted(&others), (2, 0));
    assert_full(&first);
    assert_eq!(scene.ids().await.len(), 3);
}

#[tokio::test]
async fn a_count_that_is_out_of_date_begins_again() {
    for change in ["limit", "epoch"] {
        let scene = Scene::new(2, "reject").await;
        let older = scene.mint("expiryType=Infinite").await;
        scene.fill(7).await;
        let mut newer = String::new();
        if change == "epoch" {
            newer = scene.mint("expiryType=Infinite").await;
        }
        scene.limit(json!(null), "reject").await;
        scene.limit(json!(2), "reject").await;
        let mint = &scene.requests("minting", 1).await[0];
        assert_eq!(scene.send_with_time_for(4, mint).await.status, 503);
        if change == "limit" {
            scene.limit(json!(null), "reject").await;
            newer = scene.mint("expiryType=Infinite").await;
            scene.limit(json!(2), "reject").await;
        } else {
            // Both tokens stay when the epoch changes.
            let kept = [scene.item(&older).await, scene.item(&newer).await];
            scene.revoke_all().await;
            for token in kept {
                scene.keep(token).await;
            }
        }
        let (answer, late) = scene.send_until_answered(mint).await;
        assert_full(&answer);
        assert_eq!(late, if change == "limit" { 3 } else { 1 });
        for id in [older, newer] {
            scene.revoke(&id).await;
        }
        assert!(!scene.is_full().await, "{change}");
        assert!(!scene.is_full().await, "{change}");
        assert!(scene.is_full().await, "{change}");
    }
}

#[tokio::test]
async fn after_a_revocation_of_all_tokens_only_the_counted_tokens_are_read() {
    let scene = Scene::new(3, "reject").await;
    scene.mint_many(2).await;
    scene.fill(1).await;
    scene.revoke_all().await;
    scene.mint("").await;
    let calls = scene.service.database.take_calls();
    let expected = [
        ("BatchGetItem", 4.0),
        ("BatchGetItem", 2.0),
        // The item has an earlier epoch than the user, so the user is read again.
        ("BatchGetItem", 1.0),
        ("BatchGetItem", 3.0),
        ("TransactWriteItems", 4.0),
    ];
    assert_eq!(shape(&calls), expected);
    assert!(!scene.is_full().await);
    assert!(!scene.is_full().await);
    assert!(scene.is_full().await);

    // A token that was kept still takes its place.
    let kept = scene.item(&scene.ids().await[0]).await;
    scene.revoke_all().await;
    scene.keep(kept).await;
    assert!(!scene.is_full().await);
    assert!(!scene.is_full().await);
    assert!(scene.is_full().await);
    assert_eq!(scene.ids().await.len(), 3);
}

#[tokio::test]
async fn the_first_token_of_a_user_of_a_code_counts_even_if_an_earlier_user_had_the_same_id() {
    let mut scene = Scene::new(2, "reject").await;
    // The item of the earlier user.
    scene.mint("").await;
    let mut stale = scene.places().await;
    let service = &scene.service;
    let environment = service.environment(&service.ecosystem).await;
    let (made, code) = code(service, json!({ "environmentId": environment })).await;
    assert_eq!(consume(service, &code).await.status, 200);
    let user = made["userId"].as_str().unwrap();
    let owner = service.owner_item(user).await.unwrap();
    stale.insert(PARTITION_KEY.to_owned(), owner[PARTITION_KEY].clone());
    service.put_identity_item(stale).await;
    scene.bob = user.to_owned();
    assert!(!scene.is_full().await);
    assert!(scene.is_full().await);
}

/// Creates a user with the maximum number of tokens. Also returns the user's oldest token, and the
/// token that the oldest one has made.
async fn full_with_child_of_oldest() -> (Scene, Answer, Answer) {
    let scene = Scene::new(3, "revoke-oldest").await;
    let service = &scene.service;
    let oldest = service.mint(&scene.bob, "expiryType=Infinite").await;
    service.clock.advance(1);
    let child = consume(service, &scene.code(&oldest.token()).await).await;
    scene.mint("expiryType=Infinite").await;
    (scene, oldest, child)
}

#[tokio::test]
async fn descendants_that_the_limit_had_no_time_to_end_are_ended_like_those_of_a_revoked_token() {
    for way in ["minting", "a code", "a session"] {
        for by in ["a revocation", "the eraser"] {
            let (scene, oldest, child) = full_with_child_of_oldest().await;
            let service = &scene.service;
            let request = &scene.requests(way, 1).await[0];
            // The request has no time to read the links. But the new token is stored.
            let answer = scene.send_with_time_for(0, request).await;
            assert!(answer.status < 300, "{way}: {answer:?}");
            assert!(service.is_active(&answer.token()).await, "{way}");
            assert!(!service.is_active(&oldest.token()).await);
            assert!(service.is_active(&child.token()).await);
            let item = scene.item(&id(&oldest)).await;
            assert_eq!(item["end_reason"].as_s().unwrap(), "limit-reached");
            assert_eq!(item["descendants"].as_s().unwrap(), "ending");
            match by {
                "a revocation" => scene.revoke(&id(&oldest)).await,
                _ => erase_all(service).await,
            }
            assert!(!service.is_active(&child.token()).await, "{way} {by}");
            let item = scene.item(&id(&oldest)).await;
            assert_eq!(item["end_reason"].as_s().unwrap(), "limit-reached");
            assert!(!item.contains_key("descendants"), "{way} {by}");
        }
    }
}

#[tokio::test]
async fn a_code_that_is_exchanged_gives_its_token_even_if_the_links_of_an_older_token_stay() {
    for fault in [Fault::Unprocessed, Fault::Denied] {
        let (scene, oldest, child) = full_with_child_of_oldest().await;
        let service = &scene.service;
        let code = scene.code(&service.account_token).await;
        service.database.fail([("BatchWriteItem", fault)]);
        let exchanged = consume(service, &code).await;
        assert_eq!(exchanged.status, 200, "{exchanged:?}");
        for (token, is_valid) in [(&exchanged, true), (&oldest, false), (&child, false)] {
            assert_eq!(service.is_active(&token.token()).await, is_valid);
        }
    }
}

#[tokio::test]
async fn a_request_that_read_the_user_before_a_new_epoch_does_not_replace_a_newer_count() {
    for way in ["all tokens counted", "not all tokens counted"] {
        let scene = Scene::new(2, "reject").await;
        let service = &scene.service;
        scene.mint("").await;
        let old = service.owner_item(&scene.bob).await.unwrap();
        scene.revoke_all().await;
        let newer = scene.mint("expiryType=Infinite").await;
        let new = service.owner_item(&scene.bob).await.unwrap();
        if way == "not all tokens counted" {
            let mut places = scene.places().await;
            let found = places.insert("tokens".to_owned(), AttributeValue::Null(true));
            let after = AttributeValue::S(format!("token#{newer}"));
            let reading = [
                ("found".to_owned(), found.unwrap()),
                ("after".to_owned(), after),
            ];
            places.insert("reading".to_owned(), AttributeValue::M(reading.into()));
            service.put_identity_item(places).await;
        }
        // The request reads the user before the new epoch, and the item after it.
        service.put_identity_item(old).await;
        service.database.take_calls();
        let third = [Fault::None, Fault::None, Fault::NotBefore("Scan")];
        service
            .database
            .fail(third.map(|fault| ("BatchGetItem", fault)));
        let meanwhile = async {
            service.database.have_arrived("BatchGetItem", 3).await;
            service.put_identity_item(new).await;
            service.identity_items().await;
        };
        let (late, ()) = join(service.mint(&scene.bob, ""), meanwhile).await;
        assert_eq!(late.status, 200, "{late:?}");
        assert!(!service.is_active(&late.token()).await);
        let one = scene.mint("expiryType=Infinite").await;
        assert!(scene.is_full().await, "{way}");
        assert_eq!(scene.ids().await, [one, newer], "{way}");
    }
}

#[tokio::test]
async fn the_token_that_changed_the_password_is_not_ended_by_a_token_of_the_earlier_epoch() {
    // The change comes before the read of the tokens that may end, before the transaction that ends
    // the oldest one, or before the write that ends a token that does not fit into the transaction.
    for (operation, number, tokens) in [
        ("BatchGetItem", 3, 1),
        ("TransactWriteItems", 1, 1),
        ("UpdateItem", 1, 30),
    ] {
        let scene = Scene::new(100, "revoke-oldest").await;
        let service = &scene.service;
        let caller = service.mint(&scene.bob, "expiryType=Infinite").await;
        scene.mint_many(tokens - 1).await;
        scene.limit(json!(1), "revoke-oldest").await;
        let before = std::iter::repeat_n((operation, Fault::None), number - 1);
        let late = std::iter::once((operation, Fault::NotBefore("Scan")));
        service.database.fail(before.chain(late));
        let meanwhile = async {
            service.database.have_arrived(operation, number).await;
            let new = "staple battery";
            let event = change_password::change(&caller.token(), PASSWORD, new);
            let changed = event.send(&service.app).await;
            assert_eq!(changed.status, 204, "{changed:?}");
            service.identity_items().await;
        };
        let minted = service.mint(&scene.bob, "");
        let (late, ()) = Box::pin(join(minted, meanwhile)).await;
        assert_eq!(late.status, 200, "{late:?}");
        assert!(!service.is_active(&late.token()).await, "{operation}");
        assert!(service.is_active(&caller.token()).await, "{operation}");
        assert_eq!(scene.ids().await, [id(&caller)], "{operation}");
    }
}

#[tokio::test]
async fn at_most_25_expired_sliding_tokens_are_written_at_the_same_time() {
    let scene = Scene::new(3, "reject").await;
    let service = &scene.service;
    scene.limit(json!(null), "reject").await;
    let token = scene.mint("expiryType=SlidingTtl&ttl=10").await;
    scene.copy(&token, 60, 0).await;
    scene.limit(json!(3), "reject").await;
    let mint = &scene.requests("minting", 1).await[0];
    service.clock.advance(10);
    service.database.take_calls();
    service
        .database
        .fail(std::iter::repeat_n(("UpdateItem", Fault::NoAnswer), 500));
    let answer = {
        let _paused = pause();
        mint.send(&service.app).await
    };
    assert_eq!(answer.status, 503, "{answer:?}");
    service.database.take_faults();
    let calls = service.database.take_calls();
    let updates = calls.iter().filter(|call| call.operation == "UpdateItem");
    let keys: HashSet<_> = updates
        .map(|call| call.request["Key"].to_string())
        .collect();
    assert_eq!(keys.len(), 25);
    assert_eq!(service.mint(&scene.bob, "").await.status, 200);
}
