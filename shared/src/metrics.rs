//! Counts the responses with status 429, 500 and 503 of each function, and the erasures that are
//! late. Each count is a log line in the [embedded metric format][1], which CloudWatch turns into a
//! metric.
//!
//! API Gateway, Lambda and DynamoDB publish their own metrics, which do not contain these counts.
//! This module writes one line for each of these responses, and for each run of the eraser that
//! leaves late erasures. It writes no other line, because each line costs money.
//!
//! [1]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

use serde_json::{Value, json};

use crate::domain::time::Timestamp;

/// The namespace of the metrics.
pub const NAMESPACE: &str = "Tokenry";

/// The metric that counts the erasures that are late.
const LATE_ERASURES: &str = "LateErasures";

/// Writes the metrics of one Lambda function.
#[derive(Clone, Debug)]
pub struct Metrics {
    function: String,
}

impl Metrics {
    /// Creates the metrics of the Lambda function with this name. The name is the value of
    /// `FunctionName`, which is the only dimension of the metrics.
    pub fn of_function(name: impl Into<String>) -> Self {
        Self {
            function: name.into(),
        }
    }

    /// Writes the line that counts a response, if responses with this status are counted.
    pub(crate) fn count(&self, status: u16, request_id: &str, now: Timestamp) {
        if let Some(line) = self.response(status, request_id, now) {
            eprintln!("{line}");
        }
    }

    /// Writes the line that says how many erasures are late.
    pub(crate) fn late_erasures(&self, count: usize, now: Timestamp) {
        eprintln!("{}", self.line(LATE_ERASURES, count, now));
    }

    fn response(&self, status: u16, request_id: &str, now: Timestamp) -> Option<Value> {
        let metric = match status {
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            _ => return None,
        };
        let mut line = self.line(metric, 1, now);
        line["request_id"] = request_id.into();
        Some(line)
    }

    fn line(&self, metric: &str, count: usize, now: Timestamp) -> Value {
        json!({
            "_aws": {
                "Timestamp": now.millis(),
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [["FunctionName"]],
                    "Metrics": [{ "Name": metric, "Unit": "Count" }],
                }],
            },
            "FunctionName": self.function,
            metric: count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_responses_with_status_429_500_and_503_are_counted() {
        let metrics = Metrics::of_function("tokenry-LogInWithPassword");
        let line =
            |status| metrics.response(status, "r1", Timestamp::from_millis(1_767_225_600_500));
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
            assert_eq!(line(status).expect("the response has no line")[name], 1);
        }
        for status in [200, 401, 404] {
            assert_eq!(line(status), None);
        }
    }
    #[test]
    fn late_erasures_are_counted() {
        let metrics = Metrics::of_function("tokenry-Erase");
        let now = Timestamp::from_millis(1_767_225_600_500);
        let line = metrics.line(LATE_ERASURES, 3, now);
        assert_eq!(line["LateErasures"], 3);
        let defined = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(
            defined["Metrics"],
            json!([{ "Name": "LateErasures", "Unit": "Count" }])
        );
        assert_eq!(line["FunctionName"], "tokenry-Erase");
    }
}
