//! Tests of requests that match no endpoint, of requests with unusual headers, and of invalid HTTP
//! requests.

use tests::Service;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn an_unknown_route_or_method_gets_the_404_of_the_gateway() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for (method, path) in [
        ("GET", "/nothing"),
        ("POST", "/"),
        ("PUT", "/openapi.yaml"),
        ("GET", "/api/auth/introspect"),
        ("PATCH", "/api/auth/introspect"),
        ("OPTIONS", "/api/auth/introspect"),
        ("POST", "/api/auth/introspect/"),
        ("POST", "/api/users//tokens"),
        ("PUT", &format!("/api/users/{bob}/tokens")),
        ("POST", &format!("/api/users/{bob}/tokens/more")),
    ] {
        let answer = service.send(service.request(method, path)).await;
        assert_eq!(answer.status, 404, "{method} {path}");
        assert_eq!(answer.body, r#"{"message":"Not Found"}"#, "{method} {path}");
    }
    assert!(service.database.take_calls().is_empty());
}

#[tokio::test]
async fn headers_that_the_endpoint_does_not_use_may_be_long_or_contain_invalid_utf_8() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let long = vec![b'x'; 100_000];
    for value in [&b"\xff\xfe"[..], b"", &long] {
        let value = reqwest::header::HeaderValue::from_bytes(value).unwrap();
        let request = service
            .request("POST", &format!("/api/users/{bob}/tokens"))
            .header("authorization", &service.account_token)
            .header("cookie", value.clone())
            .header("x-forwarded-for", value.clone())
            .header("content-type", value);
        assert_eq!(service.send(request).await.status, 200);
    }
}

#[tokio::test]
async fn an_invalid_http_request_affects_only_its_own_connection() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for request in [
        "POST /api/users/C;b?ttl=\u{1} HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /api/users/C;b?ttl=a b HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nAuthorization: a\u{0}b\r\n\r\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(service.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{answer}"
        );
    }
    assert_eq!(service.mint(&bob, "").await.status, 200);
}
