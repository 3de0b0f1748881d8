//! Storage in a SQLite file, for one machine.
//!
//! One connection writes and one reads. Each write is a transaction in a task of its own, so that a caller that drops
//! its future never leaves one half done. Before each write the file and its write-ahead log are checked: what is
//! written to a file that was deleted or replaced would be acknowledged and lost. When the disk is full, results and
//! purges first checkpoint the log and then use the ballast; new events are rejected.

mod admin;
mod ballast;
mod claim;
mod clock;
mod error;
mod insert;
mod maintenance;
mod open;
mod settle;
#[cfg(test)]
mod steps;
mod wal;
mod worker_lock;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::size_limit::SizeLimit;
use super::sweep_size::SweepSize;
use super::{
    AttemptResult, ClaimRequest, ClaimResponse, Lease, Retention, Settled, Storage, StorageFuture,
    StorageOptions, WorkerGuard,
};
use crate::error::{InboxError, InboxErrorKind};
use crate::event::NewEvent;
use ballast::Ballast;
use clock::StorageClock;
use maintenance::Sweeps;
use wal::{Wal, WalConnection, WalState};
use worker_lock::WorkerLock;

type JobFuture<'c, T> = futures_core::future::BoxFuture<'c, sqlx::Result<T>>;

pub(crate) struct Sqlite(Arc<Shared>);

struct Shared {
    /// Runs writes. The caller's runtime may stand still, as an actix-web worker does while a handler blocks its
    /// thread, and the write's transaction would stay open.
    runtime: Handle,
    path: PathBuf,
    identity: (u64, u64),
    wal: Arc<Wal>,
    clock: Arc<StorageClock>,
    /// Locked during a sweep, so that two of them do not delete the same number of events.
    sweeps: Mutex<Sweeps>,
    sweep_size: SweepSize,
    writer: Mutex<Option<WalConnection>>,
    reader: Mutex<Option<WalConnection>>,
    read_only: bool,
    /// The version of the tables, which is older than ours only if the file was opened read-only.
    schema: i64,
    size_limit: Arc<SizeLimit>,
    ballast: Ballast,
    worker_lock: WorkerLock,
}

/// What a write does when the disk is full.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnFull {
    Fail,
    UseBallast,
}

/// Where the transaction of a job begins and is committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TransactionScope {
    AroundJob,
    WithinJob,
}

impl Sqlite {
    /// Opens the file; creates it if it does not exist.
    pub(crate) async fn open(path: PathBuf, options: &StorageOptions) -> Result<Self, InboxError> {
        let read_only = options.read_only;
        let path =
            blocking(move || if read_only { open::find(&path) } else { open::create(&path) }).await??;
        let ballast = Ballast::beside(&path);
        let (mut connection, clock, schema) = if read_only {
            open::open_read_only(&path).await?
        } else {
            let (connection, clock) = match open::open(&path).await {
                // The log and its index need space, too, and without them nothing can be completed or purged.
                Err(error) if error.kind() == InboxErrorKind::Full && ballast.release() => {
                    open::open(&path).await?
                }
                opened => opened?,
            };
            (connection, clock, open::SCHEMA)
        };
        let identity = open::identity(&path).map_err(|error| io_error(&path, error))?;
        let wal = Wal::beside(&path);
        let writer = if read_only {
            None
        } else {
            let seen = wal::data_version(&mut connection).await;
            let seen = seen.map_err(|error| error::from_sqlx(&path, error))?;
            Some(wal.opened(connection, seen))
        };
        if !read_only {
            let ballast = ballast.clone();
            blocking(move || ballast.fill()).await?;
        }
        Ok(Self(Arc::new(Shared {
            runtime: Handle::current(),
            identity,
            wal,
            clock: Arc::new(StorageClock::starting_at(clock)),
            sweeps: Mutex::default(),
            sweep_size: SweepSize::new(),
            writer: Mutex::new(writer),
            reader: Mutex::new(None),
            read_only,
            schema,
            size_limit: Arc::new(SizeLimit::new(options.max_size_bytes)),
            ballast,
            worker_lock: WorkerLock::beside(&path, options.worker_lock_timeout),
            path,
        })))
    }

    /// Runs `job` in a transaction of its own, which goes on when the caller drops the future.
    fn write<T, J>(&self, on_full: OnFull, job: J) -> StorageFuture<'static, T>
    where
        T: Send + 'static,
        J: for<'c> Fn(&'c mut SqliteConnection, i64) -> JobFuture<'c, T> + Send + Sync + 'static,
    {
        self.detached(
            |shared| async move { shared.run_write(on_full, TransactionScope::AroundJob, &job).await },
        )
    }

    /// Runs a task that goes on when the caller drops the future.
    fn detached<T, F>(&self, work: impl FnOnce(Arc<Shared>) -> F) -> StorageFuture<'static, T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, InboxError>> + Send + 'static,
    {
        let task = self.0.runtime.spawn(work(Arc::clone(&self.0)));
        Box::pin(
            async move { task.await.map_err(|error| InboxError::new(InboxErrorKind::Unavailable, error))? },
        )
    }
}

impl Shared {
    async fn read<T>(
        &self,
        job: impl AsyncFnOnce(&mut SqliteConnection, i64) -> sqlx::Result<T>,
    ) -> Result<T, InboxError> {
        let mut slot = self.reader.lock().await;
        if self.read_only {
            // The connection is opened anew each time: one that was opened while no process had the file open would not
            // notice that one has changed it since.
            *slot = Some(self.wal.opened(open::open_read_only(&self.path).await?.0, 0));
        }
        let reader = match &mut *slot {
            Some(reader) => reader,
            none => none.insert(self.connect().await?),
        };
        job(&mut reader.connection, self.clock.now())
            .await
            .map_err(|error| error::from_sqlx(&self.path, error))
    }

    /// Runs `job` on the connection that writes, again if the disk was full and there is room after all.
    async fn run_write<T, J>(
        &self,
        on_full: OnFull,
        scope: TransactionScope,
        job: &J,
    ) -> Result<T, InboxError>
    where
        J: for<'c> Fn(&'c mut SqliteConnection, i64) -> JobFuture<'c, T>,
    {
        let mut slot = self.writer.lock().await;
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => self.connect().await?,
        };
        self.check_file(&mut writer).await?;
        let connection = &mut writer.connection;
        if let Err(error) = self.check_wal(connection).await {
            // A new connection would create a new log.
            *slot = Some(writer);
            return Err(error);
        }
        let mut outcome = self.attempt(connection, scope, job).await;
        if on_full == OnFull::UseBallast && outcome.as_ref().is_err_and(error::is_full) {
            // The pages in the log may replace pages of the file: after a checkpoint the log starts from the beginning.
            if rolled_back(connection).await && wal::checkpoint(connection).await.unwrap_or(false) {
                outcome = self.attempt(connection, scope, job).await;
            }
            if outcome.as_ref().is_err_and(error::is_full)
                && rolled_back(connection).await
                && self.ballast.release()
            {
                outcome = self.attempt(connection, scope, job).await;
            }
        }
        match outcome {
            Ok(value) => {
                *slot = Some(writer);
                Ok(value)
            }
            Err(error) => {
                // After any other error, a new connection reads the file's state again.
                if error::is_transient(&error) && rolled_back(connection).await {
                    *slot = Some(writer);
                }
                Err(error::from_sqlx(&self.path, error))
            }
        }
    }

    async fn attempt<T, J>(
        &self,
        connection: &mut SqliteConnection,
        scope: TransactionScope,
        job: &J,
    ) -> sqlx::Result<T>
    where
        J: for<'c> Fn(&'c mut SqliteConnection, i64) -> JobFuture<'c, T>,
    {
        if scope == TransactionScope::WithinJob {
            return job(connection, self.clock.now()).await;
        }
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let value = job(&mut *connection, self.clock.now()).await?;
        sqlx::query("COMMIT").execute(connection).await?;
        Ok(value)
    }

    async fn connect(&self) -> Result<WalConnection, InboxError> {
        if self.read_only {
            let text = format!("inbox {}: it was opened for reading only", self.path.display());
            return Err(InboxError::new(InboxErrorKind::ReadOnly, text));
        }
        self.check_identity().map_err(|error| error::from_sqlx(&self.path, error.into()))?;
        let mut connection = open::connect(&self.path).await?;
        let seen = wal::data_version(&mut connection).await;
        let seen = seen.map_err(|error| error::from_sqlx(&self.path, error))?;
        Ok(self.wal.opened(connection, seen))
    }

    /// Fails when another file is at the inbox's path: a new connection would apply our log to it, and damage it.
    fn check_identity(&self) -> std::io::Result<()> {
        match open::identity(&self.path) {
            Ok(found) if found == self.identity => Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Err(std::io::Error::other(open::REPLACED)),
        }
    }

    /// Fails when the file was moved, deleted or replaced: writes would be lost. What is in the log is saved into the
    /// file that it belongs to, and the log is emptied, since whoever opens the file that is at the path now would
    /// apply it. If another process has written to the log since, it may have opened the other file, and what it stored
    /// there must not be moved into ours: the log stays as it is. The caller drops the connection.
    async fn check_file(&self, writer: &mut WalConnection) -> Result<(), InboxError> {
        let Err(error) = self.check_identity() else { return Ok(()) };
        if wal::data_version(&mut writer.connection).await.is_ok_and(|version| version == writer.seen_version)
        {
            wal::save(&mut writer.connection).await;
        } else {
            tracing::error!(
                "what was in the inbox's -wal stays there, since another process has written to it"
            );
        }
        Err(error::from_sqlx(&self.path, error.into()))
    }

    /// Fails when the log was deleted: what is written to it is lost when the process ends.
    async fn check_wal(&self, connection: &mut SqliteConnection) -> Result<(), InboxError> {
        match self.wal.check() {
            Ok(WalState::Intact) => return Ok(()),
            // No process has created a new log yet, so what was acknowledged can be saved into the file. Later it
            // could overwrite newer pages.
            Ok(WalState::Missing) => wal::save(connection).await,
            Ok(WalState::Lost) => {}
            Err(error) => return Err(io_error(&self.path, error)),
        }
        let text = format!("inbox {}: {}", self.path.display(), wal::REPLACED);
        Err(InboxError::new(InboxErrorKind::Unavailable, text))
    }

    /// Acquires the worker lock, and ends the leases of the process that held it before.
    async fn lock_worker(&self) -> Result<WorkerGuard, InboxError> {
        let (guard, is_new) = self.worker_lock.acquire().await?;
        if is_new {
            // No other process runs workers, so every running event belongs to a process that has ended.
            self.run_write(OnFull::UseBallast, TransactionScope::AroundJob, &|connection, now| {
                let end = sqlx::query("UPDATE events SET due = ?1 WHERE state = 1 AND due > ?1").bind(now);
                Box::pin(async { end.execute(connection).await.map(drop) })
            })
            .await?;
        }
        Ok(guard)
    }
}

/// Runs blocking file operations on a thread for them.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, InboxError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| InboxError::new(InboxErrorKind::Unavailable, error))
}

async fn rolled_back(connection: &mut SqliteConnection) -> bool {
    // After some errors SQLite has rolled back already; then this fails.
    let _ = sqlx::query("ROLLBACK").execute(&mut *connection).await;
    sqlx::query("SELECT 1").execute(connection).await.is_ok()
}

fn io_error(path: &std::path::Path, error: std::io::Error) -> InboxError {
    let text = format!("inbox: {} cannot be used: {error}", path.display());
    InboxError::new(InboxErrorKind::Unavailable, text).caused_by(error)
}

impl Storage for Sqlite {
    fn insert(&self, events: Arc<[NewEvent]>) -> StorageFuture<'_, Vec<bool>> {
        Box::pin(async move {
            let uncompleted = || Arc::clone(&self.0).uncompleted_bytes();
            self.0.size_limit.reserve(&events, &self.0.path.display(), uncompleted).await?;
            self.detached(|shared| async move {
                shared
                    .run_write(OnFull::Fail, TransactionScope::WithinJob, &|connection, now| {
                        Box::pin(insert::insert(connection, now, Arc::clone(&events)))
                    })
                    .await
            })
            .await
        })
    }

    fn claim(&self, request: ClaimRequest) -> StorageFuture<'_, ClaimResponse> {
        self.detached(move |shared| async move {
            shared.worker_lock.check()?;
            let (due, newest) = shared.peek(request.ordered).await?;
            shared.catch_up(newest).await?;
            let next_due = due.map(|due| clock::duration_between(shared.clock.now(), due));
            if next_due.is_none_or(|wait| !wait.is_zero()) {
                return Ok(ClaimResponse { next_due, ..ClaimResponse::default() });
            }
            shared
                .run_write(OnFull::UseBallast, TransactionScope::AroundJob, &|connection, now| {
                    Box::pin(claim::claim(connection, now, request))
                })
                .await
        })
    }

    fn renew(&self, leases: Vec<Lease>, ttl: Duration) -> StorageFuture<'_, Vec<Lease>> {
        self.write(OnFull::UseBallast, move |connection, now| {
            Box::pin(claim::renew(connection, now, json_pairs(&leases), ttl))
        })
    }

    fn settle(&self, results: Arc<[AttemptResult]>) -> StorageFuture<'_, Settled> {
        self.write(OnFull::UseBallast, move |connection, now| {
            Box::pin(settle::settle(connection, now, Arc::clone(&results)))
        })
    }

    fn sweep(&self, retention: Retention) -> StorageFuture<'_, u64> {
        Box::pin(async move {
            loop {
                let portion =
                    self.detached(move |shared| async move { shared.sweep_portion(retention).await });
                let (rows, all_bodies) = portion.await?;
                if rows > 0 || all_bodies {
                    return Ok(rows);
                }
            }
        })
    }

    fn ping(&self) -> StorageFuture<'_, ()> {
        self.write(OnFull::Fail, |connection, _| {
            Box::pin(async move {
                sqlx::query("SELECT value FROM meta LIMIT 1").execute(connection).await.map(drop)
            })
        })
    }

    fn lock_worker(&self) -> StorageFuture<'_, WorkerGuard> {
        self.detached(|shared| async move { shared.lock_worker().await })
    }

    /// Without it the file alone would be stale: a process that ends does not close its connections, so the log stays.
    fn checkpoint(&self) -> StorageFuture<'_, ()> {
        self.detached(|shared| async move {
            shared
                .run_write(OnFull::Fail, TransactionScope::WithinJob, &|connection, _| {
                    Box::pin(wal::checkpoint(connection))
                })
                .await
                .map(drop)
        })
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.0.path).finish_non_exhaustive()
    }
}

/// `[[seq,fence],…]`, so that one statement takes any number of leases.
fn json_pairs(leases: &[Lease]) -> String {
    let pairs: Vec<_> = leases.iter().map(|lease| format!("[{},{}]", lease.seq, lease.fence)).collect();
    format!("[{}]", pairs.join(","))
}

fn json_array(seqs: &[i64]) -> String {
    let seqs: Vec<_> = seqs.iter().map(i64::to_string).collect();
    format!("[{}]", seqs.join(","))
}
