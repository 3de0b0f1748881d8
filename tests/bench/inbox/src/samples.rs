//! The fake's sample of an uploaded file, as often as is wanted, each with an id of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use smartshape_fake::EventPayload;
use smartshape_webhook::{Delivery, EventKind};
use smartshape_webhook_inbox::Record;

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

    pub(crate) fn records(&self, count: usize) -> Outcome<Vec<Record>> {
        (0..count).map(|_| Ok(Record::of(&self.delivery()?))).collect()
    }
}
