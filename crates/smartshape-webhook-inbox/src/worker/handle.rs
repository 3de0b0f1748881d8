//! A worker as a task of its own.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Work, Worker};
use crate::error::{InboxError, InboxErrorKind};

/// A worker that runs as a task; made by [`Worker::spawn`]. Dropping it tells the worker to finish,
/// without waiting for that.
#[derive(Debug)]
#[must_use = "a worker whose handle is dropped finishes"]
pub struct WorkerHandle {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
    task: JoinHandle<Result<(), InboxError>>,
}

impl<W: Work> Worker<W> {
    /// Runs the worker as a task, until the handle says otherwise.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use smartshape_webhook::Delivery;
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// let inbox = Inbox::open("inbox.db").await?;
    /// let mut worker = inbox.worker(|_: Delivery| async { Ok(()) }).spawn();
    /// tokio::select! {
    ///     _ = tokio::signal::ctrl_c() => {}
    ///     () = worker.ended() => {} // for instance since another process works on the file
    /// }
    /// worker.finish().await?;
    /// # Ok(()) }
    /// ```
    pub fn spawn(self) -> WorkerHandle {
        let (stop, stopped) = oneshot::channel::<()>();
        let (lives, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            // Dropping the sender says the same as sending.
            let outcome = self.run(async { drop(stopped.await) }).await;
            drop(lives);
            outcome
        });
        WorkerHandle { stop, ended, task }
    }
}

impl WorkerHandle {
    /// Waits until the worker ends by itself, which it does when it cannot work at all;
    /// [`finish`](Self::finish) then says why.
    pub async fn ended(&mut self) {
        if !self.ended.is_terminated() {
            let _ = (&mut self.ended).await;
        }
    }

    /// Lets the worker finish what it is at, or give it back.
    ///
    /// # Errors
    ///
    /// Those of [`Worker::run`].
    pub async fn finish(self) -> Result<(), InboxError> {
        drop(self.stop);
        self.task.await.map_err(|error| InboxError::new(InboxErrorKind::Unavailable, error))?
    }
}
