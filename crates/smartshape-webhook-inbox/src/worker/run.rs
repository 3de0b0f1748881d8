//! The worker's loop.
//!
//! One loop does everything, in one file, since its parts share the state of [`WorkerLoop`]: each tick renews the
//! leases of running attempts, records results, reports that the worker is alive, and claims as many events as there is
//! free concurrency. Between ticks the loop sleeps until an attempt ends, an event is stored, or something is due.
//!
//! - Handlers run in tasks, so none of them delays a renewal.
//! - Claims run in a task of their own: neither a timeout nor a shutdown drops a claim whose response is on its way.
//!   Events that are claimed and not attempted would count as lost leases.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, DeliveryKey, DeliveryMeta, HandlerErrorKind, escape_error_for_log};
use tokio::task::{AbortHandle, Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::Instrument as _;

use super::{AttemptEnd, EventHandler, MAX_PAUSE, MIN_PAUSE, Settings, WorkerContext, timed_out, within};
use crate::activity::ActivityCounts;
use crate::error::{InboxError, InboxErrorKind};
use crate::event::error_field;
use crate::metrics;
use crate::storage::admin::WorkerReport;
use crate::storage::{
    Attempt, AttemptOutcome, AttemptResult, ClaimRequest, ClaimResponse, FAR_FUTURE, Lease, Settled, Storage,
    WorkerGuard, milliseconds,
};

/// Interval at which a worker reports that it is alive.
const REPORT_INTERVAL: Duration = Duration::from_secs(15);
/// Pause before the result of a locked event is recorded.
const RETRY_LOCKED: Duration = Duration::from_millis(500);
/// Maximum time for a cancelled handler to reach its next await. One that blocks its thread never does.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of a running worker. A lease is in one of `running`, `results`, `locked` and `cancelled` from its claim
/// until its result is recorded or it is lost; while it is in the first three it occupies concurrency.
pub(super) struct WorkerLoop {
    context: WorkerContext,
    handler: Arc<dyn EventHandler>,
    settings: Settings,
    guard: WorkerGuard,
    tasks: JoinSet<AttemptEnd>,
    running: HashMap<Id, RunningAttempt>,
    /// Results that are not recorded yet.
    results: Vec<AttemptResult>,
    /// Results of events that another transaction had locked.
    locked: Vec<AttemptResult>,
    /// The database may have recorded some of `results` before its response was lost.
    in_doubt: bool,
    /// Attempts that were cancelled by the shutdown.
    cancelled: Vec<Lease>,
    claim: Option<PendingClaim>,
    /// When the leases of running attempts are renewed: a third of `lease_ttl` after the earliest of them began.
    renew_at: Instant,
    report_at: Instant,
    report: WorkerReport,
}

struct RunningAttempt {
    key: DeliveryKey,
    lease: Lease,
    number: u32,
    started_at: Instant,
    /// Names the event and the attempt in the log.
    span: tracing::Span,
    abort: AbortHandle,
    /// The lease was lost, and the handler is cancelled for it. Its event is another worker's.
    is_lost: bool,
}

struct PendingClaim {
    started_at: Instant,
    response: JoinHandle<Result<ClaimResponse, InboxError>>,
}

impl WorkerLoop {
    pub(super) fn new(
        context: WorkerContext,
        handler: Arc<dyn EventHandler>,
        settings: Settings,
        guard: WorkerGuard,
    ) -> Self {
        let now = Instant::now();
        Self {
            renew_at: now + settings.lease_ttl / 3,
            report_at: now,
            report: WorkerReport {
                id: fastrand::i64(..),
                host: host(),
                concurrency: settings.concurrency as u64,
                running: 0,
            },
            context,
            handler,
            settings,
            guard,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            results: Vec::new(),
            locked: Vec::new(),
            in_doubt: false,
            cancelled: Vec::new(),
            claim: None,
        }
    }

    /// The worker's id in its reports.
    pub(super) fn id(&self) -> i64 {
        self.report.id
    }

    pub(super) async fn run_until(&mut self, mut shutdown: Pin<&mut impl Future<Output = ()>>) {
        let (wake, heartbeat) = (Arc::clone(&self.context.wake), Arc::clone(&self.context.heartbeat));
        let mut pause = MIN_PAUSE;
        loop {
            heartbeat.busy();
            let ticked = tokio::select! {
                biased;
                () = &mut shutdown => return,
                ticked = self.tick() => ticked,
            };
            let wait_until = match ticked {
                Ok(next) => {
                    pause = MIN_PAUSE;
                    next
                }
                Err(error) => {
                    tracing::warn!(%error, "the inbox's database fails; the worker tries again");
                    let until = Instant::now() + pause;
                    pause = (pause * 2).min(MAX_PAUSE);
                    tokio::select! {
                        () = sleep_until(until) => continue,
                        () = &mut shutdown => return,
                    }
                }
            };
            if !self.results.is_empty() {
                continue;
            }
            let (renew_at, is_free, is_busy) = (self.renew_at, self.free() > 0, !self.running.is_empty());
            let (has_locked, retry_at) = (!self.locked.is_empty(), Instant::now() + RETRY_LOCKED);
            let next = [(is_free, wait_until), (is_busy, renew_at), (has_locked, retry_at)];
            let next = next.into_iter().filter_map(|(applies, at)| applies.then_some(at)).min();
            heartbeat.idle_until(next.unwrap_or(renew_at));
            tokio::select! {
                // A shutdown is noticed even if attempts end all the time, and results come first, since they occupy
                // concurrency until they are recorded.
                biased;
                () = &mut shutdown => return,
                () = self.attempt_ended() => {}
                () = wake.notified(), if is_free => {}
                () = sleep_until(wait_until), if is_free => {}
                () = sleep_until(renew_at), if is_busy => {}
                () = sleep_until(retry_at), if has_locked => {}
            }
        }
    }

    /// Renews leases, records results, reports, claims. Returns when the next tick is due.
    async fn tick(&mut self) -> Result<Instant, InboxError> {
        // A failure to record results must not keep leases from being renewed.
        let (renewed, settled) = (self.renew().await, self.settle().await);
        renewed.and(settled)?;
        self.report().await;
        let now = Instant::now();
        let mut next = now + self.settings.poll_interval;
        if self.free() > 0 {
            if self.claim.is_none() {
                self.claim = Some(self.request_claim());
            }
            let received = timeout(self.context.store_timeout, self.receive_claim()).await;
            if let Some(due) = received.unwrap_or_else(|_| Err(timed_out()))? {
                next = next.min(due);
            }
        }
        Ok(next)
    }

    /// Number of attempts that can start. An unrecorded result still counts as running.
    fn free(&self) -> usize {
        let ended = self.results.len() + self.locked.len();
        self.settings.concurrency.saturating_sub(self.running.len() + ended)
    }

    fn request_claim(&self) -> PendingClaim {
        let request = ClaimRequest {
            max_events: u32::try_from(self.free()).unwrap_or(u32::MAX),
            lease_ttl: self.settings.lease_ttl,
            ordered: self.settings.ordered,
            max_attempts: self.settings.max_attempts,
            max_lost_leases: self.settings.max_lost_leases,
        };
        let storage = Arc::clone(&self.context.storage);
        let response = tokio::spawn(async move { storage.claim(request).await });
        PendingClaim { started_at: Instant::now(), response }
    }

    /// Starts the attempts of the pending claim, if there is one. Returns when the next event is due.
    async fn receive_claim(&mut self) -> Result<Option<Instant>, InboxError> {
        let Some(PendingClaim { started_at, response }) = &mut self.claim else { return Ok(None) };
        let (started_at, response) = (*started_at, response.await);
        self.claim = None;
        let claimed = response.map_err(|error| InboxError::new(InboxErrorKind::Unavailable, error))??;
        if claimed.dead_lettered > 0 {
            metrics::attempts_ended("lost_leases_exceeded", claimed.dead_lettered);
            self.context.activity.record(ActivityCounts {
                dead_letters: i64::try_from(claimed.dead_lettered).unwrap_or(i64::MAX),
                ..ActivityCounts::default()
            });
            tracing::error!(
                events = claimed.dead_lettered,
                "events are dead letters now, because too many of their leases were lost"
            );
        }
        // An event that is due and was not claimed belongs to another worker or waits for another event: claiming
        // again at once would not change that.
        let next_due = claimed.next_due.filter(|due| !due.is_zero() || !claimed.attempts.is_empty());
        self.start(claimed.attempts, started_at);
        Ok(next_due.map(|due| started_at + due.min(FAR_FUTURE)))
    }

    /// Starts attempts that were claimed at `claimed_at`.
    fn start(&mut self, attempts: Vec<Attempt>, claimed_at: Instant) {
        if !attempts.is_empty() {
            // The leases began at the claim.
            self.renew_at = self.renew_at.min(claimed_at + self.settings.lease_ttl / 3);
        }
        for attempt in attempts {
            // The response took so long that another worker may have the event by now.
            if claimed_at.elapsed() >= self.settings.lease_ttl {
                tracing::warn!(key = %attempt.key, "a claim took longer than the lease; the attempt is not made");
                self.results.push(AttemptResult::released(attempt.lease));
                continue;
            }
            let (key, lease, number) = (attempt.key, attempt.lease, attempt.number);
            match restore(attempt) {
                Ok(delivery) => {
                    let webhook = delivery.span();
                    // Borrowed: a parent that is given away ends before its child begins, at which subscribers panic.
                    let span = tracing::info_span!(parent: &webhook, "attempt", number);
                    let (handler, guard) = (Arc::clone(&self.handler), Arc::clone(&self.guard));
                    let task = async move {
                        // A handler that blocks its thread outlives the worker.
                        let _guard = guard;
                        handler.attempt(lease, delivery).await
                    };
                    let abort = self.tasks.spawn(task.instrument(span.clone()));
                    let id = abort.id();
                    let started_at = Instant::now();
                    self.running.insert(
                        id,
                        RunningAttempt { key, lease, number, started_at, span, abort, is_lost: false },
                    );
                }
                Err((kind, error)) => {
                    let outcome = self.failed(kind, error_field(&error), key, number);
                    self.results.push(AttemptResult { lease, outcome, took: Duration::ZERO });
                }
            }
        }
    }

    /// Waits until an attempt has ended. Never returns when none runs.
    async fn attempt_ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.end_attempt(ended),
            None => std::future::pending().await,
        }
    }

    fn end_attempt(&mut self, ended: Result<(Id, AttemptEnd), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(attempt) = self.running.remove(&id) else { return };
        let took = attempt.started_at.elapsed();
        let completed = AttemptOutcome::Completed { keep_body: self.context.keep_body() };
        let failed =
            |kind, error| attempt.span.in_scope(|| self.failed(kind, error, attempt.key, attempt.number));
        let lease_lost = || metrics::attempts_ended("lease_lost", 1);
        let outcome = match ended {
            Ok((_, AttemptEnd::Succeeded)) => completed,
            #[cfg(feature = "postgres")]
            Ok((_, AttemptEnd::AlreadyCompleted)) => {
                metrics::attempt_took(took);
                return self.count(&completed, took);
            }
            #[cfg(feature = "postgres")]
            Ok((_, AttemptEnd::LeaseLost)) => return lease_lost(),
            Ok((_, AttemptEnd::Failed { kind, error })) => failed(kind, error),
            Err(error) if error.is_cancelled() && attempt.is_lost => return lease_lost(),
            Err(error) if error.is_cancelled() => return self.cancelled.push(attempt.lease),
            Err(error) => failed(HandlerErrorKind::Retry, error_field(&panic_text(error))),
        };
        metrics::attempt_took(took);
        self.results.push(AttemptResult { lease: attempt.lease, outcome, took });
    }

    /// Counts an attempt whose outcome is recorded.
    fn count(&self, outcome: &AttemptOutcome, took: Duration) {
        let mut counts = ActivityCounts::default();
        let (label, count) = match outcome {
            AttemptOutcome::Completed { .. } => ("completed", Some(&mut counts.completed)),
            AttemptOutcome::Retry { .. } => ("retry", Some(&mut counts.retried)),
            AttemptOutcome::DeadLetter { .. } => ("dead_letter", Some(&mut counts.dead_letters)),
            AttemptOutcome::Released => ("released", None),
        };
        if let Some(count) = count {
            *count = 1;
        }
        metrics::attempts_ended(label, 1);
        counts.handler_ms = milliseconds(took);
        counts.max_handler_ms = counts.handler_ms;
        self.context.activity.record(counts);
    }

    fn failed(&self, kind: HandlerErrorKind, error: String, key: DeliveryKey, number: u32) -> AttemptOutcome {
        let shown = escape_error_for_log(&error);
        let backoff = self.settings.backoff.after(number, fastrand::f64());
        let after = match kind {
            HandlerErrorKind::Permanent => None,
            _ if number >= self.settings.max_attempts => None,
            // The back-off is the minimum: a busy server that always asks for a second would use up all attempts at
            // once.
            HandlerErrorKind::RetryAfter(wait) => Some(wait.max(backoff)),
            _ => Some(backoff),
        };
        if let Some(after) = after {
            tracing::warn!(%key, attempt = number, error = %shown, retry_in_ms = after.as_millis(), "an attempt failed");
            AttemptOutcome::Retry { after, error }
        } else {
            tracing::error!(%key, attempt = number, error = %shown, "an event is a dead letter now");
            AttemptOutcome::DeadLetter { error }
        }
    }

    /// Records the results. A batch that the database rejects is halved until the rejected result is alone, which is
    /// then dropped: its event's lease is lost.
    async fn settle(&mut self) -> Result<(), InboxError> {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.end_attempt(ended);
        }
        self.results.append(&mut self.locked);
        let (mut parts, in_doubt) = (vec![std::mem::take(&mut self.results)], self.in_doubt);
        self.in_doubt = false;
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            // The results are kept during the call, since a shutdown may drop this future.
            self.results = parts.iter().flatten().chain(&part).cloned().collect();
            self.in_doubt = true;
            let settled = self.context.storage.settle(part.clone().into());
            match within(self.context.store_timeout, settled).await {
                Ok(Settled { recorded, locked }) => {
                    let mut lost = 0;
                    for result in part {
                        if locked.contains(&result.lease) {
                            self.locked.push(result);
                        // After a lost response some are recorded already, and their leases are not held any more.
                        } else if in_doubt || recorded.contains(&result.lease) {
                            self.count(&result.outcome, result.took);
                        } else {
                            lost += 1;
                        }
                    }
                    if lost > 0 {
                        metrics::attempts_ended("lease_lost", lost);
                        tracing::warn!(
                            lost,
                            "results came after their lease was lost; the events are attempted again"
                        );
                    }
                }
                Err(error) if error.kind() != InboxErrorKind::Rejected => return Err(error),
                Err(error) if part.len() == 1 => {
                    tracing::error!(%error, seq = part[0].lease.seq, "a result cannot be recorded; its event is attempted again");
                    metrics::attempts_ended("lease_lost", 1);
                }
                Err(_) => {
                    let half = part.split_off(part.len() / 2);
                    parts.extend([half, part]);
                }
            }
        }
        self.results.clear();
        // The transaction that locks an event may be that of the call whose response was lost.
        self.in_doubt = in_doubt && !self.locked.is_empty();
        Ok(())
    }

    /// Renews the leases of running attempts when a third of their time is over.
    async fn renew(&mut self) -> Result<(), InboxError> {
        if Instant::now() < self.renew_at {
            return Ok(());
        }
        let leases: Vec<Lease> = self.running.values().map(|attempt| attempt.lease).collect();
        if !leases.is_empty() {
            let renewed = self.context.storage.renew(leases, self.settings.lease_ttl);
            let held = within(self.context.store_timeout, renewed).await?;
            for attempt in self.running.values_mut().filter(|attempt| !held.contains(&attempt.lease)) {
                // Another attempt may be running by now.
                tracing::warn!(seq = attempt.lease.seq, "a lease was lost; the attempt is cancelled");
                attempt.is_lost = true;
                attempt.abort.abort();
            }
        }
        self.renew_at = Instant::now() + self.settings.lease_ttl / 3;
        Ok(())
    }

    /// Reports that the worker is alive when it is time.
    async fn report(&mut self) {
        if Instant::now() < self.report_at {
            return;
        }
        self.report_at = Instant::now() + REPORT_INTERVAL;
        self.report.running = self.running.len() as u64;
        let report = self.context.storage.report_worker(self.report.clone());
        if let Err(error) = within(self.context.store_timeout, report).await {
            tracing::debug!(%error, "the worker could not report that it is alive");
        }
    }

    /// Waits for running attempts, renewing their leases, for `shutdown_timeout`; then cancels and releases them.
    pub(super) async fn shut_down(mut self) {
        let _ = timeout(self.context.store_timeout, self.receive_claim()).await;
        if let Some(claim) = self.claim.take() {
            release_later(Arc::clone(&self.context.storage), claim);
        }
        let deadline = Instant::now() + self.settings.shutdown_timeout;
        let mut pause_until = Instant::now();
        while !self.running.is_empty() && Instant::now() < deadline {
            let wake_at = self.renew_at.max(pause_until).min(deadline);
            tokio::select! {
                () = self.attempt_ended() => {}
                () = sleep_until(wake_at) => {}
            }
            // An error is logged after the last try.
            let (renewed, settled) = (self.renew().await, self.settle().await);
            if renewed.and(settled).is_err() {
                pause_until = Instant::now() + MIN_PAUSE;
            }
        }
        self.tasks.abort_all();
        let cancelled = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.end_attempt(ended);
            }
        };
        if timeout(CANCEL_TIMEOUT, cancelled).await.is_err() {
            tracing::error!(events = self.running.len(), "handlers that block their thread are left behind");
        }
        self.results.extend(self.cancelled.drain(..).map(AttemptResult::released));
        let deadline = deadline.max(Instant::now() + CANCEL_TIMEOUT);
        let mut settled = self.settle().await;
        while (settled.is_err() || !self.locked.is_empty()) && Instant::now() < deadline {
            sleep(MIN_PAUSE).await;
            settled = self.settle().await;
        }
        if let Err(error) = settled {
            tracing::warn!(%error, "results of the last attempts could not be recorded; they are made again");
        } else if !self.locked.is_empty() {
            let events = self.locked.len();
            tracing::warn!(events, "another transaction locks events; their last attempts are made again");
        }
    }
}

/// Releases the events of a claim that responds after the shutdown.
fn release_later(storage: Arc<dyn Storage>, PendingClaim { response, .. }: PendingClaim) {
    let _detached = tokio::spawn(async move {
        let Ok(Ok(claimed)) = response.await else { return };
        let released = claimed.attempts.iter().map(|attempt| AttemptResult::released(attempt.lease));
        if let Err(error) = storage.settle(released.collect()).await {
            tracing::warn!(%error, "events that were claimed too late could not be released; their leases have to expire");
        }
    });
}

fn restore(attempt: Attempt) -> Result<Delivery, (HandlerErrorKind, String)> {
    let permanent = |error: String| (HandlerErrorKind::Permanent, error);
    let body = attempt
        .body
        .map_err(|error| (HandlerErrorKind::Retry, format!("its body cannot be read: {error}")))?
        .ok_or_else(|| permanent("its body is not in the database any more".to_owned()))?;
    let meta = DeliveryMeta {
        key: Some(attempt.key),
        received_at: attempt.received_at,
        attempt: attempt.number,
        secret_name: attempt.secret_name.map(Into::into),
        traceparent: attempt.traceparent.map(Into::into),
        ..DeliveryMeta::default()
    };
    Delivery::restore(body, meta).map_err(|error| permanent(error.to_string()))
}

/// The name of the machine, if the system tells it.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    error_field(name.unwrap_or_default().trim())
}

fn panic_text(error: JoinError) -> String {
    let panic = match error.try_into_panic() {
        Ok(panic) => panic,
        Err(error) => return error.to_string(),
    };
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the handler panicked: {}", text.as_deref().unwrap_or("without a text"))
}
