//! A short code is invalid once the token that created it is revoked or expired. If a user's own
//! token created the code, the token that a client gets for the code is a descendant of the user's
//! token. A revocation of the user's token also ends the descendants.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join;
use serde_json::{Value, json};
use shared::{
    domain::{
        id::UserId,
        owner::OwnerKey,
        token::{ExpiryType, NewToken},
    },
    service::{access::Grant, tokens::mint},
    store::{identity::Key, item::Item},
};
use tests::{Answer, Event, Fault, Service, pause, rounds};

use crate::{
    assert_unknown,
    calls::shape,
    consume_shortcode::{attempt, consume, without_minute_limit},
    create_email_token::{BOB, ask, datum, value, with_bob},
    erase::{erase, erase_all},
    list_user_tokens::ids,
    update_ecosystem::change,
};

/// A token, and its id.
#[derive(Clone, Debug)]
struct Made {
    id: String,
    token: String,
}

impl Made {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        Self {
            id: answer.json()["tokenId"].as_str().unwrap().to_owned(),
            token: answer.token(),
        }
    }
}

/// A service with a user `bob`.
struct Scene {
    service: Service,
    bob: String,
    key: OwnerKey,
}

impl Scene {
    async fn new() -> Self {
        let service = without_minute_limit().await;
        let bob = service.user("bob").await;
        Self::of(service, bob)
    }

    fn of(service: Service, bob: String) -> Self {
        let key = (&UserId::parse(&bob).unwrap()).into();
        Self { service, bob, key }
    }

    /// Returns a scene in which `bob` has an e-mail token. Also returns this token.
    async fn of_e_mail_token() -> (Self, Made) {
        let (service, bob) = with_bob().await;
        let made = datum(&ask(&service, "POST", &json!({ "email": BOB })).await);
        let made = Made {
            id: made["tokenId"].as_str().unwrap().to_owned(),
            token: value(&service, BOB).await,
        };
        (Self::of(service, bob), made)
    }

    async fn mint(&self) -> Made {
        Made::of(&self.service.mint(&self.bob, "expiryType=Infinite").await)
    }

    /// Uses this credential to create a short code for `bob`.
    async fn code(&self, credential: &str) -> String {
        let body = json!({ "userId": self.bob, "tokenExpiryType": "Infinite" }).to_string();
        self.code_of(credential, &body).await
    }

    async fn code_of(&self, credential: &str, body: &str) -> String {
        let path = "/api/auth/shortcode/create";
        let made = self.service.call(credential, "POST", path, body).await;
        assert_eq!(made.status, 201, "{made:?}");
        self.service.database.take_calls();
        made.json()["shortcode"].as_str().unwrap().to_owned()
    }

    /// Creates a code with the token `maker`, and exchanges the code. Returns the new token.
    async fn child(&self, maker: &Made) -> Made {
        let code = self.code(&maker.token).await;
        let made = Made::of(&consume(&self.service, &code).await);
        self.service.database.take_calls();
        made
    }

    fn revocation(&self, id: &str) -> Event {
        Event::to("revoke-user-token")
            .header("authorization", &self.service.account_token)
            .parameter("id", &self.bob)
            .parameter("tokenId", id)
    }

    async fn revoke(&self, made: &Made) -> u16 {
        self.revocation(&made.id)
            .send(&self.service.app)
            .await
            .status
    }

    async fn is_active(&self, made: &Made) -> bool {
        self.service.is_active(&made.token).await
    }

    async fn item(&self, made: &Made) -> Item {
        let item = self.service.token_item(self.key, &made.id).await;
        item.expect("the token has an item")
    }

    /// Returns the sort keys of all links. A link is an item that says which token made a token.
    async fn links(&self) -> Vec<String> {
        let items = self.service.identity_items().await;
        let keys = items
            .iter()
            .map(|item| item["item"].as_s().unwrap().clone());
        keys.filter(|key| key.starts_with("child#")).collect()
    }

    /// Returns whether one of these tokens still has its hash.
    async fn has_any(&self, ids: &[&String]) -> bool {
        for id in ids {
            let item = self.service.token_item(self.key, id).await;
            if item.is_some_and(|item| item.contains_key("token_hash")) {
                return true;
            }
        }
        false
    }

    /// Returns the ids of the user's tokens that still have a hash.
    async fn stored(&self) -> HashSet<String> {
        let items = self.service.token_items(&self.bob).await;
        let stored = items
            .iter()
            .filter(|item| item.contains_key("token_hash"))
            .map(|item| item["item"].as_s().unwrap().replace("token#", ""));
        stored.collect()
    }

    /// Stores `count` tokens and their links directly, without requests. The numbers of the tokens
    /// are 0, 1, 2 and so on. `maker` gets the number of a token, and returns the number of the
    /// token's maker, which must be lower, or `None` if the maker is `root`. Returns the ids of the
    /// tokens.
    async fn make_family(
        &self,
        root: &Made,
        count: usize,
        maker: impl Fn(usize) -> Option<usize>,
    ) -> Vec<String> {
        let owner = self.service.token_owner(&self.bob).await;
        let mut made: Vec<String> = Vec::new();
        let (mut links, mut makers) = (Vec::new(), HashSet::new());
        for number in 0..count {
            let wanted = NewToken::default();
            let token = mint(&self.service.app, Grant::of_operator(owner, wanted)).await;
            let id = token.unwrap().0.id.to_string();
            let maker = maker(number).map_or(&root.id, |number| &made[number]);
            let key = Key {
                owner: self.key,
                item: format!("child#{}#{id}", root.id),
            };
            let mut link: Item = serde_dynamo::to_item(key).unwrap();
            for (name, of) in [("child", &id), ("maker", maker)] {
                link.insert(name.to_owned(), AttributeValue::S(format!("token#{of}")));
            }
            links.push(link);
            makers.insert(maker.clone());
            made.push(id);
        }
        self.service.put_identity_items(links).await;
        for maker in makers {
            let some = AttributeValue::S("some".to_owned());
            self.service
                .set_of_token(self.key, &maker, "descendants", some)
                .await;
        }
        made
    }
}

fn number(item: &Item, name: &str) -> u64 {
    item[name].as_n().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_code_of_a_revoked_token_gets_a_404_and_is_deleted() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let environment = service.environment(&service.ecosystem).await;
    let for_user = json!({ "userId": scene.bob, "tokenExpiryType": "Infinite" }).to_string();
    let for_environment = json!({ "environmentId": environment }).to_string();
    for (holder, body) in [
        ("user", &for_user),
        ("server", &for_user),
        ("server", &for_environment),
        ("account", &for_user),
        ("account", &for_environment),
    ] {
        let token = match holder {
            "user" => scene.mint().await.token,
            "server" => service.server_token(&service.ecosystem).await.1,
            _ => {
                service
                    .token_of(&service.account, ExpiryType::Infinite)
                    .await
            }
        };
        let code = scene.code_of(&token, body).await;
        let revoke = Event::to("revoke-token").form(&format!("token={token}"));
        assert_eq!(revoke.send(&service.app).await.status, 200);
        let tokens = service.count_tokens().await;
        let text = format!("Shortcode {code} does not exist.");
        assert_unknown(&consume(service, &code).await, &text);
        assert_eq!(service.count_tokens().await, tokens, "{holder} {body}");
        let items = service.ephemeral_items().await;
        let is_code = |item: &Item| item["key"].as_s().unwrap().starts_with("code#");
        assert!(!items.iter().any(is_code), "{holder} {body}");
    }
}

#[tokio::test]
async fn a_code_of_an_expired_token_gets_a_404() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let body = json!({ "userId": scene.bob, "shortCodeTtl": 3600 }).to_string();
    let path = format!("/api/ecosystems/{}/tokens", service.ecosystem.id.as_str());
    for expiry_type in ["FixedTtl", "SlidingTtl"] {
        let path = format!("{path}?expiryType={expiry_type}&ttl=20");
        let server = service.manage("POST", &path, "").await.token();
        let in_time = scene.code_of(&server, &body).await;
        let late = scene.code_of(&server, &body).await;
        service.clock.advance(19);
        assert_eq!(consume(service, &in_time).await.status, 200);
        service.clock.advance(1);
        assert_eq!(consume(service, &late).await.status, 404, "{expiry_type}");
    }
}

#[tokio::test]
async fn a_code_of_an_e_mail_token_whose_expiration_date_is_now_in_the_past_gets_a_404() {
    let (scene, Made { token, .. }) = Scene::of_e_mail_token().await;
    let [before, after] = [scene.code(&token).await, scene.code(&token).await];
    assert_eq!(consume(&scene.service, &before).await.status, 200);
    let past = json!({ "email": BOB, "write": true, "expiration_date": 1 });
    assert_eq!(ask(&scene.service, "PUT", &past).await.status, 200);
    assert_eq!(consume(&scene.service, &after).await.status, 404);
}

#[tokio::test]
async fn a_code_of_a_token_of_an_earlier_epoch_or_with_an_old_mark_gets_a_404() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let maker = scene.mint().await;
    let code = scene.code(&maker.token).await;
    service.put_old_mark(scene.key, &maker.id).await;
    assert_eq!(consume(service, &code).await.status, 404);

    // Store another epoch in a server token, so that it differs from the epoch of its ecosystem. No
    // endpoint does this.
    let (id, server) = service.server_token(&service.ecosystem).await;
    let code = scene.code(&server).await;
    let other = AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new([7; 16]));
    service
        .set_of_token(&service.ecosystem.id, &id, "epoch", other)
        .await;
    assert_eq!(consume(service, &code).await.status, 404);
}

#[tokio::test]
async fn a_code_of_a_token_without_a_tag_gets_a_404_after_the_migration() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let own = scene.mint().await;
    let (id, server) = service.server_token(&service.ecosystem).await;
    let ecosystem: OwnerKey = (&service.ecosystem.id).into();
    for (owner, id, token) in [(scene.key, &own.id, &own.token), (ecosystem, &id, &server)] {
        let [before, after] = [scene.code(token).await, scene.code(token).await];
        assert_eq!(consume(service, &before).await.status, 200);
        service.forget_of_token(owner, id, &["tag_key"]).await;
        assert_eq!(consume(service, &after).await.status, 404);
    }
}

#[tokio::test]
async fn a_code_without_a_maker_and_a_token_without_new_attributes_work_as_before() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let maker = scene.mint().await;
    let new = ["revision", "ttl", "max_expires_at"];
    service.forget_of_token(scene.key, &maker.id, &new).await;
    let code = scene.code(&maker.token).await;
    service.forget_of_codes("maker").await;
    assert_eq!(scene.revoke(&maker).await, 204);
    let made = Made::of(&consume(service, &code).await);
    assert!(
        scene.is_active(&made).await,
        "the code has no maker, like the codes of the release before this one"
    );

    let maker = Made::of(&service.mint(&scene.bob, "ttl=1000").await);
    service.forget_of_token(scene.key, &maker.id, &new).await;
    assert!(scene.is_active(&maker).await);
    let child = scene.child(&maker).await;
    assert_eq!(number(&scene.item(&maker).await, "revision"), 1);
    assert_eq!(scene.revoke(&maker).await, 204);
    assert!(!scene.is_active(&child).await);
}

#[tokio::test]
async fn a_revocation_ends_three_generations_and_no_other_token() {
    for way in ["its id", "its value", "the id of its child"] {
        let scene = Scene::new().await;
        let service = &scene.service;
        let [root, other] = [scene.mint().await, scene.mint().await];
        let child = scene.child(&root).await;
        let grandchild = scene.child(&child).await;
        let last = scene.child(&grandchild).await;
        let sibling = scene.child(&root).await;
        let nephew = scene.child(&sibling).await;
        let unrelated = scene.child(&other).await;
        assert_eq!(scene.links().await.len(), 6);

        let (revoked, stays) = match way {
            "the id of its child" => (&child, vec![&root, &sibling, &nephew]),
            _ => (&root, vec![]),
        };
        let revocation = match way {
            "its value" => Event::to("revoke-token").form(&format!("token={}", revoked.token)),
            _ => scene.revocation(&revoked.id),
        };
        let answer = revocation.send(&service.app).await;
        assert!([200, 204].contains(&answer.status), "{answer:?}");
        for token in [&root, &child, &grandchild, &last, &sibling, &nephew] {
            let expected = stays.iter().any(|one| one.id == token.id);
            assert_eq!(scene.is_active(token).await, expected, "{way}");
        }
        assert!(scene.is_active(&other).await && scene.is_active(&unrelated).await);

        let item = scene.item(&last).await;
        let by = item["ended_by"].as_m().unwrap();
        assert_eq!(item["end_reason"].as_s().unwrap(), "maker-revoked");
        let holder = if way == "its value" {
            "user"
        } else {
            "account"
        };
        assert_eq!(by["holder"].as_s().unwrap(), holder);
        let item = scene.item(revoked).await;
        assert_eq!(item["end_reason"].as_s().unwrap(), "revoked");
        assert!(!item.contains_key("descendants"), "the revocation is done");

        // The links of the revoked token's descendants are deleted.
        assert_eq!(
            scene.links().await.len(),
            if stays.is_empty() { 1 } else { 4 }
        );
    }
}

#[tokio::test]
async fn a_revoked_tokens_record_stays_90_days_without_its_hash() {
    let scene = Scene::new().await;
    let service = &scene.service;
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let query = format!("expiryType={kind}&ttl=5&name=laptop");
        let made = Made::of(&service.mint(&scene.bob, &query).await);
        let before = scene.item(&made).await;
        assert_eq!(number(&before, "revision"), 1);
        let (server_id, server) = service.server_token(&service.ecosystem).await;
        let path = format!("/api/users/{}/tokens/{}", scene.bob, made.id);
        assert_eq!(service.call(&server, "DELETE", &path, "").await.status, 204);
        let after = scene.item(&made).await;
        let now = service.app.now().seconds().0;
        assert_eq!(after["ended_hash"], before["token_hash"]);
        assert_eq!(number(&after, "ended_at"), now);
        assert_eq!(number(&after, "expires_at"), now + 90 * 24 * 3600);
        assert_eq!(number(&after, "revision"), 2);
        let by = after["ended_by"].as_m().unwrap();
        assert_eq!(by["holder"].as_s().unwrap(), "server");
        assert_eq!(by["token"].as_s().unwrap(), &format!("token#{server_id}"));
        assert_eq!(after["name"], before["name"]);
        for name in ["token_hash", "epoch", "descendants"] {
            assert!(!after.contains_key(name), "{name}");
        }
        // A second revocation, a use, and a revocation of all tokens of the user change nothing.
        assert_eq!(scene.revoke(&made).await, 204);
        assert!(!scene.is_active(&made).await);
        let path = format!("/api/users/{}/tokens", scene.bob);
        assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
        assert_eq!(scene.item(&made).await, after);
        assert!(ids(service, &scene.bob).await.is_empty());
    }
    // A token is revoked. Two hours later, a delayed insertion of the same token arrives.
    let owner = service.token_owner(&scene.bob).await;
    let minted = mint(&service.app, Grant::of_operator(owner, NewToken::default()));
    let (record, token) = minted.await.unwrap();
    let form = format!("token={}", token.reveal());
    let revoke = Event::to("revoke-token").form(&form);
    assert_eq!(revoke.send(&service.app).await.status, 200);
    service.clock.advance(7200);
    let inserted = service.app.identity().insert_token(&record).await;
    inserted.expect("an insertion of a token that was revoked meanwhile succeeds");
    assert!(!service.is_active(token.reveal()).await);
}

#[tokio::test]
async fn a_revocation_has_no_extra_call_unless_the_token_has_made_another_token() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let token = scene.mint().await;
    service.database.take_calls();
    assert_eq!(scene.revoke(&token).await, 204);
    let calls = service.database.take_calls();
    assert_eq!(shape(&calls), [("BatchGetItem", 5.0), ("UpdateItem", 1.0)]);

    let token = scene.mint().await;
    scene.child(&token).await;
    service.database.take_calls();
    assert_eq!(scene.revoke(&token).await, 204);
    let calls = service.database.take_calls();
    // The parent ends and an erasure is queued, the links are read, the child ends, its link is
    // deleted, the links are read again, and the parent's record says that all is done.
    let expected = [
        ("BatchGetItem", 5.0),
        ("TransactWriteItems", 4.0),
        ("Query", 1.0),
        ("UpdateItem", 1.0),
        ("BatchWriteItem", 1.0),
        ("Query", 1.0),
        ("UpdateItem", 1.0),
    ];
    assert_eq!(shape(&calls), expected);
    assert_eq!(scene.revoke(&token).await, 204);
    let calls = service.database.take_calls();
    assert_eq!(shape(&calls), [("BatchGetItem", 5.0)]);
}

#[tokio::test]
async fn an_exchange_whose_transaction_arrives_after_the_revocation_gets_a_404() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let maker = scene.mint().await;
    let code = scene.code(&maker.token).await;
    let held = ("TransactWriteItems", Fault::NotBefore("Scan"));
    service.database.fail([held]);
    let _paused = pause();
    let revoked = async {
        service.database.has_arrived("TransactWriteItems").await;
        let status = scene.revoke(&maker).await;
        service.identity_items().await;
        status
    };
    let (exchanged, status) = join(consume(service, &code), revoked).await;
    assert_eq!((exchanged.status, status), (404, 204), "{exchanged:?}");
    assert!(scene.stored().await.is_empty());
    assert!(scene.links().await.is_empty());
}

#[tokio::test]
async fn a_revocation_whose_write_arrives_after_the_first_exchange_ends_the_child() {
    let scene = Scene::new().await;
    let service = &scene.service;
    for way in ["its id", "its value"] {
        let maker = scene.mint().await;
        let code = scene.code(&maker.token).await;
        // The revocation has read that the token has made no token.
        service
            .database
            .fail([("UpdateItem", Fault::NotBefore("Scan"))]);
        let revocation = match way {
            "its value" => Event::to("revoke-token").form(&format!("token={}", maker.token)),
            _ => scene.revocation(&maker.id),
        };
        let _paused = pause();
        service.database.take_calls();
        let exchanged = async {
            service.database.has_arrived("UpdateItem").await;
            let made = Made::of(&consume(service, &code).await);
            service.identity_items().await;
            made
        };
        let (answer, child) = join(revocation.send(&service.app), exchanged).await;
        assert!([200, 204].contains(&answer.status), "{answer:?}");
        let stored = scene.stored().await;
        assert!(!stored.contains(&child.id) && !stored.contains(&maker.id));
        assert!(scene.links().await.is_empty());
    }
}

#[tokio::test]
async fn a_token_that_a_child_makes_during_the_revocation_ends_too() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let root = scene.mint().await;
    let child = scene.child(&root).await;
    let code = scene.code(&child.token).await;
    // The revocation has ended the root and read the links. It now ends the child.
    service
        .database
        .fail([("UpdateItem", Fault::NotBefore("Scan"))]);
    let _paused = pause();
    let exchanged = async {
        service.database.has_arrived("UpdateItem").await;
        let made = Made::of(&consume(service, &code).await);
        service.identity_items().await;
        made
    };
    let (status, _) = join(scene.revoke(&root), exchanged).await;
    assert_eq!(status, 204);
    assert!(scene.stored().await.is_empty());
    assert!(scene.links().await.is_empty());
}

#[tokio::test]
async fn lost_responses_of_the_database_leave_no_child_valid_and_create_no_second_child() {
    let scene = Scene::new().await;
    let service = &scene.service;
    for (operation, nth) in [
        ("BatchGetItem", 0),
        ("TransactWriteItems", 0),
        ("UpdateItem", 0),
        ("UpdateItem", 1),
        ("UpdateItem", 2),
        ("UpdateItem", 3),
        ("Query", 0),
        ("Query", 1),
        ("BatchWriteItem", 0),
        ("BatchWriteItem", 1),
    ] {
        let root = scene.mint().await;
        let code = scene.code(&root.token).await;
        let lost = ("TransactWriteItems", Fault::AnswerLost);
        service.database.fail([lost]);
        let paused = pause();
        let child = Made::of(&consume(service, &code).await);
        assert_eq!(scene.links().await.len(), 1);
        scene.child(&child).await;
        service.database.take_calls();
        let others = (0..nth).map(|_| (operation, Fault::None));
        service
            .database
            .fail(others.chain([(operation, Fault::AnswerLost)]));
        assert_eq!(scene.revoke(&root).await, 204, "{operation} {nth}");
        service.database.take_faults();
        drop(paused);
        assert!(scene.stored().await.is_empty(), "{operation} {nth}");
        assert!(scene.links().await.is_empty(), "{operation} {nth}");
    }
}

#[tokio::test]
async fn a_revocation_that_runs_out_of_time_gets_a_503_and_a_retry_continues_it() {
    let scene = Scene::new().await;
    let service = &scene.service;
    for way in ["its id", "its value"] {
        let root = scene.mint().await;
        for _ in 0..2 {
            let child = scene.child(&root).await;
            scene.child(&child).await;
        }
        let revocation = match way {
            "its value" => Event::to("revoke-token").form(&format!("token={}", root.token)),
            _ => scene.revocation(&root.id),
        };
        for operation in ["Query", "UpdateItem", "BatchWriteItem"] {
            let hanging = (0..16).map(|_| (operation, Fault::NoAnswer));
            service.database.fail(hanging);
            let paused = pause();
            let answer = revocation.send(&service.app).await;
            drop(paused);
            service.database.take_faults();
            assert_eq!(answer.status, 503, "{way} {operation}");
            let item = scene.item(&root).await;
            assert_eq!(item["descendants"].as_s().unwrap(), "ending");
        }
        assert!([200, 204].contains(&revocation.send(&service.app).await.status));
        assert!(scene.stored().await.is_empty());
        assert!(scene.links().await.is_empty());
        assert!(!scene.item(&root).await.contains_key("descendants"));
    }
}

#[tokio::test]
async fn the_eraser_finishes_a_revocation_that_ran_out_of_time() {
    for way in [
        "its id",
        "its value",
        "its address",
        "the limit",
        "its id, after a log-in replaced it",
    ] {
        let (scene, root) = match way {
            "its address" | "its id, after a log-in replaced it" => Scene::of_e_mail_token().await,
            _ => {
                let scene = Scene::new().await;
                let root = scene.mint().await;
                (scene, root)
            }
        };
        let service = &scene.service;
        service.clock.advance(1);
        let child = scene.child(&root).await;
        let grandchild = scene.child(&child).await;
        let event = match way {
            "its value" => Event::to("revoke-token").form(&format!("token={}", root.token)),
            "its address" => Event::to("delete-email-token")
                .header("authorization", &service.account_token)
                .json_body(&json!({ "email": BOB }).to_string()),
            "the limit" => {
                let body = json!({ "maxTokensPerUser": 3, "whenFull": "revoke-oldest" });
                assert_eq!(change(service, &body).await.status, 200);
                Event::to("create-user-token")
                    .header("authorization", &service.account_token)
                    .parameter("id", &scene.bob)
            }
            _ => scene.revocation(&root.id),
        };
        if way == "its id, after a log-in replaced it" {
            let past = json!({ "email": BOB, "write": true, "expiration_date": 1 });
            assert_eq!(ask(service, "PUT", &past).await.status, 200);
            let password = crate::create_email_token::PASSWORD;
            let log_in = service.log_in("192.0.2.1", BOB, password).await;
            assert_eq!(log_in.status, 200, "{log_in:?}");
            // Neither the log-in nor the eraser ends the descendants of the old e-mail token.
            erase_all(service).await;
            assert!(scene.is_active(&child).await);
        }
        let hanging = (0..16).map(|_| ("UpdateItem", Fault::NoAnswer));
        service.database.fail(hanging);
        let paused = pause();
        // A token that the limit ends makes room for a token that is stored already.
        let status = if way == "the limit" { 200 } else { 503 };
        assert_eq!(event.send(&service.app).await.status, status, "{way}");
        service.database.take_faults();
        assert!(scene.is_active(&grandchild).await, "{way}");
        let item = scene.item(&root).await;
        assert_eq!(item["descendants"].as_s().unwrap(), "ending", "{way}");
        let erased = erase(&service.app).await.unwrap();
        assert_eq!(erased.queued, 1, "{way}");
        drop(paused);
        assert!(!scene.is_active(&grandchild).await, "{way}");
        assert!(scene.links().await.is_empty(), "{way}");
        let item = scene.item(&root).await;
        assert!(!item.contains_key("descendants"), "{way}");
        let of_child = scene.item(&grandchild).await;
        assert_eq!(of_child["ended_by"], item["ended_by"], "{way}");
        assert_eq!(of_child["end_reason"].as_s().unwrap(), "maker-revoked");
        erase_all(service).await;
        assert_eq!(erase(&service.app).await.unwrap().queued, 0, "{way}");
    }
}

#[tokio::test]
async fn no_log_in_returns_an_e_mail_token_whose_deletion_ran_out_of_time() {
    for is_erased in [false, true] {
        let (scene, root) = Scene::of_e_mail_token().await;
        let service = &scene.service;
        let child = scene.child(&root).await;
        let email = json!({ "email": BOB });
        let hanging = (0..4).map(|_| ("Query", Fault::NoAnswer));
        service.database.fail(hanging);
        let paused = pause();
        assert_eq!(ask(service, "DELETE", &email).await.status, 503);
        service.database.take_faults();
        assert!(!scene.is_active(&root).await && scene.is_active(&child).await);
        // For every other endpoint, the user has no e-mail token any more.
        assert_eq!(ask(service, "PUT", &email).await.status, 404);
        let list = Event::to("list-email-tokens").header("authorization", &service.account_token);
        let list = list.send(&service.app).await;
        assert_eq!(list.status, 200, "{list:?}");
        assert!(!list.body.contains(&root.id), "{list:?}");
        if is_erased {
            service.database.take_operations();
            erase(&service.app).await.unwrap();
            // A revoked token needs no scan for short codes.
            let operations = service.database.take_operations();
            assert!(!operations.contains(&"Scan".to_owned()), "{operations:?}");
            assert!(!scene.is_active(&child).await);
            let items = service.identity_items().await;
            assert!(!items.iter().any(|item| item.contains_key("sealed")));
            assert_eq!(ask(service, "DELETE", &email).await.status, 404);
        }
        drop(paused);
        let password = crate::create_email_token::PASSWORD;
        let log_in = service.log_in("192.0.2.1", BOB, password).await;
        let token = datum(&log_in)["token"].as_str().unwrap().to_owned();
        assert!(service.is_active(&token).await);
        // A repeated deletion would not find the first token any more. So the log-in ended the rest.
        assert!(!scene.is_active(&child).await);
        // The eraser does not delete the record of the new token.
        erase_all(service).await;
        assert!(!scene.is_active(&child).await && service.is_active(&token).await);
        let again = service.log_in("192.0.2.1", BOB, password).await;
        assert_eq!(datum(&again)["token"], token);
    }
}

#[tokio::test]
async fn each_of_5000_descendants_is_invalid_when_the_revocation_gets_its_204() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let root = scene.mint().await;
    let count = rounds(5000) as usize;
    // Every tenth token has made the nine tokens after it.
    let maker = |number: usize| (!number.is_multiple_of(10)).then_some(number / 10 * 10);
    scene.make_family(&root, count, maker).await;
    let other = scene.mint().await;
    let mut repetitions = 0;
    loop {
        // In each request, the database executes 40 writes of links, and then does not respond to
        // the next writes. So a request ends only some of the tokens.
        let hanging = (0..4).map(|_| ("BatchWriteItem", Fault::NoAnswer));
        let faults = (0..40).map(|_| ("BatchWriteItem", Fault::None));
        service.database.fail(faults.chain(hanging));
        let paused = pause();
        let status = scene.revoke(&root).await;
        drop(paused);
        service.database.take_faults();
        service.database.take_calls();
        if status == 204 {
            break;
        }
        assert_eq!(status, 503);
        repetitions += 1;
        assert!(repetitions < 20);
    }
    assert_eq!(scene.stored().await, HashSet::from([other.id]));
    assert!(scene.links().await.is_empty());
    assert!(repetitions > 1 || count < 5000, "{repetitions}");
}

#[tokio::test]
async fn the_revocation_of_a_long_chain_of_tokens_makes_at_most_three_queries() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let root = scene.mint().await;
    let count = rounds(1000) as usize;
    let made = scene
        .make_family(&root, count, |number| number.checked_sub(1))
        .await;
    service.database.take_calls();
    let paused = pause();
    // The revocation of a token in the middle ends only the tokens after it.
    let middle = Made {
        id: made[count / 2].clone(),
        token: String::new(),
    };
    let family = AttributeValue::S(format!("token#{}", root.id));
    service
        .set_of_token(scene.key, &middle.id, "family", family)
        .await;
    for (revoked, left) in [(&middle, count / 2 + 1), (&root, 0)] {
        assert_eq!(scene.revoke(revoked).await, 204);
        let operations = service.database.take_operations();
        let queries = operations.iter().filter(|one| *one == "Query").count();
        assert!(queries <= 3, "{queries}");
        assert_eq!(scene.stored().await.len(), left);
    }
    drop(paused);
    assert!(scene.links().await.is_empty());
}

#[tokio::test]
async fn no_child_is_valid_after_the_revocation_of_its_maker_in_300_rounds() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let other = service.another_environment();
    let (mut exchanged, mut refused) = (0, 0);
    for round in 0..rounds(300) {
        let root = scene.mint().await;
        let child = match round % 2 {
            0 => root.clone(),
            _ => scene.child(&root).await,
        };
        let code = scene.code(&child.token).await;
        let revocation = match round % 3 {
            0 => Event::to("revoke-token").form(&format!("token={}", root.token)),
            _ => scene.revocation(&root.id),
        };
        let revoked = async {
            // The round determines at which step of the exchange the revocation starts.
            for _ in 0..round % 24 {
                tokio::task::yield_now().await;
            }
            let answer = revocation.send(&other).await;
            assert!([200, 204].contains(&answer.status), "{answer:?}");
            assert!(
                !scene.has_any(&[&root.id, &child.id]).await,
                "round {round}"
            );
        };
        let (answer, ()) = join(attempt(&code).send(&service.app), revoked).await;
        match answer.status {
            200 => {
                exchanged += 1;
                assert!(!service.is_active(&answer.token()).await, "round {round}");
            }
            404 => refused += 1,
            _ => panic!("round {round}: {answer:?}"),
        }
    }
    assert!(scene.stored().await.is_empty());
    assert!(scene.links().await.is_empty());
    assert!(
        (exchanged > 0 && refused > 0) || rounds(300) < 300,
        "{exchanged} {refused}"
    );
}

#[tokio::test]
async fn concurrent_revocations_of_a_token_and_of_its_maker_end_all_in_100_rounds() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let other = service.another_environment();
    for round in 0..rounds(100) {
        let root = scene.mint().await;
        let child = scene.child(&root).await;
        let grandchild = scene.child(&child).await;
        let last = scene.child(&grandchild).await;
        let below_child = [&child.id, &grandchild.id, &last.id];
        let of_root = async {
            for _ in 0..round % 8 {
                tokio::task::yield_now().await;
            }
            let answer = scene.revocation(&root.id).send(&service.app).await;
            assert_eq!(answer.status, 204, "{answer:?}");
            assert!(!scene.has_any(&below_child).await, "round {round}");
        };
        let of_child = async {
            for _ in 0..round / 8 {
                tokio::task::yield_now().await;
            }
            let answer = scene.revocation(&child.id).send(&other).await;
            assert_eq!(answer.status, 204, "{answer:?}");
            assert!(!scene.has_any(&below_child).await, "round {round}");
        };
        join(of_root, of_child).await;
        assert!(!scene.has_any(&[&root.id]).await, "round {round}");
    }
}

#[tokio::test]
async fn a_revocation_of_all_tokens_ends_children_too() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let root = scene.mint().await;
    let child = scene.child(&root).await;
    let grandchild = scene.child(&child).await;
    let code = scene.code(&grandchild.token).await;
    let path = format!("/api/users/{}/tokens", scene.bob);
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    for made in [&root, &child, &grandchild] {
        assert!(!scene.is_active(made).await);
    }
    assert_eq!(consume(service, &code).await.status, 404);
    assert!(scene.stored().await.is_empty());
}

#[tokio::test]
async fn every_way_to_revoke_an_e_mail_token_also_ends_its_descendants() {
    for way in ["its id", "its value", "its address"] {
        let (scene, root) = Scene::of_e_mail_token().await;
        let service = &scene.service;
        let child = scene.child(&root).await;
        scene.child(&child).await;
        let end = async || match way {
            "its id" => scene.revoke(&root).await,
            "its value" => {
                let revoke = Event::to("revoke-token").form(&format!("token={}", root.token));
                revoke.send(&service.app).await.status
            }
            _ => {
                let delete = Event::to("delete-email-token")
                    .header("authorization", &service.account_token)
                    .json_body(&json!({ "email": BOB }).to_string());
                delete.send(&service.app).await.status
            }
        };
        // The first attempt runs out of time.
        let hanging = (0..4).map(|_| ("BatchWriteItem", Fault::NoAnswer));
        service.database.fail(hanging);
        let paused = pause();
        assert_eq!(end().await, 503, "{way}");
        drop(paused);
        service.database.take_faults();
        assert!([200, 204].contains(&end().await), "{way}");
        assert!(scene.stored().await.is_empty(), "{way}");
        assert!(scene.links().await.is_empty(), "{way}");
        let item = scene.item(&root).await;
        assert_eq!(item["end_reason"].as_s().unwrap(), "revoked", "{way}");
        assert!(!item.contains_key("descendants"), "{way}");
        let log_in = service
            .log_in("192.0.2.1", BOB, crate::create_email_token::PASSWORD)
            .await;
        let token = datum(&log_in)["token"].as_str().unwrap().to_owned();
        assert!(service.is_active(&token).await, "{way}");
    }
}

#[tokio::test]
async fn no_transaction_contains_an_item_that_a_whole_ecosystem_or_environment_shares() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let environment = service.environment(&service.ecosystem).await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let own = scene.mint().await.token;
    let parts = || {
        let calls = service.database.take_calls();
        let call = calls
            .into_iter()
            .find(|call| call.operation == "TransactWriteItems");
        let parts = call.unwrap().request["TransactItems"].clone();
        let parts: Vec<_> = parts.as_array().unwrap().clone();
        let name = |part: &Value| part.as_object().unwrap().keys().next().unwrap().clone();
        parts.iter().map(name).collect::<Vec<_>>()
    };
    let for_environment = json!({ "environmentId": environment });
    let for_user = json!({ "userId": scene.bob });
    for (credential, body, creation, exchange) in [
        (
            &server,
            &for_environment,
            // The code, and the condition that the new user does not exist.
            &["Put", "ConditionCheck"][..],
            // The code, the new user with its entry in a list, and the token.
            &["Delete", "Put", "Put", "Put"][..],
        ),
        (
            &server,
            &for_user,
            &["Put", "ConditionCheck"],
            // The code, the condition on the user, and the token.
            &["Delete", "ConditionCheck", "Put"],
        ),
        (
            &own,
            &for_user,
            &["Put", "ConditionCheck"],
            // Also the maker and the link.
            &["Delete", "ConditionCheck", "Update", "Put", "Put"],
        ),
    ] {
        let path = "/api/auth/shortcode/create";
        let made = service
            .call(credential, "POST", path, &body.to_string())
            .await;
        assert_eq!(parts(), creation, "{body}");
        let code = made.json()["shortcode"].as_str().unwrap().to_owned();
        assert_eq!(consume(service, &code).await.status, 200);
        assert_eq!(parts(), exchange, "{body}");
    }
}

#[tokio::test]
async fn a_token_of_an_ecosystem_or_environment_that_is_deleted_during_the_exchange_is_invalid() {
    for deleted in ["ecosystem", "environment"] {
        let scene = Scene::new().await;
        let service = &scene.service;
        let environment = service.environment(&service.ecosystem).await;
        let body = json!({ "environmentId": environment }).to_string();
        let code = scene.code_of(&service.account_token, &body).await;
        let held = ("TransactWriteItems", Fault::NotBefore("Scan"));
        service.database.fail([held]);
        let paused = pause();
        let delete = async {
            service.database.has_arrived("TransactWriteItems").await;
            let delete = match deleted {
                "environment" => Event::to("delete-environment"),
                _ => Event::to("delete-ecosystem"),
            };
            let delete = delete
                .header("authorization", &service.account_token)
                .parameter("environmentId", &environment)
                .parameter("ecosystemId", service.ecosystem.id.as_str());
            let answer = delete.send(&service.app).await;
            service.identity_items().await;
            answer.status
        };
        let (exchanged, status) = join(consume(service, &code), delete).await;
        drop(paused);
        assert_eq!((exchanged.status, status), (200, 204), "{deleted}");
        assert!(!service.is_active(&exchanged.token()).await, "{deleted}");
    }
}

#[tokio::test]
async fn a_list_skips_many_records_of_revoked_tokens_in_one_request_with_a_limited_cost() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let valid = [scene.mint().await.id, scene.mint().await.id];
    let owner = service.token_owner(&scene.bob).await;
    let revoke = async |count: usize| {
        for _ in 0..count {
            let wanted = NewToken::default();
            let (_, token) = mint(&service.app, Grant::of_operator(owner, wanted))
                .await
                .unwrap();
            let form = format!("token={}", token.reveal());
            Event::to("revoke-token")
                .form(&form)
                .send(&service.app)
                .await;
        }
        service.database.take_calls();
    };
    service.clock.advance(1);
    revoke(250).await;
    let page = async |query: &str| {
        let path = format!("/api/users/{}/tokens?{query}", scene.bob);
        let page = service.manage("GET", &path, "").await.json();
        let calls = service.database.take_calls();
        let queries = calls.iter().filter(|call| call.operation == "Query");
        let cost: f64 = queries.clone().map(|call| call.capacity).sum();
        let tokens = page["tokens"].as_array().unwrap().iter();
        let tokens: Vec<_> = tokens
            .map(|token| token["tokenId"].as_str().unwrap().to_owned())
            .collect();
        let cursor = page["cursor"].as_str().map(str::to_owned);
        (tokens, cursor, queries.count(), cost)
    };
    let mut newest_first = valid;
    newest_first.sort_by(|one, other| other.cmp(one));
    let (tokens, cursor, queries, _) = page("").await;
    assert_eq!((tokens.as_slice(), cursor), (&newest_first[..], None));
    assert_eq!(queries, 2);

    // With `limit=1`, the first `Query` reads one record, the second 100, and each further `Query`
    // as many as all before it. The cursor leads to the token after the returned token.
    let (tokens, cursor, queries, _) = page("limit=1").await;
    assert_eq!(tokens, newest_first[..1]);
    assert_eq!(queries, 4);
    let (tokens, cursor, ..) = page(&format!("limit=1&cursor={}", cursor.unwrap())).await;
    assert_eq!(tokens, newest_first[1..]);
    assert!(
        cursor.is_none()
            || page(&format!("cursor={}", cursor.unwrap()))
                .await
                .0
                .is_empty()
    );

    // A `Query` reads at most 1,000 records.
    revoke(1000).await;
    let (tokens, cursor, queries, cost) = page("").await;
    assert_eq!((tokens.as_slice(), cursor), (&newest_first[..], None));
    assert_eq!(queries, 3);
    assert!(cost <= 200.0, "{cost}");
}

#[tokio::test]
async fn valid_until_decides_whether_a_token_is_expired_and_expires_at_does_not() {
    let scene = Scene::new().await;
    let service = &scene.service;
    for kind in ["FixedTtl", "SlidingTtl"] {
        let query = format!("expiryType={kind}&ttl=1000");
        let made = Made::of(&service.mint(&scene.bob, &query).await);
        let end = service.app.now().seconds().0 + 10;
        let valid_until = AttributeValue::N(end.to_string());
        service
            .set_of_token(scene.key, &made.id, "valid_until", valid_until)
            .await;
        let code = scene.code(&made.token).await;
        service.clock.advance(9);
        let claims = service.introspect(&made.token).await.json();
        assert_eq!(claims["exp"], json!(end), "{kind}");
        assert!(ids(service, &scene.bob).await.contains(&made.id));
        service.clock.advance(1);
        for _ in 0..2 {
            assert!(!scene.is_active(&made).await, "{kind}");
            service.clock.advance(1);
        }
        assert!(!ids(service, &scene.bob).await.contains(&made.id));
        assert_eq!(consume(service, &code).await.status, 404);
    }
}

#[tokio::test]
async fn a_token_stores_its_ttl_and_its_latest_possible_expiry() {
    let scene = Scene::new().await;
    for (query, ttl, latest) in [
        ("expiryType=FixedTtl&ttl=60&maxTtl=90", Some(60), Some(90)),
        ("expiryType=FixedTtl&ttl=60&maxTtl=30", Some(30), Some(30)),
        ("expiryType=FixedTtl&ttl=60", Some(60), None),
        ("expiryType=SlidingTtl&ttl=60&maxTtl=90", Some(60), Some(90)),
        ("expiryType=Infinite&ttl=60&maxTtl=90", None, None),
    ] {
        let made = Made::of(&scene.service.mint(&scene.bob, query).await);
        let item = scene.item(&made).await;
        let now = scene.service.app.now().seconds().0;
        let read = |name| item.contains_key(name).then(|| number(&item, name));
        assert_eq!(read("ttl"), ttl, "{query}");
        assert_eq!(
            read("max_expires_at"),
            latest.map(|end| now + end),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_change_of_an_e_mail_token_increases_the_revision_of_its_item() {
    let (service, bob) = with_bob().await;
    let made = datum(&ask(&service, "POST", &json!({ "email": BOB })).await);
    let key: OwnerKey = (&UserId::parse(&bob).unwrap()).into();
    let id = made["tokenId"].as_str().unwrap();
    for expected in [1, 2, 3] {
        let item = service.token_item(key, id).await.unwrap();
        assert_eq!(number(&item, "revision"), expected);
        let body = json!({ "email": BOB, "write": true });
        assert_eq!(ask(&service, "PUT", &body).await.status, 200);
    }
}

#[tokio::test]
async fn the_descendants_of_an_e_mail_token_that_a_log_in_replaced_end_with_its_revocation() {
    for way in ["its id", "its value"] {
        let (scene, root) = Scene::of_e_mail_token().await;
        let service = &scene.service;
        let child = scene.child(&root).await;
        let past = json!({ "email": BOB, "write": true, "expiration_date": 1 });
        assert_eq!(ask(service, "PUT", &past).await.status, 200);
        let password = crate::create_email_token::PASSWORD;
        let log_in = service.log_in("192.0.2.1", BOB, password).await;
        let token = datum(&log_in)["token"].as_str().unwrap().to_owned();
        assert!(service.is_active(&token).await && scene.is_active(&child).await);
        assert!(!scene.is_active(&root).await);
        let revoke = match way {
            "its value" => Event::to("revoke-token").form(&format!("token={}", root.token)),
            _ => scene.revocation(&root.id),
        };
        let status = revoke.send(&service.app).await.status;
        assert!([200, 204].contains(&status), "{way}");
        assert!(!scene.is_active(&child).await, "{way}");
        assert!(service.is_active(&token).await, "{way}");
        assert!(scene.links().await.is_empty(), "{way}");
    }
}

#[tokio::test]
async fn the_deletion_of_an_e_mail_token_ends_it_before_its_descendants() {
    let (scene, root) = Scene::of_e_mail_token().await;
    let service = &scene.service;
    let child = scene.child(&root).await;
    let code = scene.code(&root.token).await;
    let delete = Event::to("delete-email-token")
        .header("authorization", &service.account_token)
        .json_body(&json!({ "email": BOB }).to_string());
    service
        .database
        .fail((0..4).map(|_| ("Query", Fault::NoAnswer)));
    let paused = pause();
    assert_eq!(delete.send(&service.app).await.status, 503);
    drop(paused);
    service.database.take_faults();
    // The token cannot make more tokens, although its descendants have not ended yet.
    assert!(!scene.is_active(&root).await);
    assert_eq!(consume(service, &code).await.status, 404);
    assert!(scene.is_active(&child).await);
    assert_eq!(delete.send(&service.app).await.status, 200);
    assert!(!scene.is_active(&child).await);
    assert_eq!(delete.send(&service.app).await.status, 404);
}

#[tokio::test]
async fn a_code_gives_no_wider_scope_and_no_later_end_than_its_maker_has_at_the_exchange() {
    let (scene, Made { token, .. }) = Scene::of_e_mail_token().await;
    let service = &scene.service;
    let code = scene.code(&token).await;
    let end = (service.clock.seconds() + 30) * 1000;
    let less = json!({ "email": BOB, "write": false, "expiration_date": end });
    assert_eq!(ask(service, "PUT", &less).await.status, 200);
    let child = Made::of(&consume(service, &code).await);
    let introspection = service.introspect(&child.token).await.json();
    assert_eq!(introspection["scope"], "read");
    assert_eq!(introspection["exp"].as_u64(), Some(end / 1000));
}
