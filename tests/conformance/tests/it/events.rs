//! What the handler sees of events of every form.

use conformance::harness::{Harness, assert_rejected, assert_success, event};
use smartshape_fake::{EventPayload, sample_text};
use smartshape_webhook::{EventKind, OnUnexpectedEvent};

pub(crate) async fn the_nine_samples(harness: Harness) {
    let server = harness.start().await;
    for kind in EventKind::ALL {
        assert_success(&server.deliver(sample_text(kind)).await);
        let seen = server.script.seen().pop().unwrap();
        assert_eq!((seen.event.as_str(), seen.body.as_str()), (kind.as_str(), sample_text(kind)));
        assert_eq!(seen.uuid, EventPayload::exact_sample(kind).uuid());
    }
}

pub(crate) async fn unrecognized_events_reach_the_handler(harness: Harness) {
    use conformance::target::Target;
    let server = harness.start().await;
    let unknown = event("1").replace("file_uploaded", "file_deleted");
    let undecoded = event("2").replace("{\"name\":\"a\"}", "[]");
    for (body, expected) in [(unknown, "unknown"), (undecoded, "undecoded")] {
        assert_success(&server.deliver(&body).await);
        let seen = server.script.seen().pop().unwrap();
        assert_eq!(seen.body, body);
        if harness.target != Target::AxumPlain {
            assert_eq!(seen.event, expected);
        }
    }
    let decoded = if harness.target == Target::AxumPlain { 0 } else { 2 };
    assert_eq!(server.receiver.stats().unrecognized, decoded, "unrecognized events are counted");
}

pub(crate) async fn typed_extractor(harness: Harness) {
    if !harness.target.has_typed_route() {
        return; // Only extractors have one.
    }
    let other = event("1").replace("file_uploaded", "file_optimized");
    let undecodable = event("2").replace("{\"name\":\"a\"}", "[]");
    let server = harness.start().await;
    let typed = |body: &str| server.delivery(body).replace("/callback", "/typed");
    for body in [&other, &undecodable] {
        assert_rejected(&server.exchange(typed(body)).await, 422, "event not accepted here");
    }
    assert_eq!(server.script.seen(), []);
    assert_success(&server.exchange(typed(&event("3"))).await);
    assert_eq!(server.script.seen()[0].body, r#"{"name":"a"}"#);
    assert_success(&server.deliver(&other).await);
    assert_eq!(server.script.calls("1"), 1, "a rejected event stays new");

    let lenient =
        harness.start_with(|builder| builder.on_unexpected_event(OnUnexpectedEvent::Acknowledge)).await;
    for body in [&other, &undecodable, &other] {
        assert_success(&lenient.exchange(lenient.delivery(body).replace("/callback", "/typed")).await);
    }
    assert_eq!(lenient.script.seen(), []);
    assert_eq!(lenient.receiver.stats().duplicates, 1, "a discarded event is completed");
    // Operators see the same with every framework: one outcome each, and no rejection beside it.
    assert_eq!((server.receiver.stats().failed, server.receiver.stats().rejected), (2, 0));
    assert_eq!((lenient.receiver.stats().acknowledged, lenient.receiver.stats().failed), (2, 0));
    let [given_up, rejected] = ["given-up", "rejected"].map(|name| format!("{name}-{:?}", harness.target));
    let with_uuid = |uuid: &str| typed(&other.replace("\"1\"", &format!("{uuid:?}")));
    assert_success(&lenient.exchange(with_uuid(&given_up)).await);
    let response = server.exchange(with_uuid(&rejected)).await;
    assert_rejected(&response, 422, "event not accepted here");
    for (uuid, level, outcome) in [(given_up, "ERROR", "discarded"), (rejected, "WARN", "failed")] {
        let logged = conformance::log::outcomes(&uuid);
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(
            logged[0].0 == level && logged[0].1.contains(&format!("outcome=\"{outcome}\"")),
            "{logged:?}"
        );
        assert!(logged[0].1.contains("(file_optimized)"), "{logged:?}");
    }
}
