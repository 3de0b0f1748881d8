//! Events for servers that come and go. What is not acknowledged is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smartshape_fake::{EventPayload, Sender, SenderSettings};
use smartshape_webhook::EventKind;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Error;
use crate::observed::Observations;
use crate::random::Random;
use crate::server::SECRET;

/// Events that are on their way at the same time.
const SENDERS: usize = 8;
const FILES: usize = 40;
const LARGE: usize = 300_000;
/// Pause before an event that was not acknowledged is sent again.
const RETRY: Duration = Duration::from_millis(10);

/// Where a server listens; `None` while none does.
pub(crate) type Target = watch::Receiver<Option<String>>;

/// Sends until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    senders: JoinSet<()>,
}

struct LoadSender {
    sender: Sender,
    targets: Vec<Target>,
    observations: Arc<Observations>,
    random: Random,
}

impl Load {
    pub(crate) fn start(targets: &[Target], observations: &Arc<Observations>, random: &mut Random) -> Self {
        let (stop, mut senders) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let sender = sender();
        for _ in 0..SENDERS {
            let load_sender = LoadSender {
                sender: sender.clone(),
                targets: targets.to_vec(),
                observations: Arc::clone(observations),
                random: random.fork(),
            };
            let stop = Arc::clone(&stop);
            senders.spawn(async move { load_sender.run(&stop).await });
        }
        Self { stop, senders }
    }

    /// Returns once everything that was sent is acknowledged.
    pub(crate) async fn finish(mut self, timeout: Duration) -> Result<(), Error> {
        self.stop.store(true, Ordering::Relaxed);
        let all = async { while self.senders.join_next().await.is_some() {} };
        let waited = tokio::time::timeout(timeout, all).await;
        waited.map_err(|_| "the server does not acknowledge what is sent again and again".into())
    }
}

/// Sends as SmartShape does, but leaves repetition to us.
pub(crate) fn sender() -> Sender {
    Sender::new(SECRET, SenderSettings { max_attempts: 1, ..SenderSettings::quick() })
}

/// An event of some file, small or large.
pub(crate) fn event(random: &mut Random, large: bool) -> EventPayload {
    let kind = EventKind::ALL[random.below(EventKind::ALL.len())];
    let event = EventPayload::sample(kind).with_file(format!("file-{}", random.below(FILES)));
    if large { event.with_data("x".repeat(LARGE + random.below(10_000))) } else { event }
}

impl LoadSender {
    async fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let large = self.random.one_in(12);
            let event = event(&mut self.random, large);
            self.observations.lock().will_send(&event);
            let copies = if self.random.one_in(20) { 2 } else { 1 };
            while !self.attempt(&event, copies).await {
                sleep(RETRY).await;
            }
            self.observations.lock().acknowledge(event);
            if self.random.one_in(10) {
                let chosen = self.random.below(1000);
                let known = self.observations.lock().recent(chosen);
                if let Some(known) = known {
                    self.observations.lock().duplicates += 1;
                    self.attempt(&known, 1).await;
                }
            }
            let pause = self.random.milliseconds(0, 40);
            sleep(pause).await;
        }
    }

    /// Sends copies at the same time to one of the servers. True when one of them was acknowledged.
    async fn attempt(&mut self, event: &EventPayload, copies: usize) -> bool {
        let urls: Vec<String> = self.targets.iter().filter_map(|target| target.borrow().clone()).collect();
        if urls.is_empty() {
            return false;
        }
        let url = &urls[self.random.below(urls.len())];
        {
            let mut observed = self.observations.lock();
            observed.in_flight += copies;
            observed.requests += copies;
            observed.duplicates += copies - 1;
        }
        let outcomes = self.sender.deliver_copies(event, url, copies).await;
        let mut observed = self.observations.lock();
        observed.in_flight -= copies;
        for outcome in &outcomes {
            let status = outcome.attempts.last().and_then(|attempt| attempt.status);
            // No response: the server was killed. 503: the database was.
            if !outcome.accepted() && !matches!(status, None | Some(503)) {
                observed.faults.push(format!("an unexpected response: {outcome}"));
            }
        }
        outcomes.iter().any(smartshape_fake::DeliveryOutcome::accepted)
    }
}
