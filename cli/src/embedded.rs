//! The embedded database: dynoxide, which implements DynamoDB on SQLite. The AWS SDK calls dynoxide
//! in the same process, without a socket.

use std::path::Path;

use aws_sdk_dynamodb::{
    Client,
    config::{Config, Credentials, Region},
};
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use dynoxide::{Database, DynoxideError};
use serde::{Serialize, de::DeserializeOwned};
use shared::store::client::with_limits;

/// The name of the identity table in the embedded database.
pub const IDENTITY: &str = "tokenry-identity";
/// The name of the ephemeral table in the embedded database.
pub const EPHEMERAL: &str = "tokenry-ephemeral";

/// A database in this process. It implements the SDK's `HttpClient`, so the SDK passes its requests
/// to the database and does not send them over a network.
#[derive(Clone)]
pub struct Embedded(Database);

impl Embedded {
    /// Opens the database in this file. Creates the file if it does not exist.
    ///
    /// # Errors
    /// If SQLite cannot open the file, the error is SQLite's error.
    pub fn open(file: &Path) -> Result<Self, String> {
        let path = file.to_str().ok_or("the path is not UTF-8")?;
        Database::new(path)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// Creates a database in memory. Its data is lost when the process ends.
    ///
    /// # Errors
    /// If SQLite fails, the error is SQLite's error.
    pub fn in_memory() -> Result<Self, String> {
        Database::memory()
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// Deletes expired items and returns their number. Unlike DynamoDB, dynoxide does not delete
    /// expired items automatically.
    ///
    /// # Errors
    /// If SQLite fails, the error is SQLite's error.
    pub fn sweep(&self) -> Result<usize, String> {
        self.0.sweep_ttl().map_err(|error| error.to_string())
    }

    /// Runs one operation of the DynamoDB protocol, and returns the status and JSON body of the
    /// response.
    fn run(&self, operation: &str, body: &[u8]) -> (u16, String) {
        let db = &self.0;
        let answer = match operation {
            "BatchGetItem" => call(body, |request| db.batch_get_item(request)),
            "BatchWriteItem" => call(body, |request| db.batch_write_item(request)),
            "GetItem" => call(body, |request| db.get_item(request)),
            "PutItem" => call(body, |request| db.put_item(request)),
            "UpdateItem" => call(body, |request| db.update_item(request)),
            "DeleteItem" => call(body, |request| db.delete_item(request)),
            "Query" => call(body, |request| db.query(request)),
            "Scan" => call(body, |request| db.scan(request)),
            "TransactGetItems" => call(body, |request| db.transact_get_items(request)),
            "TransactWriteItems" => call(body, |request| db.transact_write_items(request)),
            "CreateTable" => call(body, |request| db.create_table(request)),
            "DescribeTable" => call(body, |request| db.describe_table(request)),
            "UpdateTimeToLive" => call(body, |request| db.update_time_to_live(request)),
            "DescribeTimeToLive" => call(body, |request| db.describe_time_to_live(request)),
            other => Err(DynoxideError::ValidationException(format!(
                "the embedded database does not support {other}"
            ))),
        };
        match answer {
            Ok(body) => (200, body),
            Err(error) => (error.status_code(), error.to_json()),
        }
    }
}

fn call<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    run: impl FnOnce(Q) -> dynoxide::Result<A>,
) -> dynoxide::Result<String> {
    let unreadable =
        |error: serde_json::Error| DynoxideError::SerializationException(error.to_string());
    let answer = run(serde_json::from_slice(body).map_err(unreadable)?)?;
    serde_json::to_string(&answer).map_err(unreadable)
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Embedded")
    }
}

impl HttpConnector for Embedded {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        let (status, body) = self.run(operation, request.body().bytes().unwrap_or_default());
        let status = StatusCode::try_from(status).expect("the database returns a valid status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body))))
    }
}

impl HttpClient for Embedded {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Creates a DynamoDB client that sends its requests to this HTTP client. The DynamoDB client has
/// the timeouts and retries that `with_limits` sets. Its region and credentials are placeholders.
pub fn client(http: impl HttpClient + 'static) -> Client {
    let config = with_limits(Config::builder())
        .http_client(http)
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("local", "local", None, None, "embedded"))
        .build();
    Client::from_conf(config)
}
