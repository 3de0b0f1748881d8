//! HTTP/2 with prior knowledge: the same responses, and what only streams and windows make possible.

use std::time::Duration;

use conformance::harness::{
    Harness, TestServer, assert_rejected, assert_success, event, event_of_length, good_token, new_token,
};
use conformance::http2::{Connection, Stream};
use conformance::script::Step;
use conformance::wire::Response;

const MIB: usize = 1024 * 1024;
/// What a client pushes before it minds windows: more than any stream here is given.
const MORE_THAN_WINDOWS: usize = 4 * MIB;

async fn connect(server: &TestServer) -> Connection {
    Connection::connect(server.address).await
}

/// A client that gives the bodies of responses no window.
async fn connect_deaf(server: &TestServer) -> Connection {
    Connection::connect_as(h2::client::Builder::new().initial_window_size(0), server.address).await
}

async fn deliver(connection: &mut Connection, body: &str) -> Response {
    connection.exchange("POST", &[("x-smartshape-token", good_token())], body).await
}

/// Opens a stream with a good token for a body of undeclared length.
async fn open(connection: &mut Connection) -> Stream {
    connection.open("POST", &[("x-smartshape-token", good_token())]).await
}

/// Without what the framing asks for.
fn essence(mut response: Response) -> Response {
    response.headers.retain(|(name, value)| {
        !matches!((name.as_str(), value.as_str()), ("date" | "connection", _) | ("content-length", "0"))
    });
    response.headers.sort();
    response
}

pub(crate) async fn responses_are_those_of_http1(harness: Harness) {
    let limit = |builder: smartshape_webhook::ReceiverBuilder| builder.max_body_bytes(100_000);
    let server = harness.start_with(limit).await;
    for (uuid, step) in
        [("fails", Step::Fail), ("cannot", Step::Unavailable), ("gives up", Step::FailPermanently)]
    {
        server.script.plan(uuid, [step, step]);
    }
    let mut connection = connect(&server).await;
    let (forged, costly) = (new_token("another secret"), good_token().replacen("$04$", "$31$", 1));
    let good = good_token();
    let cases = [
        ("POST", Some(good), event("1")),
        ("POST", Some(good), event("1")),
        ("GET", Some(good), String::new()),
        ("PUT", Some(good), event("2")),
        ("POST", None, event("2")),
        ("POST", Some("letmein"), event("2")),
        ("POST", Some(&forged), event("2")),
        ("POST", Some(&costly), event("2")),
        ("POST", Some(good), "letmein".to_owned()),
        ("POST", Some(good), "{}".to_owned()),
        ("POST", Some(good), event_of_length("2", 100_001)),
        ("POST", Some(good), event("fails")),
        ("POST", Some(good), event("cannot")),
        ("POST", Some(good), event("gives up")),
    ];
    let mut statuses = Vec::new();
    for (method, token, body) in &cases {
        let length = body.len().to_string();
        let mut headers = vec![("content-length", length.as_str())];
        headers.extend(token.map(|token| ("x-smartshape-token", token)));
        let first = server.exchange(server.head(method, "/callback", &headers) + body).await;
        let second = connection.exchange(method, &headers, body).await;
        statuses.push(second.status);
        assert_eq!(essence(second), essence(first), "{method} {headers:?} {body:.60}");
    }
    assert_eq!(statuses[..11], [200, 200, 405, 405, 401, 401, 401, 401, 400, 400, 413]);
    assert_eq!((server.script.calls("1"), server.script.calls("2")), (1, 0));
    assert_eq!(server.receiver.drain(Duration::ZERO).await, 0);
    assert_rejected(&deliver(&mut connection, &event("3")).await, 503, "busy, try again later");
}

pub(crate) async fn large_bodies_pass_the_windows(harness: Harness) {
    let server = harness.start().await;
    let mut connection = connect(&server).await;
    let bodies: Vec<_> = (1..=4).map(|number| event_of_length(&number.to_string(), 3 * MIB)).collect();
    let mut streams = Vec::new();
    for body in &bodies {
        let mut stream = open(&mut connection).await;
        stream.send_when_possible(body, true);
        streams.push(stream);
    }
    for stream in streams {
        assert_success(&stream.response().await);
    }
    let mut seen: Vec<_> = server.script.seen().into_iter().map(|seen| seen.body).collect();
    seen.sort();
    assert!(seen == bodies);
}

pub(crate) async fn rejected_uploads_block_nobody(harness: Harness) {
    // A stream that is kept waiting for room in the connection's window is rejected with 408.
    let server = harness.start_with(|builder| builder.body_idle_timeout(Duration::from_millis(700))).await;
    let mut connection = connect(&server).await;
    assert_success(&deliver(&mut connection, &event("warm")).await);
    let (forged, costly) = (new_token("another secret"), good_token().replacen("$04$", "$31$", 1));
    let endless = "x".repeat(MORE_THAN_WINDOWS);
    for token in [Some(forged.as_str()), Some(costly.as_str()), Some("letmein"), None] {
        for _ in 0..4 {
            let token: Vec<_> = token.map(|token| ("x-smartshape-token", token)).into_iter().collect();
            let mut stream = connection.open("POST", &token).await;
            // The end of the body is never sent.
            stream.send_when_possible(&endless, false);
            assert_rejected(&stream.response().await, 401, "unauthorized");
        }
    }
    let declared = [("x-smartshape-token", good_token()), ("content-length", "52428801")];
    let mut stream = connection.open("POST", &declared).await;
    stream.send_when_possible(&endless, false);
    assert_rejected(&stream.response().await, 413, "body too large");
    server.wait_until_idle().await;
    assert_success(&deliver(&mut connection, &event_of_length("1", 3 * MIB)).await);
    assert_eq!(server.script.seen().len(), 2);
}

pub(crate) async fn resets_in_mid_body_leave_nothing(harness: Harness) {
    let server = harness.start().await;
    let mut connection = connect(&server).await;
    assert_success(&deliver(&mut connection, &event("warm")).await);
    let body = event_of_length("1", 100_000);
    let length = body.len().to_string();
    for sent in [0, 1, 20_000, 99_999] {
        let declared = [("x-smartshape-token", good_token()), ("content-length", length.as_str())];
        let mut stream = connection.open("POST", &declared).await;
        stream.send(&body[..sent], false).await;
        server.wait_until(|stats| stats.in_flight > 0).await;
        stream.reset();
        server.wait_until_idle().await;
    }
    // Less than declared, and more.
    for wrong in ["5", "99999", "100001"] {
        let declared = [("x-smartshape-token", good_token()), ("content-length", wrong)];
        let mut stream = connection.open("POST", &declared).await;
        stream.try_send(&body, true).await;
        if let Ok(response) = stream.try_response().await {
            assert_eq!(response.status, 400, "{response:?}");
        }
        server.wait_until_idle().await;
    }
    assert_eq!(server.script.calls("1"), 0);
    assert_success(&deliver(&mut connection, &body).await);
    assert_eq!(server.script.calls("1"), 1);
}

pub(crate) async fn handler_survives_reset(harness: Harness) {
    let server = harness.start().await;
    server.script.hold();
    let mut connection = connect(&server).await;
    let mut stream = open(&mut connection).await;
    stream.send(&event("1"), true).await;
    server.script.wait_for_started(1).await;
    stream.reset();
    if harness.target.handler_survives_reset() {
        let mut retry = open(&mut connection).await;
        retry.send(&event("1"), true).await;
        server.wait_until(|stats| stats.duplicates >= 1).await;
        server.script.release(1);
        assert_success(&retry.response().await);
        assert_eq!(server.script.calls("1"), 1);
    } else {
        server.script.wait_for_ended(1).await;
        server.wait_until_idle().await;
        server.script.release(1);
        assert_success(&deliver(&mut connection, &event("1")).await);
        assert_eq!(server.script.calls("1"), 2);
    }
}

pub(crate) async fn rapid_resets_do_nothing_twice(harness: Harness) {
    let server = harness.start().await;
    assert_success(&server.deliver(&event("warm")).await);
    let uuids: Vec<_> = (0..500).map(|number| number.to_string()).collect();
    let mut connection = connect(&server).await;
    for uuid in &uuids {
        // A server that has had enough of them closes the connection.
        let mut stream = loop {
            match connection.try_open("POST", &[("x-smartshape-token", good_token())], false).await {
                Ok(stream) => break stream,
                Err(_) => connection = connect(&server).await,
            }
        };
        stream.try_send(&event(uuid), true).await;
        stream.reset();
    }
    for uuid in &uuids {
        assert_success(&server.deliver(&event(uuid)).await);
        assert_eq!(server.script.calls(uuid), 1, "{uuid}");
    }
    server.wait_until_idle().await;
}

pub(crate) async fn client_without_window_for_the_response_holds_nothing(harness: Harness) {
    let server = harness.start_with(|builder| builder.max_in_flight(8)).await;
    let mut deaf = connect_deaf(&server).await;
    let mut waiting = Vec::new();
    for number in 0..50 {
        let mut stream = open(&mut deaf).await;
        stream.send(&event(&number.to_string()), true).await;
        assert_eq!(stream.status().await, 200);
        let mut rejected = deaf.open("POST", &[]).await;
        rejected.send(&event("rejected"), false).await;
        assert_eq!(rejected.status().await, 401);
        waiting.extend([stream, rejected]);
    }
    server.wait_until_idle().await;
    let mut other = connect(&server).await;
    assert_success(&deliver(&mut other, &event("other")).await);
    assert_eq!(server.script.seen().len(), 51);
}

pub(crate) async fn client_without_window_for_a_rejection_blocks_nobody(harness: Harness) {
    let server = harness.start_with(|builder| builder.body_idle_timeout(Duration::from_millis(700))).await;
    let mut deaf = connect_deaf(&server).await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut rejected = deaf.open("POST", &[]).await;
        rejected.send_when_possible(&"x".repeat(MORE_THAN_WINDOWS), false);
        assert_eq!(rejected.status().await, 401);
        waiting.push(rejected);
    }
    // The body of another delivery arrives though nobody reads those of the rejected ones.
    let mut stream = open(&mut deaf).await;
    stream.send_when_possible(&event_of_length("1", 3 * MIB), true);
    assert_eq!(stream.status().await, 200);
}

pub(crate) async fn stalled_streams_end_one_by_one(harness: Harness) {
    for whole in [false, true] {
        let time = Duration::from_millis(50);
        let server = harness
            .start_with(
                |builder| if whole { builder.body_timeout(time) } else { builder.body_idle_timeout(time) },
            )
            .await;
        let mut connection = connect(&server).await;
        let body = event("1");
        let mut streams = Vec::new();
        for _ in 0..50 {
            let mut stream = open(&mut connection).await;
            stream.send(&body[..20], false).await;
            streams.push(stream);
        }
        for stream in streams {
            assert_rejected(&stream.response().await, 408, "body took too long");
        }
        server.wait_until_idle().await;
        // On a busy machine this one may be late, too. Its sender tries again.
        let response = loop {
            let response = deliver(&mut connection, &body).await;
            if response.status != 408 {
                break response;
            }
        };
        assert_success(&response);
        assert_eq!(server.script.seen().len(), 1);
    }
}
