//! https, with certificates made for the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use smartshape_api::{AuthToken, Client, ErrorKind};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::everything_of;
use crate::server::{EMPTY_LIST, respond_once};

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap()
}

fn client(url: &str, trusted: &str) -> Client {
    let token = AuthToken::new("the.auth.token").unwrap();
    let waits = Duration::ZERO;
    let builder = Client::builder().base_url(url).auth_token(token).backoff(waits, waits);
    builder.add_root_certificate(trusted).build().unwrap()
}

/// Accepts TLS with this certificate.
fn acceptor(CertifiedKey { cert, signing_key }: &CertifiedKey<KeyPair>) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn certificates_are_checked_once_and_the_remedy_is_named() {
    let key = certificate();
    let acceptor = acceptor(&key);
    let cert = key.cert;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            if let Ok(stream) = acceptor.accept(stream).await {
                respond_once(stream, EMPTY_LIST).await;
            }
        }
    });

    let url = format!("https://{address}");
    assert_eq!(client(&url, &cert.pem()).list_webhooks().await.unwrap(), []);
    let before = connections.load(Ordering::SeqCst);
    let error = client(&url, &certificate().cert.pem()).list_webhooks().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("add_root_certificate"), "{error}");
    assert_eq!(connections.load(Ordering::SeqCst), before + 1, "it would be the same again");
    assert!(everything_of(&error).contains("invalid peer certificate"), "{error:?}");
    // Another name than the certificate's.
    let url = format!("https://localhost:{}", address.port());
    let error = client(&url, &cert.pem()).list_webhooks().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn missing_tls_is_distinguished_from_an_untrusted_certificate() {
    let fake = crate::fake().start().await.unwrap();
    let url = fake.base_url().replace("http://", "https://");
    let error = client(&url, &certificate().cert.pem()).list_webhooks().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn deletion_that_was_never_sent_is_not_ambiguous() {
    let key = certificate();
    let acceptor = acceptor(&key);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = async {
        // The first handshake ends in its middle.
        drop(listener.accept().await.unwrap());
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        respond_once(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap()
    };
    let client = client(&url, &key.cert.pem());
    let (outcome, request) = tokio::join!(client.delete_webhook("5c6f"), server);
    assert!(request.starts_with("DELETE /webhook/5c6f"), "{request}");
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!error.is_ambiguous());
}

#[tokio::test]
async fn connect_timeout_includes_the_tls_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder()
        .base_url(format!("https://{}", listener.local_addr().unwrap()))
        .add_root_certificate(certificate().cert.pem())
        .connect_timeout(Duration::from_millis(50))
        .max_retries(0)
        .build()
        .unwrap();
    let error = client.login("ada", "hunter2").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("connect_timeout"), "{error}");
}
