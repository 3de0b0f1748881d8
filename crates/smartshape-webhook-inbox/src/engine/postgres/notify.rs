//! LISTEN and NOTIFY between processes. Polling stands behind it, so nothing depends on it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connections::{CONNECT, Connect, Connections};
use super::sql::Queue;
use super::{fault, transactions};
use crate::error::InboxError;

/// NOTIFY takes a lock of the whole server at its commit, so it is not sent more often than this.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a listener that failed is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// After so long without a notification it is asked whether the connection still lives.
const SILENCE: Duration = Duration::from_secs(15);

pub(super) struct Notifier {
    connect: Connect,
    channel: Arc<str>,
    news: Arc<News>,
    announcing: JoinHandle<()>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

/// What was stored since the last announcement.
#[derive(Default)]
struct News {
    stored: Notify,
    behind: Mutex<HashSet<Queue>>,
}

impl Notifier {
    pub(super) fn new(others: Arc<Connections>, connect: Connect, channel: String) -> Self {
        let (channel, news): (Arc<str>, Arc<News>) = (channel.into(), Arc::default());
        let announcing = tokio::spawn(announce(others, Arc::clone(&channel), Arc::clone(&news)));
        Self { connect, channel, news, announcing, listening: Mutex::default() }
    }

    pub(super) fn announce(&self) {
        self.news.stored.notify_one();
    }

    /// Calls the first of these queues with the next announcement: while something was stored behind an
    /// event, that event may have ended.
    pub(super) fn call_later(&self, queues: Vec<Queue>) {
        if !queues.is_empty() {
            lock(&self.news.behind).extend(queues);
        }
    }

    pub(super) fn listen(&self, wake: Arc<Notify>) {
        let task = tokio::spawn(listen(self.connect.clone(), Arc::clone(&self.channel), wake));
        if let Some(former) = lock(&self.listening).replace(task) {
            former.abort();
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.announcing.abort();
        if let Some(task) = lock(&self.listening).as_ref() {
            task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn announce(others: Arc<Connections>, channel: Arc<str>, news: Arc<News>) {
    loop {
        news.stored.notified().await;
        let behind: Vec<Queue> = lock(&news.behind).drain().collect();
        transactions::call(&others, &behind).await;
        let sent = others.run(async |on| {
            sqlx::query("SELECT pg_notify($1, '')").bind(&*channel).execute(&mut on.connection).await
        });
        if let Err(error) = sent.await {
            tracing::debug!(%error, "other workers could not be notified; they look by themselves");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen(connect: Connect, channel: Arc<str>, wake: Arc<Notify>) {
    loop {
        if let Err(error) = listen_once(&connect, &channel, &wake).await {
            tracing::debug!(%error, "the inbox's listener failed; the worker looks by itself meanwhile");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn listen_once(connect: &Connect, channel: &str, wake: &Notify) -> Result<(), InboxError> {
    // A listener wants a pool. One that has gone silent keeps its connection for as long as the kernel
    // does, so the next one has a pool of its own.
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT);
    let pool = pool.connect_lazy_with(connect.options.clone());
    let mut listener = PgListener::connect_with(&pool).await.map_err(fault::of)?;
    within(listener.listen(channel)).await?;
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            // `None` says that the connection was lost, and with it perhaps a notification.
            Ok(received) => {
                received.map_err(fault::of)?;
                wake.notify_waiters();
                wake.notify_one();
            }
            Err(_) => {
                within(sqlx::query("SELECT 1").execute(&mut listener)).await?;
            }
        }
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, InboxError> {
    let answer = timeout(CONNECT, answer).await;
    answer.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(fault::of)
}
