//! Servers that fail, and how the client handles it.

use std::error::Error as _;
use std::time::Duration;

use smartshape_api::{Client, ErrorKind, EventKind};
use smartshape_fake::{ErrorFormat, FaultInjection};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket};

use crate::server::{EMPTY_LIST, Server, read_head};
use crate::{desired, fake, settings};

#[tokio::test]
async fn error_kinds_by_status_and_body_form() {
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).max_retries(0).build().unwrap();
    for (status, kind, advice) in [
        (400, ErrorKind::BadRequest, "check the arguments"),
        (401, ErrorKind::Unauthorized, "log in again"),
        (402, ErrorKind::NoSeat, "no licence seat"),
        (403, ErrorKind::Unauthorized, "log in again"),
        (404, ErrorKind::NotFound, "check the id"),
        (429, ErrorKind::TooManyRequests, "429): try again later"),
        (500, ErrorKind::Server, "try again later"),
        (503, ErrorKind::Unauthorized, "log in again"),
        (504, ErrorKind::Server, "504"),
    ] {
        for form in [ErrorFormat::Plain, ErrorFormat::Wrapped, ErrorFormat::List, ErrorFormat::Empty] {
            fake.inject(FaultInjection::error(status, form));
            let error = client.list_webhooks().await.unwrap_err();
            assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{form:?}");
            assert!(!error.is_ambiguous(), "a list has none");
            let text = error.to_string();
            assert!(text.starts_with("cannot list the webhooks: ") && text.contains(advice), "{text}");
            assert_eq!(
                text.contains("Injected: requested by the test"),
                form != ErrorFormat::Empty,
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn transient_failures_are_retried_except_for_creations() {
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).max_retries(2).build().unwrap();
    let first = || fake.inject(FaultInjection::error(500, ErrorFormat::Empty));

    first();
    fake.inject(FaultInjection::drop_connection());
    assert_eq!(client.list_webhooks().await.unwrap(), []);

    first();
    fake.inject(FaultInjection::error(504, ErrorFormat::Plain));
    fake.inject(FaultInjection::raw(502, "text/html", "<html>"));
    assert_eq!(client.list_webhooks().await.unwrap_err().status(), Some(502), "the third and last attempt");

    for (fault, kind) in [
        (FaultInjection::error(500, ErrorFormat::Plain), ErrorKind::Server),
        (FaultInjection::drop_connection(), ErrorKind::Unreachable),
        (FaultInjection::raw(200, "text/html", "<html>"), ErrorKind::UnexpectedResponse),
    ] {
        let before = fake.webhooks().len();
        fake.inject(fault.after_effect());
        let error = client.create_webhook(&desired(EventKind::FileUploaded, "http://a/")).await.unwrap_err();
        assert_eq!((error.kind(), fake.webhooks().len()), (kind, before + 1));
        assert!(error.to_string().contains("may exist all the same"), "{error}");
        assert!(error.is_ambiguous());
    }

    fake.inject(FaultInjection::error(503, ErrorFormat::Plain));
    assert_eq!(client.list_webhooks().await.unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(client.list_webhooks().await.unwrap().len(), 3);
}

#[tokio::test]
async fn rate_limited_calls_are_retried_after_retry_after() {
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).max_retries(1).build().unwrap();
    fake.inject(FaultInjection::error(429, ErrorFormat::Plain));
    client.create_webhook(&desired(EventKind::FileUploaded, "http://a/")).await.unwrap();
    assert_eq!(fake.webhooks().len(), 1, "a rejected creation has created nothing");

    // Longer than the call may take: reported at once.
    for (status, kind) in [
        ("429 Too Many Requests", ErrorKind::TooManyRequests),
        ("503 Service Unavailable", ErrorKind::Server),
    ] {
        let response = format!("HTTP/1.1 {status}\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n");
        let server = Server::responding_with(response.leak()).await;
        let error = settings(&fake).base_url(&server.url).build().unwrap().list_webhooks().await.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains("try again in 3600 s"), "{error}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn deletion_with_a_lost_response_succeeds_on_retry() {
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).build().unwrap();
    let id = fake.register(EventKind::FileUploaded, "http://a/", "a secret");
    fake.inject(FaultInjection::drop_connection().after_effect());
    client.delete_webhook(&id).await.unwrap();
    assert!(fake.webhooks().is_empty());
}

#[tokio::test]
async fn connection_refused_is_unreachable_and_not_ambiguous() {
    // Kept without listening, so that nobody else gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).base_url(&url).build().unwrap();
    let error = client.list_webhooks().await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unreachable, None));
    assert!(error.source().is_some() && error.to_string().contains(&url), "{error}");
    assert!(error.to_string().contains("the connection was refused"), "{error}");
    let error = client.create_webhook(&desired(EventKind::FileUploaded, "http://a/")).await.unwrap_err();
    assert!(!error.to_string().contains("may exist"), "nothing was sent: {error}");
    assert!(!error.is_ambiguous());
}

#[tokio::test]
async fn unknown_hosts_are_named_in_the_error() {
    // No name has so long a part, which no server of names is asked for.
    let url = format!("http://{}.invalid", "x".repeat(64));
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).base_url(url).allow_plain_http(true).build().unwrap();
    let error = client.list_webhooks().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("the name of the host is not known"), "{error}");
}

#[tokio::test]
async fn timeout_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).base_url(url).timeout(Duration::from_millis(100)).build().unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    };
    let call = async { client.create_webhook(&desired(EventKind::FileUploaded, "http://a/")).await };
    let (error, ()) = tokio::join!(call, server);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.is_ambiguous() && error.to_string().ends_with("list before trying again"), "{error}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Server::responding_with(EMPTY_LIST).await;
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).build().unwrap();
    for status in [301, 302, 307, 308] {
        let location = elsewhere.url.replacen("//", "//ada:pw@", 1) + "/webhook/?token=hunter2";
        fake.inject(FaultInjection::redirect(status, location));
        let error = client.list_webhooks().await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedResponse, Some(status)));
        let text = error.to_string();
        assert!(text.contains("API URL") && text.contains(&elsewhere.url) && !text.contains("hunter2"));
        assert!(!text.contains("ada"), "{text}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn invalid_responses_are_rejected() {
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).build().unwrap();
    let long = vec![b' '; 8 * 1024 * 1024 + 1];
    for (body, says) in [
        (b"<html>welcome".to_vec(), "13 bytes that are no JSON document (text/html)"),
        (b"{\"data\":".to_vec(), "no JSON document"),
        (b"\xff\xfe".to_vec(), "no JSON document"),
        (b"{\"success\":true}".to_vec(), "without the list"),
        (Vec::new(), "without the list"),
        (long, "longer than 8 MiB"),
    ] {
        fake.inject(FaultInjection::raw(200, "text/html", body));
        let error = client.list_webhooks().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedResponse);
        assert!(error.to_string().contains(says), "{error}");
    }
    let server = Server::responding_with("no HTTP at all\r\n\r\n").await;
    let error = settings(&fake).base_url(&server.url).build().unwrap().list_webhooks().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[test]
fn invalid_settings_are_named() {
    for (builder, named) in [
        (Client::builder().base_url("smartshape.io"), "API URL"),
        (Client::builder().base_url("http://a"), "set an https:// URL"),
        (Client::builder().base_url("https://a").timeout(Duration::ZERO), "timeout"),
        (Client::builder().base_url("https://a").connect_timeout(Duration::MAX), "connect_timeout"),
        (Client::builder().add_root_certificate("no certificate"), "root certificates"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings);
        assert!(error.to_string().contains(named), "{error}");
    }
}
