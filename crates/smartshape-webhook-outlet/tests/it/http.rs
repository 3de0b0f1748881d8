//! What the outlet sends, and what it makes of the response.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::IntoResponse;
use smartshape_webhook::{Handler as _, HandlerError, HandlerErrorKind};
use smartshape_webhook_outlet::{HttpOutlet, HttpOutletBuilder, OutletErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::{BODY, delivery, tls_acceptor};

/// 24 bytes in base64. It protects nothing.
pub(crate) const SECRET: &str = "whsec_c2lnbnMgdGVzdHMgYW5kIG5vdGhpbmcgZWxzZSE=";

type Requests = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// An endpoint that responds to each request with the next of these responses, and with the last one from then on.
async fn endpoint<R: IntoResponse + Clone + Send + Sync + 'static>(responses: Vec<R>) -> (String, Requests) {
    let requests = Requests::default();
    let received = Arc::clone(&requests);
    let app = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
        let mut requests = received.lock().unwrap();
        let response = responses[requests.len().min(responses.len() - 1)].clone();
        requests.push((headers, body));
        async move { response }
    });
    (serve(app).await, requests)
}

pub(crate) async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

/// The request by which an outlet passes [`BODY`] on.
pub(crate) async fn request() -> (HeaderMap, Bytes) {
    let (url, requests) = endpoint(vec![StatusCode::OK]).await;
    post(&url, BODY).await.unwrap();
    requests.lock().unwrap().remove(0)
}

pub(crate) fn local(url: &str) -> HttpOutletBuilder {
    HttpOutlet::builder(url, SECRET).allow_private_addresses()
}

pub(crate) async fn post(url: &str, body: &str) -> Result<(), HandlerError> {
    local(url).build().unwrap().handle(delivery(body)).await
}

#[tokio::test]
async fn outlet_succeeds_with_2xx_only_and_no_error_is_permanent() {
    let statuses: Vec<_> = (200..=599).filter_map(|status| StatusCode::from_u16(status).ok()).collect();
    let (url, requests) = endpoint(statuses.clone()).await;
    let outlet = local(&url).build().unwrap();
    for (index, status) in statuses.into_iter().enumerate() {
        match outlet.handle(delivery(BODY)).await {
            Ok(()) => assert!(status.is_success(), "{status}"),
            Err(error) => {
                assert!(!status.is_success(), "{status}");
                assert_eq!(error.kind(), HandlerErrorKind::Retry, "{status}");
                assert!(error.to_string().contains(status.as_str()), "{error}");
            }
        }
        assert_eq!(requests.lock().unwrap().len(), index + 1, "{status}: sent once");
    }
}

#[tokio::test]
async fn retry_after_is_obeyed_up_to_an_hour() {
    let cases =
        [("7", Some(7)), ("86400", Some(3600)), ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)), ("soon", None)];
    for (value, expected) in cases {
        let headers = [(HeaderName::from_static("retry-after"), value)];
        let (url, _) = endpoint(vec![(StatusCode::SERVICE_UNAVAILABLE, headers)]).await;
        let kind = post(&url, BODY).await.unwrap_err().kind();
        let expected = expected.map_or(HandlerErrorKind::Retry, |seconds| {
            HandlerErrorKind::RetryAfter(Duration::from_secs(seconds))
        });
        assert_eq!(kind, expected, "{value}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (target, at_target) = endpoint(vec![StatusCode::OK]).await;
    for status in [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
        let (url, _) =
            endpoint(vec![(status, [(HeaderName::from_static("location"), target.clone())])]).await;
        let error = post(&url, BODY).await.unwrap_err();
        assert!(error.to_string().contains("redirects are not followed"), "{error}");
    }
    assert!(at_target.lock().unwrap().is_empty());
}

/// Sends these bytes in response to each request, and keeps the connection open.
async fn raw_endpoint(response: &'static [u8], repeats: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                while stream.write_all(response).await.is_ok() && repeats {}
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn silent_and_endless_endpoints_are_bounded() {
    let silent = local(&raw_endpoint(b"", false).await).timeout(Duration::from_millis(200)).build().unwrap();
    let within = |outlet: HttpOutlet| async move {
        tokio::time::timeout(Duration::from_secs(30), outlet.handle(delivery(BODY))).await.expect("a bound")
    };
    let error = within(silent).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Retry);
    assert!(error.display_chain().contains("timed out"), "{}", error.display_chain());
    // Longer than any test runs, without the limit of bytes.
    let url = raw_endpoint(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 500 and so on", true).await;
    let endless = local(&url).timeout(Duration::from_secs(3600)).build().unwrap();
    within(endless).await.unwrap();
    let broken = local(&raw_endpoint(b"SSH-2.0-OpenSSH\r\n", false).await).build().unwrap();
    assert_eq!(broken.handle(delivery(BODY)).await.unwrap_err().kind(), HandlerErrorKind::Retry);
}

#[tokio::test]
async fn lost_response_is_a_failure_and_names_no_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook/do-not-show", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    let error = post(&url, BODY).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Retry);
    assert!(!error.display_chain().contains("do-not-show"), "{}", error.display_chain());
}

#[tokio::test]
async fn private_addresses_need_permission() {
    let (url, requests) = endpoint(vec![StatusCode::OK]).await;
    let port = url.rsplit([':', '/']).nth(1).unwrap();
    for host in
        ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"]
    {
        let error = HttpOutlet::builder(&format!("http://{host}:{port}/"), SECRET).build().unwrap_err();
        assert!(error.to_string().contains("allow_private_addresses"), "{host}: {error}");
        assert_eq!(error.kind(), OutletErrorKind::PrivateAddress, "{host}");
    }
    // A name is looked up for each connection.
    let outlet = HttpOutlet::builder(&format!("http://localhost:{port}/"), SECRET).build().unwrap();
    let error = outlet.handle(delivery(BODY)).await.unwrap_err();
    assert!(error.display_chain().contains("allow_private_addresses"), "{}", error.display_chain());
    assert!(requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn certificates_are_verified() {
    let (acceptor, certificate) = tls_acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let error = post(&url, BODY).await.unwrap_err();
    assert!(error.display_chain().contains("certificate"), "{}", error.display_chain());
    let trusting = local(&url).root_certificates(certificate).build().unwrap();
    trusting.handle(delivery(BODY)).await.unwrap();
}

#[test]
fn wrong_settings_are_rejected_and_show_nothing_secret() {
    let url = "https://app.example.com/";
    let longest = format!("whsec_{}==", "A".repeat(86));
    let (too_long, hexadecimal) = (longest.replacen('=', "A", 1), "ab".repeat(32));
    for (url, secret, kind, expected) in [
        ("app.example.com", SECRET, OutletErrorKind::Url, "the URL is invalid"),
        ("ftp://app.example.com/", SECRET, OutletErrorKind::Url, "neither https:// nor http://"),
        ("https://ada:do-not-show@app.example.com/", SECRET, OutletErrorKind::Url, "user name or password"),
        (url, "whsec_do-not-show", OutletErrorKind::SigningSecret, "base64"),
        (url, "whsec_", OutletErrorKind::SigningSecret, "0 bytes"),
        (url, "whsec_c2hvcnQ=", OutletErrorKind::SigningSecret, "5 bytes"),
        (url, &*too_long, OutletErrorKind::SigningSecret, "65 bytes"),
        (url, "", OutletErrorKind::SigningSecret, "does not begin with whsec_"),
        // Valid base64.
        (url, &SECRET[6..], OutletErrorKind::SigningSecret, "does not begin with whsec_"),
        (url, &*hexadecimal, OutletErrorKind::SigningSecret, "does not begin with whsec_"),
    ] {
        let error = HttpOutlet::builder(url, secret).build().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(expected) && !shown.contains("do-not-show"), "{shown}");
    }
    for (pem, expected) in [
        ("not PEM", "not in PEM form"),
        ("", "not in PEM form"),
        ("-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n", "not in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a root certificate is invalid"),
    ] {
        let error = HttpOutlet::builder(url, SECRET).root_certificates(pem).build().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), OutletErrorKind::RootCertificates);
    }
    HttpOutlet::builder(url, &longest).build().unwrap();
    let shown = format!("{:?} {:?}", local(url), local(url).build().unwrap());
    assert!(!shown.contains(&SECRET[6..]), "{shown}");
}
