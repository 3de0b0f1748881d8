//! A future that keeps running in its own task if the caller drops it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// The work panicked.
#[derive(Debug)]
pub(super) struct Panicked;

/// Polls `F` in the caller's task, and moves it into a task of its own if the caller drops it. So only a delivery whose
/// client has disconnected costs a task.
pub(super) struct DetachOnDrop<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send> + Send + 'static> DetachOnDrop<F> {
    pub(super) fn new(work: F) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for DetachOnDrop<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { return Poll::Ready(Err(Panicked)) };
        // A panic ends the work and not the connection, as though the work had a task of its own.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => {
                self.0 = None;
                Poll::Ready(Ok(value))
            }
            Err(_) => {
                self.0 = None;
                Poll::Ready(Err(Panicked))
            }
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for DetachOnDrop<F> {
    fn drop(&mut self) {
        let Some(work) = self.0.take() else { return };
        // Without a runtime, as during its shutdown, the work is dropped, and with it its claim is released.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(work);
        }
    }
}
