//! Tests which root certificates the Lambda binary trusts when it connects to the database.

mod self_signed;

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

fn listener() -> TcpListener {
    TcpListener::bind("localhost:0").expect("no port is free")
}

/// A running Lambda function. It uses a listener of the test as its database.
struct Function(Child);

impl Function {
    fn start(database: &TcpListener, variables: &[(&str, &str)]) -> Self {
        let port = database
            .local_addr()
            .expect("the listener has no address")
            .port();
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
        Self(child.expect("cannot run the binary"))
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the first bytes of the request on this connection, or the error if there is no request.
fn asked(connection: TcpStream, config: Arc<ServerConfig>) -> Result<String, String> {
    let limit = Some(Duration::from_secs(10));
    connection
        .set_read_timeout(limit)
        .expect("cannot set the time limit");
    let server = ServerConnection::new(config).expect("the TLS configuration is invalid");
    let mut bytes = [0; 4];
    StreamOwned::new(server, connection)
        .read_exact(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[test]
fn the_function_trusts_a_database_whose_certificate_is_a_configured_root() {
    let (config, pem) = self_signed::localhost();
    let listener = listener();
    let roots = tempfile::NamedTempFile::new().expect("cannot create a file");
    std::fs::write(roots.path(), pem).expect("cannot write the file");
    let path = roots.path().to_str().expect("the path is not UTF-8");
    let _function = Function::start(&listener, &[("SSL_CERT_FILE", path)]);
    let (connection, _) = listener.accept().expect("the function did not connect");
    assert_eq!(asked(connection, config), Ok("POST".to_owned()));
}

#[test]
fn the_function_rejects_a_self_signed_database_certificate_if_no_root_is_configured() {
    let (config, _) = self_signed::localhost();
    let listener = listener();
    // If `SSL_CERT_FILE` is missing or empty, the function trusts only Amazon's roots.
    // template.yaml sets the variable to an empty value.
    for variables in [&[][..], &[("SSL_CERT_FILE", "")]] {
        let _function = Function::start(&listener, variables);
        let (connection, _) = listener.accept().expect("the function did not connect");
        let refusal = asked(connection, config.clone()).expect_err("the function sent a request");
        assert!(refusal.contains("UnknownCA"), "{refusal}");
    }
}
