//! Proxies that the environment names, on the way to SmartShape.

use smartshape_fake::FakeSmartShape;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Home, run, unused_url};

/// A proxy that responds to everything by itself, and how its requests begin.
pub(crate) async fn proxy() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let response = if head.starts_with("CONNECT") {
                "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"data\":[]}"
            };
            stream.write_all(response.as_bytes()).await.unwrap();
            sender.send(head.lines().next().unwrap().to_owned()).unwrap();
        }
    });
    (url, requests)
}

#[tokio::test]
async fn proxy_is_used_for_smartshape() {
    let (home, (proxy, mut requests)) = (Home::new(), proxy().await);
    // No name has so long a part, so no server of names is asked for.
    let host = format!("{}.invalid", "x".repeat(64));
    let key = rcgen::generate_simple_self_signed(["smartshape.invalid".to_owned()]).unwrap();
    home.write("trusted.pem", key.cert.pem());
    let list = |url: &str| {
        let mut program =
            home.program(&["--insecure", "--api-url", url, "--token", "the.auth.token", "webhook", "list"]);
        program.env("HTTP_PROXY", &proxy).env("https_proxy", &proxy).env("SSL_CERT_FILE", "trusted.pem");
        program
    };
    run(&mut list(&format!("http://{host}"))).await.assert_ok();
    assert_eq!(requests.try_recv().unwrap(), format!("GET http://{host}/webhook/ HTTP/1.1"));
    run(&mut list("https://smartshape.invalid")).await.assert_fails(1, "a proxy that HTTPS_PROXY");
    assert_eq!(requests.try_recv().unwrap(), "CONNECT smartshape.invalid:443 HTTP/1.1");
    while requests.try_recv().is_ok() {}
    let direct = run(list(&format!("http://{host}")).env("NO_PROXY", "example.com,.invalid")).await;
    direct.assert_fails(1, "the name of the host is not known");
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn proxy_is_not_used_for_loopback_addresses() {
    let (home, fake, (_socket, unused)) = (Home::new(), FakeSmartShape::start().await.unwrap(), unused_url());
    run(home.logged_in(&fake, &["webhook", "list"]).env("HTTP_PROXY", unused)).await.assert_ok();
}
