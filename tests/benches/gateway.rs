//! Measures how many tokens per second the local gateway creates, and how many it verifies.
//! Compares these rates with the rates of the same database calls, which the bench makes directly
//! with the AWS SDK. Run the bench with `cargo bench -p tests --bench gateway`.
//!
//! Sixteen clients share this process, its runtime and its processors with the gateway. For the
//! comparison, sixteen tasks make the database calls directly with the AWS SDK, without the
//! gateway. Measurements of the gateway and of the SDK take turns, so that other work on the
//! machine slows both. The bench compares the median rates.

mod common {
    pub(crate) mod demo;
    pub(crate) mod load;
    pub(crate) mod reads;
}

use std::{future::pending, sync::Arc};

use aws_sdk_dynamodb::{Client, types::ReturnValuesOnConditionCheckFailure};
use common::{
    demo,
    load::{post, posts, rate},
    reads::{keys, read, verification},
};
use shared::{
    App,
    domain::{
        owner::{EcosystemSettings, OwnerKey, User},
        token::{Draft, NewToken, PlainToken, Token, TokenOwner},
    },
    store::{
        identity::{Key, SORT_KEY},
        item::Item,
    },
};
use tokenry::{
    embedded::{self, Embedded, IDENTITY},
    gateway::{self, Limits},
};
use tokio::net::TcpListener;

/// The number of requests in each measurement.
const REQUESTS: usize = 2400;
/// The number of measurements of each kind.
const ROUNDS: usize = 5;
/// The goal: the gateway's median rate, divided by the median rate of the direct SDK calls, should
/// be at least this number.
const GOAL: f64 = 0.5;

// One thread per processor, as in `tokenry`.
#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().expect("the directory is created");
    let file = directory.path().join("database.sqlite");
    compare(
        "in memory",
        Embedded::in_memory().expect("the database is created"),
    )
    .await;
    compare(
        "in a file",
        Embedded::open(&file).expect("the database is created"),
    )
    .await;
}

async fn compare(place: &str, database: Embedded) {
    let bench = Bench::start(database).await;
    let (mut gateway, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        gateway.push(bench.mint().await);
        bare.push(bench.mint_bare().await);
    }
    print(place, "mint", gateway, bare);

    let (mut gateway, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        gateway.push(bench.verify().await);
        bare.push(bench.verify_bare().await);
    }
    print(place, "verify", gateway, bare);
}

fn print(place: &str, what: &str, gateway: Vec<f64>, bare: Vec<f64>) {
    let (gateway, bare) = (median(gateway), median(bare));
    println!(
        "database {place}, {what:6}: gateway {gateway:5.0}/s, direct SDK calls {bare:5.0}/s, \
         ratio {:.2} (goal: at least {GOAL})",
        gateway / bare,
    );
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A gateway and its database, and the values that the requests need.
struct Bench {
    address: String,
    client: Client,
    app: Arc<App>,
    account_token: PlainToken,
    user: User,
    user_token: PlainToken,
}

impl Bench {
    async fn start(database: Embedded) -> Self {
        let client = embedded::client(database);
        let (app, account_token, user, user_token) = demo::start(client.clone()).await;
        let app = Arc::new(app);
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = listener
            .local_addr()
            .expect("the listener has an address")
            .to_string();
        tokio::spawn(gateway::run(
            app.clone(),
            listener,
            Limits::default(),
            pending(),
        ));
        Self {
            address,
            client,
            app,
            account_token,
            user,
            user_token,
        }
    }

    async fn mint(&self) -> f64 {
        let path = format!("/api/users/{}/tokens", self.user.id.as_str());
        let request = post(&path, self.account_token.reveal(), "");
        posts(REQUESTS, &self.address, request).await
    }

    async fn verify(&self) -> f64 {
        let form = format!("token={}", self.user_token.reveal());
        let request = post("/api/auth/introspect", self.account_token.reveal(), &form);
        posts(REQUESTS, &self.address, request).await
    }

    async fn mint_bare(&self) -> f64 {
        let user = OwnerKey::from(&self.user.id);
        let keys = keys([
            Key::owner(self.account_token.owner()),
            Key::of(&self.account_token),
            Key::owner(user.ecosystem()),
            Key::owner(user),
        ]);
        rate(REQUESTS, |share| {
            // The items are created in advance, so that only the database calls are measured.
            let items: Vec<_> = (0..share).map(|_| self.new_item()).collect();
            let (client, keys) = (self.client.clone(), keys.clone());
            async move {
                for item in items {
                    read(&client, &keys, 4).await;
                    put(&client, item).await;
                }
            }
        })
        .await
    }

    async fn verify_bare(&self) -> f64 {
        let keys = verification(&self.account_token, &self.user_token);
        rate(REQUESTS, |share| {
            let (client, keys) = (self.client.clone(), keys.clone());
            async move {
                for _ in 0..share {
                    read(&client, &keys, 4).await;
                }
            }
        })
        .await
    }

    /// Returns the item of a new token. If a client creates a token through the gateway, the
    /// service writes the same kind of item.
    fn new_item(&self) -> Item {
        let (now, mut rng) = (self.app.now(), self.app.rng());
        let owner = TokenOwner::of_user(&self.user, &EcosystemSettings::default());
        let draft = Draft::new(owner, NewToken::default(), now);
        let (token, _) = Token::generate(draft, None, &mut *rng);
        serde_dynamo::to_item(token).expect("the token can be written as an item")
    }
}

/// Stores a new item. The condition of the write is the same as in the service.
async fn put(client: &Client, item: Item) {
    let call = client.put_item().table_name(IDENTITY).set_item(Some(item));
    call.condition_expression("attribute_not_exists(#item)")
        .expression_attribute_names("#item", SORT_KEY)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await
        .expect("the item is new");
}
