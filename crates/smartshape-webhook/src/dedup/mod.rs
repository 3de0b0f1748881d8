//! Deduplication: which deliveries are in flight, and which were completed.

mod completed;
pub(crate) mod in_flight;
pub(crate) mod store;
