//! A minimal Lambda function with lambda_http. `tests/benches/start.rs` compares the start of
//! Tokenry's functions with the start of this function.

use lambda_http::{Body, Error, Request, Response, lambda_runtime, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let answer = service_fn(|_request: Request| async {
        Ok::<_, Error>(Response::new(Body::from("hello")))
    });
    lambda_runtime::run(lambda_http::Adapter::from(answer)).await
}
