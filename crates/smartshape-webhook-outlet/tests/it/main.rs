//! The outlets, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "figures of a longer run")]

#[cfg(feature = "nats")]
mod cluster;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "nats")]
mod nats;
#[cfg(all(feature = "http", feature = "nats"))]
mod promises;
#[cfg(feature = "http")]
mod verification;

use std::sync::Arc;

use smartshape_webhook::Delivery;

const BODY: &str = r#"{"file": "gr\u00f6\u00dfe", "event": "file_uploaded", "data": {"a":  1.0e0},
    "owner": "test@smartshape.io", "runTimestamp": 1548061171539, "uuid": "43a57abb"}"#;

fn delivery(body: &str) -> Delivery {
    Delivery::for_test(body.to_owned()).unwrap()
}

fn body_of(uuid: &str) -> String {
    BODY.replace("43a57abb", uuid)
}

/// The TLS of a server named `localhost`, and its certificate.
fn tls_acceptor() -> (tokio_rustls::TlsAcceptor, String) {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], key.signing_key.serialize_der().try_into().unwrap())
        .unwrap();
    (tokio_rustls::TlsAcceptor::from(Arc::new(config)), key.cert.pem())
}
