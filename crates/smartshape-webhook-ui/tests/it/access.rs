//! Who gets in, and from where a change is accepted.

use std::net::IpAddr;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use smartshape_webhook::ClientAddr;
use smartshape_webhook_inbox::EventState;
use smartshape_webhook_ui::{Access, Ui, Visitor};

use crate::{Fixture, get, post, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_posts_are_rejected() {
    let fixture = Fixture::new().await;
    let key = fixture.store(1, "f", "{}").await.key();
    fixture.fail("broken").await;
    let form = format!("do=purge&event={key}&state=dead-letter");
    let ui = fixture.ui(Visitor::owner("o"));
    for headers in [
        &[][..],
        &[("host", "console.example")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", "http://console.example"), ("host", "console.example")],
        &[("sec-fetch-site", "none")],
        &[("origin", "null"), ("host", "console.example")],
        &[("origin", "http://evil.example"), ("host", "console.example")],
        &[("origin", "http://console.example:81"), ("host", "console.example")],
    ] {
        assert_eq!(post(&ui, headers, &form).await, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert_eq!(get(&ui, &format!("?{form}")).await.0, StatusCode::OK, "a GET changes nothing");
    assert_eq!(fixture.count(EventState::DeadLetter).await, 1);
    let plain_http = [("origin", "http://console.example"), ("host", "console.example")];
    assert_eq!(post(&ui, &plain_http, &form).await, StatusCode::SEE_OTHER);
    assert_eq!(fixture.count(EventState::Completed).await, 1);
    let proxied = ui.public_origin("https://ops.example/");
    assert_eq!(
        post(&proxied, &[("origin", "https://ops.example"), ("host", "backend")], "do=pause").await,
        StatusCode::SEE_OTHER
    );
    assert_eq!(post(&proxied, &plain_http, "do=pause").await, StatusCode::FORBIDDEN);
    let without_tls = [("origin", "http://ops.example"), ("host", "ops.example")];
    assert_eq!(post(&proxied, &without_tls, "do=pause").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn password_is_needed() {
    let fixture = Fixture::new().await;
    let access = Access::password("ops", "correct horse battery", Visitor::reader("ops")).unwrap();
    let ui = Ui::inbox(fixture.inbox.clone(), access);
    for headers in [&[][..], &[("authorization", "Bearer b3BzOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==")]] {
        let response = send(&ui, Method::GET, "", headers, "").await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
    assert!(!format!("{ui:?}").contains("horse"));
}

/// A browser that has logged in before still gets in. Where the server tells clients apart, everybody else does, too.
#[tokio::test]
async fn wrong_passwords_of_one_client_lock_out_no_other() {
    let fixture = Fixture::new().await;
    let access = Access::password("ops", "correct horse battery", Visitor::reader("ops")).unwrap();
    let ui = Ui::inbox(fixture.inbox.clone(), access);
    // ops:correct horse battery
    let (right, wrong) = ("Basic b3BzOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==", "Basic b3BzOndyb25n");
    let login = async |client: Option<u8>, credentials: &str, cookie: &str| {
        let request = Request::get("http://console.example/ops");
        let request = request.header("authorization", credentials).header("cookie", cookie);
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        if let Some(number) = client {
            head.extensions.insert(ClientAddr::from(IpAddr::from([192, 0, 2, number])));
        }
        ui.respond(head, Bytes::new()).await
    };
    let first = login(None, right, "").await;
    let cookie = first.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    for _ in 0..5 {
        assert_eq!(login(None, wrong, "").await.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(login(Some(1), wrong, "").await.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(login(None, right, "").await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(login(Some(1), right, "").await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(login(Some(2), right, "").await.status(), StatusCode::OK);
    let again = login(None, right, cookie).await;
    assert_eq!((again.status(), again.headers().contains_key(header::SET_COOKIE)), (StatusCode::OK, false));
    // The cookie alone is no login.
    assert_eq!(login(Some(2), wrong, cookie).await.status(), StatusCode::UNAUTHORIZED);
    for client in 11..100 {
        assert_eq!(login(Some(client), wrong, "").await.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(login(Some(3), right, "").await.status(), StatusCode::TOO_MANY_REQUESTS, "many clients");
    assert_eq!(login(Some(3), right, cookie).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn key_works_once_and_then_the_cookie() {
    let fixture = Fixture::new().await;
    let access = Access::key("0123456789abcdef", Visitor::reader("me")).unwrap();
    let ui = Ui::inbox(fixture.inbox.clone(), access);
    assert_eq!(get(&ui, "").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(get(&ui, "?key=0123456789abcdeX").await.0, StatusCode::UNAUTHORIZED);
    let first = send(&ui, Method::GET, "?key=0123456789abcdef", &[], "").await;
    let page = std::str::from_utf8(first.body()).unwrap();
    assert!(
        first.status() == StatusCode::OK && page.contains("url=?\"") && !page.contains("0123456789"),
        "{page}"
    );
    let cookie = first.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.contains("HttpOnly")
            && cookie.contains("SameSite=Strict")
            && !cookie.contains("0123456789abcdef")
    );
    let cookie = cookie.split(';').next().unwrap();
    let name = cookie.split('=').next().unwrap().to_owned();
    let with_cookie = [("cookie", cookie)];
    assert_eq!(send(&ui, Method::GET, "", &with_cookie, "").await.status(), StatusCode::OK);
    assert_eq!(get(&ui, "?key=0123456789abcdef").await.0, StatusCode::UNAUTHORIZED, "in another browser");
    let again = send(&ui, Method::GET, "?key=0123456789abcdef", &with_cookie, "").await;
    assert_eq!(again.status(), StatusCode::OK, "in the same browser");
    // Cookies know no ports.
    let other = send(&ui, Method::GET, "", &[("host", "localhost:1"), ("cookie", cookie)], "").await;
    assert_eq!(other.status(), StatusCode::UNAUTHORIZED, "the cookie of another port");
    // One with a password beside it, on the same origin.
    let access = Access::password("ops", "correct horse battery", Visitor::reader("ops")).unwrap();
    let login = [("authorization", "Basic b3BzOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==")];
    let beside = send(&Ui::inbox(fixture.inbox.clone(), access), Method::GET, "", &login, "").await;
    let set = beside.headers()[header::SET_COOKIE].to_str().unwrap();
    assert_ne!(set.split('=').next(), Some(&*name), "it would overwrite the cookie");
    assert!(Access::key("short", Visitor::reader("me")).is_err());
}

#[tokio::test]
async fn other_hosts_are_rejected() {
    let fixture = Fixture::new().await;
    let ui = fixture.ui(Visitor::reader("r")).hosts(["127.0.0.1", "localhost", "[::1]"]);
    for (host, expected) in [
        ("127.0.0.1:80", StatusCode::OK),
        ("LOCALHOST", StatusCode::OK),
        ("[::1]:8043", StatusCode::OK),
        ("evil.example", StatusCode::MISDIRECTED_REQUEST),
        ("127.0.0.1.evil.example", StatusCode::MISDIRECTED_REQUEST),
        ("localhost:80.evil.example", StatusCode::MISDIRECTED_REQUEST),
    ] {
        assert_eq!(send(&ui, Method::GET, "", &[("host", host)], "").await.status(), expected, "{host}");
    }
}
