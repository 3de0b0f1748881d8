//! Connections that are slow, silent, reset, or carry more than one request.

use std::time::Duration;

use conformance::harness::{Harness, assert_rejected, assert_success, chunked, event, good_token};

pub(crate) async fn silent_connections_and_slow_heads_hold_nothing(harness: Harness) {
    let server = harness.start().await;
    let request = server.delivery(&event("slow"));
    let mut slow = Vec::new();
    for sent in (0..request.find("\r\n\r\n").unwrap() + 3).chain([0; 100]) {
        slow.push((server.send(&request[..sent]).await, sent));
    }
    assert_success(&server.deliver(&event("1")).await);
    server.wait_until_idle().await;
    // They were only slow.
    for (mut client, sent) in slow.drain(..5) {
        client.send(&request[sent..]).await;
        assert_success(&client.response().await);
    }
    assert_eq!(server.script.calls("slow"), 1);
}

pub(crate) async fn trickling_body(harness: Harness) {
    let server = harness.start_with(|builder| builder.body_timeout(Duration::from_millis(200))).await;
    let mut client = server.send(server.delivery_head(good_token(), &[("content-length", "1000000")])).await;
    // A byte now and then, so that it never stalls.
    let response = loop {
        tokio::select! {
            response = client.response() => break response,
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        // The server may have closed already; its response is read all the same.
        let _ = client.try_send(" ").await;
    };
    assert_rejected(&response, 408, "body took too long");
    server.wait_until_idle().await;
}

pub(crate) async fn rejected_body_is_no_request(harness: Harness) {
    let server = harness.start().await;
    for framing in ["declared", "chunked"] {
        let smuggled = server.delivery(&event("smuggled"));
        let outer = match framing {
            "declared" => server.request("POST", &[], &smuggled),
            _ => server.head("POST", "/callback", &[("transfer-encoding", "chunked")]) + &chunked(&smuggled),
        };
        let mut client = server.send(outer).await;
        assert_rejected(&client.response().await, 401, "unauthorized");
        // What follows is a request of its own, unless the connection was closed.
        if client.try_send(server.delivery(&event(framing))).await.is_ok()
            && let Some(response) = client.try_response().await
        {
            assert_success(&response);
        }
    }
    assert_success(&server.deliver(&event("1")).await);
    assert_eq!(server.script.calls("smuggled"), 0);
}

pub(crate) async fn pipelined_requests_get_responses_in_order(harness: Harness) {
    let server = harness.start().await;
    let mut client = server.connect().await;
    let uuids: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let requests: String = uuids.iter().map(|uuid| server.delivery(&event(uuid))).collect();
    client.send(requests + &server.delivery("letmein")).await;
    for _ in &uuids {
        assert_success(&client.response().await);
    }
    assert_rejected(&client.response().await, 400, "body is not JSON");
    let seen: Vec<String> = server.script.seen().into_iter().map(|seen| seen.uuid).collect();
    assert_eq!(seen, uuids);
}

/// Widely copied settings of nginx send this header without an `Upgrade`.
pub(crate) async fn close_after_connection_upgrade_is_announced(harness: Harness) {
    let server = harness.start().await;
    let mut client = server.connect().await;
    let upgrade = ("connection", "upgrade");
    for (token, number) in [("letmein", "1"), (good_token(), "2"), (good_token(), "3"), (good_token(), "3")] {
        let headers = [("x-smartshape-token", token), upgrade];
        client.send(server.request("POST", &headers, &event(number))).await;
        let response = client.response().await;
        assert_eq!(response.status, if token == "letmein" { 401 } else { 200 });
        if response.header("connection") == Some("close") {
            assert!(client.is_closed().await);
            client = server.connect().await;
        }
    }
}

pub(crate) async fn resets_leave_nothing_behind(harness: Harness) {
    let server = harness.start().await;
    assert_success(&server.deliver(&event("warm")).await);
    let request = server.delivery(&event("reset"));
    for sent in (0..=request.len()).step_by(7).chain([request.len()]) {
        server.send(&request[..sent]).await.reset();
    }
    for number in 0..50 {
        let head = server.delivery_head(good_token(), &[("content-length", "5000000")]);
        server.send(head + &" ".repeat(number * 1000)).await.reset();
    }
    server.wait_until_idle().await;
    assert_success(&server.deliver(&event("1")).await);
    server.wait_until_idle().await;
    assert_eq!(server.receiver.stats().failed, 0);
}
