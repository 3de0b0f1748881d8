//! The promises of an [`Engine`] as tests, for engines of one's own.
//!
//! [`engine_suite!`](crate::engine_suite) makes a test of each case. It needs tokio as a dependency of
//! the tests, with `macros` and `rt-multi-thread`.
//!
//! ```
//! # #[cfg(feature = "sqlite")] mod example {
//! use std::sync::Arc;
//! use smartshape_webhook_inbox::{Engine, Inbox};
//!
//! struct File(String);
//!
//! impl smartshape_webhook_inbox::suite::Bench for File {
//!     /// An empty store that no other test knows.
//!     async fn new() -> Option<Self> {
//!         let number = std::process::id();
//!         Some(Self(std::env::temp_dir().join(format!("{number}.db")).to_str()?.to_owned()))
//!     }
//!
//!     /// The same store each time.
//!     async fn open(&self) -> Arc<dyn Engine> {
//!         Arc::clone(Inbox::open(&self.0).await.expect("the store opens").engine())
//!     }
//! }
//!
//! smartshape_webhook_inbox::engine_suite!(File);
//! # }
//! ```

pub mod engine;
pub mod worker;

use std::sync::Arc;

use smartshape_webhook::{Delivery, DeliveryKey, DeliveryMeta};

use crate::engine::Engine;
use crate::record::Record;

/// A store to try an engine on.
pub trait Bench: Send + Sync + Sized + 'static {
    /// An empty store that no other test knows. `None` when there cannot be one here: the test
    /// then ends, and `new` has said why.
    fn new() -> impl Future<Output = Option<Self>> + Send;

    /// Opens this store; the same one each time.
    fn open(&self) -> impl Future<Output = Arc<dyn Engine>> + Send;
}

/// Makes a test of each promise, for a type that implements [`Bench`].
#[macro_export]
macro_rules! engine_suite {
    ($bench:ty) => {
        $crate::engine_suite! {
            $bench, engine:
            keeps_a_record_exactly
            keeps_hostile_texts
            keeps_a_long_body
            keeps_a_key_once
            keeps_what_is_new_of_a_batch
            keeps_a_key_once_among_many_askers
            claims_the_earliest_and_no_more_than_asked
            claims_nothing_twice
            accepts_nothing_of_an_older_lease
            renews_only_what_is_held
            gives_up_after_lost_leases
            retries_when_it_is_due
            does_not_count_what_is_given_back
            orders_the_events_of_a_file
            orders_without_hiding_other_files
            orders_a_very_long_queue
            orders_what_was_at_work_without_order
            orders_each_webhook_by_itself
            orders_by_touching_only_what_it_takes
            leaves_newer_records_alone
            lists_shows_replays_and_purges
            finds_events_by_secret_and_time
            forgets_after_the_horizon
            forgets_the_oldest_beyond_its_capacity
            tells_how_full_it_is
            is_not_moved_by_the_time_of_day
        }
        $crate::engine_suite! {
            $bench, worker:
            handles_what_is_stored_once
            counts_attempts_and_gives_up
            gives_up_at_once_on_a_permanent_error
            survives_a_panic
            keeps_to_its_concurrency
            renews_while_a_handler_runs
            takes_over_from_a_worker_that_died
            gives_up_on_a_handler_that_kills_its_process
            finishes_at_a_shutdown
            gives_back_at_a_shutdown
            leaves_a_blocked_handler_to_its_lease
            keeps_the_order_of_a_file
        }
    };
    ($bench:ty, $part:ident: $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            if let Some(bench) = <$bench as $crate::suite::Bench>::new().await {
                $crate::suite::$part::$case(&bench).await;
            }
        }
    )*};
}

/// A delivery of an event that no other has, about `file`. Its key is not to be had from its body alone.
fn delivery(number: u32, file: &str) -> Delivery {
    let body = format!(
        r#"{{"file": "{file}", "event": "file_uploaded", "data": {{"n": {number}}}, "owner": "test@smartshape.io",
            "runTimestamp": 1550824748604, "uuid": "uuid-{number}"}}"#
    );
    made(&body)
}

fn made(body: &str) -> Delivery {
    let made = Delivery::for_test(body.to_owned()).and_then(|delivery| {
        let key = DeliveryKey::for_webhook("suite", delivery.uuid(), delivery.event_name(), "");
        let kept = DeliveryMeta {
            key: Some(key),
            received_at: delivery.received_at(),
            attempt: 1,
            secret_name: None,
            webhook: None,
            traceparent: None,
        };
        Delivery::restore(body.to_owned(), kept)
    });
    match made {
        Ok(delivery) => delivery,
        Err(error) => unreachable!("the suite's own body: {error}"),
    }
}

fn record(number: u32, file: &str) -> Record {
    Record::of(&delivery(number, file))
}

fn records(numbers: std::ops::Range<u32>, file: &str) -> Arc<[Record]> {
    numbers.map(|number| record(number, file)).collect()
}
