//! Applies the limits of [`Partitions`](crate::partitions::Partitions) to a call.

use aws_smithy_runtime_api::client::{
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use serde_json::Value;

use super::{Database, cancelled, json_of, refusal};
use crate::partitions::{Call, Part, split_batch};

const NO_LIMITS: &str = "the limits are never removed";

impl Database {
    /// Waits as long as a call takes, and applies the limits. If the limits allow the call, removes
    /// the part that stays unprocessed from `wanted`, and returns this part and the call in
    /// progress. Otherwise, returns the response with the error.
    pub(super) async fn admit(
        &self,
        request: &HttpRequest,
        call: Call,
        wanted: &mut Value,
    ) -> Result<Result<(Unprocessed, InProgress), HttpResponse>, ConnectorError> {
        let mut parts = call.parts(wanted);
        let conflicts = {
            let mut state = self.state();
            let partitions = state.partitions.as_mut().expect(NO_LIMITS);
            let conflicts = partitions.conflicts(call, &parts);
            if !conflicts.contains(&true) {
                partitions.begin(call, &parts);
            }
            conflicts
        };
        let in_progress = (!conflicts.contains(&true)).then(|| InProgress {
            database: self.clone(),
            call,
            parts: parts.clone(),
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "a call to a real database takes time"
        )]
        tokio::time::sleep(call.latency()).await;
        let Some(in_progress) = in_progress else {
            return Ok(Err(match call {
                Call::Write => refusal("TransactionConflictException", 400),
                _ => cancelled(conflicts.iter().map(|conflict| match conflict {
                    true => "TransactionConflict",
                    false => "None",
                })),
            }));
        };
        for part in &mut parts {
            part.stored = self.stored(request, part).await?;
        }

        let mut state = self.state();
        let partitions = state.partitions.as_mut().expect(NO_LIMITS);
        if parts.is_empty() {
            let fits = partitions.charge_query(wanted);
            drop(state);
            return Ok(if fits {
                Ok((None, in_progress))
            } else {
                Err(refusal("ThrottlingException", 400))
            });
        }
        let together = matches!(call, Call::TransactionalRead | Call::TransactionalWrite);
        let charged = partitions.charge(&parts, together);
        drop(state);
        if !charged.contains(&false) {
            return Ok(Ok((None, in_progress)));
        }
        let field = match call {
            Call::Read | Call::Write => return Ok(Err(refusal("ThrottlingException", 400))),
            Call::TransactionalRead | Call::TransactionalWrite => {
                return Ok(Err(cancelled(charged.iter().map(
                    |charged| match charged {
                        true => "None",
                        false => "ThrottlingError",
                    },
                ))));
            }
            Call::BatchRead => "UnprocessedKeys",
            Call::BatchWrite => "UnprocessedItems",
        };
        if !charged.contains(&true) {
            return Ok(Err(refusal("ProvisionedThroughputExceededException", 400)));
        }
        let left = split_batch(wanted, &charged);
        Ok(Ok((Some((field, left)), in_progress)))
    }

    /// Returns the stored item of a part of a call.
    async fn stored(
        &self,
        request: &HttpRequest,
        part: &Part,
    ) -> Result<Option<Value>, ConnectorError> {
        let mut read = request.try_clone().expect("the body is in memory");
        read.headers_mut()
            .insert("x-amz-target", "DynamoDB_20120810.GetItem");
        *read.body_mut() = SdkBody::from(part.read().to_string());
        let mut said = json_of(&self.execute(read).await?);
        Ok(Some(said["Item"].take()).filter(|item| !item.is_null()))
    }
}

/// The unprocessed part of a batch operation: the name of its field in the response, and its
/// content. `None` if nothing is unprocessed.
pub(super) type Unprocessed = Option<(&'static str, Value)>;

/// A call in progress. The call ends when this value is dropped. This also happens if the client
/// stops waiting.
pub(super) struct InProgress {
    database: Database,
    call: Call,
    parts: Vec<Part>,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        if let Some(partitions) = &mut self.database.state().partitions {
            partitions.end(self.call, &self.parts);
        }
    }
}
