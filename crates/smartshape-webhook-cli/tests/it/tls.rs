//! https endpoints.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;

use crate::support::{Home, SECRET, ran};

#[tokio::test]
async fn certificates_are_checked() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], signing_key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/callback", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = hyper::service::service_fn(async |request: Request<Incoming>| {
                request.into_body().collect().await?;
                let answer = Response::builder().header(CONTENT_TYPE, "application/json");
                Ok::<_, hyper::Error>(answer.body(r#"{"success": true}"#.to_owned()).unwrap())
            });
            let served = hyper::server::conn::http1::Builder::new();
            served.serve_connection(TokioIo::new(stream), service).await.unwrap();
        }
    });

    let home = Home::new();
    std::fs::write(home.path().join("trusted.pem"), cert.pem()).unwrap();
    let other = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(home.path().join("other.pem"), other.cert.pem()).unwrap();
    let arguments = ["event", "trigger", "file_uploaded", "--to", &url, "--secret", SECRET, "--cost", "4"];
    let mut trusting = home.program(&arguments);
    let trusted = ran(trusting.env("SSL_CERT_FILE", home.path().join("trusted.pem"))).await.succeeds();
    assert!(trusted.out.contains("accepted"), "{trusted:?}");
    let mut strange = home.program(&arguments);
    let refused = ran(strange.env("SSL_CERT_FILE", home.path().join("other.pem"))).await;
    assert!(refused.code == Some(1) && refused.out.contains("certificate"), "{refused:?}");
}
