//! What the limits count, and where.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{
    Delivery, Handler, HandlerError, NamedSecret, Receiver, ReceiverBuilder, RequestHead, Secret,
    WebhookResponse,
};

const SECRET: &str = "the secret of these tests";

fn builder() -> ReceiverBuilder {
    Receiver::builder().secret(Secret::new(SECRET).unwrap()).verify_timeout(Duration::from_secs(60))
}

fn event_of_length(uuid: &str, length: usize) -> String {
    let body = |name: &str| {
        format!(
            r#"{{"file":"5c6f","event":"file_uploaded","data":{{"name":"{name}"}},"owner":"o","runTimestamp":1,"uuid":"{uuid}"}}"#
        )
    };
    body(&"x".repeat(length.saturating_sub(body("").len())))
}

async fn nothing(_: Delivery) -> Result<(), HandlerError> {
    Ok(())
}

async fn serve(receiver: &Receiver, body: String, handler: impl Handler) -> WebhookResponse {
    let token = bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string();
    let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
    receiver.serve(&head, body, Arc::new(handler)).await
}

#[test]
fn the_most_that_is_allowed_is_allowed() {
    let secret = |number: i32| NamedSecret::new(number.to_string(), Secret::generate().unwrap());
    let most = (0..8).fold(Receiver::builder(), |builder, number| builder.named_secret(secret(number)));
    let most = most.max_in_flight(1_000_000).max_body_bytes(1000).memory_limit_bytes(1000).max_cost(31);
    assert_eq!(most.build().unwrap().secret_names(), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert!(builder().max_cost(4).build().is_ok());
}

#[tokio::test]
async fn a_body_counts_for_as_long_as_its_delivery_is_kept() {
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

/// The application shares them, and may keep all of them busy.
#[test]
fn bodies_of_any_length_wait_for_no_blocking_thread() {
    let one = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_time().build();
    one.unwrap().block_on(async {
        let (end, ended) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || ended.recv().is_ok());
        let receiver = builder().build().unwrap();
        for length in [0, 4 * 1024 * 1024] {
            let served = serve(&receiver, event_of_length(&length.to_string(), length), nothing);
            let answer = tokio::time::timeout(Duration::from_secs(60), served).await;
            assert_eq!(answer.expect("it waits for a thread").status(), 200, "{length}");
        }
        end.send(()).unwrap();
        assert!(busy.await.unwrap());
    });
}
