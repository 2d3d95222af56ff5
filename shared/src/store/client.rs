//! The AWS clients, and the timeouts and retries that all clients use.

use std::{fmt, time::Duration};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, environment::EnvironmentVariableCredentialsProvider,
};
use aws_sdk_dynamodb::{
    Client,
    config::{
        Builder, SharedCredentialsProvider, StalledStreamProtectionConfig,
        interceptors::InterceptorContext, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::{
    http::SharedHttpClient,
    retries::classifiers::{ClassifyRetry, RetryAction},
};

use serde::Deserialize;

use crate::domain::error::{Error, Result};

/// The time limit of one attempt. If an attempt takes longer, the SDK retries the operation.
const ATTEMPT: Duration = Duration::from_millis(900);
/// The time limit of one operation, including all its attempts. This limit is shorter than the time
/// limit of a request (`service::deadline::BUDGET`). So an operation that takes too long fails
/// before the request does, and the log contains the error of the operation.
const CALL: Duration = Duration::from_millis(2500);

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(ATTEMPT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(CALL)
        .build()
}

/// How often an operation is retried. A client that gets a 503 retries later. So while the database
/// throttles, requests must not wait here and use up the concurrency of the AWS account.
const RETRIES: u32 = 2;
/// The maximum pause before the first retry. Before each further retry, the maximum is doubled. The
/// pause itself is a random part of the maximum (full jitter). So the pauses of an operation take
/// at most 150 ms in all, and a request in which two operations fail one after the other still gets
/// its 503 within 400 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(RETRIES + 1)
        .with_initial_backoff(FIRST_PAUSE)
        .with_max_backoff(FIRST_PAUSE * 2u32.pow(RETRIES - 1))
}

/// Returns the configuration of an operation that the SDK does not retry.
pub(crate) fn once() -> Builder {
    Builder::new().retry_config(RetryConfig::disabled())
}

/// Waits before a retry of an operation that the SDK does not retry, and then returns `true`. The
/// pauses are as long as those of the SDK. Returns `false` at once if no retry is left. The first
/// retry has the number 0.
pub(crate) async fn may_retry(retry: u32) -> bool {
    if retry >= RETRIES {
        return false;
    }
    pause(FIRST_PAUSE * 2u32.pow(retry)).await;
    true
}

/// Waits for a random part of this time (full jitter).
pub(crate) async fn pause(longest: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "an operation needs a pause before its retry"
    )]
    tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
}

/// Limits the time of an operation that the SDK does not retry, with all its retries.
pub(crate) async fn in_time<T>(attempts: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(CALL, attempts).await;
    done.unwrap_or_else(|_elapsed| Err(Error::out_of_time()))
}

/// Sets timeouts and retries, so that an operation ends within the 3 seconds that a request may
/// take.
pub fn with_limits(config: Builder) -> Builder {
    config
        .behavior_version(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts())
        .retry_config(retries())
        .retry_classifier(TransactionFaults)
        // Bodies have a few hundred bytes and each attempt has a timeout, so no stream can stall.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

/// Returns an HTTPS client that uses rustls with ring.
///
/// We do not use aws-lc. Its first handshake gathers jitter entropy, which takes 50 ms of CPU time.
/// With 128 MB of Lambda memory, the first handshake takes 842 ms with aws-lc and 22 ms with ring.
fn https(roots: TrustStore) -> SharedHttpClient {
    let tls = TlsContext::builder().with_trust_store(roots).build();
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls.expect("a TLS context with only a trust store is valid"))
        .build_https()
}

/// Returns the root certificates that a Lambda function trusts. By default, these are only the
/// certificates of Amazon. If OpenSSL's variable `SSL_CERT_FILE` or `SSL_CERT_DIR` is set, the
/// function trusts the certificates in that file or directory instead.
///
/// By default, the function does not trust the 140 roots of the system, for two reasons. Reading
/// these roots would take a quarter of the start time. Also, each of these 140 authorities could
/// issue a certificate with which an attacker could impersonate the database.
fn lambda_roots() -> TrustStore {
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(variable);
    if named.iter().any(Option::is_some) {
        return TrustStore::default();
    }
    TrustStore::empty().with_pem_certificate(include_bytes!("amazon-roots.pem"))
}

/// Returns the AWS configuration of a Lambda function. The region and the credentials are from
/// environment variables that Lambda sets.
///
/// We do not use the loader of aws-config. The loader also supports profiles, containers and
/// instances. This would make the binary larger and the start slower.
pub fn lambda_environment() -> SdkConfig {
    let credentials = EnvironmentVariableCredentialsProvider::new();
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(https(lambda_roots()))
        .region(region.map(Region::new))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// Returns the configuration for a service, such as `DYNAMODB`. If an environment variable sets the
/// endpoint of this service or of all services, the configuration contains that endpoint. All AWS
/// SDKs read these variables:
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
pub fn at_endpoint(config: &SdkConfig, service: &str) -> SdkConfig {
    let url = variable(&format!("AWS_ENDPOINT_URL_{service}"));
    let mut config = config.clone().into_builder();
    config.set_endpoint_url(url.or_else(|| variable("AWS_ENDPOINT_URL")));
    config.build()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the AWS configuration of a command that an operator runs. The region and the credentials
/// are from the same sources as in the AWS CLI (environment, profile, container, instance). The
/// root certificates are those of the system.
///
/// Profiles with `credential_process` or SSO need features of aws-config. The crate of the command
/// enables these features. The Lambda functions are built without them.
pub async fn operator_environment() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(https(TrustStore::default()))
        .load()
        .await
}

/// Returns a DynamoDB client.
pub fn dynamodb(config: &SdkConfig) -> Client {
    Client::from_conf(with_limits(Builder::from(config)).build())
}

/// Returns a KMS client with the same timeouts and retries as the DynamoDB client.
pub fn kms(config: &SdkConfig) -> aws_sdk_kms::Client {
    let config = aws_sdk_kms::config::Builder::from(config)
        .timeout_config(timeouts())
        .retry_config(retries())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    aws_sdk_kms::Client::from_conf(config.build())
}

/// Makes the SDK retry after a transaction conflict: DynamoDB rejected a write or a transaction,
/// because another transaction was using the same item. Also makes the SDK retry a transaction that
/// DynamoDB throttled. By default, the SDK does not retry after these errors.
///
/// If a condition of the transaction is false, there is no retry, because the false condition is
/// already the result.
#[derive(Debug)]
struct TransactionFaults;

/// The fields of an error body that identify the error. All other fields are ignored, because the
/// body can contain a stored item with values that clients chose.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "__type")]
    code: String,
    #[serde(rename = "CancellationReasons")]
    reasons: Option<Vec<Reason>>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(rename = "Code")]
    code: String,
}

/// The code of a part of a transaction whose condition is false.
pub(crate) const REFUSED: &str = "ConditionalCheckFailed";
/// The code of a part of a transaction whose item another transaction was using.
pub(crate) const CONFLICT: &str = "TransactionConflict";

/// Returns the body of a response with an error.
fn error_body(context: &InterceptorContext) -> Option<ErrorBody> {
    let response = context.response()?;
    let is_error = response.status().as_u16() == 400;
    let body = response.body().bytes().filter(|_| is_error)?;
    serde_json::from_slice(body).ok()
}

impl ErrorBody {
    /// Returns the codes of the parts of a transaction.
    fn codes(&self) -> Vec<&str> {
        let reasons = self.reasons.iter().flatten();
        reasons.map(|reason| reason.code.as_str()).collect()
    }

    /// Returns the action for this error.
    fn action(&self) -> RetryAction {
        let codes = self.codes();
        // On-demand tables return the first code, and provisioned tables return the second one.
        let throttled = ["ThrottlingError", "ProvisionedThroughputExceeded"];
        if codes.contains(&REFUSED) {
            RetryAction::NoActionIndicated
        } else if self.code.ends_with("#TransactionConflictException") || codes.contains(&CONFLICT)
        {
            RetryAction::transient_error()
        } else if throttled.iter().any(|code| codes.contains(code)) {
            RetryAction::throttling_error()
        } else {
            RetryAction::NoActionIndicated
        }
    }
}

impl ClassifyRetry for TransactionFaults {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        error_body(context).map_or(RetryAction::NoActionIndicated, |error| error.action())
    }

    fn name(&self) -> &'static str {
        "transaction faults"
    }
}

/// Prevents the SDK from retrying a transaction after a conflict. The caller reads the items again
/// before it retries. A retry without this read would probably fail.
#[derive(Debug)]
pub(crate) struct ConflictIsFinal;

impl ClassifyRetry for ConflictIsFinal {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match error_body(context) {
            Some(error) if error.codes().contains(&CONFLICT) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "conflict is final"
    }
}

/// Converts the error of a failed operation. If the error code is in `OUR_FAULT`, the result is
/// [`Error::Internal`]. Otherwise the result is [`Error::Unavailable`].
///
/// The cause contains DynamoDB's code and message, or the connection error. The cause does not
/// contain items of the request or the response.
impl<E, R> From<SdkError<E, R>> for Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: fmt::Debug,
{
    fn from(error: SdkError<E, R>) -> Self {
        let cause = match &error {
            SdkError::ServiceError(context) => {
                let meta = context.err().meta();
                let code = meta.code().unwrap_or("unknown error");
                let cause = format!(
                    "DynamoDB: {code}: {}",
                    meta.message().unwrap_or("no message")
                );
                if OUR_FAULT.contains(&code) {
                    return Self::Internal { cause };
                }
                cause
            }
            SdkError::TimeoutError(_) => "DynamoDB: no response in time".to_owned(),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) => chain("DynamoDB: connection failed", error),
                None => "DynamoDB: connection failed".to_owned(),
            },
            SdkError::ResponseError(_) => "DynamoDB: malformed response".to_owned(),
            other => chain("DynamoDB: request not sent", other),
        };
        Self::Unavailable { cause }
    }
}

/// Error codes for which a retry does not help: the role, the table or the request is wrong.
const OUR_FAULT: &[&str] = &[
    "AccessDeniedException",
    "ResourceNotFoundException",
    "SerializationException",
    "ValidationException",
];

fn chain(what: &str, error: &dyn std::error::Error) -> String {
    let errors = std::iter::successors(Some(error), |error| error.source());
    errors.fold(what.to_owned(), |text, error| format!("{text}: {error}"))
}
