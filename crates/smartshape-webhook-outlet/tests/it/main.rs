//! The outlets, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "figures of a longer run")]

#[cfg(feature = "nats")]
mod cluster;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "nats")]
mod nats;
#[cfg(all(feature = "http", feature = "nats"))]
mod promises;
#[cfg(feature = "http")]
mod verification;

use smartshape_webhook::Delivery;

const BODY: &str = r#"{"file": "gr\u00f6\u00dfe", "event": "file_uploaded", "data": {"a":  1.0e0},
    "owner": "test@smartshape.io", "runTimestamp": 1548061171539, "uuid": "43a57abb"}"#;

fn delivery(body: &str) -> Delivery {
    Delivery::for_test(body.to_owned()).unwrap()
}

fn body_of(uuid: &str) -> String {
    BODY.replace("43a57abb", uuid)
}
