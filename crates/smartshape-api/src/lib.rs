//! A client of SmartShape's web API: login, registrations of webhooks, attributes. Unofficial: not
//! made or endorsed by SmartShape.
//!
//! - [`Client`]: one method for each call.
//! - [`Client::reconcile`] creates and deletes webhooks until the account has the desired ones; [`Plan`] is its dry
//!   run.
//! - [`ClientBuilder`]: base URL, tokens, timeouts, retries.
//! - [`Error`], [`ErrorKind`], [`Hint`]: what failed and what to try. No error shows a secret.
//!
//! SmartShape responds 503 to unauthorized calls. The client never treats that as "try again later".
//!
//! Redirects are not followed. Requests go through the proxy in `HTTPS_PROXY` (`HTTP_PROXY` for an `http://` base URL),
//! unless `NO_PROXY` lists the host or the host is a loopback address.

mod client;
mod error;
mod problem;
mod reconcile;
mod registration;
mod request;
mod response;
mod retry;
mod secret;
mod settings;
mod transport;
mod url;
mod webhook;

pub use client::Client;
pub use error::{Error, ErrorKind, Hint};
pub use reconcile::{CompletedStep, DeleteReason, Deletion, Plan, Step};
pub use registration::Registration;
pub use retry::parse_retry_after;
pub use secret::{AuthToken, SessionToken, WebhookSecret};
pub use settings::ClientBuilder;
#[doc(no_inline)]
pub use smartshape_webhook::EventKind;
pub use url::{is_loopback_url, redact_url};
pub use webhook::{DesiredWebhook, WebhookRecord};

/// The README's example, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
