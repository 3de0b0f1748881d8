//! The inspector: deliveries of a listener.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use smartshape_webhook::{RejectionKind, WebhookResponse};
use smartshape_webhook_ui::{Access, Deliveries, ForwardOutcome, ReceivedDelivery, SendOutcome, Ui, Visitor};

use crate::{Fixture, OWN, get, post, send, visitors};

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
