//! The DynamoDB client: one set of timeouts and retries, whatever it talks to.

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

use crate::domain::error::Error;

/// One attempt may take this long before it is given up and tried again.
const ATTEMPT: Duration = Duration::from_millis(900);
/// One call with all its attempts. Below `service::deadline::BUDGET`, so that the cause is
/// known when a request runs out of time.
const CALL: Duration = Duration::from_millis(2500);

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(ATTEMPT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(CALL)
        .build()
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(4)
        .with_initial_backoff(Duration::from_millis(50))
        .with_max_backoff(Duration::from_millis(400))
}

/// Sets what every client has: timeouts and retries that end inside a request's 3 seconds.
pub fn with_limits(config: Builder) -> Builder {
    config
        .behavior_version(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts())
        .retry_config(retries())
        .retry_classifier(TransactionConflict)
        // Bodies are a few hundred bytes and an attempt has its timeout: nothing can stall.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

/// The HTTPS client: rustls with ring. aws-lc gathers jitter entropy at its first handshake,
/// which is 50 ms of CPU and, at 128 MB of Lambda memory, 842 ms of wall time against 22 ms.
fn https(roots: TrustStore) -> SharedHttpClient {
    let tls = TlsContext::builder().with_trust_store(roots).build();
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls.expect("a trust store is all that it needs"))
        .build_https()
}

/// Who is believed to say which server is AWS's: Amazon alone, unless the environment names other roots, as OpenSSL
/// takes them. To read the system's 140 would take a quarter of each start, and any of them would do to pose as the
/// database.
fn lambda_roots() -> TrustStore {
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(variable);
    if named.iter().any(Option::is_some) {
        return TrustStore::default();
    }
    TrustStore::empty().with_pem_certificate(include_bytes!("amazon-roots.pem"))
}

/// The AWS side of a Lambda function: region and credentials from the environment alone, which is
/// where Lambda puts them. Not by aws-config's loader, which would link, and ask, whatever else it
/// knows: profiles, containers, instances.
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

/// This with another endpoint than AWS's own for a service, such as `DYNAMODB`, if the environment
/// names one, as all SDKs take it.
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

/// The AWS side of an operator's command: region and credentials from wherever the AWS CLI finds
/// them (environment, profile, container, instance), and the system's roots. Profiles of a process and of SSO need
/// aws-config's features for them, which a function does without.
pub async fn operator_environment() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(https(TrustStore::default()))
        .load()
        .await
}

/// The client of DynamoDB.
pub fn dynamodb(config: &SdkConfig) -> Client {
    Client::from_conf(with_limits(Builder::from(config)).build())
}

/// The client of KMS, with the same limits.
pub fn kms(config: &SdkConfig) -> aws_sdk_kms::Client {
    let config = aws_sdk_kms::config::Builder::from(config)
        .timeout_config(timeouts())
        .retry_config(retries())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    aws_sdk_kms::Client::from_conf(config.build())
}

/// A write that meets a running transaction on its item, alone or as the reason why a transaction
/// was cancelled, is worth another try; the SDK on its own does not think so.
#[derive(Debug)]
struct TransactionConflict;

/// What tells a conflict in an error's body. Nothing else is looked at: the item in it is a
/// client's to fill.
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

impl ClassifyRetry for TransactionConflict {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let conflicts = context
            .response()
            .filter(|response| response.status().as_u16() == 400)
            .and_then(|response| serde_json::from_slice(response.body().bytes()?).ok())
            .is_some_and(|error: ErrorBody| {
                let reasons = error.reasons.into_iter().flatten();
                error.code.ends_with("#TransactionConflictException")
                    || reasons
                        .into_iter()
                        .any(|reason| reason.code == "TransactionConflict")
            });
        if conflicts {
            RetryAction::transient_error()
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "transaction conflict"
    }
}

/// A call that failed: the database is away, but where it says that we have no right to ask, or
/// ask for what is not there.
///
/// Nothing of the request's or the response's items gets into the cause: DynamoDB's code and
/// message, or what broke underway.
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
            SdkError::TimeoutError(_) => "DynamoDB: no answer in time".to_owned(),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) => chain("DynamoDB: not reached", error),
                None => "DynamoDB: not reached".to_owned(),
            },
            SdkError::ResponseError(_) => "DynamoDB: an answer that cannot be read".to_owned(),
            other => chain("DynamoDB: not sent", other),
        };
        Self::Unavailable { cause }
    }
}

/// Error codes that another try does not mend: a wrong role, a wrong table, a wrong request.
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
