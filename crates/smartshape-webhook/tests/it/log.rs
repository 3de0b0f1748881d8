//! What a sender chooses cannot break a line of the log, nor reach a terminal.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{Delivery, Event, HandlerError, Head, Receiver, Secret};
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
        .hash_wait(Duration::from_secs(60))
        .build()
        .unwrap();
    let token = bcrypt::hash(SECRET, 4).unwrap();
    let deliver = async |body: String, gives_up_at_it: bool| {
        let headers =
            [("x-smartshape-token", token.as_bytes()), ("traceparent", HOSTILE.as_bytes()), (HOSTILE, b"x")];
        let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
        let head = Head::read("POST", headers);
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
    let head = Head::read("POST", [("x-smartshape-token", token.as_bytes())]);
    assert_eq!(receiver.serve(&head, broken, Arc::new(fails)).await.status(), 400);

    let log = log.0.lock().unwrap();
    assert!(log.len() > 10 && log.iter().any(|line| line.contains("cannot ever handle")), "{log:?}");
    for line in log.iter() {
        let unfit = |character: char| character.is_control() || matches!(character, '\u{202e}' | '\u{2028}');
        assert!(!line.contains(unfit), "{line:?}");
    }
}

#[tokio::test]
async fn a_flood_of_refusals_is_one_warning() {
    let log = Log::default();
    let _listening = log.listen();
    let receiver = Receiver::new(Secret::new(SECRET).unwrap()).unwrap();
    for _ in 0..100 {
        let nothing = stream::iter([Ok::<Bytes, std::io::Error>(Bytes::new())]);
        assert!(receiver.receive(&Head::read("POST", []), nothing).await.is_err());
    }
    let log = log.0.lock().unwrap();
    let lines = |start: &str| log.iter().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    assert_eq!(lines("DEBUG ").len(), 100, "{log:?}");
    let warnings = lines("WARN ");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("count=1 "), "{warnings:?}");
}
