//! The console over HTTP: who sees and does what, and that nothing from outside becomes markup.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use smartshape_webhook::{ClientAddr, Delivery, Handler as _, HandlerError, RejectionKind, WebhookResponse};
use smartshape_webhook_inbox::{EventFilter, EventState, Inbox, ReasonId};
use smartshape_webhook_ui::{Access, Deliveries, ForwardOutcome, ReceivedDelivery, SendOutcome, Ui, Visitor};
use tempfile::TempDir;

/// An inbox in a folder that is deleted with the test.
struct Fixture {
    folder: TempDir,
    inbox: Inbox,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(folder.path().join("inbox.db").to_str().unwrap()).await.unwrap();
        Self { folder, inbox }
    }

    async fn store(&self, number: u32, file: &str, data: &str) -> Delivery {
        let file = serde_json::to_string(file).unwrap();
        let body = format!(
            r#"{{"file": {file}, "event": "file_uploaded", "data": {data}, "owner": "owner@example", "runTimestamp": 1, "uuid": "uuid-{number}"}}"#
        );
        let delivery = Delivery::for_test(body).unwrap();
        self.inbox.handle(delivery.clone()).await.unwrap();
        delivery
    }

    /// Makes every event a dead letter with this error.
    async fn fail(&self, error: &str) {
        let error = error.to_owned();
        let worker = self.inbox.worker(move |_: Delivery| {
            let error = HandlerError::permanent(error.clone());
            async move { Err(error) }
        });
        let worker = worker.spawn();
        while self.count(EventState::Waiting).await + self.count(EventState::Running).await > 0 {
            tokio::task::yield_now().await;
        }
        worker.shutdown().await.unwrap();
    }

    async fn count(&self, state: EventState) -> usize {
        self.inbox.list(EventFilter::default().state(state)).await.unwrap().len()
    }

    fn ui(&self, visitor: Visitor) -> Ui {
        Ui::inbox(self.inbox.clone(), Access::decide(move |_| visitor.clone()))
    }
}

async fn send(ui: &Ui, method: Method, query: &str, headers: &[(&str, &str)], body: &str) -> Response<Bytes> {
    let mut request = Request::builder().method(method).uri(format!("http://console.example/ops{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    ui.respond(head, Bytes::copy_from_slice(body.as_bytes())).await
}

async fn get(ui: &Ui, query: &str) -> (StatusCode, String) {
    let response = send(ui, Method::GET, query, &[], "").await;
    (response.status(), String::from_utf8(response.into_body().to_vec()).unwrap())
}

const OWN: &[(&str, &str)] = &[("sec-fetch-site", "same-origin")];

async fn post(ui: &Ui, headers: &[(&str, &str)], form: &str) -> StatusCode {
    send(ui, Method::POST, "", headers, form).await.status()
}

fn visitors() -> [Visitor; 5] {
    [
        Visitor::nobody(),
        Visitor::observer("o"),
        Visitor::reader("r"),
        Visitor::operator("op"),
        Visitor::owner("ow"),
    ]
}

#[tokio::test]
async fn overview_says_that_there_are_more_reasons_than_it_shows() {
    let fixture = Fixture::new().await;
    let ui = fixture.ui(Visitor::reader("r"));
    for number in 1..=7 {
        fixture.store(number, "f", "{}").await;
        fixture.fail(&format!("status {number}")).await;
        let (_, page) = get(&ui, "").await;
        let others = page.contains("All dead letters, for other reasons too");
        assert_eq!((page.contains("for more than 6 reasons"), others), (number > 6, number > 6), "{number}");
    }
}

#[tokio::test]
async fn page_of_a_reason_is_headed_by_its_text() {
    let fixture = Fixture::new().await;
    fixture.store(1, "f", "{}").await;
    fixture.fail("no part 5c6aeed079bf3f432d3c929e: <404>").await;
    let id = ReasonId::from_error("no part 5c6aeed079bf3f432d3c929e: <404>");
    let list = format!("?view=events&state=dead-letter&reason={id}");
    let confirm = format!("?view=confirm&do=replay&reason={id}");
    let page = get(&fixture.ui(Visitor::operator("op")), &list).await.1;
    assert!(page.contains("<h2>no part …: &lt;404&gt;</h2>"), "{page}");
    let page = get(&fixture.ui(Visitor::operator("op")), &confirm).await.1;
    assert!(page.contains("with the reason “no part …: &lt;404&gt;”"), "{page}");
    let page = get(&fixture.ui(Visitor::observer("o")), &list).await.1;
    assert!(
        page.contains(&format!("<h2>Reason <code>{id}</code></h2>")) && !page.contains("no part"),
        "{page}"
    );
}

/// A worker of an older version does not report, and an inbox with the tables of an older version has no reports.
#[tokio::test]
async fn overview_does_not_say_that_no_worker_is_alive() {
    let fixture = Fixture::new().await;
    fixture.store(1, "f", "{}").await;
    let page = get(&fixture.ui(Visitor::reader("r")), "").await.1;
    for text in ["No worker has reported for a minute; 1 event waits.", "no worker reports", "older versions"]
    {
        assert!(page.contains(text), "{text}: {page}");
    }
    let older = fixture.folder.path().join("older.db");
    std::fs::copy("../smartshape-webhook-inbox/tests/data/inbox-0.1.0.db", &older).unwrap();
    let older = Inbox::builder(older.to_str().unwrap()).read_only(true).open().await.unwrap();
    let page = get(&Ui::inbox(older, Access::decide(|_| Visitor::reader("r"))), "").await.1;
    assert!(page.contains("workers unknown") && !page.to_lowercase().contains("no worker"), "{page}");
    assert!(!page.contains("In the last hour") && !page.contains("in 24 h"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_do_its_actions() {
    let fixture = Fixture::new().await;
    let key = fixture.store(1, "f", r#"{"body": "BODY"}"#).await.key();
    fixture.fail("broken").await;
    let replay = format!("do=replay&event={key}&back=?");
    let purge = format!("do=purge&event={key}&back=?");
    for read_only in [true, false] {
        for (visitor, allowed) in visitors().into_iter().zip([0, 0, 0, 3, 4]) {
            let allowed = if read_only { 0 } else { allowed };
            let ui = fixture.ui(visitor.clone()).read_only(read_only);
            let forms = [replay.as_str(), "do=pause", "do=resume", &purge];
            for (number, form) in forms.into_iter().enumerate() {
                let may = number < allowed;
                let denied = if visitor == Visitor::nobody() {
                    StatusCode::UNAUTHORIZED
                } else {
                    StatusCode::FORBIDDEN
                };
                let expected = if may { StatusCode::SEE_OTHER } else { denied };
                assert_eq!(post(&ui, OWN, form).await, expected, "{visitor:?} {form}");
                let paused = fixture.inbox.paused().await.unwrap();
                assert_eq!(paused.is_some(), may && form == "do=pause", "{visitor:?} {form}");
            }
            match allowed {
                0 => assert_eq!(
                    fixture.count(EventState::DeadLetter).await,
                    1,
                    "{visitor:?} changed something"
                ),
                3 => {
                    assert_eq!(fixture.count(EventState::Waiting).await, 1);
                    fixture.fail("broken").await;
                }
                _ => assert_eq!(fixture.count(EventState::Completed).await, 1),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_sees_its_page() {
    let fixture = Fixture::new().await;
    let key = fixture.store(1, "f", r#"{"body": "BODY-TEXT"}"#).await.key();
    fixture.fail("ERROR-TEXT").await;
    let event = format!("?event={key}&view=events&state=dead-letter");
    let raw = format!("?raw={key}");
    let purge = format!("?view=confirm&do=purge&event={key}");
    let pages = [
        "",
        "?view=overview&span=1h",
        "?view=events",
        &event,
        "?view=events&q=ERROR-TEXT",
        &raw,
        &purge,
        "?tick",
    ];
    for visitor in visitors() {
        let ui = fixture.ui(visitor.clone());
        let mut seen = String::new();
        for page in pages {
            let (status, text) = get(&ui, page).await;
            assert_eq!(status == StatusCode::UNAUTHORIZED, visitor == Visitor::nobody(), "{page}");
            seen += &text;
        }
        let shows = |text: &str| seen.contains(text);
        let is_at_least = |number: usize| visitors()[number..].contains(&visitor);
        assert_eq!(shows("file_uploaded"), is_at_least(1), "{visitor:?}");
        for secret in ["BODY-TEXT", "ERROR-TEXT", "owner@example"] {
            assert_eq!(shows(secret), is_at_least(2), "{visitor:?} {secret}");
        }
        assert_eq!(shows("value=\"replay\""), is_at_least(3), "{visitor:?}");
        assert_eq!(shows("value=\"purge\""), is_at_least(4), "{visitor:?}");
    }
    // A search must not tell whether an error has a word, either.
    let observer = fixture.ui(Visitor::observer("o"));
    assert!(
        get(&observer, "?view=events&q=no+such+word").await.1.contains("uuid-1")
            == get(&observer, "?view=events&q=ERROR-TEXT").await.1.contains("uuid-1")
    );
    assert_eq!(get(&observer, &raw).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_posts_are_rejected() {
    let fixture = Fixture::new().await;
    let key = fixture.store(1, "f", "{}").await.key();
    fixture.fail("broken").await;
    let form = format!("do=purge&event={key}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_from_outside_never_become_markup() {
    let fixture = Fixture::new().await;
    let hostile = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</title><script>",
        "javascript:alert(1)",
        "&lt;b&gt;<b>",
        "\u{202e}cod.exe",
        "]]><svg onload=alert(1)>",
        "{{7*7}}<%= 1 %>",
    ];
    let mut keys = Vec::new();
    for (number, text) in (0..).zip(hostile) {
        let quoted = serde_json::to_string(text).unwrap();
        keys.push(
            fixture.store(number, text, &format!("{{{quoted}: [{quoted}, {{{quoted}: 1}}]}}")).await.key(),
        );
    }
    fixture.fail(&hostile.join(" ")).await;
    let ui = fixture.ui(Visitor::owner(hostile[0])).label(hostile[1]);
    let mut pages =
        vec![String::new(), "?view=events".into(), "?view=confirm&do=purge".into(), "?view=nothing".into()];
    pages.extend(keys.iter().map(|key| format!("?event={key}")));
    let parameters = hostile.map(|text| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>());
    for text in &parameters {
        for name in ["view", "q", "name", "state", "reason", "event", "span", "done", "before", "do"] {
            pages.push(format!("?{name}={text}"));
            pages.push(format!("?view=events&{name}={text}"));
        }
    }
    for page in pages {
        let (_, html) = get(&ui, &page).await;
        for forbidden in ["<script>", "<img src=x", "<b>", "<svg onload", "\u{202e}", "<%"] {
            // What the visitor searched for is in the search field again.
            let searched = forbidden == "\u{202e}" && page.contains("%e2%80%ae");
            assert!(searched || !html.contains(forbidden), "{page}: {forbidden}");
        }
        assert!(
            !html.contains("href=\"javascript:") && !html.contains(" style=") && !html.contains("<style"),
            "{page}"
        );
    }
}

#[tokio::test]
async fn responses_forbid_scripts_frames_and_caches() {
    let fixture = Fixture::new().await;
    let key = fixture.store(1, "f", "{}").await.key();
    let ui = fixture.ui(Visitor::reader("r"));
    for page in ["", "?view=events", "?view=none", "?tick", "?raw=0", "?asset=none", &format!("?raw={key}")] {
        let response = send(&ui, Method::GET, page, &[], "").await;
        let header = |name| response.headers()[name].to_str().unwrap().to_owned();
        let policy = header(header::CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{page}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("trusted-types 'none'"));
        assert_eq!(header(header::CACHE_CONTROL), "no-store", "{page}");
        assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }
    let raw = send(&ui, Method::GET, &format!("?raw={key}"), &[], "").await;
    assert_eq!(raw.headers()[header::CONTENT_TYPE], "application/octet-stream");
    assert_eq!(
        raw.headers()[header::CONTENT_DISPOSITION],
        format!("attachment; filename=\"{key}.json\"").as_str()
    );
    let head = send(&ui, Method::HEAD, "?view=events", &[], "").await;
    assert!(head.status() == StatusCode::OK && head.body().is_empty());
    let other = send(&ui, Method::DELETE, "", &[], "").await;
    assert_eq!(
        (other.status(), &other.headers()[header::ALLOW]),
        (StatusCode::METHOD_NOT_ALLOWED, &"GET, HEAD, POST".parse().unwrap())
    );
    assert_eq!(get(&ui, "?view=none").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn downloaded_body_is_exact() {
    let fixture = Fixture::new().await;
    let delivery = fixture
        .store(1, "f", "{\"n\": 12345678901234567890.10, \"twice\": 1, \"twice\": 2, \"e\": \"\\u00e9\"}")
        .await;
    let ui = fixture.ui(Visitor::reader("r"));
    let response = send(&ui, Method::GET, &format!("?raw={}", delivery.key()), &[], "").await;
    assert_eq!(response.body(), delivery.raw());
    assert!(get(&ui, &format!("?event={}", delivery.key())).await.1.contains("12345678901234567890.10"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_actions_change_what_was_seen() {
    let fixture = Fixture::new().await;
    fixture.store(1, "f", "{}").await;
    fixture.store(2, "f", "{}").await;
    fixture.fail("no part 5c6aeed079bf3f432d3c929e").await;
    let ui = fixture.ui(Visitor::owner("o"));
    let page = get(&ui, "?view=confirm&do=replay").await.1;
    assert!(page.contains("Replay 2 dead letters?"), "{page}");
    let up_to = page.split("name=\"up_to\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    fixture.store(3, "f", "{}").await;
    fixture.fail("another reason").await;
    assert_eq!(post(&ui, OWN, "do=replay").await, StatusCode::BAD_REQUEST, "without a bound");
    assert_eq!(post(&ui, OWN, &format!("do=replay&name=other&up_to={up_to}")).await, StatusCode::SEE_OTHER);
    assert_eq!(fixture.count(EventState::Waiting).await, 0, "the filter holds");
    let response =
        send(&ui, Method::POST, "", OWN, &format!("do=replay&up_to={up_to}&back=?view=events")).await;
    assert_eq!(response.headers()[header::LOCATION], "?view=events&done=replay&count=2");
    assert_eq!(
        (fixture.count(EventState::Waiting).await, fixture.count(EventState::DeadLetter).await),
        (2, 1)
    );
    for back in ["https://evil.example", "//evil.example", "javascript:alert(1)", "?a%0d%0ab"] {
        let response = send(&ui, Method::POST, "", OWN, &format!("do=resume&back={back}")).await;
        let location = response.headers()[header::LOCATION].to_str().unwrap();
        assert!(location.starts_with('?') && !location.contains("evil"), "{location}");
    }
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

/// Whatever the path: every link, asset and form is a query.
#[tokio::test]
async fn console_works_below_any_path() {
    use tower::ServiceExt as _;

    let fixture = Fixture::new().await;
    fixture.store(1, "f", "{}").await;
    let ui = fixture.ui(Visitor::owner("o"));
    let app: axum::Router = axum::Router::new()
        .route_service("/", ui.clone())
        .route_service("/a/b/inbox", ui.clone())
        .route_service("/inbox/", ui.clone())
        .nest_service("/nested", ui);
    for path in ["/", "/a/b/inbox", "/a/b/inbox/", "/inbox/", "/nested", "/nested/", "/nested/below"] {
        let page = async |query: &str| {
            let request = Request::get(format!("{path}{query}")).body(axum::body::Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let (status, html) = page("").await;
        // The README says which paths axum's routes match.
        let expected = if path == "/a/b/inbox/" { StatusCode::NOT_FOUND } else { StatusCode::OK };
        assert_eq!(status, expected, "{path}");
        if status == StatusCode::NOT_FOUND {
            continue;
        }
        let links =
            html.split(['"']).filter(|text| text.starts_with('?')).map(|link| link.replace("&amp;", "&"));
        let mut assets = 0;
        for link in links {
            assets += usize::from(link.starts_with("?asset"));
            assert_eq!(page(&link).await.0, StatusCode::OK, "{path} {link}");
        }
        assert!(assets >= 3);
        for attribute in ["href=\"", "src=\"", "action=\""] {
            for target in html.split(attribute).skip(1) {
                assert!(target.starts_with(['?', '#']), "{attribute}{}", &target[..40]);
            }
        }
    }
}

#[tokio::test]
async fn tick_changes_with_the_inbox_and_is_shared() {
    let fixture = Fixture::new().await;
    let ui = fixture.ui(Visitor::observer("o"));
    let first = get(&ui, "?tick").await.1;
    fixture.store(1, "f", "{}").await;
    assert_eq!(get(&ui, "?tick").await.1, first, "within a second all pages share one look at the inbox");
    while get(&ui, "?tick").await.1 == first {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn tick_changes_with_workers_and_pauses() {
    let fixture = Fixture::new().await;
    // A console of its own looks at once.
    let tick = async || get(&fixture.ui(Visitor::observer("o")), "?tick").await.1;
    let first = tick().await;
    fixture.inbox.pause("ops").await.unwrap();
    assert_ne!(tick().await, first);
    fixture.inbox.resume().await.unwrap();
    assert_eq!(tick().await, first);
    let worker = fixture.inbox.worker(|_: Delivery| async { Ok(()) }).spawn();
    while fixture.inbox.workers().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_ne!(tick().await, first);
    worker.shutdown().await.unwrap();
}

/// The activity is recorded a second after the event is stored: pages that were read in between are read again.
#[tokio::test]
async fn tick_changes_when_the_activity_is_recorded() {
    let fixture = Fixture::new().await;
    let hour = Duration::from_secs(60 * 60);
    let recorded = async || {
        let slots = fixture.inbox.activity(Timestamp::now() - hour, hour).await.unwrap();
        slots.iter().map(|slot| slot.stored).sum::<u64>()
    };
    // A console of its own looks at once.
    let tick = async || get(&fixture.ui(Visitor::observer("o")), "?tick").await.1;
    let mut stored = 0;
    let before = loop {
        stored += 1;
        fixture.store(stored, "f", "{}").await;
        let before = tick().await;
        if recorded().await < stored.into() {
            break before;
        }
    };
    while recorded().await < stored.into() {
        tokio::task::yield_now().await;
    }
    assert_ne!(tick().await, before);
}

/// A delivery with a body, one of a stranger, and where they can be sent.
fn deliveries(sent: &Arc<Mutex<Vec<Bytes>>>) -> Deliveries {
    let sent = Arc::clone(sent);
    let deliveries = Deliveries::new()
        .resend_to("http://127.0.0.1:1/callback", move |body| {
            sent.lock().unwrap().push(body);
            async { SendOutcome { is_accepted: true, text: "OUTCOME-TEXT".to_owned() } }
        })
        .samples(
            |kind| format!("SAMPLE of {kind}"),
            |_| async { SendOutcome { is_accepted: true, text: String::new() } },
        );
    let mut headers = http::HeaderMap::new();
    headers.insert("x-header", "HEADER-TEXT".parse().unwrap());
    headers.insert("x-smartshape-token", "TOKEN-TEXT".parse().unwrap());
    let received = |response: WebhookResponse| {
        let body = Bytes::from_static(
            br#"{"file": "<img src=x>", "event": "file_uploaded", "data": {"x": "BODY-TEXT"}, "owner": "o", "runTimestamp": 1, "uuid": "u\\u202e"}"#,
        );
        ReceivedDelivery::new("POST", &headers, &response, Duration::from_millis(7)).body(body)
    };
    let forward = ForwardOutcome::default();
    deliveries.push(received(WebhookResponse::success()).forward(forward.clone()));
    forward.set(SendOutcome { is_accepted: false, text: "FORWARD-TEXT".to_owned() });
    deliveries.push(received(RejectionKind::TokenUnmatched.into()));
    deliveries
}

#[tokio::test]
async fn each_role_sees_its_part_of_the_deliveries() {
    for read_only in [false, true] {
        for (number, visitor) in visitors().into_iter().enumerate() {
            let sent = Arc::default();
            let access = Access::decide({
                let visitor = visitor.clone();
                move |_| visitor.clone()
            });
            let ui = Ui::deliveries(deliveries(&sent), access).read_only(read_only);
            let mut seen = String::new();
            for page in
                ["", "?delivery=1", "?delivery=2", "?view=send", "?raw=1", "?raw=2", "?delivery=1&q=BODY"]
            {
                let (status, text) = get(&ui, page).await;
                assert_eq!(status == StatusCode::UNAUTHORIZED, number == 0, "{page}");
                seen += &text;
            }
            let operates = number >= 3 && !read_only;
            for (text, is_shown) in [
                ("file_uploaded", number >= 1),
                ("BODY-TEXT", number >= 2),
                ("HEADER-TEXT", number >= 2),
                ("FORWARD-TEXT", number >= 2),
                ("matches none of the secrets", number >= 2),
                ("SAMPLE of", operates),
                ("TOKEN-TEXT", false),
            ] {
                assert_eq!(seen.contains(text), is_shown, "{visitor:?} {text}");
            }
            for form in ["do=resend&delivery=1", "do=sample&body=x"] {
                let expected = match (operates, number) {
                    (true, _) => StatusCode::SEE_OTHER,
                    (false, 0) => StatusCode::UNAUTHORIZED,
                    (false, _) => StatusCode::FORBIDDEN,
                };
                assert_eq!(post(&ui, OWN, form).await, expected, "{visitor:?} {form}");
                assert_ne!(post(&ui, &[("sec-fetch-site", "cross-site")], form).await, StatusCode::SEE_OTHER);
            }
            assert_eq!(sent.lock().unwrap().len(), usize::from(operates), "{visitor:?}");
            if operates {
                assert!(get(&ui, "?delivery=1").await.1.contains("OUTCOME-TEXT"));
                // Nobody has the body of a stranger, to show or to send.
                assert_eq!(post(&ui, OWN, "do=resend&delivery=2").await, StatusCode::NOT_FOUND);
                assert_ne!(post(&ui, OWN, "do=purge&up_to=9").await, StatusCode::SEE_OTHER);
            }
        }
    }
}

#[tokio::test]
async fn copied_curl_names_the_endpoint_if_it_is_known() {
    let sent = Arc::default();
    let listener = Ui::deliveries(deliveries(&sent), Access::decide(|_| Visitor::owner("o")));
    let page = get(&listener, "?delivery=1").await.1;
    assert!(page.contains("curl -sS -X POST 'http://127.0.0.1:1/callback' -H"), "{page}");
    let fixture = Fixture::new().await;
    let key = fixture.store(1, "f", "{}").await.key();
    let page = get(&fixture.ui(Visitor::reader("r")), &format!("?event={key}")).await.1;
    assert!(page.contains("curl -sS -X POST URL -H"), "{page}");
}

#[tokio::test]
async fn deliveries_never_become_markup() {
    let sent = Arc::default();
    let ui = Ui::deliveries(deliveries(&sent), Access::decide(|_| Visitor::owner("<b>o</b>")));
    for page in [
        "",
        "?delivery=1",
        "?state=accepted&q=%3Cb%3E",
        "?state=%22%3E%3Cb%3E",
        "?delivery=%3Cb%3E",
        "?view=send&name=%3Cb%3E",
    ] {
        let html = get(&ui, page).await.1;
        assert!(!html.contains("<img src=x") && !html.contains("<b>"), "{page}: {html}");
    }
    assert!(get(&ui, "?delivery=1").await.1.contains("&lt;img src=x&gt;"));
    let raw = send(&ui, Method::GET, "?raw=1", &[], "").await;
    assert_eq!(raw.headers()[header::CONTENT_TYPE], "application/octet-stream");
}

#[cfg(all(feature = "actix", feature = "warp"))]
#[actix_web::test]
async fn console_is_a_route_of_actix_and_a_filter_of_warp() {
    use tower::ServiceExt as _;
    use warp::Filter as _;

    let fixture = Fixture::new().await;
    fixture.store(1, "f", "{}").await;
    let ui = fixture.ui(Visitor::owner("o"));
    let app = actix_web::App::new().route("/ops/inbox", smartshape_webhook_ui::actix::console(ui.clone()));
    let app = actix_web::test::init_service(app).await;
    let warp = warp::service(warp::path!("ops" / "inbox").and(smartshape_webhook_ui::warp::console(ui)));
    for (method, query, headers, form, expected) in [
        ("GET", "", &[][..], "", 200),
        ("GET", "?view=events", &[], "", 200),
        ("GET", "?asset=ui.css", &[], "", 200),
        ("DELETE", "", &[], "", 405),
        ("POST", "", &[], "do=pause&back=?", 403),
        ("POST", "", OWN, "do=pause&back=?", 303),
        ("POST", "", OWN, "do=resume&back=?", 303),
    ] {
        let uri = format!("/ops/inbox{query}");
        let mut request = actix_web::test::TestRequest::with_uri(&uri).set_payload(form);
        request = request.method(method.parse().unwrap());
        let mut other = Request::builder().method(method).uri(&uri).header("content-length", form.len());
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
            other = other.header(*name, *value);
        }
        let response = actix_web::test::call_service(&app, request.to_request()).await;
        assert_eq!(response.status().as_u16(), expected, "actix: {method} {query} {form}");
        assert!(response.headers().contains_key("content-security-policy"));
        let response = warp.clone().oneshot(other.body(form.to_owned()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "warp: {method} {query} {form}");
        assert!(response.headers().contains_key("content-security-policy"));
    }
}

#[cfg(all(feature = "actix", feature = "warp"))]
#[actix_web::test]
async fn body_is_read_only_of_visitors_who_may_send_one() {
    use actix_web::dev::Payload;
    use futures_util::stream::pending;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tower::ServiceExt as _;

    let fixture = Fixture::new().await;
    let request = |headers: &[(&str, &str)]| {
        let request = Request::post("/").header("content-length", 1_000_000);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        // It never arrives.
        request.body(StreamBody::new(pending::<Result<Frame<Bytes>, std::io::Error>>())).unwrap()
    };
    for (visitor, headers, expected) in
        [(Visitor::nobody(), OWN, 401), (Visitor::owner("o"), &[("sec-fetch-site", "cross-site")][..], 403)]
    {
        let ui = fixture.ui(visitor);
        assert_eq!(ui.clone().oneshot(request(headers)).await.unwrap().status(), expected);
        let warp = warp::service(smartshape_webhook_ui::warp::console(ui.clone()));
        assert_eq!(warp.oneshot(request(headers)).await.unwrap().status().as_u16(), expected);
        let app = actix_web::App::new().route("/", smartshape_webhook_ui::actix::console(ui));
        let app = actix_web::test::init_service(app).await;
        let mut post = actix_web::test::TestRequest::post();
        for header in headers {
            post = post.insert_header(*header);
        }
        let mut post = post.to_request();
        *post.payload() = Payload::Stream { payload: Box::pin(pending()) };
        assert_eq!(actix_web::test::call_service(&app, post).await.status().as_u16(), expected);
    }
}

#[test]
fn assets_are_small() {
    let size = |text: &str| text.len();
    let (css, js) = (include_str!("../../assets/ui.css"), include_str!("../../assets/ui.js"));
    let icons = size(include_str!("../../assets/icon.svg")) + size(include_str!("../../assets/sprite.svg"));
    assert!(size(js) <= 6 * 1024 && size(css) + size(js) + icons <= 40 * 1024);
}
