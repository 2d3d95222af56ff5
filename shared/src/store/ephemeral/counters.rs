//! The operations for counters of attempts. A counter is an item for one subject and one time
//! window. It has two attributes:
//!
//! - `n`: the number of counted attempts. If an attempt is taken back, `n` is reduced by 1.
//! - `failed`: the number of counted attempts that are known to have failed.

use aws_sdk_dynamodb::{
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};
use serde::Deserialize;

use super::{Ephemeral, PARTITION_KEY};
use crate::{
    domain::{error::Result, time::UnixSeconds},
    store::{
        client::once,
        item::{from_item, number, unless_refused},
    },
};

/// The counter of one subject in one time window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    /// The partition key of the counter's item.
    pub(crate) key: String,
    /// The end of the time window.
    pub(crate) ends_at: UnixSeconds,
}

/// The result of counting an attempt.
pub(crate) enum CountResult {
    /// The attempt is counted.
    Counted,
    /// The limit is reached, and the attempt is not counted.
    Full {
        /// The number of attempts in the time window that are known to have failed.
        failed: u32,
    },
}

impl Ephemeral {
    /// Counts an attempt, unless the limit is reached.
    pub(crate) async fn count_attempt(&self, counter: &Counter, limit: u32) -> Result<CountResult> {
        #[derive(Deserialize)]
        struct Full {
            #[serde(default)]
            failed: u32,
        }
        let added = self
            .update(counter)
            .update_expression("ADD n :one SET expires_at = :end")
            .condition_expression("attribute_not_exists(n) OR n < :limit")
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .expression_attribute_values(":limit", AttributeValue::N(limit.to_string()))
            .expression_attribute_values(":end", number(counter.ends_at))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match added {
            Ok(_) => Ok(CountResult::Counted),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                    let Full { failed } = from_item(refusal.item.clone().unwrap_or_default())?;
                    Ok(CountResult::Full { failed })
                }
                _ => Err(error.into()),
            },
        }
    }

    /// Takes back one counted attempt. The SDK does not retry this write. If the write took effect
    /// twice, it would also take back another attempt, and that attempt may have failed.
    pub(crate) async fn take_back(&self, counter: &Counter) -> Result<()> {
        let taken_back = self
            .update(counter)
            .update_expression("ADD n :back")
            .condition_expression("n > :zero")
            .expression_attribute_values(":back", AttributeValue::N("-1".to_owned()))
            .expression_attribute_values(":zero", AttributeValue::N("0".to_owned()))
            .customize()
            .config_override(once())
            .send()
            .await;
        let is_refusal = UpdateItemError::is_conditional_check_failed_exception;
        unless_refused(taken_back, is_refusal)
    }

    /// Records that a counted attempt failed.
    ///
    /// # Errors
    /// The database is unavailable, or the counter was deleted because its time window is over.
    pub(crate) async fn count_failure(&self, counter: &Counter) -> Result<()> {
        let update = self
            .update(counter)
            .update_expression("ADD failed :one")
            .condition_expression("attribute_exists(n)")
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
        update.send().await?;
        Ok(())
    }

    fn update(&self, counter: &Counter) -> UpdateItemFluentBuilder {
        let update = self.client.update_item().table_name(&self.table);
        update.key(PARTITION_KEY, AttributeValue::S(counter.key.clone()))
    }
}
