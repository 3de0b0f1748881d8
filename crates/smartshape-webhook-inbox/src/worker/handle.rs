//! A worker as a task of its own.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Worker;
use crate::error::{InboxError, InboxErrorKind};

/// A worker that runs as a task; made by [`Worker::spawn`]. Dropping it shuts the worker down without waiting for it.
#[derive(Debug)]
#[must_use = "dropping the handle shuts the worker down"]
pub struct WorkerHandle {
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
    task: JoinHandle<Result<(), InboxError>>,
}

impl Worker {
    /// Runs the worker as a task, until [`WorkerHandle::shutdown`] is called or the handle is dropped.
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
    ///     () = worker.stopped() => {} // for instance because another process holds the lock of the file
    /// }
    /// worker.shutdown().await?;
    /// # Ok(()) }
    /// ```
    pub fn spawn(self) -> WorkerHandle {
        let (stop, stop_requested) = oneshot::channel::<()>();
        let (running, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stop = async {
                if stop_requested.await.is_err() {
                    tracing::warn!(
                        "a worker stops, since its handle was dropped; events wait until another one runs"
                    );
                }
            };
            let result = self.run(stop).await;
            if let Err(error) = &result {
                // A program that does not wait for `stopped` would go on storing events that nobody handles.
                tracing::error!(%error, "a worker has stopped; events wait until another one runs");
            }
            drop(running);
            result
        });
        WorkerHandle { stop, stopped, task }
    }
}

impl WorkerHandle {
    /// Waits until the worker stops by itself, which it does when it cannot work at all.
    /// [`shutdown`](Self::shutdown) then returns the error.
    pub async fn stopped(&mut self) {
        if !self.stopped.is_terminated() {
            let _ = (&mut self.stopped).await;
        }
    }

    /// Shuts the worker down: waits for running handlers for [`Worker::shutdown_timeout`], then cancels them and
    /// releases their events.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Worker::run`].
    pub async fn shutdown(self) -> Result<(), InboxError> {
        // An error means that the worker has stopped by itself.
        let _ = self.stop.send(());
        self.task.await.map_err(|error| InboxError::new(InboxErrorKind::Unavailable, error))?
    }
}
