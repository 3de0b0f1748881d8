//! One file on one machine.

mod checkpoint;
mod clock;
mod fault;
mod insert;
mod log;
mod open;
mod reserve;
mod sql;
mod transaction;

use std::any::Any;
use std::fmt;
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use smartshape_webhook::DeliveryKey;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::Mutex;

use super::{Claimed, Engine, EngineFuture, Lease, Retention, Settlement, Wanted};
use crate::builder::InboxBuilder;
use crate::error::{InboxError, InboxErrorKind};
use crate::record::{Filter, Record, Stats, StoredDelivery, StoredEvent};
use checkpoint::Checkpoint;
use clock::StoreClock;
use insert::Insert;
use log::{Found, Log};
use reserve::Reserve;
use transaction::{Transaction, Write};

const SEAT_POLL: Duration = Duration::from_millis(50);
/// The file's size is measured again after this much was stored.
const MEASURE_EVERY: u64 = 4 * 1024 * 1024;

type JobFuture<'c, T> = futures_core::future::BoxFuture<'c, Result<T, sqlx::Error>>;

/// One writer at a time, whose transactions are groups of operations; one reader beside it.
pub(crate) struct Sqlite(Arc<Shared>);

struct Shared {
    path: PathBuf,
    identity: (u64, u64),
    log: Log,
    clock: StoreClock,
    clock_recorded: AtomicI64,
    /// Without it, each sweep would go through all tombstones in search of bodies.
    bodies_swept_until: AtomicI64,
    catching_up: Mutex<()>,
    writer: Mutex<Option<SqliteConnection>>,
    reader: Mutex<Option<SqliteConnection>>,
    room: Mutex<Room>,
    reserve: Reserve,
    seat: Mutex<Weak<File>>,
    seat_wait: Duration,
}

/// How much of the size cap is left.
struct Room {
    cap: u64,
    used: u64,
    stored_since: u64,
    measured: bool,
}

/// What a write does when the disk is full.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnFull {
    Fail,
    UseReserve,
}

impl Sqlite {
    /// Opens the file, and creates it where there is none.
    pub(crate) async fn open(path: PathBuf, settings: &InboxBuilder) -> Result<Self, InboxError> {
        let (connection, clock) = open::open(&path).await?;
        let identity = open::identity(&path).map_err(|error| gone(&path, error))?;
        let log = Log::beside(&path);
        log.opened();
        let reserve = Reserve::beside(&path);
        reserve.fill();
        Ok(Self(Arc::new(Shared {
            identity,
            log,
            clock: StoreClock::starting_at(clock),
            clock_recorded: AtomicI64::new(clock),
            bodies_swept_until: AtomicI64::new(i64::MIN),
            catching_up: Mutex::default(),
            writer: Mutex::new(Some(connection)),
            reader: Mutex::new(None),
            room: Mutex::new(Room { cap: settings.cap, used: 0, stored_since: 0, measured: false }),
            reserve,
            seat: Mutex::default(),
            seat_wait: settings.seat_wait,
            path,
        })))
    }

    /// Runs `job` in a transaction of its own. A caller that leaves does not leave it half done.
    fn write<T, J>(&self, on_full: OnFull, job: J) -> EngineFuture<'static, T>
    where
        T: Send + 'static,
        J: for<'c> Fn(&'c mut SqliteConnection, i64) -> JobFuture<'c, T> + Send + Sync + 'static,
    {
        self.in_a_task(|shared| async move { shared.write(on_full, &job).await })
    }

    /// A caller that leaves ends no task.
    fn in_a_task<T, F>(&self, work: impl FnOnce(Arc<Shared>) -> F) -> EngineFuture<'static, T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, InboxError>> + Send + 'static,
    {
        let task = tokio::spawn(work(Arc::clone(&self.0)));
        Box::pin(
            async move { task.await.map_err(|error| InboxError::new(InboxErrorKind::Unavailable, error))? },
        )
    }

    fn read<T, J>(&self, job: J) -> EngineFuture<'static, T>
    where
        T: Send + 'static,
        J: for<'c> FnOnce(&'c mut SqliteConnection, i64) -> JobFuture<'c, T> + Send + 'static,
    {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let mut slot = shared.reader.lock().await;
            let connection = match &mut *slot {
                Some(connection) => connection,
                none => none.insert(shared.connect().await?),
            };
            job(connection, shared.clock.now()).await.map_err(|error| fault::at(&shared.path, error))
        })
    }
}

impl Shared {
    async fn write<T, J>(&self, on_full: OnFull, job: &J) -> Result<T, InboxError>
    where
        T: Send,
        J: for<'c> Fn(&'c mut SqliteConnection, i64) -> JobFuture<'c, T> + Sync,
    {
        self.run(on_full, &Transaction(job)).await
    }

    async fn run<W: Write>(&self, on_full: OnFull, work: &W) -> Result<W::Output, InboxError> {
        let mut slot = self.writer.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        if let Err(error) = self.check_log(&mut connection).await {
            // Another connection would begin another log.
            *slot = Some(connection);
            return Err(error);
        }
        let mut outcome = self.attempt(&mut connection, work).await;
        if on_full == OnFull::UseReserve
            && outcome.as_ref().is_err_and(fault::is_full)
            && rolled_back(&mut connection).await
            && self.reserve.release()
        {
            outcome = self.attempt(&mut connection, work).await;
        }
        match outcome {
            Ok(value) => {
                *slot = Some(connection);
                Ok(value)
            }
            Err(error) => {
                // After any other fault a new connection reads the file's state anew.
                if fault::is_passing(&error) && rolled_back(&mut connection).await {
                    *slot = Some(connection);
                } else {
                    self.log.closed();
                }
                Err(fault::at(&self.path, error))
            }
        }
    }

    async fn connect(&self) -> Result<SqliteConnection, InboxError> {
        let connection = open::connect(&self.path).await?;
        self.log.opened();
        Ok(connection)
    }

    /// What is written to a log that was deleted is lost when the process is killed.
    async fn check_log(&self, connection: &mut SqliteConnection) -> Result<(), InboxError> {
        match self.log.look() {
            Ok(Found::Ours) => return Ok(()),
            // Nobody has begun another one, so what was acknowledged can be saved. Later it could
            // overwrite what is newer.
            Ok(Found::Nothing) => {
                if let Err(error) = Checkpoint.write(self, connection).await {
                    tracing::error!(%error, "what was in the inbox's lost -wal could not be saved into the file");
                }
            }
            Ok(Found::Lost) => {}
            Err(error) => return Err(gone(&self.path, error)),
        }
        let text = format!("inbox {}: {}", self.path.display(), log::REPLACED);
        Err(InboxError::new(InboxErrorKind::Unavailable, text))
    }

    async fn attempt<W: Write>(
        &self,
        connection: &mut SqliteConnection,
        work: &W,
    ) -> Result<W::Output, sqlx::Error> {
        // What is written to a file that was deleted or replaced would be lost.
        let identity = open::identity(&self.path)?;
        if identity != self.identity {
            return Err(sqlx::Error::Io(std::io::Error::other(open::REPLACED)));
        }
        work.write(self, connection).await
    }

    /// Takes room for a batch, or says that there is none.
    async fn take_room(&self, bytes: u64) -> Result<(), InboxError> {
        let mut room = self.room.lock().await;
        let full = |room: &Room| room.used + room.stored_since + bytes > room.cap;
        if !room.measured || room.stored_since >= MEASURE_EVERY || full(&room) {
            let mut slot = self.writer.lock().await;
            if let Some(connection) = &mut *slot {
                room.used =
                    sql::used_bytes(connection).await.map_err(|error| fault::at(&self.path, error))?;
                room.stored_since = 0;
                room.measured = true;
            }
        }
        if full(&room) {
            let text = format!(
                "inbox {}: its size cap of {} bytes is reached: purge it, raise the cap, or look why events are not worked off",
                self.path.display(),
                room.cap
            );
            return Err(InboxError::new(InboxErrorKind::Full, text));
        }
        room.stored_since += bytes;
        Ok(())
    }

    /// Locks the file for the worker of one process, and takes over what an ended one left.
    async fn take_seat(self: Arc<Self>) -> Result<Arc<File>, InboxError> {
        let mut seat = self.seat.lock().await;
        if let Some(taken) = seat.upgrade() {
            return Ok(taken);
        }
        let path = open::beside(&self.path, "-worker");
        let lock =
            open::private().create(true).truncate(false).open(&path).map_err(|error| gone(&path, error))?;
        let deadline = tokio::time::Instant::now() + self.seat_wait;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(SEAT_POLL).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let text = format!(
                        "inbox {}: another process works on it: stop that one, or use PostgreSQL for several",
                        self.path.display()
                    );
                    return Err(InboxError::new(InboxErrorKind::Locked, text));
                }
                Err(TryLockError::Error(error)) => return Err(gone(&path, error)),
            }
        }
        // Nobody else works on it, so whatever is at work belongs to a process that ended.
        self.write(OnFull::UseReserve, &|connection, now| Box::pin(sql::end_leases(connection, now))).await?;
        let lock = Arc::new(lock);
        *seat = Arc::downgrade(&lock);
        Ok(lock)
    }
}

async fn rolled_back(connection: &mut SqliteConnection) -> bool {
    // Some errors have rolled back already; then this one says that there is nothing to do.
    let _ = sqlx::query("ROLLBACK").execute(&mut *connection).await;
    sqlx::query("SELECT 1").execute(connection).await.is_ok()
}

fn gone(path: &std::path::Path, error: std::io::Error) -> InboxError {
    let text = format!("inbox: {} cannot be used: {error}", path.display());
    InboxError::new(InboxErrorKind::Unavailable, text).caused_by(error)
}

impl Engine for Sqlite {
    fn insert(&self, records: Arc<[Record]>) -> EngineFuture<'_, Vec<bool>> {
        Box::pin(async move {
            let bytes = records.iter().map(|record| record.body.len() as u64 + sql::ROW_BYTES).sum();
            self.0.take_room(bytes).await?;
            let insert = Insert(records);
            self.in_a_task(|shared| async move { shared.run(OnFull::Fail, &insert).await }).await
        })
    }

    fn claim(&self, wanted: Wanted) -> EngineFuture<'_, Claimed> {
        Box::pin(async move {
            let (due, latest) = self.0.look().await?;
            self.0.catch_up(latest).await?;
            let next_due = due.map(|due| clock::span(self.0.clock.now(), due));
            if next_due.is_none_or(|wait| !wait.is_zero()) {
                return Ok(Claimed { next_due, ..Claimed::default() });
            }
            self.write(OnFull::UseReserve, move |connection, now| {
                Box::pin(sql::claim(connection, now, wanted))
            })
            .await
        })
    }

    fn renew(&self, leases: Vec<Lease>, lease: Duration) -> EngineFuture<'_, Vec<Lease>> {
        self.write(OnFull::UseReserve, move |connection, now| {
            Box::pin(sql::renew(connection, now, sql::pairs(&leases), lease))
        })
    }

    fn settle(&self, settlements: Arc<[Settlement]>) -> EngineFuture<'_, Vec<Lease>> {
        self.write(OnFull::UseReserve, move |connection, now| {
            Box::pin(sql::settle(connection, now, Arc::clone(&settlements)))
        })
    }

    fn list(&self, filter: Filter) -> EngineFuture<'_, Vec<StoredEvent>> {
        self.read(move |connection, _| Box::pin(sql::list(connection, filter)))
    }

    fn show(&self, key: DeliveryKey) -> EngineFuture<'_, Option<StoredDelivery>> {
        self.read(move |connection, _| Box::pin(sql::show(connection, key)))
    }

    fn replay(&self, filter: Filter) -> EngineFuture<'_, u64> {
        self.write(OnFull::UseReserve, move |connection, now| {
            Box::pin(sql::replay(connection, now, filter.clone()))
        })
    }

    fn purge(&self, filter: Filter) -> EngineFuture<'_, u64> {
        self.write(OnFull::UseReserve, move |connection, now| {
            Box::pin(sql::purge(connection, now, filter.clone()))
        })
    }

    fn stats(&self) -> EngineFuture<'_, Stats> {
        self.read(|connection, now| Box::pin(sql::stats(connection, now)))
    }

    fn sweep(&self, keep: Retention) -> EngineFuture<'_, u64> {
        Box::pin(async move {
            let until = self.0.bodies_swept_until.load(Ordering::Relaxed);
            let (swept, until) = self
                .write(OnFull::UseReserve, move |connection, now| {
                    Box::pin(sql::sweep(connection, now, keep, until))
                })
                .await?;
            let shared = Arc::clone(&self.0);
            shared.bodies_swept_until.fetch_max(until, Ordering::Relaxed);
            // Writing it takes time, and whoever sweeps need not wait.
            let _detached = tokio::task::spawn_blocking(move || shared.reserve.fill());
            Ok(swept)
        })
    }

    fn ping(&self) -> EngineFuture<'_, ()> {
        self.write(OnFull::Fail, |connection, _| {
            Box::pin(async move {
                sqlx::query("SELECT value FROM meta LIMIT 1").execute(connection).await.map(drop)
            })
        })
    }

    fn seat(&self) -> EngineFuture<'_, Box<dyn Any + Send>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { Ok(Box::new(shared.take_seat().await?) as Box<dyn Any + Send>) })
    }

    /// A process that ends closes no connection, so the log would stay, and the file alone be stale.
    fn tidy(&self) -> EngineFuture<'_, ()> {
        self.in_a_task(|shared| async move { shared.run(OnFull::Fail, &Checkpoint).await })
    }
}

impl Shared {
    /// Looks without a transaction, so that an idle worker writes nothing.
    async fn look(&self) -> Result<(Option<i64>, i64), InboxError> {
        let mut slot = self.writer.lock().await;
        let connection = match &mut *slot {
            Some(connection) => connection,
            none => none.insert(self.connect().await?),
        };
        let seen = sql::look(connection).await;
        seen.inspect_err(|_| {
            *slot = None;
            self.log.closed();
        })
        .map_err(|error| fault::at(&self.path, error))
    }

    /// A process that has had the file open for longer, and recorded nothing, is ahead of us: what it
    /// stores would not be due yet.
    async fn catch_up(&self, latest: i64) -> Result<(), InboxError> {
        let _turn = self.catching_up.lock().await;
        let leap = latest - self.clock.now();
        if leap > 0 {
            self.write(OnFull::UseReserve, &|connection, _| Box::pin(sql::move_leases(connection, leap)))
                .await?;
            self.clock.leap(leap);
        }
        Ok(())
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.0.path).finish_non_exhaustive()
    }
}
