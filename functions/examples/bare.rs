//! The least that answers as a Lambda function with lambda_http: what `tests/benches/start.rs` holds the start of
//! Tokenry's functions against.

use lambda_http::{Body, Error, Request, Response, lambda_runtime, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let answer = service_fn(|_request: Request| async {
        Ok::<_, Error>(Response::new(Body::from("hello")))
    });
    lambda_runtime::run(lambda_http::Adapter::from(answer)).await
}
