//! https: endpoints, and the web API.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use smartshape_fake::FakeSmartShape;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;

use crate::event::trigger;
use crate::support::{Home, SECRET, run};

/// Serves https on a free port: the same response to every request.
async fn serve(CertifiedKey { cert, signing_key }: CertifiedKey<KeyPair>, json: &'static str) -> SocketAddr {
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
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = hyper::service::service_fn(async |request: Request<Incoming>| {
                request.into_body().collect().await?;
                let response = Response::builder().header(CONTENT_TYPE, "application/json");
                Ok::<_, hyper::Error>(response.body(json.to_owned()).unwrap())
            });
            let served = hyper::server::conn::http1::Builder::new();
            served.serve_connection(TokioIo::new(stream), service).await.unwrap();
        }
    });
    address
}

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap()
}

#[tokio::test]
async fn endpoint_certificates_are_verified() {
    let (home, key) = (Home::new(), certificate());
    home.write("trusted.pem", key.cert.pem());
    home.write("other.pem", certificate().cert.pem());
    let url = format!("https://{}/callback", serve(key, r#"{"success": true}"#).await);
    let trusting = |pem: &str| {
        let mut program = trigger(&home, &url);
        program.env("SSL_CERT_FILE", home.path().join(pem));
        program
    };
    let trusted = run(&mut trusting("trusted.pem")).await.assert_ok();
    assert!(trusted.out.contains("accepted"), "{trusted:?}");
    let rejected = run(&mut trusting("other.pem")).await;
    assert!(rejected.code == Some(1) && rejected.out.contains("by SSL_CERT_FILE"), "{rejected:?}");
    // A server without TLS.
    let fake = FakeSmartShape::start().await.unwrap();
    let url = fake.base_url().replace("http://", "https://");
    for command in [
        &["event", "trigger", "file_uploaded", "--to", &url, "--secret", SECRET, "--cost", "4"][..],
        &["check", &url, "--secret", SECRET],
        &["--api-url", &url, "--token", "the.auth.token", "webhook", "list"],
    ] {
        let mut program = home.program(command);
        let failed = run(program.env("SSL_CERT_FILE", home.path().join("trusted.pem"))).await;
        let printed = format!("{}{}", failed.out, failed.err);
        assert!(
            printed.contains("does not speak TLS") && !printed.contains("InvalidContentType"),
            "{failed:?}"
        );
    }
}

#[tokio::test]
async fn ca_cert_is_used_and_stored() {
    let (home, key) = (Home::new(), certificate());
    home.write("trusted.pem", key.cert.pem());
    let response = r#"{"success": true, "cookies": "jsonwebtoken=the.auth.token", "data": []}"#;
    let url = format!("https://{}", serve(key, response).await);
    let list = ["--api-url", &url, "--token", "the.auth.token", "webhook", "list"];
    // Something is trusted, but not this.
    home.write("other.pem", certificate().cert.pem());
    let program = |arguments: &[&str]| {
        let mut program = home.program(arguments);
        program
            .env("SSL_CERT_FILE", home.path().join("other.pem"))
            .env("SMARTSHAPE_PASSWORD", "her password");
        program
    };
    run(&mut program(&list)).await.assert_fails(1, "name its file by --ca-cert");
    run(&mut program(&[&list[..], &["--ca-cert", "none.pem"]].concat())).await.assert_fails(2, "none.pem");
    run(&mut program(&[&list[..], &["--ca-cert", "trusted.pem"]].concat())).await.assert_ok();
    run(program(&list).env("SMARTSHAPE_CA_CERT", "trusted.pem")).await.assert_ok();
    run(&mut program(&["--api-url", &url, "--ca-cert", "trusted.pem", "login", "ada"])).await.assert_ok();
    run(program(&["webhook", "list"]).current_dir("/")).await.assert_ok();
    // Another login does not forget it.
    run(&mut program(&["login", "ada"])).await.assert_ok();
    run(&mut program(&["webhook", "list"])).await.assert_ok();
    run(&mut program(&["--api-url", &format!("{url}/"), "webhook", "list"])).await.assert_ok();
    // It is trusted for the server that it was stored for, and for no other.
    let stored = ".config/smartshape/config.json";
    home.write(stored, home.read(stored).replace(&url, "https://onprem.example"));
    run(&mut program(&list)).await.assert_fails(1, "name its file by --ca-cert");
}
