//! Tests with the limits of DynamoDB's partitions and transactions. The test database has these
//! limits only if a test requests them. The first tests show that the test database then has the
//! limits. The other tests show how the service behaves with the limits.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    config::{Builder, retry::RetryConfig},
    error::{ProvideErrorMetadata, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, Get, KeysAndAttributes, Put, TransactGetItem, TransactWriteItem},
};
use futures_util::future::{join, join_all};
use serde_json::json;
use shared::store::{ephemeral::PARTITION_KEY, item::Item};
use tests::{
    Answer, Event, Pause, Service,
    partitions::{LATENCY, READS, WRITES},
    pause,
};

/// A service whose database has limits. The methods send each database call once, without retries.
struct Limited {
    service: Service,
    _paused: Pause,
}

const THROTTLED: &str = "ThrottlingException";

impl Limited {
    /// Starts a service, and then limits its database. Each call to a limited database sleeps for
    /// its latency. The runtime's clock is paused, so that it jumps over these sleeps.
    async fn start() -> Self {
        let service = Service::start().await;
        let paused = pause();
        service.database.limit_partitions(&service.clock);
        Self {
            service,
            _paused: paused,
        }
    }

    fn table(&self) -> &str {
        &self.service.tables.ephemeral
    }

    /// Stores an item with this name and this size.
    async fn write(&self, name: &str, kilobytes: usize) -> Result<(), String> {
        let call = self.service.client.put_item().table_name(self.table());
        let call = call.set_item(Some(item(name, kilobytes))).customize();
        let sent = call.config_override(once()).send().await;
        sent.map(drop).map_err(|error| code(&error))
    }

    /// Tries to store an item. The condition requires an attribute that no item has, so it is
    /// false.
    async fn write_refused(&self, name: &str) -> Result<(), String> {
        let call = self.service.client.put_item().table_name(self.table());
        let call = call.set_item(Some(item(name, 0)));
        let call = call.condition_expression("attribute_exists(nothing)");
        let sent = call.customize().config_override(once()).send().await;
        match sent.map_err(|error| code(&error)) {
            Err(code) if code == "ConditionalCheckFailedException" => Ok(()),
            other => other.map(drop),
        }
    }

    async fn read(&self, name: &str, consistent: bool) -> Result<(), String> {
        let call = self.service.client.get_item().table_name(self.table());
        let call = call.set_key(Some(key(name))).consistent_read(consistent);
        let sent = call.customize().config_override(once()).send().await;
        sent.map(drop).map_err(|error| code(&error))
    }

    /// Reads several items. Returns the names of the items that were read, or the error code.
    async fn read_all(&self, names: &[&str]) -> Result<Vec<String>, String> {
        let keys = names.iter().map(|name| key(name)).collect();
        let keys = KeysAndAttributes::builder().set_keys(Some(keys));
        let keys = keys.consistent_read(true).build().unwrap();
        let call = self.service.client.batch_get_item();
        let call = call.request_items(self.table(), keys).customize();
        let read = call.config_override(once()).send().await;
        let read = read.map_err(|error| code(&error))?;
        let unprocessed = read.unprocessed_keys().unwrap();
        let unprocessed = unprocessed.values().flat_map(KeysAndAttributes::keys);
        let read = read.responses().unwrap().values().flatten();
        assert_eq!(unprocessed.count() + read.clone().count(), names.len());
        let mut read: Vec<_> = read.map(name_of).collect();
        read.sort_unstable();
        Ok(read)
    }

    /// Stores items with these names and this size in one transaction. If the transaction is
    /// cancelled, returns a code for each item.
    async fn transact(&self, names: &[&str], kilobytes: usize) -> Result<(), Vec<String>> {
        let put = |name: &&str| {
            let put = Put::builder().table_name(self.table());
            let put = put.set_item(Some(item(name, kilobytes))).build();
            TransactWriteItem::builder().put(put.unwrap()).build()
        };
        let call = self.service.client.transact_write_items();
        let call = call.set_transact_items(Some(names.iter().map(put).collect()));
        let sent = call.customize().config_override(once()).send().await;
        let Err(error) = sent else { return Ok(()) };
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
            error.as_service_error()
        else {
            return Err(vec![code(&error)]);
        };
        let reasons = cancelled.cancellation_reasons().iter();
        let codes = reasons.map(|reason| reason.code().unwrap_or_default().to_owned());
        Err(codes.collect())
    }

    async fn read_in_transaction(&self, name: &str) -> Result<(), String> {
        let get = Get::builder().table_name(self.table());
        let get = get.set_key(Some(key(name))).build().unwrap();
        let get = TransactGetItem::builder().get(get).build();
        let call = self.service.client.transact_get_items().transact_items(get);
        let sent = call.customize().config_override(once()).send().await;
        sent.map(drop).map_err(|error| code(&error))
    }

    /// Asserts that `call` succeeds this many times in a second and no more, and that it succeeds
    /// again in the next second.
    async fn succeeds(&self, times: f64, call: impl AsyncFn() -> Result<(), String>) {
        self.service.clock.advance(1);
        let mut left = times;
        while left >= 1.0 {
            call().await.unwrap();
            left -= 1.0;
        }
        assert_eq!(call().await, Err(THROTTLED.to_owned()));
        self.service.clock.advance(1);
        call().await.unwrap();
    }
}

fn once() -> Builder {
    Builder::new().retry_config(RetryConfig::disabled())
}

fn key(name: &str) -> Item {
    let name = AttributeValue::S(name.to_owned());
    Item::from([(PARTITION_KEY.to_owned(), name)])
}

fn item(name: &str, kilobytes: usize) -> Item {
    let mut item = key(name);
    // The key takes a few bytes too.
    let filler = "x".repeat((kilobytes * 1024).saturating_sub(50));
    item.insert("filler".to_owned(), AttributeValue::S(filler));
    item
}

fn name_of(item: &Item) -> String {
    item[PARTITION_KEY].as_s().unwrap().clone()
}

fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    let error = error.as_service_error().and_then(|error| error.code());
    error.expect("the database responds").to_owned()
}

#[tokio::test]
async fn the_database_limits_the_units_of_each_partition_in_a_second() {
    let limited = &Limited::start().await;
    limited.write("big", 200).await.unwrap();
    // A read costs one unit for every 4 KB, or half a unit if the read is not consistent.
    let read = async || limited.read("big", true).await;
    limited.succeeds(READS / 50.0, read).await;
    let read = async || limited.read("big", false).await;
    limited.succeeds(READS / 25.0, read).await;
    // A write costs one unit for every KB, even if its condition is false.
    let write = async || limited.write("big", 200).await;
    limited.succeeds(WRITES / 200.0, write).await;
    let write = async || limited.write_refused("big").await;
    limited.succeeds(WRITES / 200.0, write).await;

    // A write in a transaction costs twice as much.
    limited.service.clock.advance(1);
    for _ in 0..2 {
        limited.transact(&["big"], 200).await.unwrap();
    }
    let cancelled = limited.transact(&["other", "big"], 200).await;
    assert_eq!(cancelled.unwrap_err(), ["None", "ThrottlingError"]);
    // The cancelled transaction used no units. Reads do not count against the limit of writes.
    for _ in 0..5 {
        limited.write("other", 200).await.unwrap();
    }
    limited.write("other", 1).await.unwrap_err();
    limited.read("big", true).await.unwrap();
}

#[tokio::test]
async fn the_database_leaves_keys_of_a_busy_partition_unprocessed() {
    let limited = &Limited::start().await;
    limited.write("big", 200).await.unwrap();
    limited.write("small", 1).await.unwrap();
    for _ in 0..60 {
        assert_eq!(limited.read_all(&["big"]).await.unwrap(), ["big"]);
    }
    let some = limited.read_all(&["big", "small"]).await;
    assert_eq!(some.unwrap(), ["small"]);
    let none = limited.read_all(&["big"]).await;
    assert_eq!(none.unwrap_err(), "ProvisionedThroughputExceededException");
}

#[tokio::test]
async fn the_database_cancels_transactions_that_overlap() {
    const CONFLICT: &str = "TransactionConflict";
    let limited = &Limited::start().await;
    let (first, second) = join(
        limited.transact(&["a", "b"], 1),
        limited.transact(&["c", "b"], 1),
    )
    .await;
    assert_eq!(
        (first, second.unwrap_err()),
        (Ok(()), vec!["None".to_owned(), CONFLICT.to_owned()])
    );
    let (transaction, write) = join(limited.transact(&["a"], 1), limited.write("a", 1)).await;
    assert_eq!(transaction, Ok(()));
    assert_eq!(write.unwrap_err(), "TransactionConflictException");
    let (write, read) = join(limited.write("a", 1), limited.read_in_transaction("a")).await;
    assert_eq!(write, Ok(()));
    assert_eq!(read.unwrap_err(), "TransactionCanceledException");
    // The following calls do not conflict.
    let (transaction, read) = join(limited.transact(&["a"], 1), limited.read("a", true)).await;
    assert_eq!((transaction, read), (Ok(()), Ok(())));
    let (first, second) = join(limited.transact(&["a"], 1), limited.transact(&["b"], 1)).await;
    assert_eq!((first, second), (Ok(()), Ok(())));
    limited.transact(&["a"], 1).await.unwrap();
}

/// Returns the number of responses for each status.
fn statuses(answers: &[Answer]) -> HashMap<u16, usize> {
    let mut statuses = HashMap::new();
    for answer in answers {
        *statuses.entry(answer.status).or_default() += 1;
    }
    statuses
}

/// Returns a request that changes the e-mail token of the user with this e-mail address.
fn change(token: &str, email: &str) -> Event {
    let body = json!({ "email": email }).to_string();
    let event = Event::to("update-email-token").header("authorization", token);
    event.json_body(&body)
}

#[tokio::test]
async fn too_many_writes_of_e_mail_tokens_throttle_only_the_e_mail_tokens_of_the_same_account() {
    // The partition of each user can serve 200 of these writes in a second, and the test sends only
    // 51 for each user. So only the account's partition of the index reaches its limit.
    const USERS: usize = 20;
    const WRITES_OF_EACH: usize = 51;

    let service = Service::start().await;
    let account = service.account_token.clone();
    let (other_account, other_ecosystem) = service.another_account().await;
    let mut emails = Vec::new();
    for number in 0..=USERS {
        let (token, ecosystem, email) = match number {
            0 => (
                &other_account,
                &other_ecosystem,
                "other@example.com".to_owned(),
            ),
            _ => (
                &account,
                &service.ecosystem,
                format!("{number}@example.com"),
            ),
        };
        let id = format!("{};{number}", ecosystem.id.as_str());
        let user = Event::to("put-user").parameter("id", &id);
        let body = json!({ "email": email }).to_string();
        for event in [user, Event::to("create-email-token")] {
            let event = event.header("authorization", token).json_body(&body);
            let answer = event.send(&service.app).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        emails.push(email);
    }
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let _paused = pause();
    service.database.limit_partitions(&service.clock);

    let mut answers = Vec::new();
    for _ in 0..WRITES_OF_EACH {
        let events = emails[1..].iter().map(|email| change(&account, email));
        let events: Vec<_> = events.collect();
        let sent = events.iter().map(|event| event.send(&service.app));
        answers.extend(join_all(sent).await);
    }
    // Each write costs one unit of the account's partition of the index.
    assert_eq!(statuses(&answers), HashMap::from([(200, 1000), (503, 20)]));
    let throttled = change(&account, &emails[1]).send(&service.app).await;
    assert_eq!(throttled.status, 503);

    // In the same second, a change of an e-mail token of another account succeeds. For the
    // throttled account, requests about ordinary tokens and a list of the e-mail tokens succeed.
    let changed = change(&other_account, &emails[0]).send(&service.app).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let mint = Event::to("create-user-token").parameter("id", &bob);
    let mint = mint.header("authorization", &account);
    let minted = mint.send(&service.app).await;
    assert_eq!(minted.status, 200, "{minted:?}");
    for token in [&token, &minted.token()] {
        let answer = service.introspection(token).send(&service.app).await;
        assert_eq!(answer.json()["active"], true, "{answer:?}");
    }
    let list = Event::to("list-email-tokens").header("authorization", &account);
    assert_eq!(list.send(&service.app).await.status, 200);

    // In the next second, the e-mail tokens can be written again.
    service.clock.advance(1);
    let changed = change(&account, &emails[1]).send(&service.app).await;
    assert_eq!(changed.status, 200, "{changed:?}");
}

#[tokio::test]
async fn a_sliding_token_that_50_execution_environments_use_is_written_a_few_times_a_second() {
    const ENVIRONMENTS: usize = 50;
    const USES: u64 = 200;

    let Limited { service, _paused } = Limited::start().await;
    let bob = service.user("bob").await;
    let mint = Event::to("create-user-token").parameter("id", &bob);
    let mint = mint.header("authorization", &service.account_token);
    let token = mint
        .query("expiryType=SlidingTtl")
        .send(&service.app)
        .await
        .token();
    let environments: Vec<_> = (0..ENVIRONMENTS)
        .map(|_| service.another_environment())
        .collect();
    let event = Event::to("introspect-token").header("authorization", &token);
    let event = event.form(&format!("token={token}"));
    let mut writes = Vec::new();
    for _ in 0..4 {
        service.clock.advance(1);
        service.database.take_calls();
        // Each execution environment uses the token several times. Every millisecond, one use
        // begins.
        let uses = (0..USES).zip(environments.iter().cycle());
        let uses = uses.map(async |(number, environment)| {
            #[expect(
                clippy::disallowed_methods,
                reason = "the uses begin one after the other"
            )]
            tokio::time::sleep(Duration::from_millis(number)).await;
            event.send(environment).await
        });
        for answer in join_all(uses).await {
            // A user token is not allowed to introspect, but the request counts as a use of the
            // token.
            assert_eq!(answer.status, 403, "{answer:?}");
        }
        let operations = service.database.take_operations();
        writes.push(operations.iter().filter(|o| *o == "UpdateItem").count());
    }
    // In the first second, each execution environment renews the token, because none of them knows
    // that the others use it. In a later second, only these execution environments renew the token:
    // the one that uses the token first, and those that are still reading the token when the first
    // renewal is stored.
    assert_eq!(writes[0], ENVIRONMENTS);
    let in_progress = usize::try_from(LATENCY.as_millis()).unwrap();
    for later in &writes[1..] {
        assert!((1..=1 + in_progress).contains(later), "{writes:?}");
    }
}
