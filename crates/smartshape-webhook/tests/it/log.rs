//! What a sender chooses cannot break a line of the log, nor reach a terminal.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{
    Delivery, Event, FileUploaded, HandlerError, OnUnexpectedEvent, Receiver, RequestHead, Secret,
};
use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;

const SECRET: &str = "the secret of these tests";

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
    /// Listens on this thread for as long as both are kept. Where one subscriber alone is known to the process, tracing
    /// asks the thread that comes first to a place in the code whether anybody listens, and that is another test's.
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
async fn hostile_texts_do_not_reach_the_log_as_they_are() {
    let log = Log::default();
    let _listening = log.listen();
    let receiver = Receiver::builder()
        .secret(Secret::new(SECRET).unwrap())
        .verify_timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    let token = bcrypt::hash(SECRET, 4).unwrap();
    let deliver = async |body: String, gives_up_at_it: bool| {
        let headers =
            [("x-smartshape-token", token.as_bytes()), ("traceparent", HOSTILE.as_bytes()), (HOSTILE, b"x")];
        let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
        let head = RequestHead::from_parts("POST", headers);
        if gives_up_at_it {
            receiver.serve(&head, body, Arc::new(gives_up)).await.status()
        } else {
            receiver.serve(&head, body, Arc::new(fails)).await.status()
        }
    };
    let body = |event: &str| {
        let data = serde_json::json!({"size": HOSTILE, "state": HOSTILE});
        serde_json::json!({"file": HOSTILE, "event": event, "data": data, "owner": HOSTILE, "runTimestamp": HOSTILE,
            "uuid": HOSTILE})
    };
    for event in [HOSTILE, "file_uploaded"] {
        assert_eq!(deliver(body(event).to_string(), false).await, 500);
        assert_eq!(deliver(body(event).to_string(), true).await, 200);
        assert_eq!(deliver(body(event).to_string(), true).await, 200, "a duplicate");
    }
    let mut invalid = body("file_uploaded");
    invalid["uuid"] = serde_json::json!([HOSTILE]);
    assert_eq!(deliver(invalid.to_string(), true).await, 400);
    assert_eq!(deliver(HOSTILE.to_owned(), true).await, 400);
    let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other(HOSTILE))]);
    let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
    assert_eq!(receiver.serve(&head, broken, Arc::new(fails)).await.status(), 400);

    let log = log.0.lock().unwrap();
    assert!(log.len() > 10 && log.iter().any(|line| line.contains("cannot ever handle")), "{log:?}");
    for line in log.iter() {
        let unfit = |character: char| character.is_control() || matches!(character, '\u{202e}' | '\u{2028}');
        assert!(!line.contains(unfit), "{line:?}");
    }
}

/// One by one at first; then one warning opens a quiet time, whose rejections are told at its end, without another request.
#[tokio::test(start_paused = true)]
async fn rejections_in_a_quiet_time_are_told_at_its_end() {
    let log = Log::default();
    let _listening = log.listen();
    let receiver = Receiver::new(Secret::new(SECRET).unwrap()).unwrap();
    let reject = async |method: &str, times: usize| {
        for _ in 0..times {
            let nothing = stream::iter([Ok::<Bytes, std::io::Error>(Bytes::new())]);
            assert!(receiver.receive(&RequestHead::from_parts(method, []), nothing).await.is_err());
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
    let told = warnings();
    assert_eq!(told.len(), 7, "{told:?}");
    assert!(told[6].contains("count=92 "), "{told:?}");
    assert!(
        told[6].contains("kinds=2 TokenMissing (such as: no x-smartshape-token header: not from SmartShape, or a proxy strips it); 90 MethodNotAllowed"),
        "{told:?}"
    );

    // The flood goes on: still one warning in ten seconds. Then it is over, and all has been told.
    for _ in 0..20 {
        reject("GET", 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let told = warnings();
    assert!((9..=10).contains(&told.len()), "{told:?}");
    let counts = told[7..].iter().map(|line| {
        line.split_once("count=")
            .map_or(1, |(_, rest)| rest.split(' ').next().unwrap().parse::<u32>().unwrap())
    });
    assert_eq!(counts.sum::<u32>(), 20, "{told:?}");
    reject("GET", 1).await;
    assert_eq!(warnings().len(), told.len() + 1, "at once, after a quiet time without any");
    assert_eq!(receiver.stats().rejected, 119);
}

/// Told when the runtime ends, too: nothing is left for a time that does not come.
#[test]
fn rejections_in_a_quiet_time_are_told_when_the_runtime_ends() {
    let log = Log::default();
    let _listening = log.listen();
    let receiver = Receiver::new(Secret::new(SECRET).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..20 {
            let nothing = stream::iter([Ok::<Bytes, std::io::Error>(Bytes::new())]);
            assert!(receiver.receive(&RequestHead::from_parts("POST", []), nothing).await.is_err());
        }
    });
    drop(runtime);
    let log = log.0.lock().unwrap();
    assert!(log.iter().any(|line| line.starts_with("WARN ") && line.contains("count=14 ")), "{log:?}");
}

#[tokio::test]
async fn an_unexpected_event_is_one_line_and_one_outcome() {
    for (policy, level, outcome) in [
        (OnUnexpectedEvent::Reject, "WARN ", "failed"),
        (OnUnexpectedEvent::Acknowledge, "ERROR ", "discarded"),
    ] {
        for (event, data, why) in [
            ("file_optimized", "{}", "the extractor takes another event (file_optimized)"),
            ("file_uploaded", "[]", "expected an object"),
        ] {
            let log = Log::default();
            let _listening = log.listen();
            let secret = Secret::new(SECRET).unwrap();
            let builder = Receiver::builder().secret(secret).on_unexpected_event(policy);
            let receiver = builder.verify_timeout(Duration::from_secs(60)).build().unwrap();
            let token = bcrypt::hash(SECRET, 4).unwrap();
            let body = format!(
                r#"{{"file":"5c","event":"{event}","data":{data},"owner":"o","runTimestamp":1,"uuid":"1"}}"#
            );
            let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
            let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
            let answer = receiver.extract::<FileUploaded, _, _, _>(&head, body).await.unwrap_err();
            assert_eq!(answer.status(), if outcome == "failed" { 422 } else { 200 });
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
