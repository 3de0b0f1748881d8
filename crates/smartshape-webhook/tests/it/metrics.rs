//! Metrics, as a recorder gets them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use metrics::{LocalRecorderGuard, set_default_local_recorder};
use smartshape_webhook::{
    Delivery, Event, EventKind, FileUploaded, HandlerError, NamedSecret, Received, Receiver, ReceiverBuilder,
    RejectionKind, RequestHead, Secret, TOKEN_HEADER, WebhookResponse,
};

use crate::common::{
    SECRET, TOKEN, body_stream, builder, claim, event, head, poll_until, serve, token_of, uploaded,
};
use crate::recorder::TestRecorder;

const TABLE: &str = include_str!("../../METRICS.md");

/// A receiver whose metrics go to a recorder of this thread.
fn measured(builder: ReceiverBuilder) -> (&'static TestRecorder, LocalRecorderGuard<'static>, Receiver) {
    let recorder: &TestRecorder = Box::leak(Box::default());
    let installed = set_default_local_recorder(recorder);
    (recorder, installed, builder.build().unwrap())
}

async fn read_event(delivery: Delivery) -> Result<(), HandlerError> {
    let _event: &Event = delivery.event();
    Ok(())
}

async fn fails(_: Delivery) -> Result<(), HandlerError> {
    Err("failed".into())
}

async fn gives_up(_: Delivery) -> Result<(), HandlerError> {
    Err(HandlerError::permanent("cannot be"))
}

async fn panics(_: Delivery) -> Result<(), HandlerError> {
    panic!("on purpose")
}

fn counts<const N: usize>(expected: [(&str, f64); N]) -> BTreeMap<String, f64> {
    expected.into_iter().map(|(labels, count)| (labels.to_owned(), count)).collect()
}

#[tokio::test]
async fn deliveries_are_counted_by_event_and_outcome() {
    let (recorder, _installed, receiver) = measured(builder());
    assert_eq!(serve(&receiver, uploaded("1"), fails).await.status(), 500);
    assert_eq!(serve(&receiver, uploaded("1"), panics).await.status(), 500);
    assert_eq!(serve(&receiver, uploaded("1"), read_event).await.status(), 200);
    assert_eq!(serve(&receiver, uploaded("1"), read_event).await.status(), 200);
    assert_eq!(serve(&receiver, event("file_optimized", "{}", "2"), gives_up).await.status(), 200);
    assert_eq!(serve(&receiver, event("file_deleted", "{}", "3"), read_event).await.status(), 200);
    assert_eq!(serve(&receiver, event("file_uploaded", "[]", "4"), read_event).await.status(), 200);

    let outcomes = counts([
        ("event=file_uploaded,outcome=failed", 2.0),
        ("event=file_uploaded,outcome=acknowledged", 2.0),
        ("event=file_uploaded,outcome=duplicate", 1.0),
        ("event=file_optimized,outcome=discarded", 1.0),
        ("event=unknown,outcome=acknowledged", 1.0),
    ]);
    assert_eq!(recorder.all("deliveries_total"), outcomes);
    let acknowledged =
        counts([("outcome=acknowledged", 3.0), ("outcome=discarded", 1.0), ("outcome=duplicate", 1.0)]);
    assert_eq!(recorder.all("acknowledge_seconds"), acknowledged, "a failure is no acknowledgement");
    assert_eq!(
        recorder.all("unrecognized_events_total"),
        counts([("reason=unknown", 1.0), ("reason=undecoded", 1.0)])
    );
    assert_eq!(recorder.all("tokens_hashed_total"), counts([("", 1.0)]), "the token is known afterwards");
    assert_eq!(recorder.all("rejections_total"), counts([]), "a failed handler rejects nothing");
    for name in ["deliveries_in_flight", "body_reserved_bytes", "tokens_waiting", "tokens_hashing"] {
        assert_eq!(recorder.all(name), counts([]), "{name}");
    }
}

/// Prometheus' `increase` compares samples: it does not see the first count of a series that is born with it.
#[tokio::test]
async fn counters_begin_at_zero_with_all_labels() {
    let (recorder, _installed, _receiver) = measured(builder());
    for (name, count) in [
        ("deliveries_total", (EventKind::ALL.len() + 1) * 4),
        ("rejections_total", RejectionKind::ALL.len()),
        ("unrecognized_events_total", 2),
        ("differing_duplicates_total", 1),
        ("tokens_hashed_total", 1),
        ("evictions_total", 3),
    ] {
        let begins = format!("smartshape_webhook_{name}{{");
        let series = recorder.series().into_iter().filter(|series| series.starts_with(&begins));
        assert_eq!((series.count(), recorder.all(name)), (count, counts([])), "{name}");
    }
}

#[tokio::test]
async fn each_event_has_its_own_label() {
    let (recorder, _installed, receiver) = measured(builder());
    for kind in EventKind::ALL {
        assert_eq!(serve(&receiver, event(kind.as_str(), "{}", "1"), read_event).await.status(), 200);
    }
    let each = EventKind::ALL.map(|kind| (format!("event={kind},outcome=acknowledged"), 1.0));
    assert_eq!(recorder.all("deliveries_total"), each.into());
}

#[tokio::test]
async fn acknowledge_seconds_include_the_body() {
    let (recorder, _installed, receiver) = measured(builder());
    let pause = Duration::from_millis(30);
    let late = uploaded("1");
    let slow = stream::once(async move {
        tokio::time::sleep(pause).await;
        Ok::<_, std::io::Error>(Bytes::from(late))
    });
    let started_at = std::time::Instant::now();
    let response = receiver.serve(&head(&TOKEN), slow, Arc::new(read_event)).await;
    let all = started_at.elapsed().as_secs_f64();
    assert_eq!(response.status(), 200);
    let recorded =
        recorder.values("acknowledge_seconds{outcome=acknowledged}", |values| values.recorded.clone());
    let [seconds] = recorded.unwrap()[..] else { panic!("one value") };
    assert!((pause.as_secs_f64()..=all).contains(&seconds), "{seconds} of {all}");
}

#[tokio::test]
async fn gauges_follow_deliveries_in_flight() {
    let (recorder, _installed, receiver) = measured(builder());
    let text = uploaded("1");
    let length = text.len().to_string();
    let headers = [(TOKEN_HEADER, TOKEN.as_bytes()), ("content-length", length.as_bytes())];
    let head = RequestHead::from_parts("POST", headers);
    let received = receiver.receive(&head, body_stream(text.clone())).await;
    let Ok(Received::New(claimed)) = received else { panic!("it is new") };
    assert_eq!(recorder.now("deliveries_in_flight{}"), 1.0);
    assert_eq!(recorder.now("body_reserved_bytes{}"), text.len() as f64);

    let second = receiver.clone();
    let same = text.clone();
    let waiting = tokio::spawn(async move { serve(&second, same, read_event).await });
    poll_until(async || receiver.stats().duplicates == 1).await;
    assert_eq!(
        recorder.now("deliveries_total{event=file_uploaded,outcome=duplicate}"),
        0.0,
        "not responded yet"
    );
    let kept = claimed.delivery().clone();
    assert_eq!(claimed.acknowledge().await.status(), 200);
    assert_eq!(waiting.await.unwrap().status(), 200);
    assert_eq!(recorder.now("deliveries_total{event=file_uploaded,outcome=duplicate}"), 1.0);
    assert_eq!(recorder.now("deliveries_in_flight{}"), 0.0);
    assert_eq!(recorder.now("body_reserved_bytes{}"), text.len() as f64, "the handler keeps the body");
    drop(kept);
    assert_eq!(recorder.now("body_reserved_bytes{}"), 0.0);
    assert_eq!(recorder.values("deliveries_in_flight{}", |values| values.highest), Some(2.0), "briefly");
}

#[tokio::test]
async fn hashes_are_counted_and_gauged() {
    let (recorder, _installed, receiver) = measured(builder().verify_threads(1));
    let requests: Vec<_> = (0..8)
        .map(|salt| {
            let (receiver, head) = (receiver.clone(), head(&token_of("forged", salt)));
            tokio::spawn(async move { receiver.receive(&head, body_stream("")).await.map(drop) })
        })
        .collect();
    for rejected in requests {
        assert_eq!(rejected.await.unwrap().unwrap_err().kind(), RejectionKind::TokenUnmatched);
    }
    assert_eq!(recorder.now("tokens_hashed_total{}"), 8.0);
    assert_eq!(recorder.now("rejections_total{kind=TokenUnmatched}"), 8.0);
    let highest = |name: &str| recorder.values(name, |values| values.highest).unwrap();
    assert!((1.0..=4.0).contains(&highest("tokens_hashing{}")), "there is one thread, with four lanes");
    assert!(highest("tokens_waiting{}") >= 1.0);
    assert_eq!((recorder.now("tokens_hashing{}"), recorder.now("tokens_waiting{}")), (0.0, 0.0));
}

#[tokio::test]
async fn rejections_are_counted_by_kind() {
    let narrow = NamedSecret::new("narrow", Secret::new("the secret of one event").unwrap());
    let narrow = narrow.scoped_to([EventKind::FileOptimized]);
    let (recorder, _installed, receiver) =
        measured(builder().named_secret(narrow).max_body_bytes(200).memory_limit_bytes(200));
    let good = TOKEN.as_str();
    let (narrow, forged) = (token_of("the secret of one event", 7), token_of("forged", 7));
    let (costly, text) = (good.replace("$04$", "$31$"), uploaded("1"));
    let kinds = [
        (RejectionKind::MethodNotAllowed, "GET", good, text.as_str()),
        (RejectionKind::TokenMalformed, "POST", "evil", &text),
        (RejectionKind::TokenTooCostly, "POST", &costly, &text),
        (RejectionKind::TokenUnmatched, "POST", &forged, &text),
        (RejectionKind::TokenOutOfScope, "POST", &narrow, &text),
        (RejectionKind::NotJson, "POST", good, "evil"),
        (RejectionKind::EnvelopeInvalid, "POST", good, r#"{"event":"evil"}"#),
        (RejectionKind::BodyTooLarge, "POST", good, &"evil".repeat(51)),
    ];
    for (kind, method, token, body) in kinds {
        let head = RequestHead::from_parts(method, [(TOKEN_HEADER, token.as_bytes())]);
        let response = receiver.serve(&head, body_stream(body.to_owned()), Arc::new(read_event)).await;
        assert_eq!(response.rejection().map(|rejection| rejection.kind()), Some(kind));
    }
    // An unexpected event at a typed extractor is a failed delivery, and no rejection.
    let other = event("annotation_created", "{}", "1");
    assert!(receiver.extract::<FileUploaded>(&head(good), body_stream(other)).await.is_err());
    assert_eq!(WebhookResponse::not_configured("add a receiver").status(), 500);
    receiver.drain(Duration::ZERO).await;
    serve(&receiver, text.clone(), read_event).await;

    let more = [RejectionKind::NotConfigured, RejectionKind::Draining];
    let expected = kinds.map(|(kind, ..)| kind).into_iter().chain(more);
    let expected = expected.map(|kind| (format!("kind={kind:?}"), 1.0)).collect();
    assert_eq!(recorder.all("rejections_total"), expected);
    let deliveries = counts([("event=annotation_created,outcome=failed", 1.0)]);
    assert_eq!(recorder.all("deliveries_total"), deliveries, "rejections are no deliveries");
}

#[tokio::test]
async fn metrics_count_evicted_keys() {
    let (recorder, _installed, receiver) = measured(builder().dedup_capacity(2));
    let evicted = || recorder.now("evictions_total{what=completed_key}");
    // At least two keys are kept, and two are evicted at once.
    for (number, expected) in [(1, 0.0), (2, 0.0), (3, 0.0), (4, 0.0), (5, 2.0)] {
        assert_eq!(serve(&receiver, uploaded(&number.to_string()), read_event).await.status(), 200);
        assert_eq!(evicted(), expected, "{number}");
    }
}

#[tokio::test]
async fn recorder_installed_late_counts_from_then_on() {
    let receiver = builder().build().unwrap();
    let before = claim(&receiver, uploaded("1")).await;
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let after = claim(&receiver, uploaded("2")).await;
    assert_eq!(recorder.now("deliveries_in_flight{}"), 1.0);
    before.acknowledge().await;
    after.acknowledge().await;
    assert_eq!(recorder.now("deliveries_total{event=file_uploaded,outcome=acknowledged}"), 2.0);
    for gauge in ["deliveries_in_flight{}", "body_reserved_bytes{}"] {
        assert_eq!(recorder.values(gauge, |values| (values.now, values.lowest)), Some((0.0, 0.0)), "{gauge}");
    }
}

#[tokio::test]
async fn table_lists_all_metrics() {
    let (recorder, _installed, receiver) = measured(builder().dedup_capacity(1));
    for name in ["file_uploaded", "file_deleted", "file_optimized"] {
        serve(&receiver, event(name, "{}", "1"), read_event).await;
    }
    serve(&receiver, event("file_optimized", "[]", "1"), read_event).await;
    assert!(receiver.receive(&RequestHead::from_parts("GET", []), body_stream("")).await.is_err());

    let cell = |cell: &str| cell.trim().replace('`', "");
    let rows = TABLE.lines().filter(|line| line.starts_with("| `smartshape_webhook_"));
    let rows: Vec<Vec<_>> = rows.map(|row| row.split('|').map(cell).collect()).collect();
    let described: BTreeSet<_> = rows.iter().map(|row| format!("{} {} {}", row[1], row[2], row[3])).collect();
    assert_eq!(recorder.described(), described);

    let documented: BTreeSet<_> =
        rows.iter().map(|row| format!("{} {}", row[1], row[4].replace(' ', ""))).collect();
    let keys = |labels: &str| {
        let keys = labels.split(',').map(|label| label.split('=').next().unwrap_or_default());
        keys.collect::<Vec<_>>().join(",")
    };
    let measured = recorder.series().into_iter().map(|series| {
        let (name, labels) = series.strip_suffix('}').unwrap().split_once('{').unwrap();
        format!("{name} {}", keys(labels))
    });
    assert_eq!(measured.collect::<BTreeSet<_>>(), documented);
}

#[tokio::test]
async fn panicking_recorder_keeps_no_delivery_in_flight() {
    let recorder = TestRecorder::default();
    recorder.break_series(("smartshape_webhook_evictions_total", &[("what", "completed_key")]));
    let receiver = builder().dedup_capacity(1).build().unwrap();
    let _installed = set_default_local_recorder(&recorder);
    let attempt = |uuid: &str| {
        let (receiver, body) = (receiver.clone(), uploaded(uuid));
        tokio::spawn(async move { receiver.receive(&head(&TOKEN), body_stream(body)).await.unwrap() })
    };
    let receive = async |uuid: &str| {
        for _ in 0..3 {
            if let Ok(received) = attempt(uuid).await {
                return received;
            }
        }
        panic!("{uuid} cannot be received");
    };
    let mut panics = 0;
    for [one, other] in [["1", "2"], ["3", "4"], ["5", "6"]] {
        // Two at once, so that keys are evicted at a completion, too.
        for received in [receive(one).await, receive(other).await] {
            let Received::New(claimed) = received else { panic!("it is new") };
            panics += u32::from(tokio::spawn(claimed.acknowledge()).await.is_err());
        }
        assert_eq!(receiver.stats().in_flight, 0, "{one} {other}");
        assert!(matches!(receive(other).await, Received::Duplicate));
    }
    assert!(panics > 0);
}

/// The recorder is called on the thread that hashes. If its panic ended that thread, no later token would be verified.
#[tokio::test]
async fn panicking_recorder_costs_no_token() {
    let recorder = TestRecorder::default();
    recorder.break_series("smartshape_webhook_tokens_hashing");
    let _installed = set_default_local_recorder(&recorder);
    let receiver = builder().verify_threads(1).build().unwrap();
    for salt in 1..4 {
        let (head, body) = (head(&token_of(SECRET, salt)), body_stream(uploaded(&salt.to_string())));
        assert_eq!(receiver.serve(&head, body, Arc::new(read_event)).await.status(), 200);
    }
}
