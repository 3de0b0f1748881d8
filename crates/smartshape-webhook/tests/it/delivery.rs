//! Deliveries, as handlers get them.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use smartshape_webhook::{
    BoxHandler, Delivery, DeliveryKey, EventKind, EventRouter, FileUploaded, Handler, HandlerError,
    HandlerErrorKind, Receiver, RequestHead,
};

use crate::common::{TOKEN, body_stream, builder, event, uploaded};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn serve(receiver: &Receiver, body: String, handler: impl Handler) -> u16 {
    let headers = [("x-smartshape-token", TOKEN.as_bytes()), ("traceparent", TRACE.as_bytes())];
    receiver
        .serve(&RequestHead::from_parts("POST", headers), body_stream(body), Arc::new(handler))
        .await
        .status()
}

#[tokio::test]
async fn delivery_has_what_came_with_its_request() {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let handler = move |delivery: Delivery| {
        *keep.lock().unwrap() = Some(delivery);
        async { Ok(()) }
    };
    let uuid = "a36b623a-c1ed-49b5-9585-3532fe8e9881";
    let before = Timestamp::now();
    assert_eq!(
        serve(&builder().build().unwrap(), event("file_uploaded", r#"{"name":"inside"}"#, uuid), handler)
            .await,
        200
    );
    let delivery = kept.lock().unwrap().take().unwrap();
    assert_eq!((delivery.uuid(), delivery.as_uuid().unwrap().to_string().as_str()), (uuid, uuid));
    assert_eq!(delivery.traceparent(), Some(TRACE));
    assert_eq!((delivery.secret_name(), delivery.attempt()), (Some("default"), 1));
    assert_eq!(delivery.kind(), Some(EventKind::FileUploaded));
    assert_eq!(delivery.data::<HashMap<String, String>>().unwrap()["name"], "inside");
    assert!((before..=Timestamp::now()).contains(&delivery.received_at()));
    let shown = format!("{delivery:?}");
    assert!(["file_uploaded", "5c6f", uuid].iter().all(|text| shown.contains(text)), "{shown}");
    assert!(!shown.contains("inside"), "{shown}");

    let other = Delivery::for_test(uploaded("no uuid")).unwrap();
    assert_eq!((other.uuid(), other.as_uuid(), other.traceparent()), ("no uuid", None, None));
}

/// A string with escapes equals the string without, so the delivery is the same.
#[test]
fn delivery_is_the_same_with_and_without_escapes() {
    let owners =
        [(r#""a@b""#, "a@b"), (r#""a\u0040b""#, "a@b"), (r#"{"username":"Ada"}"#, "Ada"), (r#""""#, "")];
    for (owner, person) in owners {
        let plain = DeliveryKey::new("é-1", "file_uploaded", if person.is_empty() { owner } else { person });
        for (file, uuid) in [("5c6f-é", "é-1"), (r"\u0035c6f-\u00e9", r"\u00e9-1")] {
            let body = format!(
                r#" {{"uuid":"{uuid}","owner":{owner},"file":"{file}","event":"file_uploaded","data":{{}},"runTimestamp":1}}"#
            );
            let delivery = Delivery::for_test(body.clone()).unwrap();
            assert_eq!((delivery.file().as_str(), delivery.uuid()), ("5c6f-é", "é-1"), "{body}");
            assert_eq!(delivery.key(), plain, "{body}");
            let owner = delivery.owner();
            assert_eq!(owner.email().or(owner.username()).unwrap_or_default(), person, "{body}");
        }
    }
}

#[test]
fn handler_error_keeps_its_source() {
    #[derive(Debug)]
    struct Outer(std::io::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("cannot store")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    let error = HandlerError::from(Outer(std::io::Error::other("the disk is full")));
    assert_eq!(error.to_string(), "cannot store");
    assert_eq!(error.display_chain(), "cannot store: the disk is full");
    assert_eq!(error.kind(), HandlerErrorKind::Retry);
    assert!(error.get_ref().downcast_ref::<Outer>().is_some());
}

#[test]
fn handlers_have_debug_output() {
    let router = EventRouter::new().on(|_: FileUploaded, _| async { Ok(()) });
    assert_eq!(format!("{router:?}"), "{FileUploaded}");
    let handler = router.fallback(|_: Delivery| async { Ok(()) });
    assert_eq!(format!("{handler:?}"), "{FileUploaded}");
    assert_eq!(format!("{:?}", BoxHandler::new(handler)), "BoxHandler");
}

#[test]
fn byte_order_mark_is_kept_in_the_raw_body_only() {
    let event = uploaded("a36b623a");
    let sent = event.replacen(':', " :\n", 1);
    let marked = format!("\u{feff}{sent}");
    let delivery = Delivery::for_test(marked.clone()).unwrap();
    assert_eq!((delivery.raw(), delivery.raw_data().as_str()), (&Bytes::from(marked), "{}"));
    assert_eq!((serde_json::to_string(&delivery).unwrap(), delivery.to_json_line()), (sent, event.clone()));
    assert_eq!(delivery.key(), Delivery::for_test(event).unwrap().key());
}
