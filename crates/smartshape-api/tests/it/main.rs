//! The client against the fake SmartShape and against servers of the tests' own, over sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail the test"
)]

mod calls;
mod failures;
mod reconcile;
mod server;
mod tls;

use smartshape_api::{AuthToken, Client, ClientBuilder, DesiredWebhook, EventKind, WebhookSecret};
use smartshape_fake::{Account, FakeBuilder, FakeSmartShape};

const PASSWORD: &str = "her password";
const SECRET: &str = "a long and random string";

fn fake() -> FakeBuilder {
    FakeSmartShape::builder().account(Account::new("ada", PASSWORD))
}

/// A client of the fake, logged in, which tries again at once.
fn settings(fake: &FakeSmartShape) -> ClientBuilder {
    let token = AuthToken::new(fake.bearer_token()).unwrap();
    let at_once = std::time::Duration::ZERO;
    Client::builder().base_url(fake.base_url()).auth_token(token).backoff(at_once, at_once)
}

fn desired(event: EventKind, url: &str) -> DesiredWebhook {
    DesiredWebhook::new(event, url, WebhookSecret::new(SECRET).unwrap()).unwrap()
}

/// Text and debug form of an error and of what caused it.
fn everything_of(error: &smartshape_api::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    text
}
