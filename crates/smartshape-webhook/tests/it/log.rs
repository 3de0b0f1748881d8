//! The log: no text of a client breaks a line of it or reaches a terminal, and rejections do not flood it.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{
    BoxHandler, Delivery, Event, FileUploaded, HandlerError, NamedSecret, OnUnexpectedEvent, RequestHead,
    Secret, TOKEN_HEADER,
};
use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;

use crate::common::{
    SECRET, TOKEN, body_stream, builder, event, head, long_timeouts, serve, succeed, token_of, uploaded,
};

/// Everything that is logged: each field as a formatter would write it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, "{field}={value} ");
    }
}

impl Log {
    /// Subscribes on this thread while both guards are held. With only one subscriber in the process, tracing would
    /// cache each callsite's interest as the first thread that reaches it sees it, which may be another test's.
    fn listen(&self) -> (DefaultGuard, Dispatch) {
        let second = Dispatch::new(Self::default());
        (tracing::subscriber::set_default(self.clone()), second)
    }

    fn note(&self, record: impl FnOnce(&mut Fields)) {
        let mut fields = Fields(String::new());
        record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.note(|fields| span.record(fields));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        self.note(|fields| values.record(fields));
    }

    fn event(&self, event: &tracing::Event<'_>) {
        self.note(|fields| {
            let _ = write!(fields.0, "{} ", event.metadata().level());
            event.record(fields);
        });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A line break, a terminal's escape, a bell, text that runs backwards, a line's separator.
const HOSTILE: &str = "a\r\n\u{1b}[31m\u{7}\u{9b}\u{202e}\u{2028}\0b";

async fn fails(delivery: Delivery) -> Result<(), HandlerError> {
    let _: &Event = delivery.event();
    Err(format!("cannot handle {}", delivery.uuid()).into())
}

async fn gives_up(delivery: Delivery) -> Result<(), HandlerError> {
    let _: &Event = delivery.event();
    Err(HandlerError::permanent(format!("cannot ever handle {}", delivery.file())))
}

#[tokio::test]
async fn hostile_texts_are_escaped() {
    let log = Log::default();
    let _listening = log.listen();
    let receiver = builder().build().unwrap();
    let deliver = async |body: String, handler: BoxHandler| {
        let headers =
            [(TOKEN_HEADER, TOKEN.as_bytes()), ("traceparent", HOSTILE.as_bytes()), (HOSTILE, b"x")];
        let head = RequestHead::from_parts("POST", headers);
        receiver.serve(&head, body_stream(body), Arc::new(handler)).await.status()
    };
    let (failing, giving_up) = (BoxHandler::new(fails), BoxHandler::new(gives_up));
    let body = |event: &str| {
        let data = serde_json::json!({"size": HOSTILE, "state": HOSTILE});
        serde_json::json!({"file": HOSTILE, "event": event, "data": data, "owner": HOSTILE, "runTimestamp": HOSTILE,
            "uuid": HOSTILE})
    };
    for event in [HOSTILE, "file_uploaded"] {
        assert_eq!(deliver(body(event).to_string(), failing.clone()).await, 500);
        assert_eq!(deliver(body(event).to_string(), giving_up.clone()).await, 200);
        assert_eq!(deliver(body(event).to_string(), giving_up.clone()).await, 200, "a duplicate");
    }
    let mut invalid = body("file_uploaded");
    invalid["uuid"] = serde_json::json!([HOSTILE]);
    assert_eq!(deliver(invalid.to_string(), giving_up.clone()).await, 400);
    assert_eq!(deliver(HOSTILE.to_owned(), giving_up).await, 400);
    let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other(HOSTILE))]);
    assert_eq!(receiver.serve(&head(&TOKEN), broken, Arc::new(fails)).await.status(), 400);

    let log = log.0.lock().unwrap();
    assert!(log.len() > 10 && log.iter().any(|line| line.contains("cannot ever handle")), "{log:?}");
    for line in log.iter() {
        let unfit = |character: char| character.is_control() || matches!(character, '\u{202e}' | '\u{2028}');
        assert!(!line.contains(unfit), "{line:?}");
    }
}

/// An operator sees when the old secret of a rotation is no longer used.
#[tokio::test]
async fn outcomes_and_spans_name_the_secret() {
    let log = Log::default();
    let _listening = log.listen();
    let (old, new) = (Secret::new(SECRET).unwrap(), Secret::new("the new secret of these tests").unwrap());
    let new_token = token_of("the new secret of these tests", 7);
    let new = NamedSecret::new("new", new).for_webhook("old");
    let receiver =
        long_timeouts().named_secret(NamedSecret::new("old", old)).named_secret(new).build().unwrap();
    serve(&receiver, uploaded("1-old"), succeed).await;
    serve(&receiver, uploaded("2-old"), fails).await;
    serve(&receiver, uploaded("3-old"), gives_up).await;
    let new_body = body_stream(uploaded("4-new"));
    receiver.serve(&head(&new_token), new_body, Arc::new(succeed)).await;

    let log = log.0.lock().unwrap();
    for (uuid, secret) in [("1-old", "old"), ("2-old", "old"), ("3-old", "old"), ("4-new", "new")] {
        let of_delivery: Vec<_> = log.iter().filter(|line| line.contains(&format!("uuid={uuid} "))).collect();
        assert_eq!(of_delivery.len(), 2, "the span and the outcome: {log:?}");
        assert!(
            of_delivery.iter().all(|line| line.contains(&format!("secret={secret} "))),
            "{of_delivery:?}"
        );
    }
}

/// The first rejections are logged one by one. Then one warning opens a quiet time of 10 seconds, at whose end the
/// others are logged in one line, without another request.
#[tokio::test(start_paused = true)]
async fn rejections_in_a_quiet_time_are_logged_at_its_end() {
    let log = Log::default();
    let _listening = log.listen();
    let receiver = builder().build().unwrap();
    let reject = async |method: &str, times: usize| {
        for _ in 0..times {
            assert!(receiver.receive(&RequestHead::from_parts(method, []), body_stream("")).await.is_err());
        }
    };
    let warnings = || {
        let log = log.0.lock().unwrap();
        log.iter().filter(|line| line.starts_with("WARN ")).cloned().collect::<Vec<_>>()
    };
    reject("POST", 5).await;
    assert_eq!(warnings().len(), 5);
    tokio::time::sleep(Duration::from_secs(1)).await;
    reject("POST", 3).await;
    reject("GET", 90).await;
    assert_eq!(warnings().len(), 6, "one opened the quiet time");
    assert!(warnings().iter().all(|line| line.contains("kind=TokenMissing")), "{:?}", warnings());

    tokio::time::sleep(Duration::from_secs(11)).await;
    let logged = warnings();
    assert_eq!(logged.len(), 7, "{logged:?}");
    assert!(logged[6].contains("count=92 "), "{logged:?}");
    assert!(
        logged[6].contains("kinds=2 TokenMissing (such as: no x-smartshape-token header: not from SmartShape, or a proxy strips it); 90 MethodNotAllowed"),
        "{logged:?}"
    );

    // The flood goes on: still one warning in ten seconds. Then it is over, and all has been logged.
    for _ in 0..20 {
        reject("GET", 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let logged = warnings();
    assert!((9..=10).contains(&logged.len()), "{logged:?}");
    let counts = logged[7..].iter().map(|line| {
        line.split_once("count=")
            .map_or(1, |(_, rest)| rest.split(' ').next().unwrap().parse::<u32>().unwrap())
    });
    assert_eq!(counts.sum::<u32>(), 20, "{logged:?}");
    reject("GET", 1).await;
    assert_eq!(warnings().len(), logged.len() + 1, "at once, after a quiet time without any");
    assert_eq!(receiver.stats().rejected, 119);
}

/// A runtime that ends in a quiet time logs what is left.
#[test]
fn rejections_in_a_quiet_time_are_logged_when_the_runtime_ends() {
    let log = Log::default();
    let _listening = log.listen();
    let receiver = builder().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..20 {
            assert!(receiver.receive(&RequestHead::from_parts("POST", []), body_stream("")).await.is_err());
        }
    });
    drop(runtime);
    let log = log.0.lock().unwrap();
    assert!(log.iter().any(|line| line.starts_with("WARN ") && line.contains("count=14 ")), "{log:?}");
}

#[tokio::test]
async fn unexpected_event_is_one_line_and_one_outcome() {
    for (policy, level, outcome) in [
        (OnUnexpectedEvent::Reject, "WARN ", "failed"),
        (OnUnexpectedEvent::Acknowledge, "ERROR ", "discarded"),
    ] {
        for (name, data, why) in [
            ("file_optimized", "{}", "the extractor takes another event (file_optimized)"),
            ("file_uploaded", "[]", "expected an object"),
        ] {
            let log = Log::default();
            let _listening = log.listen();
            let receiver = builder().on_unexpected_event(policy).build().unwrap();
            let body = body_stream(event(name, data, "1"));
            let extracted = receiver.extract::<FileUploaded>(&head(&TOKEN), body).await;
            assert_eq!(extracted.unwrap_err().status(), if outcome == "failed" { 422 } else { 200 });
            let log = log.0.lock().unwrap();
            let lines: Vec<_> = log.iter().filter(|line| !line.starts_with("DEBUG")).collect();
            assert_eq!(lines.iter().filter(|line| line.contains("outcome=")).count(), 1, "{lines:?}");
            let warned = |line: &&&String| line.starts_with("WARN ") || line.starts_with("ERROR ");
            let warned: Vec<_> =
                lines.iter().filter(warned).filter(|line| !line.contains("acknowledged an event")).collect();
            assert_eq!(warned.len(), 1, "{lines:?}");
            assert!(
                warned[0].starts_with(level) && warned[0].contains(&format!("outcome={outcome} ")),
                "{lines:?}"
            );
            assert!(warned[0].contains(why), "{lines:?}");
            let stats = receiver.stats();
            let acknowledged = u64::from(outcome == "discarded");
            assert_eq!(
                (stats.rejected, stats.failed, stats.acknowledged),
                (0, 1 - acknowledged, acknowledged)
            );
        }
    }
}
