//! LISTEN and NOTIFY between processes. Polling stands behind it, so nothing depends on it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// NOTIFY takes a lock of the whole server at its commit, so it is not sent more often than this.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a listener that failed is left alone.
const RETRY: Duration = Duration::from_secs(5);

pub(super) struct Notifier {
    pool: PgPool,
    channel: Arc<str>,
    stored: Arc<Notify>,
    announcing: JoinHandle<()>,
    listening: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Notifier {
    pub(super) fn new(pool: PgPool, channel: String) -> Self {
        let (channel, stored): (Arc<str>, _) = (channel.into(), Arc::new(Notify::new()));
        let announcing = tokio::spawn(announce(pool.clone(), Arc::clone(&channel), Arc::clone(&stored)));
        Self { pool, channel, stored, announcing, listening: std::sync::Mutex::default() }
    }

    pub(super) fn announce(&self) {
        self.stored.notify_one();
    }

    pub(super) fn listen(&self, wake: Arc<Notify>) {
        let task = tokio::spawn(listen(self.pool.clone(), Arc::clone(&self.channel), wake));
        let mut listening = self.listening.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(former) = listening.replace(task) {
            former.abort();
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.announcing.abort();
        let listening = self.listening.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(task) = listening {
            task.abort();
        }
    }
}

async fn announce(pool: PgPool, channel: Arc<str>, stored: Arc<Notify>) {
    loop {
        stored.notified().await;
        let sent = sqlx::query("SELECT pg_notify($1, '')").bind(&*channel).execute(&pool).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "other workers could not be notified; they look by themselves");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen(pool: PgPool, channel: Arc<str>, wake: Arc<Notify>) {
    loop {
        if let Err(error) = listen_once(&pool, &channel, &wake).await {
            tracing::debug!(%error, "the inbox's listener failed; the worker looks by itself meanwhile");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn listen_once(pool: &PgPool, channel: &str, wake: &Notify) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    loop {
        // `None` says that the connection was lost, and with it perhaps a notification.
        listener.try_recv().await?;
        wake.notify_waiters();
        wake.notify_one();
    }
}
