//! The table of responses.

use conformance::harness::{Harness, assert_rejected, assert_success, event, good_token, new_token};
use conformance::script::Step;

pub(crate) async fn wrong_method(harness: Harness) {
    let server = harness.start().await;
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let request = server.request(method, &[("x-smartshape-token", good_token())], "");
        assert_rejected(&server.exchange(request).await, 405, "method not allowed");
    }
    assert_eq!(server.script.seen(), []);
}

pub(crate) async fn missing_and_wrong_tokens(harness: Harness) {
    let server = harness.start().await;
    let missing = server.request("POST", &[], &event("1"));
    assert_rejected(&server.exchange(missing).await, 401, "unauthorized");
    let forged = new_token("another secret");
    assert_rejected(&server.deliver_with(&forged, "1").await, 401, "unauthorized");
    assert_rejected(&server.deliver_with(&forged, "1").await, 401, "unauthorized");
    assert_eq!(server.receiver.stats().hashes, 1, "a rejected token is remembered");
    assert_eq!(server.script.seen(), []);
}

pub(crate) async fn bodies_without_an_event(harness: Harness) {
    let server = harness.start().await;
    let invalid_utf8 =
        [server.delivery("").replace("content-length: 0", "content-length: 2").as_bytes(), b"\xff\xfe"]
            .concat();
    assert_rejected(&server.exchange(invalid_utf8).await, 400, "body is not JSON");
    let cut = event("1")[..50].to_owned();
    for body in ["", "letmein", "{", cut.as_str(), "\u{feff}", " \u{feff}{}"] {
        assert_rejected(&server.deliver(body).await, 400, "body is not JSON");
    }
    let doubled = event("1").replacen('{', r#"{"uuid":"2","#, 1);
    let without_owner = event("1").replacen("\"owner\"", "\"other\"", 1);
    let bodies =
        ["{}", "[]", "7", &doubled, &without_owner, &event("1").replace("\"uuid\":\"1\"", "\"uuid\":1")];
    for body in bodies {
        assert_rejected(&server.deliver(body).await, 400, "body is not a SmartShape event");
    }
    assert_eq!(server.script.seen(), []);
    assert_success(&server.deliver(&event("1")).await);
}

pub(crate) async fn handler_failures(harness: Harness) {
    let server = harness.start().await;
    for (step, status) in [(Step::Fail, 500), (Step::Unavailable, 503), (Step::FailPermanently, 410)] {
        let uuid = format!("{step:?}");
        server.script.plan(&uuid, [step]);
        let response = server.deliver(&event(&uuid)).await;
        if harness.target.maps_handler_errors() {
            match step {
                Step::Fail => assert_rejected(&response, 500, "event could not be handled"),
                Step::Unavailable => {
                    assert_rejected(&response, 503, "busy, try again later");
                    assert_eq!(response.header("retry-after"), Some("7"));
                }
                _ => assert_success(&response),
            }
        } else {
            assert_eq!(response.status, status, "the handler's own response");
        }
        let given_up = step == Step::FailPermanently && harness.target.maps_handler_errors();
        assert_success(&server.deliver(&event(&uuid)).await);
        assert_eq!(server.script.calls(&uuid), if given_up { 1 } else { 2 }, "{step:?}");
    }
}

pub(crate) async fn other_routes_are_untouched(harness: Harness) {
    use conformance::target::Target;
    if harness.target == Target::HyperEndpoint {
        return; // Bare hyper has one service and no routes.
    }
    let server = harness.start().await;
    let health = server.exchange(server.head("GET", "/health", &[])).await;
    assert_eq!((health.status, health.body.as_str()), (200, "ok"));
    for path in ["/", "/elsewhere", "/callback/more"] {
        assert_eq!(server.exchange(server.head("GET", path, &[])).await.status, 404, "{path}");
        let posted = server.delivery("").replace("/callback", path);
        assert_eq!(server.exchange(posted).await.status, 404, "{path}");
    }
    assert_eq!(server.receiver.stats().rejected, 0);
}

pub(crate) async fn connections_are_kept(harness: Harness) {
    let server = harness.start().await;
    let mut client = server.send(server.delivery(&event("1")) + &server.delivery(&event("2"))).await;
    assert_success(&client.response().await);
    assert_success(&client.response().await);
    client.send(server.delivery(&event("3"))).await;
    assert_success(&client.response().await);
    assert_eq!(server.script.seen().len(), 3);
}
