//! The tables' schema, for who creates them: the local server, tests, and `tokenry bootstrap`.
//! In AWS the template does.

use aws_sdk_dynamodb::{
    Client,
    client::Waiters,
    operation::create_table::CreateTableError,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
        TimeToLiveSpecification,
    },
};

use crate::{
    ephemeral,
    error::{Error, Result},
    identity::{PARTITION_KEY, SORT_KEY},
};

/// The TTL attribute of both tables: a Number of seconds since 1970.
pub const TTL_ATTRIBUTE: &str = "expires_at";
/// Makes both tables with their TTL, unless they are there already.
///
/// # Errors
/// The database is away or forbids it.
pub async fn create_tables(client: &Client, identity: &str, ephemeral: &str) -> Result<()> {
    let binary = ScalarAttributeType::B;
    let string = ScalarAttributeType::S;
    create_table(
        client,
        identity,
        &[
            (PARTITION_KEY, binary, KeyType::Hash),
            (SORT_KEY, string.clone(), KeyType::Range),
        ],
    )
    .await?;
    create_table(
        client,
        ephemeral,
        &[(ephemeral::PARTITION_KEY, string, KeyType::Hash)],
    )
    .await
}

async fn create_table(
    client: &Client,
    table: &str,
    keys: &[(&str, ScalarAttributeType, KeyType)],
) -> Result<()> {
    let mut call = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest);
    for (name, attribute_type, key_type) in keys {
        let attribute = AttributeDefinition::builder()
            .attribute_name(*name)
            .attribute_type(attribute_type.clone())
            .build()
            .map_err(|error| incomplete(&error))?;
        let key = KeySchemaElement::builder()
            .attribute_name(*name)
            .key_type(key_type.clone())
            .build()
            .map_err(|error| incomplete(&error))?;
        call = call.attribute_definitions(attribute).key_schema(key);
    }
    match call.send().await {
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
            cause: format!("table {table} does not become active: {error}"),
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
