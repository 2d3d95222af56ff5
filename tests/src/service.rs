//! Starts a whole service: a gateway, an app, a database, and one account with an ecosystem.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aws_sdk_dynamodb::{Client, config::retry::RetryPartition};
use rand::{
    SeedableRng, TryRng,
    rngs::{StdRng, SysRng},
};
use serde_json::json;
use shared::{
    App,
    config::Settings,
    domain::{
        deployment::Deployment,
        id::UserId,
        owner::{Account, Ecosystem},
        token::{ExpiryType, NewToken, TokenOwner},
    },
    service::{
        access::{Grant, MayWrite, UserSlot},
        deployment,
        directory::{UserChange, create_account, create_ecosystem, put_user},
        sealing::ValueKey,
        tokens::mint,
    },
    store::{ephemeral::Ephemeral, identity::Identity, schema::create_tables},
};
use tokenry::{
    embedded::{self, EPHEMERAL, IDENTITY},
    gateway::{self, Limits},
};
use tokio::net::TcpListener;

use crate::{Answer, Database, Event, TestClock, openapi, rights};

/// The names of a service's tables. They are unique, because tests may share a database.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The table of owners and their tokens.
    pub identity: String,
    /// The table of short codes and counted attempts.
    pub ephemeral: String,
}

impl Tables {
    fn unique() -> Self {
        let random = SysRng
            .try_next_u64()
            .expect("the system provides random numbers");
        Self {
            identity: format!("{IDENTITY}-{random:016x}"),
            ephemeral: format!("{EPHEMERAL}-{random:016x}"),
        }
    }
}

/// The permission of tests to write without a token.
const RIGHT: MayWrite = MayWrite::of_operator();

/// The endpoints that log a user in with a password.
pub const LOG_INS: [&str; 2] = ["log-in-with-password", "create-session"];

/// A service for one test, with its own tables, port and clock.
#[derive(Debug)]
pub struct Service {
    /// The app behind the gateway.
    pub app: Arc<App>,
    /// The clock that the app reads.
    pub clock: TestClock,
    /// The database, which records its calls.
    pub database: Database,
    /// The SDK's client for the database.
    pub client: Client,
    /// The names of the service's tables.
    pub tables: Tables,
    /// An account.
    pub account: Account,
    /// The account's token.
    pub account_token: String,
    /// An ecosystem of the account.
    pub ecosystem: Ecosystem,
    deployment: Deployment,
    url: String,
    http: reqwest::Client,
}

impl Service {
    /// Starts a service on a free port, with the default settings.
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    /// Starts a service on a free port, with these settings.
    ///
    /// # Panics
    /// If the service does not start.
    pub async fn start_with(settings: Settings) -> Self {
        rights::start();
        let database = Database::of_this_run();
        let tables = Tables::unique();
        // All SDK clients with the same retry partition share one limit of retries. Each service
        // gets its own retry partition, so that no test uses up the retries of another.
        let config = embedded::client(database.clone()).config().to_builder();
        let retries = RetryPartition::new(tables.identity.clone());
        let client = Client::from_conf(config.retry_partition(retries).build());
        let made = create_tables(&client, &tables.identity, &tables.ephemeral).await;
        made.expect("the tables are created");
        let clock = TestClock::new();
        let app = another_environment(&client, &tables, &clock).with_settings(settings);
        let app = Arc::new(app);
        let created = deployment::create_if_none(&app, RIGHT).await;
        created.expect("the record of the deployment is created");

        let account = create_account(&app, RIGHT)
            .await
            .expect("the account is created");
        let first = deployment::set_first_account(&app, RIGHT, &account.id).await;
        first.expect("the record of the deployment is changed");
        let account_token = token_of(&app, &account, ExpiryType::Infinite).await;
        let ecosystem = create_ecosystem(&app, RIGHT, &account.id).await;
        let ecosystem = ecosystem.expect("the ecosystem is created");

        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let url = format!(
            "http://{}",
            listener.local_addr().expect("the listener has an address")
        );
        tokio::spawn(gateway::run(
            app.clone(),
            listener,
            Limits::default(),
            std::future::pending(),
        ));
        let deployment = app
            .deployment()
            .await
            .expect("the record of the deployment is read");
        database.take_calls();
        Self {
            deployment: Arc::unwrap_or_clone(deployment),
            app,
            clock,
            database,
            client,
            tables,
            account,
            account_token,
            ecosystem,
            url,
            http: reqwest::Client::new(),
        }
    }

    /// Returns another execution environment of the same deployment. The new environment has the
    /// same tables, settings and clock, but empty caches.
    pub fn another_environment(&self) -> App {
        another_environment(&self.client, &self.tables, &self.clock)
            .with_settings(self.app.settings().clone())
            .with_deployment(Some(self.deployment.clone()))
    }

    /// Creates a user of the ecosystem and returns the user's id.
    ///
    /// # Panics
    /// If the user cannot be created.
    pub async fn user(&self, name: &str) -> String {
        let id = format!("{};{name}", self.ecosystem.id.as_str());
        let user = UserId::parse(&id).expect("the name of the user is valid");
        let put = put_user(
            &self.app,
            RIGHT,
            UserSlot::of_new(&user, &self.account.id),
            UserChange::default(),
        )
        .await;
        put.expect("the user is created");
        self.database.take_calls();
        id
    }

    /// Creates a user of the ecosystem with an e-mail address and a password. Returns the user's
    /// id.
    ///
    /// # Panics
    /// If the user cannot be created.
    pub async fn person(&self, name: &str, email: &str, password: &str) -> String {
        let id = format!("{};{name}", self.ecosystem.id.as_str());
        let made = Event::to("put-user")
            .header("authorization", &self.account_token)
            .parameter("id", &id)
            .json_body(&json!({ "email": email, "password": password }).to_string())
            .send(&self.app)
            .await;
        assert_eq!(made.status, 201, "{made:?}");
        self.database.take_calls();
        id
    }

    /// Logs in from a source address, such as `192.0.2.1`.
    pub async fn log_in(&self, source: &str, email: &str, password: &str) -> Answer {
        self.log_in_at("log-in-with-password", source, email, password)
            .await
    }

    /// Logs in from a source address, and creates a session.
    pub async fn create_session(&self, source: &str, email: &str, password: &str) -> Answer {
        self.log_in_at("create-session", source, email, password)
            .await
    }

    /// Logs in from a source address with this endpoint, one of [`LOG_INS`].
    pub async fn log_in_at(
        &self,
        endpoint: &'static str,
        source: &str,
        email: &str,
        password: &str,
    ) -> Answer {
        Event::to(endpoint)
            .source(source)
            .json_body(&json!({ "email": email, "password": password }).to_string())
            .send(&self.app)
            .await
    }

    /// Mints a token for any owner without an HTTP request.
    pub async fn token_of(&self, owner: impl Into<TokenOwner>, expiry_type: ExpiryType) -> String {
        let token = token_of(&self.app, owner, expiry_type).await;
        self.database.take_calls();
        token
    }

    /// Creates another account with an ecosystem. Returns the account's token and the ecosystem.
    ///
    /// # Panics
    /// If the account or the ecosystem cannot be created.
    pub async fn another_account(&self) -> (String, Ecosystem) {
        let account = create_account(&self.app, RIGHT)
            .await
            .expect("the account is created");
        let ecosystem = create_ecosystem(&self.app, RIGHT, &account.id).await;
        let ecosystem = ecosystem.expect("the ecosystem is created");
        let token = self.token_of(&account, ExpiryType::Infinite).await;
        (token, ecosystem)
    }

    /// Creates another ecosystem of the account.
    ///
    /// # Panics
    /// If the ecosystem cannot be created.
    pub async fn another_ecosystem(&self) -> Ecosystem {
        let ecosystem = create_ecosystem(&self.app, RIGHT, &self.account.id).await;
        let ecosystem = ecosystem.expect("the ecosystem is created");
        self.database.take_calls();
        ecosystem
    }

    /// Returns a request that the test can complete and send. The path may have a query.
    ///
    /// # Panics
    /// If the method is not valid.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("the method is valid");
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Sends a request.
    ///
    /// # Panics
    /// If there is no response, or if the response differs from `openapi.yaml`.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let request = request.build().expect("the request is valid");
        let sent = request
            .try_clone()
            .expect("the body of the request is in memory");
        let response = self
            .http
            .execute(request)
            .await
            .expect("the service sends a response");
        let header = |(name, value): (&reqwest::header::HeaderName, &_)| {
            let value: &reqwest::header::HeaderValue = value;
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        };
        let answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers().iter().map(header).collect(),
            body: response.text().await.expect("the body is text"),
        };
        if let Some((endpoint, sent)) = openapi::Sent::over_http(&sent) {
            openapi::check(&self.app, &endpoint, &sent, &answer);
        }
        answer
    }

    /// Sends a request with this credential. Sends `body` as JSON unless `body` is empty.
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

    /// Sends a request with the account's token. Sends `body` as JSON unless `body` is empty.
    pub async fn manage(&self, method: &str, path: &str, body: &str) -> Answer {
        self.call(&self.account_token, method, path, body).await
    }

    /// Mints a token for this user over HTTP. The credential is the account's token.
    pub async fn mint(&self, user: &str, query: &str) -> Answer {
        self.mint_as(&self.account_token, user, query).await
    }

    /// Mints a token for this user over HTTP, with this credential.
    pub async fn mint_as(&self, credential: &str, user: &str, query: &str) -> Answer {
        let path = format!("/api/users/{user}/tokens?{query}");
        self.send(
            self.request("POST", path.trim_end_matches('?'))
                .header("authorization", credential),
        )
        .await
    }

    /// Returns a request that introspects a token. The credential is the account's token. The test
    /// can send the request to any execution environment.
    pub fn introspection(&self, token: &str) -> Event {
        Event::to("introspect-token")
            .header("authorization", &self.account_token)
            .form(&format!("token={token}"))
    }

    /// Introspects a token over HTTP. The credential is the account's token.
    pub async fn introspect(&self, token: &str) -> Answer {
        self.introspect_as(&self.account_token, token).await
    }

    /// Introspects a token over HTTP, with this credential.
    pub async fn introspect_as(&self, credential: &str, token: &str) -> Answer {
        let request = self
            .request("POST", "/api/auth/introspect")
            .header("authorization", credential)
            .form(&[("token", token)]);
        self.send(request).await
    }

    /// Returns whether introspection says that a token is active. The introspection counts as a use
    /// of the token.
    ///
    /// # Panics
    /// If the introspection fails.
    pub async fn is_active(&self, token: &str) -> bool {
        let answer = self.introspect(token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["active"]
            .as_bool()
            .expect("the response has the field `active`")
    }

    /// Mints a server token of an ecosystem over HTTP. Returns the token's id and the token.
    ///
    /// # Panics
    /// If the token cannot be minted.
    pub async fn server_token(&self, ecosystem: &Ecosystem) -> (String, String) {
        let path = format!("/api/ecosystems/{}/tokens", ecosystem.id.as_str());
        let made = self.manage("POST", &path, "").await;
        let id = made.json()["tokenId"]
            .as_str()
            .expect("the response has the id of the token")
            .to_owned();
        self.database.take_calls();
        (id, made.token())
    }

    /// Creates an environment of an ecosystem and returns the environment's id.
    ///
    /// # Panics
    /// If the environment cannot be created.
    pub async fn environment(&self, ecosystem: &Ecosystem) -> String {
        let path = format!("/api/ecosystems/{}/environments", ecosystem.id.as_str());
        let made = self.manage("POST", &path, "").await.json();
        self.database.take_calls();
        made["id"]
            .as_str()
            .expect("the response has an id")
            .to_owned()
    }

    /// Returns the address on which the service listens, such as `127.0.0.1:40000`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

fn another_environment(client: &Client, tables: &Tables, clock: &TestClock) -> App {
    let identity = Identity::new(client.clone(), tables.identity.clone());
    let ephemeral = Ephemeral::new(client.clone(), tables.ephemeral.clone());
    // All execution environments of a test encrypt values with the same key, as in a deployment.
    let value_key = ValueKey::in_memory(&mut StdRng::seed_from_u64(0));
    App::with(identity, clock.clock(), StdRng::seed_from_u64(next_seed()))
        .with_ephemeral(Some(ephemeral))
        .with_value_key(Some(value_key))
}

/// Returns a seed for the random values of an execution environment. Each environment gets a
/// different seed, so that no two environments generate the same values.
pub(crate) fn next_seed() -> u64 {
    static SEED: AtomicU64 = AtomicU64::new(0);
    SEED.fetch_add(1, Ordering::Relaxed)
}

async fn token_of(app: &App, owner: impl Into<TokenOwner>, expiry_type: ExpiryType) -> String {
    let wanted = NewToken {
        expiry_type,
        ..NewToken::default()
    };
    let (_, token) = mint(app, Grant::of_operator(owner, wanted))
        .await
        .expect("the token is created");
    token.reveal().to_owned()
}
