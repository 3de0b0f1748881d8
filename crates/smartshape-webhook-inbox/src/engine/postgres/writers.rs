//! Connections that store.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::ACQUIRE;

/// A connection that was idle for longer is asked whether it still lives.
const TRUSTED: Duration = Duration::from_secs(1);

/// A pool without what the general one does for each statement: it asks the server whether the
/// connection lives before, and once more afterwards, which are two round trips beside the one.
pub(super) struct Writers {
    options: PgConnectOptions,
    places: Semaphore,
    idle: Mutex<Vec<(PgConnection, Instant)>>,
}

pub(super) struct Writer<'w> {
    pub(super) connection: PgConnection,
    place: SemaphorePermit<'w>,
}

impl Writers {
    pub(super) fn new(options: PgConnectOptions, connections: usize) -> Self {
        Self { options, places: Semaphore::new(connections), idle: Mutex::default() }
    }

    /// A writer that is not given back is closed, since it may be at something.
    pub(super) async fn take(&self) -> Result<Writer<'_>, sqlx::Error> {
        let taken = timeout(ACQUIRE, async {
            let place = self.places.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
            while let Some((mut connection, since)) = self.next() {
                if since.elapsed() < TRUSTED || connection.ping().await.is_ok() {
                    return Ok(Writer { connection, place });
                }
            }
            Ok(Writer { connection: self.options.connect().await?, place })
        });
        taken.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    pub(super) fn give_back(&self, writer: Writer<'_>) {
        let Writer { connection, place } = writer;
        self.idle().push((connection, Instant::now()));
        drop(place);
    }

    fn next(&self) -> Option<(PgConnection, Instant)> {
        self.idle().pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
