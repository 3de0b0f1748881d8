//! Servers under load are killed at random moments, and started again on the same data.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::ledger::{self, Counts};
use crate::load::Load;
use crate::observed::Observations;
use crate::random::Random;
use crate::server::{Server, TIMEOUT, signal};
use crate::store::Store;
use crate::{Error, caller, conclude, print_line};

/// How long a backlog may take without any progress.
const STUCK: Duration = Duration::from_secs(30);

/// Number of attempts to stop a receiver while its worker is running an event.
const PAUSES: usize = 30;

#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) binary: PathBuf,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
    /// Whether our caller can crash the database.
    pub(crate) database_crashes: bool,
}

#[derive(Default)]
struct Kills {
    servers: usize,
    /// Number of servers killed while requests were in flight.
    under_requests: usize,
    databases: usize,
    paused: usize,
}

/// A server, started and killed again and again.
struct KilledServer<'a> {
    plan: &'a Plan,
    inbox_url: String,
    observations: Arc<Observations>,
    url: watch::Sender<Option<String>>,
    /// The server's process id, while it runs.
    process: watch::Sender<Option<u32>>,
    random: Random,
    /// How long it lives, in milliseconds.
    life: (usize, usize),
    kills: Kills,
}

pub(crate) async fn run(plan: &Plan, store: &Store) -> Result<(), Error> {
    let (observations, started_at) = (Arc::new(Observations::default()), Instant::now());
    // The tables must be there before they can be watched.
    let mut first = Server::start(&plan.binary, &store.inbox_url(), &observations)?;
    first.url().await?;
    store.audit().await?;
    first.kill().await?;

    let mut random = Random::new(plan.seed);
    let on_server = matches!(store, Store::Server { .. });
    // A server's clients need some time to log in, each of their connections.
    let life = if on_server { (100, 800) } else { (50, 450) };
    let mut server = KilledServer::new(plan, store, &observations, random.fork(), life);
    let mut second = KilledServer::new(plan, store, &observations, random.fork(), (200, 2000));
    let targets = if on_server {
        vec![server.url.subscribe(), second.url.subscribe()]
    } else {
        vec![server.url.subscribe()]
    };
    let load = Load::start(&targets, &observations, &mut random);
    let (ended, other) = (AtomicBool::new(false), second.process.subscribe());
    let rounds = async {
        let outcome = server.rounds(store, other).await;
        ended.store(true, Ordering::Relaxed);
        outcome
    };
    if on_server {
        // A receiver with a worker of its own, killed at moments of its own.
        let others = async {
            while !ended.load(Ordering::Relaxed) {
                second.round().await?;
            }
            Ok(())
        };
        tokio::try_join!(rounds, others)?;
    } else {
        rounds.await?;
    }

    let mut last = Server::start(&plan.binary, &store.inbox_url(), &observations)?;
    server.url.send_replace(Some(last.url().await?));
    load.finish(TIMEOUT).await?;
    let start = || Server::start(&plan.binary, &store.inbox_url(), &observations);
    let last = drain_inbox(store, last, start).await?;
    let (events, changes, damage) = (store.events().await?, store.changes().await?, store.damage().await?);
    last.stop().await?;

    let (counts, mut faults) = ledger::check(&observations.lock(), &events, &changes);
    faults.extend(damage.map(|text| format!("the file is damaged: {text}")));
    report(plan, &server.kills, &second.kills, &observations, &counts, started_at.elapsed())?;
    conclude("the ledger does not add up", &faults)
}

impl<'a> KilledServer<'a> {
    fn new(
        plan: &'a Plan,
        store: &Store,
        observations: &Arc<Observations>,
        random: Random,
        life: (usize, usize),
    ) -> Self {
        let (inbox_url, observations, url) =
            (store.inbox_url(), Arc::clone(observations), watch::Sender::new(None));
        let process = watch::Sender::new(None);
        Self { plan, inbox_url, observations, url, process, random, life, kills: Kills::default() }
    }

    async fn rounds(&mut self, store: &Store, other: watch::Receiver<Option<u32>>) -> Result<(), Error> {
        let step = self.plan.rounds.div_ceil(10).max(10);
        for round in 1..=self.plan.rounds {
            // A short run has each kind of round, too.
            if self.plan.database_crashes && (round == 2 || self.random.one_in(6)) {
                let crash_after = self.random.milliseconds(0, 400);
                let crash = async {
                    sleep(crash_after).await;
                    caller::restart_database().await
                };
                tokio::try_join!(self.round(), crash)?;
                self.kills.databases += 1;
            } else if matches!(store, Store::Server { .. }) && (round == 4 || self.random.one_in(8)) {
                store.end_leases().await?;
                let paused = self.pause_while_running(store, &other).await?;
                store.end_leases().await?;
                let outcome = self.round().await;
                signal("CONT", paused).await?;
                outcome?;
                self.kills.paused += usize::from(paused.is_some());
            } else {
                self.round().await?;
            }
            if round % step == 0 {
                let (sent, acknowledged) = {
                    let observed = self.observations.lock();
                    (observed.sent(), observed.acknowledged.len())
                };
                print_line(&format!("  round {round}: {sent} events sent, {acknowledged} acknowledged"))?;
            }
        }
        Ok(())
    }

    /// Stops the other receiver (SIGSTOP), while it is running an event if possible. Meanwhile this one takes its
    /// events over, and the results that it records after SIGCONT must not count.
    async fn pause_while_running(
        &mut self,
        store: &Store,
        other: &watch::Receiver<Option<u32>>,
    ) -> Result<Option<u32>, Error> {
        for _ in 0..PAUSES {
            let process = *other.borrow();
            signal("STOP", process).await?;
            if process.is_some() && store.leases().await? > 0 {
                return Ok(process);
            }
            signal("CONT", process).await?;
            sleep(self.random.milliseconds(0, 20)).await;
        }
        Ok(None)
    }

    /// Starts the server, and kills it after its time.
    async fn round(&mut self) -> Result<(), Error> {
        let (from, to) = self.life;
        let mut server = Server::start(&self.plan.binary, &self.inbox_url, &self.observations)?;
        self.process.send_replace(server.id());
        if self.random.one_in(8) {
            // The kill comes while the server starts, or just after.
            sleep(self.random.milliseconds(0, 80)).await;
        } else {
            self.url.send_replace(Some(server.url().await?));
            sleep(self.random.milliseconds(from, to)).await;
        }
        self.process.send_replace(None);
        let in_flight = self.observations.lock().in_flight;
        self.kills.servers += 1;
        self.kills.under_requests += usize::from(in_flight > 0 && self.url.borrow().is_some());
        server.kill().await?;
        self.url.send_replace(None);
        Ok(())
    }
}

/// Kills the last server and starts it again, with no lease left of any that was killed, and waits until nothing is
/// left to do.
pub(crate) async fn drain_inbox(
    store: &Store,
    last: Server,
    start: impl FnOnce() -> Result<Server, Error>,
) -> Result<Server, Error> {
    last.kill().await?;
    // Leases last for a minute, unless the store's time passes faster.
    store.end_leases().await?;
    let mut server = start()?;
    server.url().await?;
    let mut left = store.unfinished().await?;
    while left > 0 {
        let progress = async {
            loop {
                sleep(Duration::from_millis(50)).await;
                let now = store.unfinished().await?;
                if now < left {
                    return Ok::<_, Error>(now);
                }
            }
        };
        left = timeout(STUCK, progress).await.map_err(|_| format!("{left} events are not worked off"))??;
    }
    Ok(server)
}

fn report(
    plan: &Plan,
    kills: &Kills,
    second: &Kills,
    observations: &Observations,
    counts: &Counts,
    took: Duration,
) -> Result<(), Error> {
    let observed = observations.lock();
    let Counts { attempts, repeated_attempts, dead_letters } = counts;
    print_line(&format!(
        "  {} rounds in {} s: {} servers killed, {} of them while requests were open",
        plan.rounds,
        took.as_secs(),
        kills.servers + second.servers,
        kills.under_requests + second.under_requests
    ))?;
    if kills.databases + kills.paused > 0 {
        print_line(&format!(
            "  the database was killed {} times; {} times a receiver stood still and lost its leases",
            kills.databases, kills.paused
        ))?;
    }
    print_line(&format!(
        "  {} events sent in {} requests (of those, {} duplicates on purpose), {} acknowledged",
        observed.sent(),
        observed.requests,
        observed.duplicates,
        observed.acknowledged.len()
    ))?;
    print_line(&format!(
        "  {attempts} attempts, {repeated_attempts} of them after a lost lease; {} handled lines, {} cut by a kill",
        observed.handled.values().sum::<usize>(),
        observed.torn
    ))?;
    print_line(&format!("  {dead_letters} dead letters, each after three kills while it was handled"))
}
