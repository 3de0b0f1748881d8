//! A fake SmartShape for tests without an account (unofficial).
//!
//! - [`Sender`] sends signed events to an endpoint, judges the answer as strictly as SmartShape's
//!   manual does, and tries again.
//! - [`FakeSmartShape`] is a server with the part of SmartShape's web API that webhooks need
//!   (login, sessions, webhooks, attributes), and with calls under `/fake/` that make it send.
//!   The binary `smartshape-fake` is the same as a program.
//!
//! It speaks plain HTTP, with this machine only unless told otherwise, marks what it sends with
//! `x-smartshape-fake: 1`, and what it answers with `server: smartshape-fake`.

mod http;
mod judge;
mod payload;
mod random;
mod sender;
mod server;
mod token;

pub use judge::{Fault, judge};
pub use payload::{EventPayload, sample_text};
pub use sender::{Attempt, Order, Outcome, Sender, SenderSettings};
pub use server::{
    Account, Disturbance, ErrorForm, FakeBuilder, FakeSmartShape, Permission, StoredAttribute, StoredWebhook,
};
pub use token::{Prefix, TokenError, token};
