//! One event, several deliveries.

use conformance::bed::{Bed, Subject, assert_rejected, assert_success, event};
use conformance::script::Step;
use conformance::wire::{Client, Response};

pub(crate) async fn after_success(bed: Bed) {
    let subject = bed.start().await;
    for _ in 0..3 {
        assert_success(&subject.deliver(&event("1")).await);
    }
    // The key decides, whatever else differs.
    assert_success(&subject.deliver(&event("1").replace("5c6f", "other")).await);
    assert_eq!(subject.script.calls("1"), 1);
    assert_eq!(subject.receiver.stats().duplicates, 3);
}

pub(crate) async fn after_failure(bed: Bed) {
    let subject = bed.start().await;
    subject.script.plan("1", [Step::Fail, Step::Panic, Step::Succeed]);
    assert_eq!(subject.deliver(&event("1")).await.status, 500);
    let mut client = subject.connect().await;
    client.send(subject.delivery(&event("1"))).await;
    let panicked = client.try_response().await;
    // A bare extractor or filter cannot answer for a panic; the framework closes the connection.
    assert_eq!(panicked.is_some(), bed.target.outlives_the_sender());
    if let Some(answer) = panicked {
        assert_rejected(&answer, 500, "event could not be handled");
    }
    assert_success(&subject.deliver(&event("1")).await);
    assert_success(&subject.deliver(&event("1")).await);
    assert_eq!(subject.script.calls("1"), 3);
}

/// A first delivery at work, and so many duplicates that wait for it.
async fn at_work(bed: &Bed, step: Step, duplicates: usize) -> (Subject, Client, Vec<Client>) {
    let subject = bed.start().await;
    assert_success(&subject.deliver(&event("warm")).await);
    subject.script.hold();
    subject.script.plan("1", [step]);
    let mut first = subject.connect().await;
    first.send(subject.delivery(&event("1"))).await;
    subject.script.started(2).await;
    let mut waiting = Vec::new();
    for number in 1..=duplicates {
        let mut client = subject.connect().await;
        client.send(subject.delivery(&event("1"))).await;
        waiting.push(client);
        counted(&subject, number as u64).await;
    }
    (subject, first, waiting)
}

/// Waits until so many duplicates have come.
async fn counted(subject: &Subject, duplicates: u64) {
    while subject.receiver.stats().duplicates < duplicates {
        tokio::task::yield_now().await;
    }
}

async fn answers(clients: &mut [Client]) -> Vec<Response> {
    let mut answers = Vec::new();
    for client in clients {
        answers.push(client.response().await);
    }
    answers
}

pub(crate) async fn while_the_first_succeeds(bed: Bed) {
    let (subject, mut first, mut waiting) = at_work(&bed, Step::Succeed, 8).await;
    assert_eq!(subject.receiver.stats().in_flight, 1, "duplicates take no place");
    subject.script.let_go(1);
    assert_success(&first.response().await);
    for answer in answers(&mut waiting).await {
        assert_success(&answer);
    }
    assert_eq!(subject.script.calls("1"), 1);
}

pub(crate) async fn while_the_first_fails(bed: Bed) {
    let (subject, mut first, mut waiting) = at_work(&bed, Step::Fail, 2).await;
    subject.script.let_go(1);
    assert_eq!(first.response().await.status, 500);
    for answer in answers(&mut waiting).await {
        assert_rejected(&answer, 503, "busy, try again later");
    }
    assert_eq!(subject.script.calls("1"), 1);
}

pub(crate) async fn while_the_first_panics(bed: Bed) {
    let (subject, mut first, mut waiting) = at_work(&bed, Step::Panic, 2).await;
    subject.script.let_go(1);
    if let Some(answer) = first.try_response().await {
        assert_rejected(&answer, 500, "event could not be handled");
    }
    for answer in answers(&mut waiting).await {
        assert_rejected(&answer, 503, "busy, try again later");
    }
    subject.script.let_go(1);
    assert_success(&subject.deliver(&event("1")).await);
    assert_eq!(subject.script.calls("1"), 2);
}

pub(crate) async fn too_many_wait(bed: Bed) {
    let (subject, mut first, mut waiting) = at_work(&bed, Step::Succeed, 8).await;
    assert_rejected(&subject.deliver(&event("1")).await, 503, "busy, try again later");
    subject.script.let_go(1);
    assert_success(&first.response().await);
    for answer in answers(&mut waiting).await {
        assert_success(&answer);
    }
}

pub(crate) async fn keys_have_three_parts(bed: Bed) {
    let subject = bed.start().await;
    let bodies = [
        event("1"),
        event("1").replace("test@smartshape.io", "other@smartshape.io"),
        event("1").replace("file_uploaded", "file_optimized"),
    ];
    for body in &bodies {
        assert_success(&subject.deliver(body).await);
    }
    assert_eq!(subject.script.calls("1"), 3);
}
