//! Calls the API over TLS, as in a deployment.

use std::{io, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use crate::{Serve, run, self_signed, tokenry};

/// Starts a proxy that terminates TLS and forwards each connection to this address. Returns the
/// proxy's URL.
async fn tls_before(address: String, config: Arc<ServerConfig>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let port = listener
        .local_addr()
        .expect("the listener has an address")
        .port();
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await?;
            let mut server = TcpStream::connect(&address).await?;
            // A client that does not trust the certificate closes the connection.
            if let Ok(mut client) = acceptor.accept(stream).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        }
        #[expect(unreachable_code, reason = "the expression gives the block its type")]
        Ok::<(), io::Error>(())
    });
    format!("https://localhost:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_accepts_a_server_certificate_only_if_the_system_trusts_its_issuer() {
    let serve = Serve::start();
    let (config, pem) = self_signed::localhost();
    let address = serve.url.replace("http://", "");
    let url = tls_before(address, config).await;
    let roots = serve.home.path().join("roots.pem");
    std::fs::write(&roots, pem).unwrap();

    let get = |trusted: bool| {
        let mut command = tokenry(serve.home.path(), &["user", "get", &serve.user_id]);
        command
            .env("TOKENRY_URL", &url)
            .env("TOKENRY_TOKEN", &serve.account_token);
        if trusted {
            command.env("SSL_CERT_FILE", &roots);
        }
        run(command, "")
    };
    assert_eq!(get(true).code, 0);
    let ran = get(false);
    assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{ran:?}");
    assert!(
        ran.stderr
            .starts_with(&format!("{url} cannot be trusted: ")),
        "{ran:?}"
    );
}
