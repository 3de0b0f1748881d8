//! The receiver of our own servers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smartshape_webhook::{Delivery, HandlerError, NamedSecret, Receiver, RequestHead, Secret};

use super::{SECRET, Spec};
use crate::Outcome;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn build(spec: Spec) -> Outcome<Receiver> {
    let mut builder = Receiver::builder()
        .dedup_capacity(spec.seen_capacity)
        .max_in_flight(spec.max_in_flight)
        // The server has one core.
        .verify_threads(1);
    for number in 1..spec.secrets {
        builder = builder.named_secret(NamedSecret::new(format!("other {number}"), Secret::generate()?));
    }
    let receiver = builder.secret(Secret::new(SECRET)?).build()?;
    fill(&receiver, spec).await?;
    Ok(receiver)
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

/// Has the receiver complete as many deliveries as it is to have seen.
async fn fill(receiver: &Receiver, spec: Spec) -> Outcome<()> {
    let token = smartshape_fake::token(SECRET, 4, smartshape_fake::Prefix::TwoB)?;
    let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
    let handler = Arc::new(on_delivery);
    for number in 0..spec.seen {
        let body = format!(
            r#"{{"file":"f","event":"file_uploaded","data":{{}},"owner":"o","runTimestamp":1,"uuid":"seen before, {number}"}}"#
        );
        let body = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
        let response = receiver.serve(&head, body, Arc::clone(&handler)).await;
        if response.status() != 200 {
            return Err(format!("{:?}", response.rejection()).into());
        }
    }
    Ok(())
}
