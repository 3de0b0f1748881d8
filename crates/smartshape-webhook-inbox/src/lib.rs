//! SmartShape webhooks: a durable inbox (unofficial).
//!
//! SmartShape retries whatever is not answered fast, and forgets whatever was answered. So the
//! safe receiver stores first, answers, and works afterwards. [`Inbox`] is a handler that does so;
//! the handler that did the work inline moves to [`Inbox::worker`]:
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
//! let worker = tokio::spawn(inbox.worker(on_delivery).run(std::future::pending()));
//! // and in the server: endpoint(receiver, inbox)
//! # worker.await??; Ok(()) }
//! ```
//!
//! The promise: no attempt starts after its event's completion was recorded; before that, an event
//! may be attempted more than once. With PostgreSQL, [`Inbox::transactional`] commits effect and
//! completion together: exactly once.
//!
//! # Crate features
//!
//! - `sqlite` (on): a file of its own, for one machine.
//! - `postgres`: a PostgreSQL server, for several machines. `postgres-tls` adds TLS to it.
//! - `metrics`: reports to the recorder of the `metrics` facade; see below.
//! - `suite`: the promises of an [`Engine`] as a test suite, for engines of one's own.
//!
//! # Metrics
#![doc = include_str!("../METRICS.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod engine;
mod error;
mod inbox;
mod intake;
mod measure;
mod record;
#[cfg(feature = "suite")]
pub mod suite;
mod worker;

pub use builder::InboxBuilder;
pub use engine::{Attempt, Claimed, Engine, EngineFuture, Lease, Retention, Settlement, Verdict, Wanted};
pub use error::{InboxError, InboxErrorKind};
pub use inbox::{Health, Inbox};
pub use record::{Filter, RECORD_VERSION, Record, State, Stats, StoredDelivery, StoredEvent};
#[cfg(feature = "postgres")]
pub use worker::{Transactional, TransactionalHandler, TransactionalOutcome};
pub use worker::{Work, Worker, WorkerHandle};
