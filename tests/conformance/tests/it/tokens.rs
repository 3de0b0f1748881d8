//! Tokens of every form.

use conformance::harness::{Harness, SECRET, assert_rejected, assert_success, event, good_token};
use conformance::wire::Client;
use serde_json::Value;
use smartshape_fake::{Prefix, token};
use smartshape_webhook::{NamedSecret, Receiver, ReceiverBuilder, Secret};

pub(crate) async fn vectors_of_other_implementations(harness: Harness) {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../../vectors/tokens.json")).unwrap();
    assert_eq!(vectors.len(), 16);
    let mut secrets: Vec<&str> = vectors.iter().map(|vector| vector["secret"].as_str().unwrap()).collect();
    secrets.sort_unstable();
    secrets.dedup();
    let named =
        |(index, plain): (usize, &str)| NamedSecret::new(index.to_string(), Secret::new(plain).unwrap());
    let secrets = secrets.into_iter().enumerate().map(named);
    let builder = Receiver::builder().verify_timeout(std::time::Duration::from_secs(30));
    let builder = secrets.fold(builder, ReceiverBuilder::named_secret);
    let server = harness.start_receiver(builder.build().unwrap()).await;
    for (number, vector) in vectors.iter().enumerate() {
        let response = server.deliver_with(vector["token"].as_str().unwrap(), &number.to_string()).await;
        assert_eq!(response.status, 200, "{vector}");
    }
}

pub(crate) async fn header_in_any_case(harness: Harness) {
    let server = harness.start().await;
    for (uuid, name) in ["X-Smartshape-Token", "X-SMARTSHAPE-TOKEN", "x-smartShape-token"].iter().enumerate()
    {
        let request = server.delivery(&event(&uuid.to_string())).replace("x-smartshape-token", name);
        assert_success(&server.exchange(request).await);
    }
}

pub(crate) async fn repeated_tokens(harness: Harness) {
    let server = harness.start().await;
    let request = |first, second| {
        let headers = [("x-smartshape-token", first), ("X-Smartshape-Token", second)];
        server.request("POST", &headers, &event("1"))
    };
    let other = good_token().replacen("$2b$", "$2a$", 1);
    for (first, second) in [(good_token(), other.as_str()), (good_token(), ""), ("", good_token())] {
        assert_rejected(&server.exchange(request(first, second)).await, 401, "unauthorized");
    }
    assert_eq!(server.receiver.stats().hashes, 0);
    assert_success(&server.exchange(request(good_token(), good_token())).await);
}

pub(crate) async fn malformed_tokens_cost_nothing(harness: Harness) {
    let server = harness.start().await;
    let good = good_token();
    let long = "x".repeat(4000);
    for token in ["", "letmein", &good[1..], &good.replacen("$2b$", "$2x$", 1), &long] {
        assert_rejected(&server.deliver_with(token, "1").await, 401, "unauthorized");
    }
    // Bytes that are no ASCII, in 60 bytes and in 60 characters.
    for with in ["é".as_bytes(), b"\xff"] {
        let token = [&good.as_bytes()[..10], with, &good.as_bytes()[10 + with.len()..]].concat();
        let request = server.delivery_with("@", &event("1"));
        let (before, after) = request.split_once('@').unwrap();
        let request = [before.as_bytes(), &token, after.as_bytes()].concat();
        assert_rejected(&server.exchange(request).await, 401, "unauthorized");
    }
    // A NUL is no part of a header: every framework rejects the request itself.
    let with_nul = server.delivery_with(&good.replacen('$', "\0", 1), &event("1"));
    let mut client = server.send(with_nul).await;
    let response = client.try_response().await;
    assert!(response.is_none_or(|response| response.status == 400));
    assert_eq!(server.receiver.stats().hashes, 0);
    assert_eq!(server.script.seen(), []);
}

pub(crate) async fn costly_tokens_cost_nothing(harness: Harness) {
    let server = harness.start().await;
    for cost in ["$03$", "$00$", "$13$", "$31$", "$32$", "$99$"] {
        let token = good_token().replacen("$04$", cost, 1);
        assert_rejected(&server.deliver_with(&token, "1").await, 401, "unauthorized");
    }
    assert_eq!(server.receiver.stats().hashes, 0);
    let lower = harness.start_with(|builder| builder.max_cost(5)).await;
    let dearer = good_token().replacen("$04$", "$06$", 1);
    assert_rejected(&lower.deliver_with(&dearer, "1").await, 401, "unauthorized");
    assert_eq!(lower.receiver.stats().hashes, 0);
    // Tokens below `min_cost` are not hashed either: many guesses a second could be checked with them.
    let higher = harness.start_with(|builder| builder.min_cost(5)).await;
    assert_rejected(&higher.deliver_with(good_token(), "1").await, 401, "unauthorized");
    assert_eq!(higher.receiver.stats().hashes, 0);
    let dear = token(SECRET, 5, Prefix::TwoB).unwrap();
    assert_success(&higher.deliver_with(&dear, "1").await);
}

pub(crate) async fn token_of_many_requests_is_hashed_once(harness: Harness) {
    // One thread, kept busy by a costly forgery, so that all requests submit the token before its status is known.
    let server = harness.start_with(|builder| builder.verify_threads(1)).await;
    let mut forger =
        server.send(server.delivery_with(&good_token().replacen("$04$", "$11$", 1), &event("forged"))).await;
    // The first client submits the token and disconnects.
    server.send(server.delivery(&event("first"))).await.reset();
    let mut clients = Vec::new();
    for number in 0..200 {
        clients.push(server.send(server.delivery(&event(&number.to_string()))).await);
    }
    assert_rejected(&forger.response().await, 401, "unauthorized");
    for client in &mut clients {
        assert_success(&client.response().await);
    }
    assert_eq!(server.receiver.stats().hashes, 2);
}

pub(crate) async fn clients_are_queued_fairly(harness: Harness) {
    if cfg!(not(target_os = "linux")) {
        return; // Only there every address of 127.0.0.0/8 is this machine's.
    }
    let server = harness.start_with(|builder| builder.verify_threads(1)).await;
    let mut forgers = Vec::new();
    for number in 0..16 {
        // Each differs in its salt, and takes longer than sending all of them.
        let salt = format!("$11$abcdefghijklmn{}", char::from(b'a' + number));
        let forged = format!("$2b{salt}{}", &good_token()[7 + 15..]);
        forgers.push(server.send(server.delivery_with(&forged, &event("forged"))).await);
    }
    for _ in 0..4 {
        // Answered at once, by when the forgeries are queued.
        assert_rejected(&server.deliver_with("letmein", "1").await, 401, "unauthorized");
    }
    let elsewhere = std::net::IpAddr::from([127, 0, 0, 2]);
    let mut sender = Client::connect_from(elsewhere, server.address).await;
    sender.send(server.delivery(&event("1"))).await;
    assert_success(&sender.response().await);
    let hashes = server.receiver.stats().hashes;
    assert!(hashes < 8, "{hashes} tokens were hashed before the turn of the sender came");
}
