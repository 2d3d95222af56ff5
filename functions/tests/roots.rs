//! Whose certificates the Lambda binary believes.

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer,
};

/// A server with a certificate of its own making, and that certificate as PEM.
fn server() -> (TcpListener, ServerConfig, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate and its key");
    let listener = TcpListener::bind("localhost:0").expect("a port");
    (listener, config, made.cert.pem())
}

/// A function whose table is there.
struct Function(Child);

impl Function {
    fn start(database: &TcpListener, variables: &[(&str, &str)]) -> Self {
        let port = database.local_addr().expect("an address").port();
        let child = Command::new(env!("CARGO_BIN_EXE_functions"))
            .env_clear()
            .env(
                "AWS_ENDPOINT_URL_DYNAMODB",
                format!("https://localhost:{port}"),
            )
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("TOKENRY_IDENTITY_TABLE", "identity")
            .envs(variables.iter().copied())
            .arg("introspect-token")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("the binary runs"))
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first bytes of what this connection asks the server, or why it asks nothing.
fn asked(connection: TcpStream, config: &Arc<ServerConfig>) -> Result<String, String> {
    let server = ServerConnection::new(config.clone()).expect("a connection");
    let mut bytes = [0; 4];
    StreamOwned::new(server, connection)
        .read_exact(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[test]
fn a_database_that_the_named_roots_vouch_for_is_asked() {
    let (listener, config, pem) = server();
    let roots = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(roots.path(), pem).expect("a file");
    let path = roots.path().to_str().expect("text");
    let _function = Function::start(&listener, &[("SSL_CERT_FILE", path)]);
    let (connection, _) = listener.accept().expect("a connection");
    assert_eq!(asked(connection, &config.into()), Ok("POST".to_owned()));
}

#[test]
fn a_database_that_amazon_does_not_vouch_for_is_not_asked() {
    let (listener, config, _) = server();
    let config = Arc::new(config);
    // An empty variable is none, as in template.yaml.
    for variables in [&[][..], &[("SSL_CERT_FILE", "")]] {
        let _function = Function::start(&listener, variables);
        let (connection, _) = listener.accept().expect("a connection");
        let refusal = asked(connection, &config).expect_err("no question");
        assert!(refusal.contains("UnknownCA"), "{refusal}");
    }
}
