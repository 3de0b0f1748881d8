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
//! Redirects are not followed. The proxy that `HTTPS_PROXY` (or `HTTP_PROXY`, for an `http://` base URL) names is
//! used, unless `NO_PROXY` names the host or it is this machine.

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
pub use ensure::{Done, Plan, Reason, Record, Step, Wanted};
pub use error::{Error, ErrorKind};
pub use hidden::{AuthToken, SessionToken, WebhookSecret};
pub use registration::Registration;
pub use retry::parse_retry_after;
pub use settings::ClientBuilder;
#[doc(no_inline)]
pub use smartshape_webhook::EventKind;
pub use url::{is_loopback_url, redact_url};

/// The README's example, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
