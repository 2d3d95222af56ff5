//! A whole service: gateway, app, database and one account with something in it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use aws_sdk_dynamodb::types::AttributeValue;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;
use shared::{
    App,
    app::Clock,
    config::Settings,
    directory::{UserChange, create_account, create_ecosystem, mint, put_user},
    ephemeral::Ephemeral,
    id::{AccountId, UserId},
    identity::{Identity, Item, Key, PARTITION_KEY, SORT_KEY},
    owner::{Owner, OwnerKey},
    schema::create_tables,
    token::{ExpiryType, NewToken},
};
use tokenry::{
    embedded::{self, EPHEMERAL, Embedded, IDENTITY},
    gateway,
};
use tokio::net::TcpListener;

use crate::{Database, Event};

/// A clock that stands still until it is turned. It starts at 2026-01-01T00:00:00.500Z.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    /// The second that a clock starts in.
    pub const START: u64 = 1_767_225_600;

    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(Self::START * 1000 + 500)))
    }

    /// Turns it on by so many seconds.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// Turns it back by so many seconds.
    pub fn go_back(&self, seconds: u64) {
        self.0.fetch_sub(seconds * 1000, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let millis = self.0.clone();
        Clock::new(move || UNIX_EPOCH + Duration::from_millis(millis.load(Ordering::SeqCst)))
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The token of a response that has one.
    ///
    /// # Panics
    /// If it has none.
    pub fn token(&self) -> String {
        self.json()["token"]
            .as_str()
            .unwrap_or_else(|| panic!("no token: {self:?}"))
            .to_owned()
    }
}

/// A service of its own for one test: its database, its port, its clock.
#[derive(Debug)]
pub struct Service {
    /// The app behind the gateway.
    pub app: Arc<App>,
    /// The clock that the app reads.
    pub clock: TestClock,
    /// The database, with its calls.
    pub database: Database,
    /// The SDK's client of the database.
    pub client: aws_sdk_dynamodb::Client,
    /// An account's id.
    pub account_id: AccountId,
    /// The account.
    pub account: Owner,
    /// The account's token.
    pub account_token: String,
    /// An ecosystem of the account.
    pub ecosystem: Owner,
    url: String,
    http: reqwest::Client,
}

impl Service {
    /// Starts a service on a free port.
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    /// Starts a service with these settings.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_with(settings: Settings) -> Self {
        let database = Database::new(Embedded::in_memory().expect("a database"));
        let client = embedded::client(database.clone());
        create_tables(&client, IDENTITY, EPHEMERAL)
            .await
            .expect("tables");
        let clock = TestClock::new();
        let app = Arc::new(another_environment(&client, &clock).with_settings(settings));

        let (account_id, account) = create_account(&app).await.expect("an account");
        let account_token = token_of(&app, &account, ExpiryType::Infinite).await;
        let ecosystem = create_ecosystem(&app, &account_id).await;
        let (_, ecosystem) = ecosystem.expect("an ecosystem");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(gateway::run(app.clone(), listener, std::future::pending()));
        database.take_calls();
        Self {
            app,
            clock,
            database,
            client,
            account_id,
            account,
            account_token,
            ecosystem,
            url,
            http: reqwest::Client::new(),
        }
    }

    /// Another execution environment of the same deployment: the same tables and clock, with
    /// nothing remembered.
    pub fn another_environment(&self) -> App {
        another_environment(&self.client, &self.clock).with_settings(self.app.settings().clone())
    }

    /// Makes a user of the ecosystem.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn user(&self, name: &str) -> String {
        let id = format!("{};{name}", self.ecosystem.id.as_str());
        let user = UserId::parse(&id).expect("a user's name");
        let put = put_user(&self.app, &user, None, UserChange::default()).await;
        put.expect("a user");
        self.database.take_calls();
        id
    }

    /// A token of any owner, made past the API.
    pub async fn token_of(&self, owner: &Owner, expiry_type: ExpiryType) -> String {
        let token = token_of(&self.app, owner, expiry_type).await;
        self.database.take_calls();
        token
    }

    /// Another account with an ecosystem: its token, then the ecosystem.
    ///
    /// # Panics
    /// If they cannot be made.
    pub async fn another_account(&self) -> (String, Owner) {
        let (id, account) = create_account(&self.app).await.expect("an account");
        let ecosystem = create_ecosystem(&self.app, &id).await;
        let (_, ecosystem) = ecosystem.expect("an ecosystem");
        let token = self.token_of(&account, ExpiryType::Infinite).await;
        (token, ecosystem)
    }

    /// Another ecosystem of the account.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn another_ecosystem(&self) -> Owner {
        let ecosystem = create_ecosystem(&self.app, &self.account_id).await;
        let (_, ecosystem) = ecosystem.expect("an ecosystem");
        self.database.take_calls();
        ecosystem
    }

    /// A request under construction: method and the path with its query.
    ///
    /// # Panics
    /// If the method is none.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Sends a request.
    ///
    /// # Panics
    /// If nothing comes back.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("a response");
        let header = |(name, value): (&reqwest::header::HeaderName, &_)| {
            let value: &reqwest::header::HeaderValue = value;
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        };
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().iter().map(header).collect(),
            body: response.text().await.expect("text"),
        }
    }

    /// Sends a request with a credential, and perhaps a JSON body.
    pub async fn call(&self, credential: &str, method: &str, path: &str, body: &str) -> Answer {
        let request = self
            .request(method, path)
            .header("authorization", credential);
        let request = if body.is_empty() {
            request
        } else {
            request
                .header("content-type", "application/json")
                .body(body.to_owned())
        };
        self.send(request).await
    }

    /// Sends a request with the account's token, and perhaps a JSON body.
    pub async fn manage(&self, method: &str, path: &str, body: &str) -> Answer {
        self.call(&self.account_token, method, path, body).await
    }

    /// Asks for a token of this user with the account's token.
    pub async fn mint(&self, user: &str, query: &str) -> Answer {
        self.mint_as(&self.account_token, user, query).await
    }

    /// Asks for a token of this user with a credential.
    pub async fn mint_as(&self, credential: &str, user: &str, query: &str) -> Answer {
        let path = format!("/api/users/{user}/tokens?{query}");
        self.send(
            self.request("POST", path.trim_end_matches('?'))
                .header("authorization", credential),
        )
        .await
    }

    /// An introspection of a token with the account's token, for any environment.
    pub fn introspection(&self, token: &str) -> Event {
        Event::to("introspect-token")
            .header("authorization", &self.account_token)
            .form(&format!("token={token}"))
    }

    /// Introspects a token with the account's token.
    pub async fn introspect(&self, token: &str) -> Answer {
        self.introspect_as(&self.account_token, token).await
    }

    /// Introspects a token with a credential.
    pub async fn introspect_as(&self, credential: &str, token: &str) -> Answer {
        let request = self
            .request("POST", "/api/auth/introspect")
            .header("authorization", credential)
            .form(&[("token", token)]);
        self.send(request).await
    }

    /// Whether a token counts now; asking is a use of it.
    ///
    /// # Panics
    /// If the answer is neither.
    pub async fn is_active(&self, token: &str) -> bool {
        let answer = self.introspect(token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["active"].as_bool().expect("active")
    }

    /// A token of an ecosystem's servers, made over the API: its id and itself.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn server_token(&self, ecosystem: &Owner) -> (String, String) {
        let path = format!("/api/ecosystems/{}/tokens", ecosystem.id.as_str());
        let made = self.manage("POST", &path, "").await;
        let id = made.json()["tokenId"].as_str().expect("an id").to_owned();
        self.database.take_calls();
        (id, made.token())
    }

    /// Makes an environment of an ecosystem.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn environment(&self, ecosystem: &Owner) -> String {
        let path = format!("/api/ecosystems/{}/environments", ecosystem.id.as_str());
        let made = self.manage("POST", &path, "").await.json();
        self.database.take_calls();
        made["id"].as_str().expect("an id").to_owned()
    }

    /// How many tokens the identity table has, of whomever.
    ///
    /// # Panics
    /// If it cannot be read.
    pub async fn count_tokens(&self) -> usize {
        let scan = self
            .client
            .scan()
            .table_name(IDENTITY)
            .filter_expression("begins_with(#item, :token)")
            .expression_attribute_names("#item", SORT_KEY)
            .expression_attribute_values(":token", AttributeValue::S("token#".to_owned()))
            .send();
        let found = scan.await.expect("the table is read").items().len();
        self.database.take_calls();
        found
    }

    /// The items of the ephemeral table.
    ///
    /// # Panics
    /// If it cannot be read.
    pub async fn ephemeral_items(&self) -> Vec<Item> {
        let scan = self.client.scan().table_name(EPHEMERAL).send().await;
        self.database.take_calls();
        scan.expect("the table is read").items.unwrap_or_default()
    }

    /// Writes whether a user is active, past the API.
    pub async fn set_active(&self, user: &str, active: bool) {
        let key = Key::owner(key_of(user));
        self.set(key, "active", AttributeValue::Bool(active)).await;
    }

    /// Writes another whole id into a user's record, past the API.
    pub async fn set_owner_id(&self, user: &str, id: &str) {
        let key = Key::owner(key_of(user));
        self.set(key, "id", AttributeValue::S(id.to_owned())).await;
    }

    /// Writes a token's scope, past the API.
    pub async fn set_scope(&self, owner: &Owner, id: &str, scope: &str) {
        let item = format!("token#{id}");
        let key = Key {
            owner: owner.id.key(),
            item,
        };
        self.set(key, "scope", AttributeValue::S(scope.to_owned()))
            .await;
    }

    async fn set(&self, key: Key, name: &str, value: AttributeValue) {
        self.client
            .update_item()
            .table_name(IDENTITY)
            .set_key(Some(serde_dynamo::to_item(key).expect("a key")))
            .update_expression("SET #name = :value")
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":value", value)
            .send()
            .await
            .expect("the item is written");
        self.database.take_calls();
    }

    /// A user's record, as the table keeps it.
    ///
    /// # Panics
    /// If it cannot be read.
    pub async fn owner_item(&self, user: &str) -> Option<Item> {
        let key = serde_dynamo::to_item(Key::owner(key_of(user))).expect("a key");
        let call = self.client.get_item().table_name(IDENTITY);
        let read = call
            .set_key(Some(key))
            .send()
            .await
            .expect("the item is read");
        self.database.take_calls();
        read.item
    }

    /// The items of a user's tokens, as the table keeps them, in order of creation.
    ///
    /// # Panics
    /// If they cannot be read.
    pub async fn token_items(&self, user: &str) -> Vec<Item> {
        let key = Key::owner(key_of(user));
        let mut key: Item = serde_dynamo::to_item(key).expect("a key");
        let owner = key.remove(PARTITION_KEY).expect("a partition");
        let items = self
            .client
            .query()
            .table_name(IDENTITY)
            .key_condition_expression("#owner = :owner AND begins_with(#item, :token)")
            .expression_attribute_names("#owner", PARTITION_KEY)
            .expression_attribute_names("#item", SORT_KEY)
            .expression_attribute_values(":owner", owner)
            .expression_attribute_values(":token", AttributeValue::S("token#".to_owned()))
            .send()
            .await
            .expect("the user's items");
        self.database.take_calls();
        items.items.unwrap_or_default()
    }

    /// The address that the service listens on, such as `127.0.0.1:40000`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

fn another_environment(client: &aws_sdk_dynamodb::Client, clock: &TestClock) -> App {
    // No two environments draw alike.
    static SEED: AtomicU64 = AtomicU64::new(0);
    let seed = SEED.fetch_add(1, Ordering::Relaxed);
    let identity = Identity::new(client.clone(), IDENTITY.to_owned());
    let ephemeral = Ephemeral::new(client.clone(), EPHEMERAL.to_owned());
    App::with(identity, clock.clock(), StdRng::seed_from_u64(seed)).with_ephemeral(Some(ephemeral))
}

fn key_of(user: &str) -> OwnerKey {
    (&UserId::parse(user).expect("a user's id")).into()
}

async fn token_of(app: &App, owner: &Owner, expiry_type: ExpiryType) -> String {
    let wanted = NewToken {
        expiry_type,
        ..NewToken::default()
    };
    let (_, token) = mint(app, owner, wanted).await.expect("a token");
    token.reveal().to_owned()
}
