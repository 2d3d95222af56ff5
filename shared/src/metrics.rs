//! Metrics, as lines of the log that CloudWatch counts by: its [embedded metric format][1].
//!
//! API Gateway, Lambda and DynamoDB count what they see. Here is counted what only an answer tells,
//! and only when it happens: a line costs, and most requests need none.
//!
//! [1]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

use serde_json::{Value, json};

use crate::domain::time::Timestamp;

/// The namespace of the metrics.
pub const NAMESPACE: &str = "Tokenry";

/// Counts what one function answers.
#[derive(Clone, Debug)]
pub struct Metrics {
    function: String,
}

impl Metrics {
    /// Those of the function of this name, which is the one dimension: `FunctionName`.
    pub fn of_function(name: impl Into<String>) -> Self {
        Self {
            function: name.into(),
        }
    }

    /// Writes the line that counts an answer, if answers of its status are counted.
    pub(crate) fn count(&self, status: u16, request_id: &str, now: Timestamp) {
        if let Some(line) = self.line(status, request_id, now) {
            eprintln!("{line}");
        }
    }

    fn line(&self, status: u16, request_id: &str, now: Timestamp) -> Option<Value> {
        let metric = match status {
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            _ => return None,
        };
        Some(json!({
            "_aws": {
                "Timestamp": now.millis(),
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [["FunctionName"]],
                    "Metrics": [{ "Name": metric, "Unit": "Count" }],
                }],
            },
            "FunctionName": self.function,
            "request_id": request_id,
            metric: 1,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_failures_are_counted_and_nothing_else() {
        let metrics = Metrics::of_function("tokenry-LogInWithPassword");
        let line = |status| metrics.line(status, "r1", Timestamp::from_millis(1_767_225_600_500));
        assert_eq!(
            line(429),
            Some(json!({
                "_aws": {
                    "Timestamp": 1_767_225_600_500_u64,
                    "CloudWatchMetrics": [{
                        "Namespace": "Tokenry",
                        "Dimensions": [["FunctionName"]],
                        "Metrics": [{ "Name": "TooManyRequests", "Unit": "Count" }],
                    }],
                },
                "FunctionName": "tokenry-LogInWithPassword",
                "request_id": "r1",
                "TooManyRequests": 1,
            }))
        );
        for (status, name) in [(500, "InternalError"), (503, "ServiceUnavailable")] {
            assert_eq!(line(status).expect("a line")[name], 1);
        }
        for status in [200, 401, 404] {
            assert_eq!(line(status), None);
        }
    }
}
