//! Tests of the migration of stored data to the schema version of this release.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shared::{
    App,
    domain::{
        error::{Error, Result},
        owner::Account,
        token::{NewToken, PlainToken},
    },
    service::{
        access::{Grant, MayWrite},
        migrate,
        tokens::mint,
    },
};
use tests::{Answer, Event, Fault, Fixture, Service, pause, rounds};

use crate::consume_shortcode::{attempt, code};

const RIGHT: MayWrite = MayWrite::of_operator();

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().expect("the field is a string")
}

async fn introspect(app: &App, caller: &str, token: &str) -> Answer {
    let introspection = Event::to("introspect-token").header("authorization", caller);
    introspection
        .form(&format!("token={token}"))
        .send(app)
        .await
}

/// Migrates the data as `tokenry migrate` does. Returns a new token of each account.
async fn migrated(app: &App) -> Result<Vec<String>> {
    let choose = |accounts: &[Account], _| Ok(accounts[0].id.clone());
    let mut tokens = Vec::new();
    for account in migrate::prepare(app, RIGHT, choose).await? {
        let (_, token) = mint(app, Grant::of_operator(&account, NewToken::default())).await?;
        tokens.push(token.reveal().to_owned());
    }
    migrate::finish(app, RIGHT).await?;
    migrate::clean_up(app, RIGHT).await?;
    migrate::lists::list_all(app, RIGHT).await?;
    Ok(tokens)
}

#[tokio::test]
async fn data_of_an_earlier_schema_version_can_be_read_before_the_migration() {
    for version in ["schema-1", "schema-2"] {
        let fixture = Fixture::copy_of(version);
        check_unmigrated(&fixture, &fixture.environment()).await;
    }
}

/// Checks that an execution environment reads the data of a fixture as `contents.json` lists it.
async fn check_unmigrated(fixture: &Fixture, app: &App) {
    for account in fixture.list("accounts") {
        let caller = text(account, "accountToken");
        let of_account = |item: &&Value| item["accountId"] == account["id"];
        let email_tokens = fixture.list("emailTokens").iter().filter(of_account);
        let tokens = fixture.list("tokens").iter().filter(of_account);
        for token in tokens.chain(email_tokens.clone()) {
            let answer = introspect(app, caller, text(token, "token")).await.json();
            assert_eq!(answer["active"], token["active"], "{token}");
        }
        for token in email_tokens {
            let email = text(&token["record"], "email");
            let [answer] = &value_of(app, &[caller.to_owned()], email).await[..] else {
                panic!("expected one response for one caller");
            };
            let found = (token["exists"] == true).then(|| &token["token"]);
            assert_eq!(answer.status, if found.is_some() { 200 } else { 404 });
            if let Some(value) = found {
                assert_eq!(answer.json()["data"][0]["token"], *value);
            }
        }
        for user in fixture.list("users").iter().filter(of_account) {
            let get = Event::to("get-user").header("authorization", caller);
            let answer = get.parameter("id", text(user, "id")).send(app).await;
            if user["exists"] == false {
                assert_eq!(answer.status, 404, "{user}");
                continue;
            }
            let answer = answer.json();
            for field in ["id", "email", "admin", "active"] {
                assert_eq!(answer[field], user[field], "{user}");
            }
        }
    }
}

#[tokio::test]
async fn tokens_of_an_earlier_schema_version_are_enabled_and_have_read_write_and_no_metadata() {
    for version in ["schema-1", "schema-2"] {
        let fixture = Fixture::copy_of(version);
        let app = fixture.environment();
        let mut checked = 0;
        for token in fixture.list("tokens") {
            let endpoints = match text(token, "holder") {
                "user" => ["get-user-token", "list-user-tokens"],
                "server" => ["get-server-token", "list-server-tokens"],
                _ => continue,
            };
            if token["active"] == false {
                continue;
            }
            let account = |account: &&Value| account["id"] == token["accountId"];
            let account = fixture.list("accounts").iter().find(account).unwrap();
            let caller = text(account, "accountToken");
            let said = introspect(&app, caller, text(token, "token")).await.json();
            assert_eq!(
                (&said["scope"], said.get("metadata")),
                (&json!("read write"), None),
                "{token}"
            );
            let ask = async |endpoint| {
                let event = Event::to(endpoint)
                    .header("authorization", caller)
                    .parameter("id", text(token, "sub"))
                    .parameter("ecosystemId", text(token, "sub"))
                    .parameter("tokenId", text(token, "tokenId"));
                let answer = event.send(&app).await;
                assert_eq!(answer.status, 200, "{token} {answer:?}");
                answer.json()
            };
            let [get, list] = endpoints;
            let (record, page) = (ask(get).await, ask(list).await);
            let listed = page["tokens"].as_array().unwrap().iter();
            let mut listed = listed.filter(|listed| listed["tokenId"] == token["tokenId"]);
            for shown in [&record, listed.next().unwrap()] {
                assert_eq!(shown["scope"], "read write", "{token}");
                assert_eq!(shown["disabled"], false, "{token}");
                assert_eq!(shown.get("metadata"), None, "{token}");
                assert_eq!(shown["name"], token["name"], "{token}");
            }
            assert_eq!(record["state"], "active", "{token}");
            checked += 1;
        }
        assert!(checked > 10, "only {checked} tokens were checked");
    }
}

/// Checks a migrated fixture. `tokens` are the new account tokens, one for each account.
async fn check(fixture: &Fixture, tokens: &[String]) {
    let app = fixture.environment();
    for token in fixture
        .list("tokens")
        .iter()
        .chain(fixture.list("emailTokens"))
    {
        for caller in tokens {
            let answer = introspect(&app, caller, text(token, "token")).await;
            assert_eq!(answer.json(), json!({ "active": false }), "{token}");
        }
    }
    for token in fixture.list("emailTokens") {
        let answers = value_of(&app, tokens, text(&token["record"], "email")).await;
        let found: Vec<_> = answers
            .iter()
            .filter(|answer| answer.status == 200)
            .collect();
        assert_eq!(found.len(), usize::from(token["exists"] == true), "{token}");
        if let [value] = found[..] {
            let value = value.json()["data"][0]["token"]
                .as_str()
                .unwrap()
                .to_owned();
            assert_ne!(value, text(token, "token"));
            let ends = token["record"]["expiration_date"].as_u64().unwrap();
            let is_infinite = token["record"]["expiryType"] == "Infinite";
            let active = is_infinite || ends / 1000 > fixture.clock.seconds();
            let mut results = Vec::new();
            for caller in tokens {
                results.push(introspect(&app, caller, &value).await.json());
            }
            let known: Vec<_> = results
                .iter()
                .filter(|said| said["active"] == true)
                .collect();
            assert_eq!(known.len(), usize::from(active), "{token}");
            if let [said] = known[..] {
                let scope = if token["record"]["write"] == true {
                    "read write"
                } else {
                    "read"
                };
                assert_eq!(
                    (&said["sub"], said["scope"].as_str()),
                    (&token["sub"], Some(scope))
                );
            }
        }
    }
    // The old tokens of a user are not in the list of the user's tokens.
    for token in fixture.list("tokens") {
        if token["holder"] == "user" {
            for caller in tokens {
                let list = Event::to("list-user-tokens")
                    .header("authorization", caller)
                    .parameter("id", text(token, "sub"))
                    .send(&app)
                    .await;
                assert!(!list.body.contains(text(token, "tokenId")), "{token}");
            }
        }
    }
}

async fn value_of(app: &App, tokens: &[String], email: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for caller in tokens {
        let ask = Event::to("get-email-token-value").header("authorization", caller);
        answers.push(ask.query(&format!("email={email}")).send(app).await);
    }
    answers
}

#[tokio::test]
async fn a_migration_ends_tokens_without_a_tag_and_gives_e_mail_tokens_a_new_value() {
    let fixture = Fixture::copy_of("schema-1");
    let warm = fixture.environment();
    let old = text(&fixture.list("accounts")[0], "accountToken");
    assert_eq!(introspect(&warm, old, "x").await.status, 200);
    let tokens = migrated(&fixture.environment()).await.unwrap();
    check(&fixture, &tokens).await;
    // A warm execution environment knows the new schema version after 10 seconds.
    fixture.clock.advance(10);
    fixture.database.take_calls();
    assert_eq!(introspect(&warm, old, "x").await.status, 401);
    assert_eq!(fixture.database.take_operations(), ["GetItem"]);
}

#[tokio::test]
async fn a_migration_that_stops_after_any_call_can_be_run_again() {
    let mut calls = 0;
    loop {
        let fixture = Fixture::copy_of("schema-1");
        fixture.database.deny_after(Some(calls));
        let stopped = migrated(&fixture.environment()).await;
        fixture.database.deny_after(None);
        let tokens = migrated(&fixture.environment()).await.unwrap();
        if calls % 7 == 0 || stopped.is_ok() {
            check(&fixture, &tokens).await;
        }
        if stopped.is_ok() {
            break;
        }
        // A run with fewer rounds stops after every fourth call, for example.
        calls += usize::try_from(100 / rounds(100)).expect("the number fits");
    }
    assert!(calls > 40, "the migration made only {calls} calls");
}

#[tokio::test]
async fn new_tokens_have_a_tag_before_the_old_tokens_end() {
    let fixture = Fixture::copy_of("schema-1");
    let app = fixture.environment();
    let account = &fixture.list("accounts")[0];
    let (old, user) = (text(account, "accountToken"), text(account, "userId"));
    let mint = async || {
        let mint = Event::to("create-user-token").header("authorization", old);
        mint.parameter("id", user).send(&app).await.token()
    };
    let untagged = mint().await;
    let choose = |accounts: &[Account], _| Ok(accounts[0].id.clone());
    migrate::prepare(&fixture.environment(), RIGHT, choose)
        .await
        .unwrap();
    let record = fixture.environment().deployment().await.unwrap();
    let tagged = mint().await;
    let has_tag = |token: &str| record.created_tag_of(&PlainToken::parse(token).unwrap());
    assert_eq!((has_tag(&untagged), has_tag(&tagged)), (false, true));
    for token in [&untagged, &tagged] {
        assert_eq!(introspect(&app, old, token).await.json()["active"], true);
    }
}

#[tokio::test]
async fn the_error_for_an_unknown_schema_version_says_what_to_do() {
    let fixture = Fixture::copy_of("schema-1");
    migrated(&fixture.environment()).await.unwrap();
    fixture.set_schema(4).await;
    let app = fixture.environment();
    let Err(Error::Internal { cause }) = app.deployment().await else {
        panic!("the data was accepted");
    };
    assert!(cause.contains("schema version 4") && cause.contains("deploy the release"));
    let old = text(&fixture.list("accounts")[0], "accountToken");
    assert_eq!(introspect(&app, old, "x").await.status, 500);
    let run = migrated(&fixture.environment()).await;
    assert!(matches!(run, Err(Error::Internal { .. })));
}

#[tokio::test]
async fn a_tagged_token_is_valid_while_the_record_of_the_deployment_cannot_be_read() {
    let fixture = Fixture::copy_of("schema-1");
    let app = fixture.environment();
    let choose = |accounts: &[Account], _| Ok(accounts[0].id.clone());
    let accounts = migrate::prepare(&app, RIGHT, choose).await.unwrap();
    let (_, token) = mint(&app, Grant::of_operator(&accounts[0], NewToken::default()))
        .await
        .unwrap();
    fixture.clock.advance(60);
    fixture.database.fail([("GetItem", Fault::Denied)]);
    assert_eq!(introspect(&app, token.reveal(), "x").await.status, 200);
}

#[tokio::test]
async fn the_first_account_can_be_named_again_before_and_after_the_migration() {
    let fixture = Fixture::copy_of("schema-1");
    let app = fixture.environment();
    for at in [1, 0] {
        let choose = |accounts: &[Account], _| Ok(accounts[at].id.clone());
        let accounts = migrate::prepare(&app, RIGHT, choose).await.unwrap();
        let record = fixture.environment().deployment().await.unwrap();
        assert_eq!(record.first_account.as_ref(), Some(&accounts[at].id));
        migrate::finish(&app, RIGHT).await.unwrap();
    }
}

/// Checks that the lists contain exactly the ecosystems, environments and users of a fixture that
/// exist.
async fn check_lists(fixture: &Fixture, app: &App) {
    let list = async |name: &'static str, caller: &str, ecosystem: &str| -> Vec<String> {
        let event = Event::to(name).header("authorization", caller);
        let answer = event.parameter("ecosystemId", ecosystem).send(app).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let entries = answer.json().as_object().unwrap().clone();
        let mut lists = entries.values().filter_map(Value::as_array);
        let entries = lists.next().unwrap().iter();
        entries.map(|entry| text(entry, "id").to_owned()).collect()
    };
    let existing = |name: &str, account: &Value, ecosystem: &str| -> Vec<String> {
        let items = fixture.list(name).iter().filter(|item| {
            let id = text(item, "id");
            let of = item["ecosystemId"].as_str().or(id.split(';').next());
            item["accountId"] == account["id"]
                && item["exists"] == true
                && (ecosystem.is_empty() || of == Some(ecosystem))
                && !id.contains(";short|")
        });
        let mut ids: Vec<_> = items.map(|item| text(item, "id").to_owned()).collect();
        ids.sort_unstable();
        ids
    };
    let mut users = 0;
    for account in fixture.list("accounts") {
        let caller = text(account, "accountToken");
        let ecosystems = existing("ecosystems", account, "");
        assert_eq!(list("list-ecosystems", caller, "").await, ecosystems);
        for ecosystem in &ecosystems {
            let listed = list("list-environments", caller, ecosystem).await;
            assert_eq!(listed, existing("environments", account, ecosystem));
            let listed = list("list-users", caller, ecosystem).await;
            assert_eq!(listed, existing("users", account, ecosystem));
            users += listed.len();
        }
    }
    assert!(users > 15, "only {users} users are listed");
}

#[tokio::test]
async fn a_migration_from_version_2_lists_what_exists_wherever_it_was_stopped() {
    let mut calls = 0;
    loop {
        let fixture = Fixture::copy_of("schema-2");
        let app = fixture.environment();
        fixture.database.deny_after(Some(calls));
        let stopped = migrate::lists::list_all(&app, RIGHT).await;
        fixture.database.deny_after(None);
        let app = fixture.environment();
        if u32::from(app.deployment().await.unwrap().schema) == 3 {
            // The migration was stopped after it had raised the version.
            check_lists(&fixture, &app).await;
        }
        migrate::lists::list_all(&fixture.environment(), RIGHT)
            .await
            .unwrap();
        let app = fixture.environment();
        assert_eq!(u32::from(app.deployment().await.unwrap().schema), 3);
        check_lists(&fixture, &app).await;
        if stopped.is_ok() {
            break;
        }
        // A run with fewer rounds stops after every fourth call, for example.
        calls += usize::try_from(100 / rounds(100)).expect("the number fits");
    }
    assert!(calls > 40, "the migration made only {calls} calls");
}

#[tokio::test]
async fn after_the_migration_from_version_2_every_token_is_as_before() {
    let fixture = Fixture::copy_of("schema-2");
    migrate::lists::list_all(&fixture.environment(), RIGHT)
        .await
        .unwrap();
    check_unmigrated(&fixture, &fixture.environment()).await;
}

#[tokio::test]
async fn a_user_whom_an_earlier_release_deleted_during_the_update_is_not_listed() {
    let fixture = Fixture::copy_of("schema-2");
    let app = fixture.environment();
    let account = &fixture.list("accounts")[0];
    let (caller, ecosystem) = (text(account, "accountToken"), text(account, "ecosystemId"));
    let put = Event::to("put-user").header("authorization", caller);
    let put = put.parameter("id", &format!("{ecosystem};new"));
    assert_eq!(put.json_body("{}").send(&app).await.status, 201);
    // The earlier release deletes only the user's record.
    fixture.delete_owner(&format!("{ecosystem};new")).await;
    migrate::lists::list_all(&app, RIGHT).await.unwrap();
    check_lists(&fixture, &fixture.environment()).await;
}

#[tokio::test]
async fn a_second_run_in_version_3_lists_what_is_missing_and_otherwise_writes_nothing() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let (_, made) = code(&service, json!({ "environmentId": environment })).await;
    assert_eq!(attempt(&made).send(&service.app).await.status, 200);
    service
        .person("ada", "ada@example.com", "password of ada")
        .await;
    service.user("ben").await;
    let items = async || {
        let mut items = service.identity_items().await;
        items.retain(|item| item.contains_key("listed"));
        let keys = items.iter().map(|item| format!("{:?}", item["item"]));
        (keys.collect::<BTreeSet<_>>(), items)
    };
    let (complete, entries) = items().await;
    assert_eq!(complete.len(), 5);
    let app = service.another_environment();
    assert_eq!(u32::from(app.deployment().await.unwrap().schema), 3);
    for missing in [&entries[..0], &entries[..]] {
        // An earlier release stores no entries.
        service.delete_identity_items(missing).await;
        migrate::lists::list_all(&app, RIGHT).await.unwrap();
        let calls = service.database.take_operations();
        let writes: Vec<_> = calls.iter().filter(|name| name.contains("Write")).collect();
        assert_eq!(writes.len(), missing.len());
        let others = calls.iter().filter(|name| !name.contains("Write"));
        let reads = ["BatchGetItem", "GetItem", "Scan"];
        let others: Vec<_> = others.filter(|name| !reads.contains(&&***name)).collect();
        assert!(others.is_empty(), "{others:?}");
        assert_eq!(items().await.0, complete);
    }
}

#[tokio::test]
async fn the_entry_and_the_address_of_a_user_who_is_being_created_stay() {
    for absent in ["account-address", "ada"] {
        let service = Service::start().await;
        let ada = service
            .person("ada", "ada@example.com", "password of ada")
            .await;
        // The scan sees one of the writes of a transaction, but not the user's record.
        let record = service.owner_item(&ada).await.unwrap();
        let mut others = service.identity_items().await;
        others.retain(|item| item["item"].as_s().unwrap() == absent);
        assert_eq!(others.len(), 1);
        service.delete_identity_items(&others).await;
        let before = service.identity_items().await;
        service
            .delete_identity_items(std::slice::from_ref(&record))
            .await;
        let conflict = Fault::TransactionCancelled(&["TransactionConflict"]);
        service.database.fail([
            ("TransactGetItems", conflict),
            ("TransactGetItems", Fault::NotBefore("PutItem")),
        ]);
        let _paused = pause();
        let complete = async {
            let waits = service.database.has_arrived("TransactGetItems");
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), waits).await;
            service.put_identity_item(record).await;
        };
        let run = migrate::lists::list_all(&service.app, RIGHT);
        let (run, ()) = Box::pin(futures_util::future::join(run, complete)).await;
        run.unwrap();
        let left = service.identity_items().await;
        let gone: Vec<_> = before.iter().filter(|item| !left.contains(item)).collect();
        assert!(gone.is_empty(), "{gone:?}");
        assert_eq!(left.len(), before.len());
    }
}
