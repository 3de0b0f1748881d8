//! One event, several deliveries.

use conformance::harness::{Harness, TestServer, assert_rejected, assert_success, event};
use conformance::script::Step;
use conformance::wire::{Client, Response};

pub(crate) async fn after_success(harness: Harness) {
    let server = harness.start().await;
    for _ in 0..3 {
        assert_success(&server.deliver(&event("1")).await);
    }
    // The key decides, whatever else differs.
    assert_success(&server.deliver(&event("1").replace("5c6f", "other")).await);
    assert_eq!(server.script.calls("1"), 1);
    assert_eq!(server.receiver.stats().duplicates, 3);
}

pub(crate) async fn after_failure(harness: Harness) {
    let server = harness.start().await;
    server.script.plan("1", [Step::Fail, Step::Panic, Step::Succeed]);
    assert_eq!(server.deliver(&event("1")).await.status, 500);
    let panicked = server.send(server.delivery(&event("1"))).await.try_response().await;
    // A bare extractor or filter cannot respond after a panic; the framework closes the connection.
    assert_eq!(panicked.is_some(), harness.target.handler_survives_disconnect());
    if let Some(response) = panicked {
        assert_rejected(&response, 500, "event could not be handled");
    }
    assert_success(&server.deliver(&event("1")).await);
    assert_success(&server.deliver(&event("1")).await);
    assert_eq!(server.script.calls("1"), 3);
}

/// A delivery in flight, and so many duplicates that wait for it.
async fn in_flight(harness: &Harness, step: Step, duplicates: u64) -> (TestServer, Client, Vec<Client>) {
    let server = harness.start().await;
    assert_success(&server.deliver(&event("warm")).await);
    server.script.hold();
    server.script.plan("1", [step]);
    let first = server.send(server.delivery(&event("1"))).await;
    server.script.wait_for_started(2).await;
    let mut waiting = Vec::new();
    for number in 1..=duplicates {
        waiting.push(server.send(server.delivery(&event("1"))).await);
        server.wait_until(|stats| stats.duplicates >= number).await;
    }
    (server, first, waiting)
}

async fn responses(clients: &mut [Client]) -> Vec<Response> {
    let mut responses = Vec::new();
    for client in clients {
        responses.push(client.response().await);
    }
    responses
}

pub(crate) async fn while_the_first_succeeds(harness: Harness) {
    let (server, mut first, mut waiting) = in_flight(&harness, Step::Succeed, 8).await;
    assert_eq!(server.receiver.stats().in_flight, 1, "duplicates take no permit");
    server.script.release(1);
    assert_success(&first.response().await);
    for response in responses(&mut waiting).await {
        assert_success(&response);
    }
    assert_eq!(server.script.calls("1"), 1);
}

pub(crate) async fn while_the_first_fails(harness: Harness) {
    let (server, mut first, mut waiting) = in_flight(&harness, Step::Fail, 2).await;
    server.script.release(1);
    assert_eq!(first.response().await.status, 500);
    for response in responses(&mut waiting).await {
        assert_rejected(&response, 503, "busy, try again later");
    }
    assert_eq!(server.script.calls("1"), 1);
}

pub(crate) async fn while_the_first_panics(harness: Harness) {
    let (server, mut first, mut waiting) = in_flight(&harness, Step::Panic, 2).await;
    server.script.release(1);
    if let Some(response) = first.try_response().await {
        assert_rejected(&response, 500, "event could not be handled");
    }
    for response in responses(&mut waiting).await {
        assert_rejected(&response, 503, "busy, try again later");
    }
    server.script.release(1);
    assert_success(&server.deliver(&event("1")).await);
    assert_eq!(server.script.calls("1"), 2);
}

pub(crate) async fn keys_have_three_parts(harness: Harness) {
    let server = harness.start().await;
    let bodies = [
        event("1"),
        event("1").replace("test@smartshape.io", "other@smartshape.io"),
        event("1").replace("file_uploaded", "file_optimized"),
    ];
    for body in &bodies {
        assert_success(&server.deliver(body).await);
    }
    assert_eq!(server.script.calls("1"), 3);
}
