//! Sends notifications: posts each new annotation to the chat at `NOTIFY_URL`.
//!
//! An error makes SmartShape send the delivery again. A chat that does not respond is one after 5 seconds: a handler
//! that waited for ever would keep its permit. The delivery's key goes along as `Idempotency-Key`, so that a service
//! that reads it notifies once even if its response was lost.

use std::error::Error;
use std::time::Duration;

use reqwest::Client;
use serde_json::json;
use smartshape_webhook_tower::{Delivery, Event, HandlerError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("NOTIFY_URL")?;
    // The workspace builds reqwest without a provider of cryptography of its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().timeout(Duration::from_secs(5)).build()?;
    example_uses::serve(move |delivery| notify(client.clone(), url.clone(), delivery)).await
}

async fn notify(client: Client, url: String, delivery: Delivery) -> Result<(), HandlerError> {
    let Event::AnnotationCreated(event) = delivery.event() else { return Ok(()) };
    let title = event.name.as_deref().unwrap_or("without a title");
    let text = format!("{} annotated file {}: {title}", delivery.owner(), delivery.file());
    let request = client
        .post(url)
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", delivery.key().to_string())
        .body(json!({ "text": text }).to_string());
    request.send().await?.error_for_status()?;
    Ok(())
}
