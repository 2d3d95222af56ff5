//! Copies of fixtures. A fixture is a data directory of an earlier release, in `tests/fixtures`.

use std::{fs, path::PathBuf};

use aws_sdk_dynamodb::types::AttributeValue;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;
use shared::{
    App,
    domain::id::UserId,
    service::sealing::ValueKey,
    store::{
        ephemeral::Ephemeral,
        identity::{Identity, Key},
    },
};
use tempfile::TempDir;
use tokenry::embedded::{self, EPHEMERAL, Embedded, IDENTITY};

use crate::{Database, TestClock, service::next_seed};

/// A copy of a fixture. All execution environments of the copy use the same database and the same
/// clock.
#[derive(Debug)]
pub struct Fixture {
    /// The database, which records its calls.
    pub database: Database,
    /// The clock. It starts 5 minutes after the fixture was created.
    pub clock: TestClock,
    /// What the fixture contains (`contents.json`).
    pub contents: Value,
    directory: TempDir,
}

impl Fixture {
    /// Copies a fixture, for example `schema-1`.
    ///
    /// # Panics
    /// If the fixture does not exist or cannot be copied.
    pub fn copy_of(name: &str) -> Self {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures")
            .join(name);
        let directory = TempDir::new().expect("a temporary directory can be created");
        for file in fs::read_dir(source).expect("the fixture exists") {
            let file = file.expect("the fixture can be read");
            let copied = fs::copy(file.path(), directory.path().join(file.file_name()));
            copied.expect("the fixture can be copied");
        }
        let contents = fs::read(directory.path().join("contents.json"));
        let contents: Value = serde_json::from_slice(&contents.expect("contents.json exists"))
            .expect("contents.json is JSON");
        let created = contents["createdAt"]
            .as_str()
            .expect("createdAt is a string");
        let created = shared::domain::time::Timestamp::parse(created).expect("createdAt is a time");
        let database = Embedded::open(&directory.path().join("database.sqlite"));
        Self {
            database: Database::of(database.expect("the database can be opened")),
            clock: TestClock::at(created.seconds().0 + 300),
            contents,
            directory,
        }
    }

    /// Returns a new execution environment, whose caches are empty.
    pub fn environment(&self) -> App {
        let client = embedded::client(self.database.clone());
        let value_key = ValueKey::file(self.directory.path().join("value-key"));
        let identity = Identity::new(client.clone(), IDENTITY.to_owned());
        App::with(
            identity,
            self.clock.clock(),
            StdRng::seed_from_u64(next_seed()),
        )
        .with_ephemeral(Some(Ephemeral::new(client, EPHEMERAL.to_owned())))
        .with_value_key(Some(value_key))
    }

    /// Stores another schema version in the record of the deployment.
    ///
    /// # Panics
    /// If the record cannot be changed.
    pub async fn set_schema(&self, version: u32) {
        let key =
            serde_dynamo::to_item(Key::deployment()).expect("the key can be written as an item");
        let client = embedded::client(self.database.clone());
        let update = client.update_item().table_name(IDENTITY).set_key(Some(key));
        let version = AttributeValue::N(version.to_string());
        let updated = update
            .update_expression("SET #schema = :version")
            .expression_attribute_names("#schema", "schema")
            .expression_attribute_values(":version", version)
            .send()
            .await;
        updated.expect("the record can be changed");
    }

    /// Returns all items of both tables as text.
    ///
    /// # Panics
    /// If the tables cannot be read.
    pub async fn scan(&self) -> String {
        let client = embedded::client(self.database.clone());
        let mut all = Vec::new();
        for table in [IDENTITY, EPHEMERAL] {
            let scan = client.scan().table_name(table).send().await;
            let items = scan.expect("the table is read").items;
            all.extend(items.unwrap_or_default());
        }
        format!("{all:?}")
    }

    /// Deletes a user's record, and nothing else.
    ///
    /// # Panics
    /// If the record cannot be deleted.
    pub async fn delete_owner(&self, user: &str) {
        let user = UserId::parse(user).expect("the text is the id of a user");
        let key = serde_dynamo::to_item(Key::owner((&user).into()));
        let key = key.expect("the key can be written as an item");
        let client = embedded::client(self.database.clone());
        let call = client.delete_item().table_name(IDENTITY).set_key(Some(key));
        call.send().await.expect("the record can be deleted");
    }

    /// Returns the entries of a list in `contents.json`.
    ///
    /// # Panics
    /// If `contents.json` has no such list.
    pub fn list(&self, name: &str) -> &[Value] {
        self.contents[name].as_array().expect("the list exists")
    }
}
