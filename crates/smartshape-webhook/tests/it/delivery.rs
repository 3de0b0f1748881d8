//! What a handler gets, and what becomes of what it says.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use smartshape_webhook::{
    BoxHandler, Delivery, DeliveryKey, DeliveryMeta, EventRouter, FileUploaded, Handler, HandlerError,
    HandlerErrorKind, Receiver, RequestHead, Secret,
};

const SECRET: &str = "the secret of these tests";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn body(event: &str, uuid: &str, data: &str) -> String {
    format!(
        r#"{{"file":"5c6f","event":"{event}","data":{data},"owner":"o","runTimestamp":1,"uuid":"{uuid}"}}"#
    )
}

fn receiver() -> Receiver {
    Receiver::builder()
        .secret(Secret::new(SECRET).unwrap())
        .verify_timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

async fn serve(receiver: &Receiver, body: String, handler: impl Handler) -> u16 {
    let token = bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string();
    let headers = [("x-smartshape-token", token.as_bytes()), ("traceparent", TRACE.as_bytes())];
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
    receiver.serve(&RequestHead::from_parts("POST", headers), body, Arc::new(handler)).await.status()
}

#[tokio::test]
async fn a_delivery_says_how_it_came() {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let handler = move |delivery: Delivery| {
        *keep.lock().unwrap() = Some(delivery);
        async { Ok(()) }
    };
    let uuid = "a36b623a-c1ed-49b5-9585-3532fe8e9881";
    let before = Timestamp::now();
    assert_eq!(serve(&receiver(), body("file_uploaded", uuid, r#"{"name":"inside"}"#), handler).await, 200);
    let delivery = kept.lock().unwrap().take().unwrap();
    assert_eq!((delivery.uuid(), delivery.as_uuid().unwrap().to_string().as_str()), (uuid, uuid));
    assert_eq!(delivery.traceparent(), Some(TRACE));
    assert!((before..=Timestamp::now()).contains(&delivery.received_at()));
    let shown = format!("{delivery:?}");
    assert!(["file_uploaded", "5c6f", uuid].iter().all(|text| shown.contains(text)), "{shown}");
    assert!(!shown.contains("inside"), "{shown}");

    let other = Delivery::for_test(body("file_uploaded", "no uuid", "{}")).unwrap();
    assert_eq!((other.uuid(), other.as_uuid(), other.traceparent()), ("no uuid", None, None));
    let received_at = "2026-11-24T08:00:00Z".parse().unwrap();
    let kept = DeliveryMeta {
        key: None,
        received_at,
        attempt: 3,
        secret_name: Some("uploads".into()),
        webhook: None,
        traceparent: Some(TRACE.into()),
    };
    let restored = Delivery::restore(body("file_uploaded", uuid, "{}"), kept).unwrap();
    assert_eq!((restored.received_at(), restored.attempt()), (received_at, 3));
    assert_eq!((restored.secret_name(), restored.traceparent()), (Some("uploads"), Some(TRACE)));
}

/// A text with escapes is the same text, and so the same delivery.
#[test]
fn a_delivery_says_the_same_however_it_was_written() {
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

#[tokio::test]
async fn unrecognized_events_that_handlers_saw_are_counted() {
    let looks = |delivery: Delivery| async move {
        let _ = delivery.event();
        Ok(())
    };
    let does_not_look = |_: Delivery| async { Ok(()) };
    let receiver = receiver();
    for (event, data, drifted) in
        [("file_uploaded", "{}", 0), ("file_uploaded", "[]", 1), ("file_deleted", "{}", 2)]
    {
        assert_eq!(serve(&receiver, body(event, &format!("{event}{data}"), data), looks).await, 200);
        assert_eq!(receiver.stats().unrecognized, drifted, "{event} {data}");
    }
    assert_eq!(serve(&receiver, body("file_deleted", "unseen", "{}"), does_not_look).await, 200);
    assert_eq!(serve(&receiver, body("file_deleted", "unseen", "{}"), does_not_look).await, 200);
    let stats = receiver.stats();
    assert_eq!((stats.unrecognized, stats.acknowledged, stats.duplicates), (2, 4, 1));
}

#[tokio::test]
async fn a_handler_may_give_up_or_panic() {
    let receiver = receiver();
    let gives_up = |_: Delivery| async { Err(HandlerError::permanent("never")) };
    // Without the message that a panic prints.
    let panics = |_: Delivery| async { std::panic::resume_unwind(Box::new("on purpose")) };
    assert_eq!(serve(&receiver, body("file_uploaded", "1", "{}"), panics).await, 500);
    assert_eq!((receiver.stats().failed, receiver.stats().acknowledged), (1, 0));
    assert_eq!(serve(&receiver, body("file_uploaded", "1", "{}"), gives_up).await, 200);
    assert_eq!(serve(&receiver, body("file_uploaded", "1", "{}"), panics).await, 200, "a duplicate");
    assert_eq!((receiver.stats().failed, receiver.stats().acknowledged), (1, 1));
}

#[test]
fn a_handlers_error_is_the_one_that_it_met() {
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
    assert_eq!(error.chain(), "cannot store: the disk is full");
    assert_eq!(error.kind(), HandlerErrorKind::Retry);
    assert!(error.source().downcast_ref::<Outer>().is_some());
}

#[test]
fn handlers_show_what_they_are() {
    let router = EventRouter::new().on(|_: FileUploaded, _| async { Ok(()) });
    assert_eq!(format!("{router:?}"), "{FileUploaded}");
    let handler = router.fallback(|_: Delivery| async { Ok(()) });
    assert_eq!(format!("{handler:?}"), "{FileUploaded}");
    assert_eq!(format!("{:?}", BoxHandler::new(handler)), "BoxHandler");
}

#[test]
fn a_byte_order_mark_is_kept_beside_the_event() {
    let event = body("file_uploaded", "a36b623a", "{}");
    let marked = format!("\u{feff}{event}");
    let delivery = Delivery::for_test(marked.clone()).unwrap();
    assert_eq!((delivery.raw(), delivery.raw_data().as_str()), (&Bytes::from(marked), "{}"));
    assert_eq!(
        (serde_json::to_string(&delivery).unwrap(), delivery.to_json_line()),
        (event.clone(), event.clone())
    );
    assert_eq!(delivery.key(), Delivery::for_test(event).unwrap().key());
}
