//! What operators see beside events: workers, a pause, failed attempts.

use std::time::Duration;

use jiff::Timestamp;

/// A worker that runs in some process; see [`Inbox::workers`](crate::Inbox::workers).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Host name of the worker's machine, if known.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// The version of this crate that it runs.
    pub version: String,
    /// Maximum number of events that it handles concurrently.
    pub concurrency: u64,
    /// Number of events that it was handling when it last reported.
    pub running: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last reported; it does so every 15 seconds.
    pub seen_at: Timestamp,
}

/// Workers start no attempts; see [`Inbox::pause`](crate::Inbox::pause).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pause {
    /// When the workers were paused.
    pub since: Timestamp,
    /// Who paused them.
    pub by: String,
}

/// A failed attempt at an event; see [`Inbox::failed_attempts`](crate::Inbox::failed_attempts).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The number of the attempt. Counts from 1, and again after a replay.
    pub number: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Run time of the handler.
    pub took: Duration,
    /// The handler's error.
    pub error: String,
}
