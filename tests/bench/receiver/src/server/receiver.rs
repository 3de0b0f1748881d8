//! The receiver of our own servers.

use std::time::Duration;

use smartshape_webhook::{
    Delivery, DeliveryKey, HandlerError, Holder, MemoryStore, NamedSecret, Receiver, Secret, SeenStore as _,
};

use super::{SECRET, Spec};
use crate::Outcome;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn build(spec: Spec) -> Outcome<Receiver> {
    let mut builder = Receiver::builder()
        .memory_store(filled(spec).await?)
        .max_at_work(spec.max_at_work)
        // The server has one core.
        .hash_threads(1);
    for number in 1..spec.secrets {
        builder = builder.named_secret(NamedSecret::new(format!("other {number}"), Secret::generate()?));
    }
    Ok(builder.secret(Secret::new(SECRET)?).build()?)
}

/// What a user's handler takes is the user's. This one takes nothing.
pub(super) async fn on_delivery(_: Delivery) -> Result<(), HandlerError> {
    Ok(())
}

/// Takes longer than anybody waits.
pub(super) async fn on_delivery_slowly(_: Delivery) -> Result<(), HandlerError> {
    tokio::time::sleep(DAY).await;
    Ok(())
}

async fn filled(spec: Spec) -> Outcome<MemoryStore> {
    let store = MemoryStore::new(spec.seen_capacity, DAY);
    for number in 0..spec.seen {
        let key = DeliveryKey::new(&format!("seen before, {number}"), "file_uploaded", "somebody");
        let holder = Holder::new(number as u128);
        store.claim(key, holder, DAY).await?;
        store.complete(key, holder).await?;
    }
    Ok(store)
}
