//! Puts deliveries that arrive at the same time into one commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smartshape_webhook::Delivery;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::engine::Engine;
use crate::error::{InboxError, InboxErrorKind};
use crate::record::Record;

/// Deliveries that may wait for a commit; more are rejected when the store is too slow for them.
const QUEUE: usize = 1024;
const BATCH: usize = 256;
/// Fewer are not worth a commit of their own while others wait as well.
const SHARE: usize = 16;
const BATCH_BYTES: usize = 1024 * 1024;
/// From this length on a body has a commit of its own, so that its fate and its time are not those
/// of small ones.
const LARGE: usize = 256 * 1024;

type Stored = Result<bool, Arc<InboxError>>;

struct Pending {
    record: Record,
    /// Lets the body count against the receiver's byte budget for as long as it is here.
    delivery: Delivery,
    stored: oneshot::Sender<Stored>,
}

impl Pending {
    /// Whether nobody waits any more, so that nobody will be told that it is stored.
    fn is_abandoned(&self) -> bool {
        self.stored.is_closed()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Intake {
    queue: mpsc::Sender<Pending>,
    limit: Duration,
    inserting: Arc<Inserting>,
    /// Whether all webhooks share the order of a file.
    one_order: bool,
}

/// When each insert that has no answer yet began.
#[derive(Debug, Default)]
struct Inserting(Mutex<BTreeSet<(Instant, usize)>>);

impl Inserting {
    fn begun(&self) -> MutexGuard<'_, BTreeSet<(Instant, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the returned value is dropped.
    fn begin(self: &Arc<Self>, number: usize) -> impl Drop + use<> {
        struct Ends(Arc<Inserting>, (Instant, usize));
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.begun().remove(&self.1);
            }
        }
        let entry = (Instant::now(), number);
        self.begun().insert(entry);
        Ends(Arc::clone(self), entry)
    }
}

impl Intake {
    /// `limit` is how long a delivery may take to be stored. `wake` is notified of each new one.
    pub(crate) fn new(engine: Arc<dyn Engine>, wake: Arc<Notify>, limit: Duration, one_order: bool) -> Self {
        let (queue, pending) = mpsc::channel(QUEUE);
        let inserting = Arc::default();
        let _detached = tokio::spawn(run(pending, engine, wake, Arc::clone(&inserting)));
        Self { queue, limit, inserting, one_order }
    }

    /// Whether an insert has been without an answer for so long that its deliveries were answered 503.
    pub(crate) fn is_stuck(&self) -> bool {
        self.inserting.begun().first().is_some_and(|(begun, _)| begun.elapsed() > self.limit)
    }

    /// Returns once the delivery is durable. Says whether it is new.
    pub(crate) async fn store(&self, delivery: Delivery) -> Stored {
        let stored = async {
            let (sender, stored) = oneshot::channel();
            let mut record = Record::of(&delivery);
            if self.one_order {
                record.order_across_webhooks(&delivery);
            }
            let pending = Pending { record, delivery, stored: sender };
            self.queue.send(pending).await.map_err(|_| stopped())?;
            stored.await.map_err(|_| stopped())?
        };
        tokio::time::timeout(self.limit, stored).await.unwrap_or_else(|_| {
            let text = format!("the inbox's store did not answer within {} ms", self.limit.as_millis());
            Err(Arc::new(InboxError::new(InboxErrorKind::Unavailable, text)))
        })
    }
}

async fn run(
    mut pending: mpsc::Receiver<Pending>,
    engine: Arc<dyn Engine>,
    wake: Arc<Notify>,
    inserting: Arc<Inserting>,
) {
    let turns = Arc::new(Semaphore::new(engine.parallel_inserts()));
    let mut next = None;
    for number in 0.. {
        // While all turns are taken, the next batch grows.
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let first = loop {
            let first = match next.take() {
                Some(first) => Some(first),
                None => pending.recv().await,
            };
            let Some(first) = first else { return };
            // A store that is slow would have no time for those who still wait.
            if !first.is_abandoned() {
                break first;
            }
        };
        gather(&pending).await;
        // Where several batches can be committed at once, each gets its share.
        let share = (1 + pending.len()).div_ceil(1 + turns.available_permits()).clamp(SHARE, BATCH);
        let mut batch = vec![first];
        let mut bytes = batch[0].record.body.len();
        while bytes < LARGE.min(BATCH_BYTES) && batch.len() < share {
            let Ok(more) = pending.try_recv() else { break };
            if more.is_abandoned() {
                continue;
            }
            if more.record.body.len() >= LARGE || bytes + more.record.body.len() > BATCH_BYTES {
                next = Some(more);
                break;
            }
            bytes += more.record.body.len();
            batch.push(more);
        }
        let (engine, wake) = (Arc::clone(&engine), Arc::clone(&wake));
        let until_answered = inserting.begin(number);
        let _detached = tokio::spawn(async move {
            if store(batch, &*engine).await {
                wake.notify_waiters();
                wake.notify_one();
                engine.announce();
            }
            drop((turn, until_answered));
        });
    }
}

/// Lets those go first who are about to ask, such as all that the last commit has answered: else one
/// of them would have a commit to itself, and the others would wait for it.
async fn gather(pending: &mpsc::Receiver<Pending>) {
    let mut waiting = pending.len();
    while waiting < BATCH {
        tokio::task::yield_now().await;
        let now = pending.len();
        if now <= waiting {
            return;
        }
        waiting = now;
    }
}

/// Says whether anything new was stored.
async fn store(batch: Vec<Pending>, engine: &dyn Engine) -> bool {
    // A delivery that comes twice at once has one record and two askers.
    let mut records: Vec<Record> = Vec::with_capacity(batch.len());
    let mut places = HashMap::with_capacity(batch.len());
    let mut askers = Vec::with_capacity(batch.len());
    let mut held: Vec<Delivery> = Vec::with_capacity(batch.len());
    for Pending { record, delivery, stored } in batch {
        let place = *places.entry(record.key).or_insert(records.len());
        let first = place == records.len();
        if first {
            records.push(record);
            held.push(delivery);
        }
        askers.push((place, first, stored));
    }
    let outcome = engine.insert(records.into()).await.map_err(Arc::new);
    drop(held);
    for (place, first, asker) in askers {
        let answer = match &outcome {
            Ok(fresh) => Ok(first && fresh.get(place).copied().unwrap_or(false)),
            Err(error) => Err(Arc::clone(error)),
        };
        // Whoever gave up waiting no longer wants to know.
        let _ = asker.send(answer);
    }
    outcome.is_ok_and(|fresh| fresh.contains(&true))
}

fn stopped() -> Arc<InboxError> {
    Arc::new(InboxError::new(InboxErrorKind::Unavailable, "the runtime that opened the inbox has ended"))
}
