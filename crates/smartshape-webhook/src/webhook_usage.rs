use std::sync::atomic::{AtomicU64, AtomicUsize};

/// How much one webhook uses of the limits that several share.
#[derive(Debug, Default)]
pub(crate) struct WebhookUsage {
    pub(crate) permits: AtomicUsize,
    pub(crate) bytes: AtomicU64,
}
