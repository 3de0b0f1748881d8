//! SmartShape webhooks: a durable inbox (unofficial).
//!
//! SmartShape retries a delivery that is not acknowledged quickly, and forgets it once it is acknowledged. A safe
//! receiver therefore stores the delivery first, acknowledges it, and processes it afterwards. [`Inbox`] is a
//! [`Handler`](smartshape_webhook::Handler) that stores; the handler that did the work inline moves to
//! [`Inbox::worker`]:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use smartshape_webhook::{Delivery, HandlerError};
//! use smartshape_webhook_inbox::Inbox;
//!
//! async fn on_delivery(delivery: Delivery) -> Result<(), HandlerError> {
//!     println!("attempt {} at {}", delivery.attempt(), delivery.event_name());
//!     Ok(())
//! }
//!
//! let inbox = Inbox::open("inbox.db").await?; // or postgres://…
//! let worker = inbox.worker(on_delivery).spawn();
//! // and in the server: endpoint(receiver, inbox); at shutdown:
//! worker.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! The guarantee: no attempt starts after its event's completion was recorded; before that, an event may be attempted
//! more than once. On PostgreSQL, `Inbox::transactional_worker` commits the handler's writes and the completion
//! together: exactly once.
//!
//! # Crate features
//!
//! - `sqlite` (on): stores in a file, for one machine.
//! - `postgres`: stores in a PostgreSQL database, for several machines. `postgres-tls` adds TLS to it.
//!
//! # Metrics
#![doc = include_str!("../METRICS.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "without a storage no inbox can be opened")
)]

mod activity;
mod batcher;
mod error;
mod event;
mod filter;
mod inbox;
mod lock;
mod metrics;
mod operations;
mod reason;
mod settings;
mod stats;
mod storage;
mod worker;

// Compiled into the crate, since these tests use the private storage trait.
#[cfg(test)]
#[path = "../tests/it/mod.rs"]
mod it;

pub use error::{InboxError, InboxErrorKind};
pub use event::{EventState, StoredDelivery, StoredEvent};
pub use filter::EventFilter;
pub use inbox::{ActivitySlot, EventPage, Health, Inbox, PageCursor};
pub use operations::{FailedAttempt, Pause, WorkerInfo};
pub use reason::{DeadLetterReason, ReasonId};
pub use settings::InboxBuilder;
pub use stats::{Count, CountByEvent, InboxCounts, InboxStats};
#[cfg(feature = "postgres")]
pub use storage::postgres::PostgresDedupStore;
#[cfg(feature = "postgres")]
pub use worker::TransactionalFuture;
pub use worker::{Worker, WorkerHandle};
