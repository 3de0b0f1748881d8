//! One file on one machine.

mod checkpoint;
mod clock;
mod fault;
mod insert;
mod log;
mod open;
mod reserve;
mod seat;
mod sql;
mod transaction;

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use smartshape_webhook::DeliveryKey;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::Mutex;

use super::room::Room;
use super::{Claimed, Engine, EngineFuture, Lease, Retention, Settlement, Wanted};
use crate::builder::InboxBuilder;
use crate::error::{InboxError, InboxErrorKind};
use crate::record::{Filter, Record, Stats, StoredDelivery, StoredEvent};
use checkpoint::Checkpoint;
use clock::StoreClock;
use insert::Insert;
use log::{Found, Log, Writes};
use reserve::Reserve;
use seat::Seats;
use transaction::{Transaction, Write};

/// Events that a replay or a purge changes at a time.
const PORTION: u32 = 1000;

type JobFuture<'c, T> = futures_core::future::BoxFuture<'c, Result<T, sqlx::Error>>;

/// One writer at a time, whose transactions are groups of operations; one reader beside it.
pub(crate) struct Sqlite(Arc<Shared>);

struct Shared {
    path: PathBuf,
    identity: (u64, u64),
    log: Arc<Log>,
    clock: StoreClock,
    clock_recorded: AtomicI64,
    /// Without it, each sweep would go through all tombstones in search of bodies.
    bodies_swept_until: AtomicI64,
    writer: Mutex<Option<Writes>>,
    reader: Mutex<Option<Writes>>,
    read_only: bool,
    room: Room,
    /// Completed events beyond `dedup_capacity`, which are still to be forgotten.
    beyond_capacity: AtomicU64,
    /// The last sweep has deleted something, so another one follows.
    sweeps_on: AtomicBool,
    reserve: Reserve,
    seats: Seats,
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
        let read_only = settings.read_only;
        let path =
            blocking(move || if read_only { open::find(&path) } else { open::create(&path) }).await??;
        let (connection, clock) =
            if read_only { open::open_read_only(&path).await? } else { open::open(&path).await? };
        let identity = open::identity(&path).map_err(|error| gone(&path, error))?;
        let log = Log::beside(&path);
        let connection = Some(log.opened(connection));
        let (writer, reader) = if read_only { (None, connection) } else { (connection, None) };
        let reserve = Reserve::beside(&path);
        if !read_only {
            let reserve = reserve.clone();
            blocking(move || reserve.fill()).await?;
        }
        Ok(Self(Arc::new(Shared {
            identity,
            log,
            clock: StoreClock::starting_at(clock),
            clock_recorded: AtomicI64::new(clock),
            bodies_swept_until: AtomicI64::new(i64::MIN),
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            read_only,
            room: Room::new(settings.cap),
            beyond_capacity: AtomicU64::new(0),
            sweeps_on: AtomicBool::new(false),
            reserve,
            seats: Seats::beside(&path, settings.seat_wait),
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

    /// Changes what `filter` means a portion at a time, so that deliveries can be stored in between.
    async fn in_portions<J>(&self, mut filter: Filter, job: J) -> Result<u64, InboxError>
    where
        J: for<'c> Fn(&'c mut SqliteConnection, i64, Filter) -> JobFuture<'c, sql::Portion>
            + Copy
            + Send
            + Sync
            + 'static,
    {
        let (mut changed, mut left) = (0, filter.limit);
        loop {
            let part = filter.clone().limit(left.min(PORTION));
            let wanted = part.limit;
            let done = self
                .write(OnFull::UseReserve, move |connection, now| job(connection, now, part.clone()))
                .await?;
            changed += done.changed;
            left -= wanted;
            match done.last {
                Some(last) if left > 0 && done.found == wanted as usize => filter.after = last,
                _ => return Ok(changed),
            }
        }
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
        Box::pin(async move { shared.read(job).await })
    }
}

impl Shared {
    async fn read<T, J>(&self, job: J) -> Result<T, InboxError>
    where
        J: for<'c> FnOnce(&'c mut SqliteConnection, i64) -> JobFuture<'c, T>,
    {
        let mut slot = self.reader.lock().await;
        let reader = match &mut *slot {
            Some(reader) => reader,
            none => none.insert(self.connect().await?),
        };
        job(&mut reader.connection, self.clock.now()).await.map_err(|error| fault::at(&self.path, error))
    }

    async fn write<T, J>(&self, on_full: OnFull, job: &J) -> Result<T, InboxError>
    where
        T: Send,
        J: for<'c> Fn(&'c mut SqliteConnection, i64) -> JobFuture<'c, T> + Sync,
    {
        self.run(on_full, &Transaction(job)).await
    }

    async fn run<W: Write>(&self, on_full: OnFull, work: &W) -> Result<W::Output, InboxError> {
        let mut slot = self.writer.lock().await;
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => self.connect().await?,
        };
        let connection = &mut writer.connection;
        if let Err(error) = self.check_log(connection).await {
            // Another connection would begin another log.
            *slot = Some(writer);
            return Err(error);
        }
        let mut outcome = self.attempt(connection, work).await;
        if on_full == OnFull::UseReserve && outcome.as_ref().is_err_and(fault::is_full) {
            // What the log holds may have its place in the file already, and then the log can begin anew.
            if rolled_back(connection).await && Checkpoint.write(self, connection).await.unwrap_or(false) {
                outcome = self.attempt(connection, work).await;
            }
            if outcome.as_ref().is_err_and(fault::is_full)
                && rolled_back(connection).await
                && self.reserve.release()
            {
                outcome = self.attempt(connection, work).await;
            }
        }
        match outcome {
            Ok(value) => {
                *slot = Some(writer);
                Ok(value)
            }
            Err(error) => {
                // After any other fault a new connection reads the file's state anew.
                if fault::is_passing(&error) && rolled_back(connection).await {
                    *slot = Some(writer);
                }
                Err(fault::at(&self.path, error))
            }
        }
    }

    async fn connect(&self) -> Result<Writes, InboxError> {
        if self.read_only {
            let text = format!("inbox {}: it was opened for reading only", self.path.display());
            return Err(InboxError::new(InboxErrorKind::ReadOnly, text));
        }
        Ok(self.log.opened(open::connect(&self.path).await?))
    }

    /// What is written to a log that was deleted is lost when the process is killed.
    async fn check_log(&self, connection: &mut SqliteConnection) -> Result<(), InboxError> {
        match self.log.look() {
            Ok(Found::Ours) => return Ok(()),
            // Nobody has begun another one, so what was acknowledged can be saved. Later it could
            // overwrite what is newer.
            Ok(Found::Nothing) => match Checkpoint.write(self, connection).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!(
                        "a reader kept what was in the inbox's lost -wal from being saved into the file"
                    );
                }
                Err(error) => {
                    tracing::error!(%error, "what was in the inbox's lost -wal could not be saved into the file");
                }
            },
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

    /// What counts against the size cap.
    async fn unfinished(&self) -> Result<u64, InboxError> {
        let events = self.read(|connection, _| Box::pin(sql::unfinished_bytes(connection))).await?;
        Ok(events + self.log.bytes().saturating_sub(log::USUAL_BYTES))
    }

    /// Takes room for a batch, or says that there is none.
    async fn take_room(self: &Arc<Self>, records: &[Record]) -> Result<(), InboxError> {
        if self.room.is_count_due() {
            let shared = Arc::clone(self);
            let _detached = tokio::spawn(async move { shared.room.count(shared.unfinished()).await });
        }
        if self.room.take(records) {
            return Ok(());
        }
        self.room.count(self.unfinished()).await?;
        if self.room.take(records) { Ok(()) } else { Err(self.room.full(&self.path.display())) }
    }

    /// Locks the file for the worker of one process, and takes over what an ended one left.
    async fn take_seat(&self) -> Result<Box<dyn Any + Send>, InboxError> {
        let (seat, is_new) = self.seats.take().await?;
        if is_new {
            // Nobody else works on it, so whatever is at work belongs to a process that ended.
            self.write(OnFull::UseReserve, &|connection, now| Box::pin(sql::end_leases(connection, now)))
                .await?;
        }
        Ok(Box::new(seat))
    }
}

/// Waits for the disk elsewhere than on a thread that serves others.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, InboxError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| InboxError::new(InboxErrorKind::Unavailable, error))
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
            self.0.take_room(&records).await?;
            let insert = Insert(records);
            self.in_a_task(|shared| async move { shared.run(OnFull::Fail, &insert).await }).await
        })
    }

    fn claim(&self, wanted: Wanted) -> EngineFuture<'_, Claimed> {
        Box::pin(async move {
            self.0.seats.check()?;
            let (due, latest) = self.0.look(wanted.ordered).await?;
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
        Box::pin(
            self.in_portions(filter, |connection, now, part| Box::pin(sql::replay(connection, now, part))),
        )
    }

    fn purge(&self, filter: Filter) -> EngineFuture<'_, u64> {
        Box::pin(
            self.in_portions(filter, |connection, now, part| Box::pin(sql::purge(connection, now, part))),
        )
    }

    fn stats(&self) -> EngineFuture<'_, Stats> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let mut stats = shared.read(|connection, now| Box::pin(sql::stats(connection, now))).await?;
            stats.stored_bytes += shared.log.bytes();
            Ok(stats)
        })
    }

    fn sweep(&self, keep: Retention) -> EngineFuture<'_, u64> {
        Box::pin(async move {
            let shared = Arc::clone(&self.0);
            let mut beyond = shared.beyond_capacity.load(Ordering::Relaxed);
            // While there is a lot to delete, it is not counted each time.
            if beyond == 0 && !shared.sweeps_on.load(Ordering::Relaxed) {
                let completed = self.read(|connection, _| Box::pin(sql::completed(connection))).await?;
                beyond = completed.saturating_sub(keep.capacity);
                keep.warn_of_capacity(beyond);
            }
            let until = shared.bodies_swept_until.load(Ordering::Relaxed);
            let swept = self
                .write(OnFull::UseReserve, move |connection, now| {
                    Box::pin(sql::sweep(connection, now, keep, until, beyond))
                })
                .await?;
            let rows = swept.bodies + swept.tombstones;
            shared.beyond_capacity.store(beyond.saturating_sub(swept.tombstones), Ordering::Relaxed);
            shared.sweeps_on.store(rows > 0, Ordering::Relaxed);
            shared.bodies_swept_until.fetch_max(swept.bodies_until, Ordering::Relaxed);
            // Writing it takes time, and whoever sweeps need not wait.
            let _detached = tokio::task::spawn_blocking(move || shared.reserve.fill());
            Ok(rows)
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
        Box::pin(self.0.take_seat())
    }

    /// A process that ends closes no connection, so the log would stay, and the file alone be stale.
    fn tidy(&self) -> EngineFuture<'_, ()> {
        self.in_a_task(|shared| async move { shared.run(OnFull::Fail, &Checkpoint).await.map(drop) })
    }
}

impl Shared {
    /// Looks without a transaction, so that an idle worker writes nothing.
    async fn look(&self, ordered: bool) -> Result<(Option<i64>, i64), InboxError> {
        let mut slot = self.writer.lock().await;
        let writer = match &mut *slot {
            Some(writer) => writer,
            none => none.insert(self.connect().await?),
        };
        let seen = sql::look(&mut writer.connection, ordered).await;
        seen.inspect_err(|_| *slot = None).map_err(|error| fault::at(&self.path, error))
    }

    /// A process that has had the file open for longer, and recorded nothing, is ahead of us: what it
    /// stores would not be due yet.
    async fn catch_up(&self, latest: i64) -> Result<(), InboxError> {
        if latest <= self.clock.now() {
            return Ok(());
        }
        self.run(OnFull::UseReserve, &Leap(latest)).await
    }
}

/// The clock leaps before anybody else can write: a lease that is renewed meanwhile is neither moved twice nor
/// over at once.
struct Leap(i64);

impl Write for Leap {
    type Output = ();

    fn write<'c>(&'c self, shared: &'c Shared, connection: &'c mut SqliteConnection) -> JobFuture<'c, ()> {
        Box::pin(async move {
            let leap = self.0 - shared.clock.now();
            if leap > 0 {
                sql::move_leases(connection, leap).await?;
                shared.clock.leap(leap);
            }
            Ok(())
        })
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.0.path).finish_non_exhaustive()
    }
}
