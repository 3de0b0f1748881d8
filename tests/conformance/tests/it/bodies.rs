//! When and how much of a body is read.

use conformance::harness::{
    Harness, assert_rejected, assert_success, chunked, event, event_of_length, good_token, new_token,
};
use std::time::Duration;

const MIB: usize = 1024 * 1024;

pub(crate) async fn rejected_before_the_body(harness: Harness) {
    let server = harness.start().await;
    let forged = new_token("another secret");
    let costly = good_token().replacen("$04$", "$31$", 1);
    for token in ["letmein", forged.as_str(), costly.as_str()] {
        for framing in [("content-length", "40000000"), ("transfer-encoding", "chunked")] {
            let response = server.exchange(server.delivery_head(token, &[framing])).await;
            assert_rejected(&response, 401, "unauthorized");
        }
    }
    let response =
        server.exchange(server.delivery_head(good_token(), &[("content-length", "52428801")])).await;
    assert_rejected(&response, 413, "body too large");
    let response = server.exchange(server.head("PUT", "/callback", &[("content-length", "40000000")])).await;
    assert_rejected(&response, 405, "method not allowed");
}

pub(crate) async fn rest_of_a_rejected_body(harness: Harness) {
    let server = harness.start().await;
    for framing in [("content-length", "50000000000"), ("transfer-encoding", "chunked")] {
        let mut client = server.send(server.head("POST", "/callback", &[framing])).await;
        let response = client.response().await;
        assert!(matches!(response.status, 401 | 413), "{response:?}");
        let chunk = format!("{:x}\r\n{}\r\n", MIB, "x".repeat(MIB));
        let mut swallowed = 0;
        // What fits into the sockets' buffers is sent, whether somebody reads it or not. That this
        // ends at all is the point: the case has a time limit, and the body has none.
        while client.try_send(&chunk).await.is_ok() {
            swallowed += 1;
        }
        if !harness.target.lingers() {
            assert!(swallowed < 50, "{framing:?}: {swallowed} MiB were taken after the rejection");
        }
    }
}

pub(crate) async fn expect_continue(harness: Harness) {
    let server = harness.start().await;
    let expecting = [("content-length", "2"), ("expect", "100-continue")];
    let mut client = server.send(server.delivery_head("letmein", &expecting)).await;
    let first = client.response().await;
    let rejection = if harness.target.sends_continue_early() {
        assert_eq!(first.status, 100);
        client.response().await
    } else {
        first
    };
    assert_rejected(&rejection, 401, "unauthorized");

    let body = event("1");
    let mut client = server.connect().await;
    let length = body.len().to_string();
    client
        .send(server.delivery_head(good_token(), &[("content-length", &length), ("expect", "100-continue")]))
        .await;
    assert_eq!(client.response().await.status, 100);
    client.send(&body).await;
    assert_success(&client.response().await);
}

/// `Content-Encoding` says how the body was sent; whether middleware has decoded it shows in the body.
pub(crate) async fn content_codings(harness: Harness) {
    let server = harness.start().await;
    for coding in ["gzip", "br", "GZIP", "deflate, gzip"] {
        let coded = b"\x1f\x8b\x08\0\0\0\0\0\0\xff";
        let length = coded.len().to_string();
        let head =
            server.delivery_head(good_token(), &[("content-length", &length), ("content-encoding", coding)]);
        let response = server.exchange([head.as_bytes(), coded].concat()).await;
        assert_rejected(&response, 415, "content coding not supported");
    }
    for coding in ["identity", "gzip"] {
        let headers = [("x-smartshape-token", good_token()), ("content-encoding", coding)];
        assert_success(&server.exchange(server.request("POST", &headers, &event(coding))).await);
    }
}

pub(crate) async fn limits(harness: Harness) {
    let limit = 200_000;
    let server = harness.start_with(|builder| builder.max_body_bytes(limit as u64)).await;
    assert_success(&server.deliver(&event_of_length("1", limit)).await);
    let over = event_of_length("2", limit + 1);
    assert_rejected(&server.deliver(&over).await, 413, "body too large");
    let chunking = server.delivery_head(good_token(), &[("transfer-encoding", "chunked")]);
    assert_success(&server.exchange(chunking.clone() + &chunked(&event_of_length("3", limit))).await);
    assert_rejected(&server.exchange(chunking + &chunked(&over)).await, 413, "body too large");
    let seen: Vec<_> = server.script.seen().into_iter().map(|seen| (seen.uuid, seen.body.len())).collect();
    assert_eq!(seen, [("1".to_owned(), limit), ("3".to_owned(), limit)]);
}

pub(crate) async fn lying_lengths(harness: Harness) {
    let server = harness.start().await;
    let body = event("1");
    // Less than declared, then nothing more: no whole body, so nothing is handled.
    let more = (body.len() + 10).to_string();
    let mut client =
        server.send(server.delivery_head(good_token(), &[("content-length", &more)]) + &body).await;
    client.half_close().await;
    if let Some(response) = client.try_response().await {
        assert_rejected(&response, 400, "incomplete body");
    }
    assert_eq!(server.script.seen(), []);
    // More than declared: the rest is no part of the body, and no request either.
    let mut client = server.send(server.delivery(&body) + "garbage\r\n\r\n").await;
    assert_success(&client.response().await);
    assert_eq!(server.script.seen()[0].body, body);
    // No number, two numbers, or none that can be: never handled.
    for lengths in [&["ten"][..], &["-1"], &["10", "11"], &["99999999999999999999999"]] {
        let lengths: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
        let mut client = server.send(server.delivery_head(good_token(), &lengths) + &event("2")).await;
        assert_eq!(client.response().await.status, 400, "{lengths:?}");
    }
    assert_eq!(server.script.seen().len(), 1);
}

pub(crate) async fn three_megabytes(harness: Harness) {
    let server = harness.start().await;
    let body = event_of_length("1", 3 * MIB);
    assert_success(&server.deliver(&body).await);
    assert!(server.script.seen()[0].body == body);
}

pub(crate) async fn memory_limit(harness: Harness) {
    let size = MIB;
    let limits = |builder: smartshape_webhook::ReceiverBuilder| {
        builder.max_body_bytes(size as u64).memory_limit_bytes(4 * size as u64)
    };
    let server = harness.start_with(limits).await;
    assert_success(&server.deliver(&event("warm")).await);
    let declared = size.to_string();
    let request = server.delivery_head(good_token(), &[("content-length", &declared)]);
    // Declared bodies of which nothing was sent take none of the memory limit; four that lack one byte take all of it.
    let mut declaring = Vec::new();
    for number in 1..=8 {
        declaring.push(server.send(&request).await);
        server.wait_until(|stats| stats.in_flight >= number).await;
    }
    let mut waiting = Vec::new();
    for number in 1..=4 {
        let mut client = server.connect().await;
        let body = event_of_length(&format!("waiting{number}"), size);
        client.send(request.clone() + &body[..size - 1]).await;
        waiting.push(client);
        server.wait_until(|stats| stats.reserved_bytes >= number * size as u64).await;
    }
    for _ in 0..60 {
        assert_rejected(&server.exchange(&request).await, 503, "busy, try again later");
    }
    for client in &mut waiting {
        client.send("}").await;
        assert_success(&client.response().await);
    }
    for number in 0..8 {
        assert_success(&server.deliver(&event_of_length(&format!("again{number}"), size)).await);
    }
    let chunking = server.delivery_head(good_token(), &[("transfer-encoding", "chunked")]);
    assert_success(&server.exchange(chunking + &chunked(&event_of_length("chunked", size))).await);
    server.wait_until(|stats| stats.reserved_bytes == 0).await;
}

pub(crate) async fn stalled_body(harness: Harness) {
    let server = harness.start_with(|builder| builder.body_idle_timeout(Duration::from_millis(50))).await;
    let body = event("1");
    let length = body.len().to_string();
    for sent in [0, 1, body.len() - 1] {
        let response = server
            .exchange(server.delivery_head(good_token(), &[("content-length", &length)]) + &body[..sent])
            .await;
        assert_rejected(&response, 408, "body took too long");
    }
    assert_eq!((server.script.seen().len(), server.receiver.stats().in_flight), (0, 0));
    let whole = harness.start_with(|builder| builder.body_timeout(Duration::from_millis(50))).await;
    let response = whole.exchange(whole.delivery_head(good_token(), &[("content-length", &length)])).await;
    assert_rejected(&response, 408, "body took too long");
}
