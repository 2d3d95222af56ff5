//! The schema of the tables. The local server and the tests create the tables with this module.
//! `tokenry bootstrap` does so only with `--create-tables`, which is for trials. For a stack in
//! AWS, `template.yaml` creates the tables.

use aws_sdk_dynamodb::{
    Client,
    client::Waiters,
    operation::create_table::{CreateTableError, builders::CreateTableFluentBuilder},
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
        Projection, ProjectionType, ScalarAttributeType, TableDescription, TimeToLiveSpecification,
    },
};

use crate::{
    domain::error::{Error, Result},
    store::{
        ephemeral,
        identity::{
            EMAIL_ACCOUNT, EMAIL_TOKENS_INDEX, EMAIL_TOKENS_PROJECTION, EMAIL_USER, PARTITION_KEY,
            SORT_KEY,
        },
        item::TTL_ATTRIBUTE,
    },
};

/// Creates the two tables, unless they exist, and enables TTL for both tables.
///
/// # Errors
/// The database is unavailable or denies the request. Or the identity table exists and does not
/// have the index of e-mail tokens.
pub async fn create_tables(client: &Client, identity: &str, ephemeral: &str) -> Result<()> {
    let string = || ScalarAttributeType::S;
    let listed = EMAIL_TOKENS_PROJECTION.iter().map(ToString::to_string);
    let projection = Projection::builder()
        .projection_type(ProjectionType::Include)
        .set_non_key_attributes(Some(listed.collect()));
    let index = GlobalSecondaryIndex::builder()
        .index_name(EMAIL_TOKENS_INDEX)
        .key_schema(key(EMAIL_ACCOUNT, KeyType::Hash)?)
        .key_schema(key(EMAIL_USER, KeyType::Range)?)
        .projection(projection.build());
    let call = client
        .create_table()
        .table_name(identity)
        .attribute_definitions(attribute(PARTITION_KEY, ScalarAttributeType::B)?)
        .attribute_definitions(attribute(SORT_KEY, string())?)
        .attribute_definitions(attribute(EMAIL_ACCOUNT, string())?)
        .attribute_definitions(attribute(EMAIL_USER, string())?)
        .key_schema(key(PARTITION_KEY, KeyType::Hash)?)
        .key_schema(key(SORT_KEY, KeyType::Range)?)
        .global_secondary_indexes(index.build().map_err(|error| incomplete(&error))?);
    create_table(client, identity, call).await?;
    must_have_index(client, identity).await?;
    let call = client
        .create_table()
        .table_name(ephemeral)
        .attribute_definitions(attribute(ephemeral::PARTITION_KEY, string())?)
        .key_schema(key(ephemeral::PARTITION_KEY, KeyType::Hash)?);
    create_table(client, ephemeral, call).await
}

/// Checks that the table has the index of e-mail tokens. An earlier version may have created the
/// table without this index.
async fn must_have_index(client: &Client, table: &str) -> Result<()> {
    let described = client.describe_table().table_name(table).send().await?;
    let described = described
        .table
        .unwrap_or_else(|| TableDescription::builder().build());
    let mut indexes = described.global_secondary_indexes().iter();
    if indexes.any(|index| index.index_name() == Some(EMAIL_TOKENS_INDEX)) {
        return Ok(());
    }
    Err(Error::Internal {
        cause: format!(
            "table {table} has no index {EMAIL_TOKENS_INDEX}: an earlier version created the table"
        ),
    })
}

fn attribute(name: &str, attribute_type: ScalarAttributeType) -> Result<AttributeDefinition> {
    let attribute = AttributeDefinition::builder()
        .attribute_name(name)
        .attribute_type(attribute_type);
    attribute.build().map_err(|error| incomplete(&error))
}

fn key(name: &str, key_type: KeyType) -> Result<KeySchemaElement> {
    let key = KeySchemaElement::builder()
        .attribute_name(name)
        .key_type(key_type);
    key.build().map_err(|error| incomplete(&error))
}

async fn create_table(client: &Client, table: &str, call: CreateTableFluentBuilder) -> Result<()> {
    match call.billing_mode(BillingMode::PayPerRequest).send().await {
        Ok(_) => {}
        Err(error) if is_there_already(error.as_service_error()) => {}
        Err(error) => return Err(error.into()),
    }
    client
        .wait_until_table_exists()
        .table_name(table)
        .wait(std::time::Duration::from_mins(2))
        .await
        .map_err(|error| Error::Unavailable {
            cause: format!("table {table} did not become active: {error}"),
        })?;

    let ttl = client
        .describe_time_to_live()
        .table_name(table)
        .send()
        .await?;
    let enabled = ttl
        .time_to_live_description
        .is_some_and(|ttl| ttl.attribute_name.as_deref() == Some(TTL_ATTRIBUTE));
    if !enabled {
        let specification = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name(TTL_ATTRIBUTE)
            .build()
            .map_err(|error| incomplete(&error))?;
        client
            .update_time_to_live()
            .table_name(table)
            .time_to_live_specification(specification)
            .send()
            .await?;
    }
    Ok(())
}

fn is_there_already(error: Option<&CreateTableError>) -> bool {
    matches!(error, Some(CreateTableError::ResourceInUseException(_)))
}

fn incomplete(error: &aws_sdk_dynamodb::error::BuildError) -> Error {
    Error::Internal {
        cause: error.to_string(),
    }
}
