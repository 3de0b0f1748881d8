//! Senders that hang up, and servers that stop.

use conformance::harness::{Harness, assert_rejected, assert_success, event};
use std::time::Duration;

/// How a sender hangs up.
#[derive(Clone, Copy)]
enum Leave {
    Reset,
    Close,
    HalfClose,
}

pub(crate) async fn handler_outlives_the_sender(harness: Harness) {
    if !harness.target.outlives_the_sender() {
        return; // `leaving_frees_or_finishes` says what these do.
    }
    for leave in [Leave::Reset, Leave::Close, Leave::HalfClose] {
        let subject = harness.start().await;
        subject.script.hold();
        let mut client = subject.connect().await;
        client.send(subject.delivery(&event("1"))).await;
        subject.script.started(1).await;
        let mut left = None;
        match leave {
            Leave::Reset => client.reset(),
            Leave::Close => drop(client),
            Leave::HalfClose => {
                client.half_close().await;
                left = Some(client);
            }
        }
        let mut retry = subject.connect().await;
        retry.send(subject.delivery(&event("1"))).await;
        while subject.receiver.stats().duplicates < 1 {
            tokio::task::yield_now().await;
        }
        subject.script.let_go(1);
        assert_success(&retry.response().await);
        // Whether one who only stopped sending gets a response is the framework's choice.
        if let Some(mut client) = left
            && let Some(response) = client.try_response().await
        {
            assert_success(&response);
        }
        assert_success(&subject.deliver(&event("1")).await);
        assert_eq!(subject.script.calls("1"), 1);
    }
}

pub(crate) async fn leaving_frees_or_finishes(harness: Harness) {
    let subject = harness.start().await;
    subject.script.hold();
    let mut client = subject.connect().await;
    client.send(subject.delivery(&event("1"))).await;
    subject.script.started(1).await;
    client.reset();
    // Whether the handler was cancelled or runs to its end, a retry is handled or gets its response.
    subject.script.let_go(1);
    subject.script.ended(1).await;
    while subject.receiver.stats().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    subject.script.let_go(1);
    assert_success(&subject.deliver(&event("1")).await);
    let calls = subject.script.calls("1");
    assert!(calls == 1 || (calls == 2 && !harness.target.outlives_the_sender()), "{calls} calls");
}

pub(crate) async fn permits_are_bounded(harness: Harness) {
    let permits = 8;
    let subject = harness.start_with(|builder| builder.max_in_flight(permits)).await;
    assert_success(&subject.deliver(&event("warm")).await);
    subject.script.hold();
    let mut held = Vec::new();
    for number in 0..permits {
        let mut client = subject.connect().await;
        client.send(subject.delivery(&event(&format!("held{number}")))).await;
        held.push(client);
    }
    subject.script.started(permits + 1).await;
    assert_rejected(&subject.deliver(&event("over")).await, 503, "busy, try again later");
    for number in 0..500 {
        let mut client = subject.connect().await;
        client.send(subject.delivery(&event(&format!("{number}")))).await;
        client.reset();
    }
    assert_rejected(&subject.deliver(&event("over")).await, 503, "busy, try again later");
    assert_eq!((subject.receiver.stats().in_flight, subject.script.most_at_once()), (permits, permits));
    subject.script.let_go(10_000);
    for client in &mut held {
        assert_success(&client.response().await);
    }
    // Those that left may still take permits for a moment.
    while subject.deliver(&event("after")).await.status == 503 {
        tokio::task::yield_now().await;
    }
    assert!(subject.script.most_at_once() <= permits);
    assert_eq!(subject.script.calls("after"), 1);
}

pub(crate) async fn draining(harness: Harness) {
    let subject = harness.start().await;
    assert_success(&subject.deliver(&event("warm")).await);
    assert_eq!(subject.receiver.stats().in_flight, 0);
    subject.script.hold();
    let mut client = subject.connect().await;
    client.send(subject.delivery(&event("1"))).await;
    subject.script.started(2).await;
    assert_eq!(subject.receiver.drain(Duration::from_millis(1)).await, 1, "one is still in flight");
    assert_rejected(&subject.deliver(&event("2")).await, 503, "busy, try again later");

    let receiver = subject.receiver.clone();
    if harness.target.outlives_the_sender() {
        client.reset();
        subject.script.let_go(1);
    } else {
        subject.script.let_go(1);
        assert_success(&client.response().await);
    }
    assert_eq!(receiver.drain(Duration::from_secs(60)).await, 0);
    assert_eq!(receiver.stats().acknowledged, 2, "deliveries in flight are finished");
}
