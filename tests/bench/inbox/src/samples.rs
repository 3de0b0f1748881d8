//! The fake's sample of an uploaded file, as often as is wanted, each with an id of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use smartshape_fake::EventPayload;
use smartshape_webhook::{Delivery, EventKind, Handler as _};
use smartshape_webhook_inbox::Inbox;
use tokio::task::JoinSet;

use crate::Outcome;

/// Each file has this many events.
const EVENTS_OF_A_FILE: u64 = 10;

static NEXT: AtomicU64 = AtomicU64::new(1);

pub(crate) struct Samples {
    text: String,
    file: String,
    uuid: String,
}

impl Samples {
    pub(crate) fn new() -> Outcome<Self> {
        let sample = EventPayload::exact_sample(EventKind::FileUploaded);
        let delivery = Delivery::for_test(sample.to_body())?;
        let text = String::from_utf8(sample.to_body().to_vec())?;
        Ok(Self { text, file: delivery.file().as_str().to_owned(), uuid: delivery.uuid().to_owned() })
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn delivery(&self) -> Outcome<Delivery> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);

        // Lengths stay as they are.
        let uuid = format!("{:08x}-c1ed-49b5-9585-{number:012x}", std::process::id());
        let file = format!("{:024x}", number / EVENTS_OF_A_FILE);
        Ok(Delivery::for_test(self.text.replace(&self.uuid, &uuid).replace(&self.file, &file))?)
    }

    pub(crate) fn deliveries(&self, count: usize) -> Outcome<Vec<Delivery>> {
        (0..count).map(|_| self.delivery()).collect()
    }

    /// Stores deliveries concurrently, so that they share commits.
    pub(crate) async fn store(&self, inbox: &Inbox, count: usize) -> Outcome<()> {
        let mut storing = JoinSet::new();
        for delivery in self.deliveries(count)? {
            let inbox = inbox.clone();
            storing.spawn(async move { inbox.handle(delivery).await.map_err(|error| error.chain()) });
        }
        while let Some(stored) = storing.join_next().await {
            stored??;
        }
        Ok(())
    }
}

/// As spread as the inbox's own hash of a file, which has no other use here.
pub(crate) fn file_hash(delivery: &Delivery) -> i64 {
    delivery
        .file()
        .as_str()
        .bytes()
        .fold(0, |hash: i64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
}
