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

pub(crate) async fn handler_survives_disconnect(harness: Harness) {
    if !harness.target.handler_survives_disconnect() {
        return; // `leaving_frees_or_finishes` says what these do.
    }
    for leave in [Leave::Reset, Leave::Close, Leave::HalfClose] {
        let server = harness.start().await;
        server.script.hold();
        let mut client = server.send(server.delivery(&event("1"))).await;
        server.script.wait_for_started(1).await;
        let mut left = None;
        match leave {
            Leave::Reset => client.reset(),
            Leave::Close => drop(client),
            Leave::HalfClose => {
                client.half_close().await;
                left = Some(client);
            }
        }
        let mut retry = server.send(server.delivery(&event("1"))).await;
        server.wait_until(|stats| stats.duplicates >= 1).await;
        server.script.release(1);
        assert_success(&retry.response().await);
        // Whether one who only stopped sending gets a response is the framework's choice.
        if let Some(mut client) = left
            && let Some(response) = client.try_response().await
        {
            assert_success(&response);
        }
        assert_success(&server.deliver(&event("1")).await);
        assert_eq!(server.script.calls("1"), 1);
    }
}

pub(crate) async fn leaving_frees_or_finishes(harness: Harness) {
    let server = harness.start().await;
    server.script.hold();
    let client = server.send(server.delivery(&event("1"))).await;
    server.script.wait_for_started(1).await;
    client.reset();
    // Whether the handler was cancelled or runs to its end, a retry is handled or gets its response.
    server.script.release(1);
    server.script.wait_for_ended(1).await;
    server.wait_until(|stats| stats.in_flight == 0).await;
    server.script.release(1);
    assert_success(&server.deliver(&event("1")).await);
    let calls = server.script.calls("1");
    assert!(calls == 1 || (calls == 2 && !harness.target.handler_survives_disconnect()), "{calls} calls");
}

pub(crate) async fn permits_are_bounded(harness: Harness) {
    let permits = 8;
    let server = harness.start_with(|builder| builder.max_in_flight(permits)).await;
    assert_success(&server.deliver(&event("warm")).await);
    server.script.hold();
    let mut held = Vec::new();
    for number in 0..permits {
        held.push(server.send(server.delivery(&event(&format!("held{number}")))).await);
    }
    server.script.wait_for_started(permits + 1).await;
    assert_rejected(&server.deliver(&event("over")).await, 503, "busy, try again later");
    for number in 0..500 {
        server.send(server.delivery(&event(&format!("{number}")))).await.reset();
    }
    assert_rejected(&server.deliver(&event("over")).await, 503, "busy, try again later");
    assert_eq!((server.receiver.stats().in_flight, server.script.max_concurrent()), (permits, permits));
    server.script.release(10_000);
    for client in &mut held {
        assert_success(&client.response().await);
    }
    // Those that left may still take permits for a moment.
    while server.deliver(&event("after")).await.status == 503 {
        tokio::task::yield_now().await;
    }
    assert!(server.script.max_concurrent() <= permits);
    assert_eq!(server.script.calls("after"), 1);
}

pub(crate) async fn draining(harness: Harness) {
    let server = harness.start().await;
    assert_success(&server.deliver(&event("warm")).await);
    assert_eq!(server.receiver.stats().in_flight, 0);
    server.script.hold();
    let mut client = server.send(server.delivery(&event("1"))).await;
    server.script.wait_for_started(2).await;
    assert_eq!(server.receiver.drain(Duration::from_millis(1)).await, 1, "one is still in flight");
    assert_rejected(&server.deliver(&event("2")).await, 503, "busy, try again later");

    let receiver = server.receiver.clone();
    if harness.target.handler_survives_disconnect() {
        client.reset();
        server.script.release(1);
    } else {
        server.script.release(1);
        assert_success(&client.response().await);
    }
    assert_eq!(receiver.drain(Duration::from_secs(60)).await, 0);
    assert_eq!(receiver.stats().acknowledged, 2, "deliveries in flight are finished");
}
