//! The pages of an inbox: what each visitor sees and does there, and that nothing from outside becomes markup.

use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use jiff::Timestamp;
use smartshape_webhook::Delivery;
use smartshape_webhook_inbox::{EventState, Inbox, ReasonId};
use smartshape_webhook_ui::{Access, Ui, Visitor};

use crate::{Fixture, OWN, get, post, send, visitors};

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
    let replay = format!("do=replay&event={key}&state=dead-letter&back=?");
    let purge = format!("do=purge&event={key}&state=waiting&back=?");
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
async fn second_click_replays_no_completed_event() {
    let folder = tempfile::tempdir().unwrap();
    let inbox = Inbox::builder(folder.path().join("inbox.db").to_str().unwrap());
    let inbox = inbox.body_retention(Duration::from_secs(3600)).open().await.unwrap();
    let fixture = Fixture { folder, inbox };
    let key = fixture.store(1, "f", "{}").await.key();
    fixture.fail("broken").await;
    let ui = fixture.ui(Visitor::operator("op"));
    let page = get(&ui, &format!("?event={key}")).await.1;
    let hidden = |name, value: &str| format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">");
    assert!(
        page.contains(&hidden("event", &key.to_string())) && page.contains(&hidden("state", "dead-letter"))
    );

    let form = format!("do=replay&event={key}&state=dead-letter&back=?view=events");
    let replayed = async || {
        let response = send(&ui, Method::POST, "", OWN, &form).await;
        response.headers()[header::LOCATION].to_str().unwrap().to_owned()
    };
    assert_eq!(replayed().await, "?view=events&done=replay&count=1");
    let worker = fixture.inbox.worker(|_: Delivery| async { Ok(()) }).spawn();
    while fixture.count(EventState::Completed).await == 0 {
        tokio::task::yield_now().await;
    }
    worker.shutdown().await.unwrap();
    assert_eq!(replayed().await, "?view=events&done=replay&count=0");

    let form = format!("do=replay&event={key}&back=?view=events");
    assert_eq!(post(&ui, OWN, &form).await, StatusCode::BAD_REQUEST, "without the state that was seen");
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

#[test]
fn assets_are_small() {
    let size = |text: &str| text.len();
    let (css, js) = (include_str!("../../assets/ui.css"), include_str!("../../assets/ui.js"));
    let icons = size(include_str!("../../assets/icon.svg")) + size(include_str!("../../assets/sprite.svg"));
    assert!(size(js) <= 6 * 1024 && size(css) + size(js) + icons <= 40 * 1024);
}
