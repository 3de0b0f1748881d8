//! The attempts that run, and the results that are not recorded yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, DeliveryMeta, HandlerErrorKind, escape_error_for_log};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::retry::chance;
use super::{FIRST_PAUSE, Settings, Work, Worked, within};
use crate::engine::{Attempt, Lease, Settlement, Verdict};
use crate::error::{InboxError, InboxErrorKind};
use crate::inbox::Inbox;
use crate::measure;
use crate::record::kept_error;

/// How long a cancelled handler may take to notice.
const CANCELLED_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Pool<W> {
    inbox: Inbox,
    work: Arc<W>,
    settings: Settings,
    tasks: JoinSet<Ended>,
    running: HashMap<Id, Run>,
    /// Results that the store has not recorded yet.
    unsettled: Vec<Settlement>,
    /// The store may have recorded some of them nevertheless.
    in_doubt: bool,
    /// Attempts that were cancelled at the worker's end.
    cancelled: Vec<Lease>,
    renew_at: Instant,
}

struct Run {
    lease: Lease,
    number: u32,
    begun: Instant,
    abort: AbortHandle,
    is_lost: bool,
}

/// How an attempt ended. Made within the attempt's own task: an error's text comes from the handler's code,
/// which may panic or take long there.
enum Ended {
    Handled,
    Failed { kind: HandlerErrorKind, error: String },
    Recorded,
    Undone,
}

impl From<Worked> for Ended {
    fn from(worked: Worked) -> Self {
        match worked {
            Worked::Handled(Ok(())) => Self::Handled,
            Worked::Handled(Err(error)) => {
                Self::Failed { kind: error.kind(), error: kept_error(&error.chain()) }
            }
            Worked::Recorded => Self::Recorded,
            Worked::Undone => Self::Undone,
        }
    }
}

impl<W: Work> Pool<W> {
    pub(super) fn new(inbox: Inbox, work: Arc<W>, settings: Settings) -> Self {
        Self {
            renew_at: Instant::now() + settings.lease / 3,
            inbox,
            work,
            settings,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            unsettled: Vec::new(),
            in_doubt: false,
            cancelled: Vec::new(),
        }
    }

    /// Places for new attempts: an unrecorded result still takes one.
    pub(super) fn free(&self) -> usize {
        self.settings.concurrency.saturating_sub(self.running.len() + self.unsettled.len())
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether there are results to record.
    pub(super) fn has_results(&self) -> bool {
        !self.unsettled.is_empty()
    }

    pub(super) fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// Starts attempts that were asked for at `asked`.
    pub(super) fn start(&mut self, attempts: Vec<Attempt>, asked: Instant) {
        if !attempts.is_empty() {
            // Their leases run since then.
            self.renew_at = self.renew_at.min(asked + self.settings.lease / 3);
        }
        for attempt in attempts {
            // The answer took so long that others may have the event by now.
            if asked.elapsed() >= self.settings.lease {
                tracing::warn!(key = %attempt.key, "an attempt came too late and is not made");
                self.unsettled.push(Settlement { lease: attempt.lease, verdict: Verdict::GivenBack });
                continue;
            }
            let (lease, number) = (attempt.lease, attempt.number);
            match restore(attempt) {
                Ok(delivery) => {
                    let webhook = delivery.span();
                    // Borrowed: a parent that is given away ends before its child begins, at which subscribers panic.
                    let span = tracing::info_span!(parent: &webhook, "attempt", number);
                    let work = Arc::clone(&self.work);
                    let task = async move { Ended::from(work.attempt(lease, delivery).await) };
                    let abort = self.tasks.spawn(task.instrument(span));
                    let run = Run { lease, number, begun: Instant::now(), abort, is_lost: false };
                    self.running.insert(run.abort.id(), run);
                }
                Err(error) => {
                    tracing::error!(
                        seq = lease.seq,
                        error,
                        "a stored event cannot be read; it is a dead letter now"
                    );
                    let error = kept_error(&error);
                    self.unsettled.push(Settlement { lease, verdict: Verdict::Dead { error } });
                }
            }
        }
    }

    /// Waits until an attempt has ended. Never returns when none runs.
    pub(super) async fn one_ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.ended(ended),
            None => std::future::pending().await,
        }
    }

    fn ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(run) = self.running.remove(&id) else { return };
        let verdict = match ended {
            Ok((_, Ended::Handled)) => {
                Verdict::Completed { keep_body: !self.inbox.retention().bodies.is_zero() }
            }
            Ok((_, Ended::Recorded)) => return measure::recorded(run.begun.elapsed()),
            Ok((_, Ended::Undone)) => return measure::lost(),
            Ok((_, Ended::Failed { kind, error })) => self.failed(kind, error, run.number),
            Err(error) if error.is_cancelled() && run.is_lost => return measure::lost(),
            Err(error) if error.is_cancelled() => return self.cancelled.push(run.lease),
            Err(error) => self.failed(HandlerErrorKind::Retry, kept_error(&panic_text(error)), run.number),
        };
        measure::attempted(&verdict, run.begun.elapsed());
        self.unsettled.push(Settlement { lease: run.lease, verdict });
    }

    fn failed(&self, kind: HandlerErrorKind, error: String, number: u32) -> Verdict {
        let shown = escape_error_for_log(&error);
        let after = match kind {
            HandlerErrorKind::Permanent => None,
            _ if number >= self.settings.max_attempts => None,
            HandlerErrorKind::RetryAfter(wait) => Some(wait),
            _ => Some(self.settings.backoff.after(number, chance())),
        };
        if let Some(after) = after {
            tracing::warn!(attempt = number, error = %shown, retry_in_ms = after.as_millis(), "an attempt failed");
            Verdict::Retry { after, error }
        } else {
            tracing::error!(attempt = number, error = %shown, "an event is a dead letter now");
            Verdict::Dead { error }
        }
    }

    /// Records the results there are. Where the store rejects them, they are halved until what it rejects is
    /// alone, and given up: that event's lease is lost.
    pub(super) async fn settle(&mut self) -> Result<(), InboxError> {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.ended(ended);
        }
        let (mut parts, in_doubt) = (vec![std::mem::take(&mut self.unsettled)], self.in_doubt);
        self.in_doubt = false;
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            // Kept while the store is asked, since a shutdown may drop this future.
            self.unsettled = parts.iter().flatten().chain(&part).cloned().collect();
            self.in_doubt = true;
            let answer = self.inbox.engine().settle(part.clone().into());
            match within(self.inbox.store_limit(), answer).await {
                Ok(held) if held.len() < part.len() && !in_doubt => {
                    let lost = part.len() - held.len();
                    (0..lost).for_each(|_| measure::lost());
                    tracing::warn!(
                        lost,
                        "results came after their lease was lost; the events are attempted again"
                    );
                }
                Ok(_) => {}
                Err(error) if error.kind() != InboxErrorKind::Rejected => return Err(error),
                Err(error) if part.len() == 1 => {
                    tracing::error!(%error, seq = part[0].lease.seq, "a result cannot be recorded; its event is attempted again");
                    measure::lost();
                }
                Err(_) => {
                    let half = part.split_off(part.len() / 2);
                    parts.extend([half, part]);
                }
            }
        }
        self.unsettled.clear();
        self.in_doubt = false;
        Ok(())
    }

    /// Renews the leases of running attempts, when it is time.
    pub(super) async fn renew(&mut self) -> Result<(), InboxError> {
        if Instant::now() < self.renew_at {
            return Ok(());
        }
        let leases: Vec<Lease> = self.running.values().map(|run| run.lease).collect();
        if !leases.is_empty() {
            let held =
                within(self.inbox.store_limit(), self.inbox.engine().renew(leases, self.settings.lease))
                    .await?;
            for run in self.running.values_mut().filter(|run| !held.contains(&run.lease)) {
                // Another attempt may be running by now.
                tracing::warn!(seq = run.lease.seq, "a lease was lost; the attempt is cancelled");
                run.is_lost = true;
                run.abort.abort();
            }
        }
        self.renew_at = Instant::now() + self.settings.lease / 3;
        Ok(())
    }

    /// Waits for what runs, renewing its leases; then cancels it and gives it back.
    pub(super) async fn finish(mut self) {
        let deadline = Instant::now() + self.settings.grace;
        let mut calm_until = Instant::now();
        while !self.running.is_empty() && Instant::now() < deadline {
            let pause = self.renew_at.max(calm_until).min(deadline);
            tokio::select! {
                () = self.one_ended() => {}
                () = tokio::time::sleep_until(pause) => {}
            }
            // A failure shows again at the end.
            let (renewed, settled) = (self.renew().await, self.settle().await);
            if renewed.and(settled).is_err() {
                calm_until = Instant::now() + FIRST_PAUSE;
            }
        }
        self.tasks.abort_all();
        let cancelled = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.ended(ended);
            }
        };
        if tokio::time::timeout(CANCELLED_WITHIN, cancelled).await.is_err() {
            tracing::error!(events = self.running.len(), "handlers that block their thread are left behind");
        }
        for lease in std::mem::take(&mut self.cancelled) {
            measure::given_back();
            self.unsettled.push(Settlement { lease, verdict: Verdict::GivenBack });
        }
        if let Err(error) = self.settle().await {
            tracing::warn!(%error, "results of the last attempts could not be recorded; they are made again");
        }
    }
}

fn restore(attempt: Attempt) -> Result<Delivery, String> {
    let body = attempt.body.ok_or("its body is not in the store any more")?;
    let kept = DeliveryMeta {
        key: Some(attempt.key),
        received_at: attempt.received_at,
        attempt: attempt.number,
        secret_name: attempt.secret_name.as_deref().map(Into::into),
        webhook: None,
        traceparent: attempt.traceparent.as_deref().map(Into::into),
    };
    Delivery::restore(body, kept).map_err(|error| error.to_string())
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
