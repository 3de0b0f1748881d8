//! Sends events to another app: stores each in the inbox `INBOX`, and publishes it to the stream `STREAM` of the NATS
//! servers `NATS_URL`, from which consumers in any language read.
//!
//! The inbox acknowledges as soon as it has stored an event, and retries while the servers cannot be reached.

use std::error::Error;

use smartshape_webhook_inbox::Inbox;
use smartshape_webhook_outlet::JetStreamOutlet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [servers, stream, inbox] = ["NATS_URL", "STREAM", "INBOX"].map(std::env::var);
    let outlet = JetStreamOutlet::builder(&servers?, &stream?).open().await?;
    let inbox = Inbox::open(&inbox?).await?;
    let worker = inbox.worker(outlet).spawn();
    example_uses::serve(inbox).await?;
    worker.shutdown().await?;
    Ok(())
}
