//! https, with certificates made for the test.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use smartshape_api::{AuthToken, Client, ErrorKind};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;

use crate::everything_of;
use crate::server::{EMPTY_LIST, answer_once};

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap()
}

fn client(url: &str, trusted: &str) -> Client {
    let token = AuthToken::new("the.auth.token").unwrap();
    let waits = Duration::ZERO;
    let builder = Client::builder().base_url(url).auth_token(token).retry_waits(waits, waits);
    builder.trust_pem(trusted).build().unwrap()
}

#[tokio::test]
async fn certificates_are_checked() {
    let CertifiedKey { cert, signing_key } = certificate();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], signing_key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_once(stream, EMPTY_LIST).await;
            }
        }
    });

    let url = format!("https://{address}");
    assert_eq!(client(&url, &cert.pem()).list_webhooks().await.unwrap(), []);
    let error = client(&url, &certificate().cert.pem()).list_webhooks().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(everything_of(&error).contains("invalid peer certificate"), "{error:?}");
    // Another name than the certificate's.
    let url = format!("https://localhost:{}", address.port());
    let error = client(&url, &cert.pem()).list_webhooks().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn the_time_to_connect_includes_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder()
        .base_url(format!("https://{}", listener.local_addr().unwrap()))
        .trust_pem(certificate().cert.pem())
        .connect_time_limit(Duration::from_millis(50))
        .retries(0)
        .build()
        .unwrap();
    let error = client.login("ada", "hunter2").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("connect_time_limit"), "{error}");
}
