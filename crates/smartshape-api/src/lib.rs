//! A client of SmartShape's web API: login, registrations of webhooks, attributes. Unofficial: not
//! made or endorsed by SmartShape.
//!
//! - [`Client`]: one method for each call.
//! - [`Client::ensure`] makes the registrations be the wanted ones; [`Plan`] decides and shows what that
//!   takes.
//! - [`ClientBuilder`]: base URL, tokens, time limits, retries.
//! - [`Error`], [`ErrorKind`]: what went wrong, without any secret in it.
//!
//! SmartShape answers 503 to whoever is not authorised. It is never taken for "try again later".
//!
//! Redirects are not followed, and proxies are not asked (`HTTPS_PROXY` is ignored).

mod answer;
mod client;
mod ensure;
mod error;
mod hidden;
mod problem;
mod redact;
mod registration;
mod request;
mod retry;
mod settings;
mod text;
mod transport;
mod url;

pub use client::Client;
pub use ensure::{Plan, Reason, Record, Step, Wanted};
pub use error::{Error, ErrorKind};
pub use hidden::{AuthToken, SessionToken, WebhookSecret};
pub use registration::Registration;
pub use settings::ClientBuilder;
#[doc(no_inline)]
pub use smartshape_webhook::EventKind;
pub use url::redact_url;

/// The README's example, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
