//! Provides sixteen clients of a gateway. The clients share the processors with the gateway, so
//! they must use very little processor time. Therefore the bytes of a request are prepared only
//! once, and each client keeps its connection open.

#![expect(clippy::disallowed_methods, reason = "a bench measures durations")]

use std::time::Instant;

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The number of concurrent clients.
const CLIENTS: usize = 16;

/// A kept-alive connection to a gateway.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    /// Connects to an address such as `127.0.0.1:3000`.
    async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("the gateway accepts the connection");
        let received = Vec::new();
        Self { stream, received }
    }

    /// Sends a request and waits for the response, which must have the status 200.
    async fn send(&mut self, request: &[u8]) {
        self.stream
            .write_all(request)
            .await
            .expect("the request is sent");
        self.received.clear();
        loop {
            let read = self.stream.read_buf(&mut self.received).await;
            assert_ne!(
                read.expect("the response can be read"),
                0,
                "the connection was closed"
            );
            let text = str::from_utf8(&self.received).expect("the response is text");
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && body.len() == content_length(head)
            {
                assert!(head.starts_with("HTTP/1.1 200 "), "{text}");
                return;
            }
        }
    }
}

fn content_length(head: &str) -> usize {
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length
        .and_then(|n| n.parse().ok())
        .expect("the response states the length of its body")
}

/// Returns the bytes of a POST request with a form, which may be empty.
pub(crate) fn post(path: &str, credential: &str, form: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: {credential}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len(),
    )
    .into_bytes()
}

/// Sends a request `requests` times, divided among the clients. Returns the number of requests per
/// second.
pub(crate) async fn posts(requests: usize, address: &str, request: Vec<u8>) -> f64 {
    rate(requests, |share| {
        let (address, request) = (address.to_owned(), request.clone());
        async move {
            let mut connection = Connection::open(&address).await;
            for _ in 0..share {
                connection.send(&request).await;
            }
        }
    })
    .await
}

/// Runs all clients concurrently and divides the requests equally among them. The argument of
/// `client` is the number of requests that one client sends. Returns the number of requests per
/// second.
pub(crate) async fn rate<F>(requests: usize, client: impl Fn(usize) -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let clients: Vec<_> = (0..CLIENTS).map(|_| client(requests / CLIENTS)).collect();
    let started = Instant::now();
    for client in join_all(clients.into_iter().map(tokio::spawn)).await {
        client.expect("no client panics");
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "there are at most millions of requests"
    )]
    let requests = requests as f64;
    requests / started.elapsed().as_secs_f64()
}
