//! A fake SmartShape for tests without an account (unofficial).
//!
//! - [`Sender`] sends signed events to an endpoint, checks the response as strictly as SmartShape's manual, and
//!   retries.
//! - [`FakeSmartShape`] is a server with the part of SmartShape's web API that webhooks need (login, sessions,
//!   webhooks, attributes), with routes under `/fake/` that trigger events, and with [`FaultInjection`]. The binary
//!   `smartshape-fake` runs it as a program.
//!
//! It speaks plain HTTP and talks to loopback addresses only, unless [`SenderSettings::allow_remote`] is set. Its
//! requests carry `x-smartshape-fake: 1`, its responses `server: smartshape-fake`.

mod http;
mod payload;
mod random;
mod response;
mod sender;
mod server;
mod token;

pub use payload::{EventPayload, sample_text};
pub use response::{Fault, check_response};
pub use sender::{DeliveryAttempt, DeliveryOutcome, Order, Sender, SenderSettings};
pub use server::{
    Account, ErrorFormat, FakeBuilder, FakeSmartShape, FaultInjection, Permission, StoredAttribute,
    StoredWebhook,
};
pub use token::{InvalidCost, Prefix, token};
