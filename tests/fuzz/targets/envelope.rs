//! A body is taken apart as serde_json's own tree of values would be, byte for byte.
#![no_main]

use serde_json::Value;
use serde_json::value::RawValue;
use smartshape_webhook::{Delivery, DeliveryKey, Envelope, EnvelopeErrorKind};

const FIELDS: [&str; 6] = ["file", "event", "data", "owner", "runTimestamp", "uuid"];

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let tree: Result<Value, _> = serde_json::from_slice(json(body));
    let envelope = match Envelope::parse(body) {
        Ok(envelope) => envelope,
        Err(error) => {
            assert!(error.to_string().len() < 2000, "the error quotes the body");
            if let Ok(tree) = &tree {
                assert_eq!(error.kind(), EnvelopeErrorKind::Invalid, "{tree}");
            }
            let delivery = Delivery::for_test(body.to_vec()).map_err(|error| error.kind());
            assert_eq!(delivery.err(), Some(error.kind()));
            return;
        }
    };
    let text = std::str::from_utf8(body).expect("JSON is UTF-8");
    assert!(text.contains(envelope.data()) && text.contains(envelope.run_timestamp_raw()));
    assert!(!envelope.event().is_empty() && !envelope.uuid().is_empty());
    let raw: Result<&RawValue, _> = serde_json::from_slice(json(body));
    assert!(raw.is_ok(), "what is no JSON was accepted");
    // There is no tree if a value that the envelope only skips is too deep, or holds a lone surrogate.
    if let Ok(tree) = &tree {
        assert!(FIELDS.iter().all(|field| tree.get(field).is_some()), "{tree}");
        assert_eq!(tree["file"], envelope.file());
        assert_eq!(tree["event"], envelope.event());
        assert_eq!(tree["uuid"], envelope.uuid());
        assert_eq!(Some(&tree["data"]), serde_json::from_str(envelope.data()).ok().as_ref());
    }
    delivery(body, &envelope);
});

/// Without the byte order mark that may stand before it.
fn json(body: &[u8]) -> &[u8] {
    body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body)
}

fn delivery(body: &[u8], envelope: &Envelope<'_>) {
    let delivery = Delivery::for_test(body.to_vec()).expect("the envelope was read");
    assert_eq!(delivery.raw(), body);
    assert_eq!(delivery.raw_data().as_str(), envelope.data());
    assert_eq!(delivery.event_name(), envelope.event());
    assert_eq!(delivery.event().name(), envelope.event());
    assert_eq!((delivery.uuid(), delivery.as_uuid()), (envelope.uuid(), envelope.as_uuid()));
    assert_eq!((delivery.file().as_str(), delivery.owner()), (envelope.file(), envelope.owner()));
    assert_eq!(delivery.triggered_at(), envelope.triggered_at());
    assert_eq!(delivery.kind(), envelope.kind());
    let key = DeliveryKey::new(envelope.uuid(), envelope.event(), envelope.owner_key());
    assert_eq!(delivery.key(), key);
    assert_eq!(key.to_string().parse(), Ok(key));

    let line = delivery.to_json_line();
    assert!(!line.contains(['\n', '\r']), "not one line");
    let again = Delivery::for_test(line.clone()).expect("the line is the same event");
    assert_eq!(again.to_json_line(), line);
    assert_eq!((again.uuid(), again.event_name()), (delivery.uuid(), delivery.event_name()));

    let emitted = serde_json::to_vec(&delivery).expect("what came in is JSON");
    assert_eq!(emitted, json(body).trim_ascii(), "serialising changes it");
    assert!(!format!("{delivery:?} {:?}", delivery.span()).contains('\n'), "a line of the log is broken");
}
