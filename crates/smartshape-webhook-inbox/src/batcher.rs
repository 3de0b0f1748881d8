//! Group commit: deliveries that arrive at the same time are stored in one commit.
//!
//! [`Inbox::handle`](crate::Inbox) puts each delivery into a bounded queue and waits for its result. One task takes
//! batches from the queue and inserts as many at once as the storage commits concurrently. While all inserts are
//! under way, the next batch grows, so a busy storage gets larger batches by itself.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use smartshape_webhook::Delivery;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::activity::ActivityCounts;
use crate::error::{InboxError, InboxErrorKind};
use crate::event::{NewEvent, stable_hash};
use crate::storage::{Storage, wake_all};
use crate::worker::WorkerContext;

/// Capacity of the queue. A storage that is too slow for it lets deliveries run into `store_timeout`.
const QUEUE_CAPACITY: usize = 1024;
const MAX_BATCH: usize = 256;
/// A smaller batch is not worth a commit of its own while other deliveries are queued.
const MIN_SHARE: usize = 16;
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// A body of this length or more is committed alone, so that small ones neither wait for it nor fail with it.
const LARGE_BODY: usize = 256 * 1024;

type StoreResult = Result<bool, Arc<InboxError>>;

struct Pending {
    event: NewEvent,
    /// Held so that the body counts against the receiver's memory limit while it is queued.
    delivery: Delivery,
    result: oneshot::Sender<StoreResult>,
}

impl Pending {
    /// Whether the caller has timed out or disconnected.
    fn is_cancelled(&self) -> bool {
        self.result.is_closed()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Batcher {
    queue: mpsc::Sender<Pending>,
    store_timeout: Duration,
    /// Has a clone for each insert that takes longer than `store_timeout`, beside the one that the task holds.
    stuck: Weak<()>,
    order_across_webhooks: bool,
}

impl Batcher {
    /// Wakes the workers after each commit that stored a new event.
    pub(crate) fn new(context: WorkerContext, order_across_webhooks: bool) -> Self {
        let (queue, pending) = mpsc::channel(QUEUE_CAPACITY);
        let (store_timeout, stuck) = (context.store_timeout, Arc::new(()));
        let batcher = Self { queue, store_timeout, stuck: Arc::downgrade(&stuck), order_across_webhooks };
        let _detached = tokio::spawn(run(pending, context, stuck));
        batcher
    }

    /// Whether an insert has been in flight for longer than `store_timeout`, so that its deliveries were rejected with
    /// 503.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.strong_count() > 1
    }

    /// Returns once the delivery is durable, with whether it is new.
    pub(crate) async fn store(&self, delivery: Delivery) -> StoreResult {
        let stored = async {
            let (sender, result) = oneshot::channel();
            let mut event = NewEvent::from(&delivery);
            if self.order_across_webhooks {
                event.queue = stable_hash(delivery.file().as_str(), "");
            }
            let pending = Pending { event, delivery, result: sender };
            self.queue.send(pending).await.map_err(|_| runtime_ended())?;
            result.await.map_err(|_| runtime_ended())?
        };
        timeout(self.store_timeout, stored).await.unwrap_or_else(|_| {
            let text =
                format!("the inbox's database did not respond within {} ms", self.store_timeout.as_millis());
            Err(Arc::new(InboxError::new(InboxErrorKind::Unavailable, text)))
        })
    }
}

async fn run(mut pending: mpsc::Receiver<Pending>, context: WorkerContext, stuck: Arc<()>) {
    let permits = Arc::new(Semaphore::new(context.storage.max_concurrent_inserts()));
    let mut next = None;
    loop {
        // While all permits are taken, the queue grows, and with it the next batch.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let first = loop {
            let first = match next.take() {
                Some(first) => Some(first),
                None => pending.recv().await,
            };
            let Some(first) = first else { return };
            // A slow storage would spend its time on deliveries whose senders have received a 503 already.
            if !first.is_cancelled() {
                break first;
            }
        };
        wait_for_stragglers(&pending).await;
        // Concurrent commits share the queue evenly.
        let share = (1 + pending.len()).div_ceil(1 + permits.available_permits()).clamp(MIN_SHARE, MAX_BATCH);
        let mut batch = vec![first];
        let mut bytes = batch[0].event.body.len();
        while bytes < LARGE_BODY.min(MAX_BATCH_BYTES) && batch.len() < share {
            let Ok(more) = pending.try_recv() else { break };
            if more.is_cancelled() {
                continue;
            }
            if more.event.body.len() >= LARGE_BODY || bytes + more.event.body.len() > MAX_BATCH_BYTES {
                next = Some(more);
                break;
            }
            bytes += more.event.body.len();
            batch.push(more);
        }
        let (context, stuck) = (context.clone(), Arc::downgrade(&stuck));
        let _detached = tokio::spawn(async move {
            let mut stored = pin!(store(batch, &*context.storage));
            let stored = match timeout(context.store_timeout, &mut stored).await {
                Ok(stored) => stored,
                Err(_) => {
                    let _until_it_returns = stuck.upgrade();
                    stored.await
                }
            };
            if stored > 0 {
                context.activity.record(ActivityCounts { stored, ..ActivityCounts::default() });
                wake_all(&context.wake);
                context.storage.notify();
            }
            drop(permit);
        });
    }
}

/// Yields until the queue stops growing: callers released by the previous commit usually enqueue again at once.
/// Otherwise the first of them would be committed alone, and the others would wait a full fsync.
async fn wait_for_stragglers(pending: &mpsc::Receiver<Pending>) {
    let mut queued = pending.len();
    while queued < MAX_BATCH {
        tokio::task::yield_now().await;
        let now = pending.len();
        if now <= queued {
            return;
        }
        queued = now;
    }
}

/// Returns the number of new events.
async fn store(batch: Vec<Pending>, storage: &dyn Storage) -> i64 {
    // Concurrent duplicates share one event and have a waiter each.
    let mut events: Vec<NewEvent> = Vec::with_capacity(batch.len());
    let mut indexes = HashMap::with_capacity(batch.len());
    let mut waiters = Vec::with_capacity(batch.len());
    let mut deliveries: Vec<Delivery> = Vec::with_capacity(batch.len());
    for Pending { event, delivery, result } in batch {
        let index = *indexes.entry(event.key).or_insert(events.len());
        let first = index == events.len();
        if first {
            events.push(event);
            deliveries.push(delivery);
        }
        waiters.push((index, first, result));
    }
    let inserted = storage.insert(events.into()).await.map_err(Arc::new);
    drop(deliveries);
    for (index, first, waiter) in waiters {
        let result = match &inserted {
            Ok(new) => Ok(first && new.get(index).copied().unwrap_or(false)),
            Err(error) => Err(Arc::clone(error)),
        };
        // A waiter that has timed out is gone.
        let _ = waiter.send(result);
    }
    let new = inserted.map_or(0, |new| new.iter().filter(|new| **new).count());
    i64::try_from(new).unwrap_or(i64::MAX)
}

fn runtime_ended() -> Arc<InboxError> {
    Arc::new(InboxError::new(InboxErrorKind::Unavailable, "the runtime that opened the inbox has ended"))
}
