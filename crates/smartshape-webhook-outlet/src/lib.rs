//! Outlets: handlers that pass each verified [SmartShape](https://smartshape.io) delivery on to another system, and
//! succeed only once that system has it.
//!
//! [`HttpOutlet`] posts to a URL, signed as [Standard Webhooks](https://www.standardwebhooks.com) describe, so that the
//! receiving side verifies with a public library of its language. Every delivery is a [`CloudEvent`] with the body as
//! it arrived, byte for byte.
//!
#![cfg_attr(
    feature = "nats",
    doc = "[`JetStreamOutlet`] publishes to a stream of NATS, once for each event."
)]
#![cfg_attr(
    not(feature = "nats"),
    doc = "`JetStreamOutlet`, of the feature `nats`, publishes to a stream of NATS, once for each event."
)]
//!
//! An outlet is a [`Handler`](smartshape_webhook::Handler). As the handler of an endpoint it passes a delivery on
//! before it is acknowledged, and SmartShape retries what could not be passed on. As the handler of an inbox's worker,
//! the inbox retries with back-off, keeps the order per file, and keeps dead letters:
//!
//! ```no_run
//! use smartshape_webhook_inbox::Inbox;
//! use smartshape_webhook_outlet::HttpOutlet;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = std::env::var("OUTLET_SECRET")?; // whsec_…
//! let outlet = HttpOutlet::builder("https://app.example.com/events", &secret).build()?;
//! let inbox = Inbox::open("inbox.db").await?;
//! let worker = inbox.worker(outlet).ordered_by_file().spawn();
//! # let _ = worker;
//! # Ok(())
//! # }
//! ```
//!
//! Each delivery is passed on at least once: after a lost response it is passed on again, with the same
//! [`CloudEvent::id`]. A stream of NATS stores it once all the same.
//!
//! # Features
//!
//! - `http` (default): `HttpOutlet`.
//! - `nats`: `JetStreamOutlet`.
//!
//! # An outlet of your own
//!
//! For another system, write a handler that makes a [`CloudEvent`] of the delivery. It returns `Ok` once the system has
//! confirmed the event, and an error otherwise:
//!
//! ```
//! use smartshape_webhook::{Delivery, Handler, HandlerError};
//! use smartshape_webhook_outlet::CloudEvent;
//! # #[derive(Clone)]
//! # struct Queue(std::sync::Arc<std::sync::Mutex<Vec<(Vec<(String, String)>, Vec<u8>)>>>);
//! # impl Queue {
//! #     async fn publish(&self, key: &str, headers: Vec<(String, String)>, body: &[u8]) -> Result<(), std::io::Error> {
//! #         assert_eq!(key.len(), 32);
//! #         self.0.lock().unwrap().push((headers, body.to_vec()));
//! #         Ok(())
//! #     }
//! # }
//!
//! struct QueueOutlet {
//!     queue: Queue, // the client of your broker
//! }
//!
//! impl Handler for QueueOutlet {
//!     async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
//!         let event = CloudEvent::from(&delivery);
//!         // Returns once the broker has stored the message. A broker that deduplicates gets the id as its key.
//!         self.queue.publish(&event.id, event.headers(), &event.data).await?;
//!         Ok(())
//!     }
//! }
//! # let (queue, messages) = { let all = std::sync::Arc::default(); (Queue(std::sync::Arc::clone(&all)), all) };
//! # let body = r#"{"file":"f","event":"file_uploaded","data":{},"owner":"o","runTimestamp":1,"uuid":"u"}"#;
//! # let delivery = Delivery::for_test(body).unwrap();
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(QueueOutlet { queue }.handle(delivery)).unwrap();
//! # let messages = messages.lock().unwrap();
//! # assert_eq!(messages[0].1, body.as_bytes());
//! # assert!(messages[0].0.contains(&("ce-type".into(), "file_uploaded".into())));
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cloud_event;
#[cfg(any(feature = "http", feature = "nats"))]
mod error;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "http")]
mod public_address;
#[cfg(any(feature = "http", feature = "nats"))]
mod tls;

pub use cloud_event::CloudEvent;
#[cfg(any(feature = "http", feature = "nats"))]
pub use error::{OutletError, OutletErrorKind};
#[cfg(feature = "http")]
pub use http::{HttpOutlet, HttpOutletBuilder};
#[cfg(feature = "nats")]
pub use nats::{JetStreamOutlet, JetStreamOutletBuilder};

/// The README's example, as a test.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
struct Readme;
