//! A whole service: gateway, app, database and one account with something in it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rand::{
    SeedableRng, TryRng,
    rngs::{StdRng, SysRng},
};
use serde_json::json;
use shared::{
    App,
    config::Settings,
    domain::{
        id::UserId,
        owner::{Account, Ecosystem},
        token::{ExpiryType, NewToken, TokenOwner},
    },
    service::{
        access::MayWrite,
        directory::{UserChange, create_account, create_ecosystem, put_user},
        sealing::ValueKey,
        tokens::mint,
    },
    store::{ephemeral::Ephemeral, identity::Identity, schema::create_tables},
};
use tokenry::{
    embedded::{self, EPHEMERAL, IDENTITY},
    gateway,
};
use tokio::net::TcpListener;

use crate::{Answer, Database, Event, TestClock, openapi, rights};

/// The names of a service's tables, which no other service has: tests may share a database.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Of owners and their tokens.
    pub identity: String,
    /// Of short codes and attempts.
    pub ephemeral: String,
}

impl Tables {
    fn of_its_own() -> Self {
        let random = SysRng.try_next_u64().expect("the system is random");
        Self {
            identity: format!("{IDENTITY}-{random:016x}"),
            ephemeral: format!("{EPHEMERAL}-{random:016x}"),
        }
    }
}

/// Tests have the tables.
const RIGHT: MayWrite = MayWrite::of_operator();

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
    /// The names of its tables.
    pub tables: Tables,
    /// An account.
    pub account: Account,
    /// The account's token.
    pub account_token: String,
    /// An ecosystem of the account.
    pub ecosystem: Ecosystem,
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
        rights::start();
        let database = Database::of_this_run();
        let client = embedded::client(database.clone());
        let tables = Tables::of_its_own();
        let made = create_tables(&client, &tables.identity, &tables.ephemeral).await;
        made.expect("tables");
        let clock = TestClock::new();
        let app = another_environment(&client, &tables, &clock).with_settings(settings);
        let app = Arc::new(app);

        let account = create_account(&app, RIGHT).await.expect("an account");
        let account_token = token_of(&app, &account, ExpiryType::Infinite).await;
        let ecosystem = create_ecosystem(&app, RIGHT, &account.id).await;
        let ecosystem = ecosystem.expect("an ecosystem");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(gateway::run(app.clone(), listener, std::future::pending()));
        database.take_calls();
        Self {
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

    /// Another execution environment of the same deployment: the same tables and clock, with
    /// nothing remembered.
    pub fn another_environment(&self) -> App {
        another_environment(&self.client, &self.tables, &self.clock)
            .with_settings(self.app.settings().clone())
    }

    /// Makes a user of the ecosystem.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn user(&self, name: &str) -> String {
        let id = format!("{};{name}", self.ecosystem.id.as_str());
        let user = UserId::parse(&id).expect("a user's name");
        let put = put_user(&self.app, RIGHT, &user, None, UserChange::default()).await;
        put.expect("a user");
        self.database.take_calls();
        id
    }

    /// Makes a user of the ecosystem with an address and a password.
    ///
    /// # Panics
    /// If it cannot be made.
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

    /// Logs in from a source, such as `192.0.2.1`.
    pub async fn log_in(&self, source: &str, email: &str, password: &str) -> Answer {
        Event::to("log-in-with-password")
            .source(source)
            .json_body(&json!({ "email": email, "password": password }).to_string())
            .send(&self.app)
            .await
    }

    /// A token of any owner, made past the API.
    pub async fn token_of(&self, owner: impl Into<TokenOwner>, expiry_type: ExpiryType) -> String {
        let token = token_of(&self.app, owner, expiry_type).await;
        self.database.take_calls();
        token
    }

    /// Another account with an ecosystem: its token, then the ecosystem.
    ///
    /// # Panics
    /// If they cannot be made.
    pub async fn another_account(&self) -> (String, Ecosystem) {
        let account = create_account(&self.app, RIGHT).await.expect("an account");
        let ecosystem = create_ecosystem(&self.app, RIGHT, &account.id).await;
        let ecosystem = ecosystem.expect("an ecosystem");
        let token = self.token_of(&account, ExpiryType::Infinite).await;
        (token, ecosystem)
    }

    /// Another ecosystem of the account.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn another_ecosystem(&self) -> Ecosystem {
        let ecosystem = create_ecosystem(&self.app, RIGHT, &self.account.id).await;
        let ecosystem = ecosystem.expect("an ecosystem");
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
        let request = request.build().expect("a request");
        let sent = request.try_clone().expect("a body in memory");
        let response = self.http.execute(request).await.expect("a response");
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
            body: response.text().await.expect("text"),
        };
        if let Some((endpoint, sent)) = openapi::Sent::over_http(&sent) {
            openapi::check(&self.app, &endpoint, &sent, &answer);
        }
        answer
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
    pub async fn server_token(&self, ecosystem: &Ecosystem) -> (String, String) {
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
    pub async fn environment(&self, ecosystem: &Ecosystem) -> String {
        let path = format!("/api/ecosystems/{}/environments", ecosystem.id.as_str());
        let made = self.manage("POST", &path, "").await.json();
        self.database.take_calls();
        made["id"].as_str().expect("an id").to_owned()
    }

    /// The address that the service listens on, such as `127.0.0.1:40000`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

fn another_environment(
    client: &aws_sdk_dynamodb::Client,
    tables: &Tables,
    clock: &TestClock,
) -> App {
    // No two environments draw alike.
    static SEED: AtomicU64 = AtomicU64::new(0);
    let seed = SEED.fetch_add(1, Ordering::Relaxed);
    let identity = Identity::new(client.clone(), tables.identity.clone());
    let ephemeral = Ephemeral::new(client.clone(), tables.ephemeral.clone());
    // One key for all environments of a test, as of a deployment.
    let value_key = ValueKey::in_memory(&mut StdRng::seed_from_u64(0));
    App::with(identity, clock.clock(), StdRng::seed_from_u64(seed))
        .with_ephemeral(Some(ephemeral))
        .with_value_key(Some(value_key))
}

async fn token_of(app: &App, owner: impl Into<TokenOwner>, expiry_type: ExpiryType) -> String {
    let wanted = NewToken {
        expiry_type,
        ..NewToken::default()
    };
    let (_, token) = mint(app, RIGHT, owner, wanted).await.expect("a token");
    token.reveal().to_owned()
}
