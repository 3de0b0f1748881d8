//! LISTEN and NOTIFY between processes. Only an optimization, since workers poll as well.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::connections::{CONNECT_TIMEOUT, Connections, Connector};
use super::error;
use super::queues::{self, Queue};
use super::servers::{Primary, Servers};
use crate::error::InboxError;
use crate::lock::locked;
use crate::storage::wake_all;

/// Minimum interval of notifications: a commit with NOTIFY takes a lock of the whole server.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(50);
/// Pause before a failed listener connects again.
const RELISTEN_AFTER: Duration = Duration::from_secs(5);
/// Interval of probes: of the connection, and of the other servers, one of which may have taken over.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);

pub(super) struct Notifier {
    connections: Arc<Connections>,
    channel: Arc<str>,
    pending: Arc<PendingNotification>,
    /// Dropping the set ends them.
    tasks: Mutex<JoinSet<()>>,
}

/// Collects events stored since the last notification.
#[derive(Default)]
struct PendingNotification {
    stored: Notify,
    /// Queues in which an event was stored behind an earlier one.
    blocked: Mutex<HashSet<Queue>>,
}

impl Notifier {
    pub(super) fn new(connections: Arc<Connections>, channel: String) -> Self {
        let (channel, pending): (Arc<str>, Arc<PendingNotification>) = (channel.into(), Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(send(Arc::clone(&connections), Arc::clone(&channel), Arc::clone(&pending)));
        Self { connections, channel, pending, tasks: Mutex::new(tasks) }
    }

    pub(super) fn notify(&self) {
        self.pending.stored.notify_one();
    }

    /// Marks the first events of these queues runnable before the next notification: the event that an insert saw
    /// before its own may have ended before the insert was committed.
    pub(super) fn mark_runnable_later(&self, queues: Vec<Queue>) {
        if !queues.is_empty() {
            locked(&self.pending.blocked).extend(queues);
        }
    }

    pub(super) fn listen(&self, wake: Arc<Notify>) {
        let listening = listen(self.connections.connect.clone(), Arc::clone(&self.channel), wake);
        locked(&self.tasks).spawn(listening);
    }
}

async fn send(connections: Arc<Connections>, channel: Arc<str>, pending: Arc<PendingNotification>) {
    loop {
        pending.stored.notified().await;
        let blocked: Vec<Queue> = locked(&pending.blocked).drain().collect();
        queues::mark_runnable_after_commit(&connections, &blocked).await;
        let sent = connections.run(async |session| {
            sqlx::query("SELECT pg_notify($1, '')").bind(&*channel).execute(&mut session.connection).await
        });
        if let Err(error) = sent.await {
            tracing::debug!(%error, "other workers could not be notified; they poll");
        }
        tokio::time::sleep(NOTIFY_INTERVAL).await;
    }
}

async fn listen(connect: Connector, channel: Arc<str>, wake: Arc<Notify>) {
    loop {
        if let Err(error) = listen_once(&connect, &channel, &wake).await {
            tracing::debug!(%error, "the inbox's listener failed; the worker polls meanwhile");
        }
        tokio::time::sleep(RELISTEN_AFTER).await;
    }
}

async fn listen_once(connect: &Connector, channel: &str, wake: &Notify) -> Result<(), InboxError> {
    // sqlx's listener needs a pool. A dead connection stays in it for as long as the kernel keeps it, so each listener
    // has its own pool.
    let servers = &connect.servers;
    let primary = find(servers).await?;
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
    let pool = pool.connect_lazy_with(servers.options(primary));
    let mut listener = PgListener::connect_with(&pool).await.map_err(error::from_sqlx)?;
    within(listener.listen(channel)).await?;
    let mut probe_at = Instant::now() + PROBE_INTERVAL;
    loop {
        match timeout_at(probe_at, listener.try_recv()).await {
            // `None` means that the connection was lost, and maybe a notification with it.
            Ok(received) => {
                received.map_err(error::from_sqlx)?;
                wake_all(wake);
            }
            Err(_) => {
                within(sqlx::query("SELECT 1").execute(&mut listener)).await?;
                if find(servers).await? != primary {
                    return Ok(());
                }
                probe_at = Instant::now() + PROBE_INTERVAL;
            }
        }
    }
}

async fn find(servers: &Servers) -> Result<Primary, InboxError> {
    if servers.are_several() {
        servers.connect().await?;
    }
    Ok(servers.primary())
}

async fn within<T>(response: impl Future<Output = sqlx::Result<T>>) -> Result<T, InboxError> {
    let response = timeout(CONNECT_TIMEOUT, response).await;
    response.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(error::from_sqlx)
}
