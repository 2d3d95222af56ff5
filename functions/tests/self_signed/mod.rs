//! A TLS configuration with a self-signed certificate, which no system trusts. The console's tests
//! also use this file.

use std::sync::Arc;

use tokio_rustls::rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};

/// Returns a TLS configuration for `localhost` with a self-signed certificate, and the certificate
/// as PEM.
pub(crate) fn localhost() -> (Arc<ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .expect("cannot create a certificate");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("the provider does not support the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the certificate or its key is invalid");
    (config.into(), made.cert.pem())
}
