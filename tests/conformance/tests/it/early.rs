//! Responses that arrive before the whole body has been sent.

use std::process::Stdio;
use std::time::Duration;

use conformance::harness::{
    Harness, TestServer, assert_success, chunked, event, event_of_length, good_token, new_token,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/rejected_upload.js");
const POOLED_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/pooled_connection.js");
const TRIES: u32 = 20;

/// A response that leaves part of the body unread says `Connection: close`. After any other one, the connection takes
/// the next request.
pub(crate) async fn early_response_announces_the_close(harness: Harness) {
    let server = harness.start_with(|builder| builder.max_body_bytes(4_000_000)).await;
    let (forged, costly) = (new_token("another secret"), good_token().replacen("$04$", "$31$", 1));
    let good = good_token();
    let cases = [
        ("POST", "", 401),
        ("POST", "letmein", 401),
        ("POST", forged.as_str(), 401),
        ("POST", costly.as_str(), 401),
        ("PUT", good, 405),
        ("POST", good, 400),
    ];
    let mut number = 0;
    for (method, token, status) in cases {
        for size in [0, 100, 60_000, 1_000_000] {
            let body = "x".repeat(size);
            let chunked = chunked(&body);
            let length = size.to_string();
            for (framing, body) in
                [(("content-length", length.as_str()), &body), (("transfer-encoding", "chunked"), &chunked)]
            {
                let headers = [("x-smartshape-token", token), framing];
                let mut client = server.connect().await;
                let response = client.upload(server.head(method, "/callback", &headers) + body).await;
                assert_eq!(response.status, status, "{method} {token:.8} {size} {framing:?}");
                let closes = response.header("connection") == Some("close");
                // A short body that has arrived is discarded, and a long one is not. In between it depends on how many
                // reads the body took.
                match size {
                    _ if status == 400 => assert!(!closes, "{size} {framing:?}"),
                    0 | 100 => assert!(!closes, "{method} {token:.8} {size} {framing:?}"),
                    60_000 => {}
                    _ => assert!(closes, "{method} {token:.8} {size} {framing:?}"),
                }
                if !closes {
                    number += 1;
                    client.send(server.delivery(&event(&number.to_string()))).await;
                    assert_success(&client.response().await);
                }
            }
        }
    }
    // The others, of which the body is sent only in part or not at all.
    let counted = format!("3d0901\r\n{}", "x".repeat(4_000_001));
    for (framing, body) in [(("content-length", "4000001"), ""), (("transfer-encoding", "chunked"), &counted)]
    {
        let request = server.delivery_head(good, &[framing]) + body;
        let response = server.connect().await.upload(request).await;
        assert_eq!((response.status, response.header("connection")), (413, Some("close")));
    }

    let stalls = harness.start_with(|builder| builder.body_idle_timeout(Duration::from_millis(50))).await;
    let response = stalls.exchange(stalls.delivery_head(good, &[("content-length", "9")])).await;
    assert_eq!((response.status, response.header("connection")), (408, Some("close")));
    stalls.receiver.drain(Duration::ZERO).await;
    let request = stalls.delivery(&event_of_length("1", 1_000_000));
    let response = stalls.connect().await.upload(request).await;
    assert_eq!((response.status, response.header("connection")), (503, Some("close")));
}

/// A client that keeps its connections does not send the next delivery over one that ends.
pub(crate) async fn node_never_reuses_a_connection_that_ends(harness: Harness) {
    let server = harness.start().await;
    let Some(handled) = run_node(&server, POOLED_SCRIPT, &[&TRIES.to_string()]).await else {
        return; // No Node.js here.
    };
    assert_eq!(handled, format!("{} of {}", 3 * TRIES, 3 * TRIES));
}

pub(crate) async fn node_gets_the_rejection_while_it_uploads(harness: Harness) {
    let server = harness.start().await;
    for bytes in ["100000", "1000000", "40000000"] {
        for framing in ["declared", "chunked"] {
            let Some(rejections) = run_node(&server, SCRIPT, &[bytes, &TRIES.to_string(), framing]).await
            else {
                return; // No Node.js here.
            };
            let rejections: u32 = rejections.parse().unwrap();
            // All of them, but for a client that did not run for a second. Without lingering it is half of the largest.
            assert!(rejections + 2 >= TRIES, "{bytes} {framing}: {rejections} of {TRIES}");
        }
    }
}

/// What a script prints that gets the server's port and these arguments.
async fn run_node(server: &TestServer, script: &str, arguments: &[&str]) -> Option<String> {
    let mut node = tokio::process::Command::new("node");
    node.arg(script).arg(server.address.port().to_string()).args(arguments).env("GOOD_TOKEN", good_token());
    let child = node.stdout(Stdio::piped()).kill_on_drop(true).spawn().ok()?;
    let output = child.wait_with_output().await.unwrap();
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}
