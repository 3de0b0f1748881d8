//! What the limits count.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use smartshape_webhook::{Delivery, HandlerError, NamedSecret, Receiver, Secret};

use crate::common::{builder, event, serve};

fn event_of_length(uuid: &str, length: usize) -> String {
    let body = |name: &str| event("file_uploaded", &format!(r#"{{"name":"{name}"}}"#), uuid);
    body(&"x".repeat(length.saturating_sub(body("").len())))
}

#[test]
fn settings_at_their_maximum_are_valid() {
    let secret = |number: i32| NamedSecret::new(number.to_string(), Secret::generate().unwrap());
    let most = (0..16).fold(Receiver::builder(), |builder, number| builder.named_secret(secret(number)));
    let most = most.max_in_flight(1_000_000).max_body_bytes(1000).memory_limit_bytes(1000).max_cost(31);
    assert_eq!(most.verify_threads(1000).build().unwrap().secret_names().len(), 16);
    assert!(builder().max_cost(4).build().is_ok());
}

#[tokio::test]
async fn body_reserves_memory_while_its_delivery_is_kept() {
    // Where no length was declared, room is made in steps.
    for (length, counted) in [(1000, 65_536), (65_536, 65_536), (65_537, 65_537)] {
        let receiver = builder().build().unwrap();
        let kept = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&kept);
        let handler = move |delivery: Delivery| {
            *keep.lock().unwrap() = Some(delivery);
            async { Ok(()) }
        };
        assert_eq!(serve(&receiver, event_of_length("u", length), handler).await.status(), 200);
        assert_eq!(receiver.stats().reserved_bytes, counted, "{length}");
        drop(kept.lock().unwrap().take());
        assert_eq!(receiver.stats().reserved_bytes, 0, "{length}");
    }
}

/// The application shares the blocking threads, and may keep all of them busy.
#[test]
fn body_of_any_length_needs_no_blocking_thread() {
    let one = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_time().build();
    one.unwrap().block_on(async {
        let (end, ended) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || ended.recv().is_ok());
        let receiver = builder().build().unwrap();
        for length in [0, 4 * 1024 * 1024] {
            let handler = |_: Delivery| async { Ok::<_, HandlerError>(()) };
            let served = serve(&receiver, event_of_length(&length.to_string(), length), handler);
            let response = tokio::time::timeout(Duration::from_secs(60), served).await;
            assert_eq!(response.expect("it waits for a thread").status(), 200, "{length}");
        }
        end.send(()).unwrap();
        assert!(busy.await.unwrap());
    });
}
