//! Builds an activity log: appends a line of JSON for each event to the file `ACTIVITY_LOG`.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Arc;

use serde_json::json;
use smartshape_webhook_tower::{Delivery, HandlerError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = OpenOptions::new().create(true).append(true).open(std::env::var("ACTIVITY_LOG")?)?;
    let file = Arc::new(file);
    example_uses::serve(move |delivery| append(Arc::clone(&file), delivery)).await
}

async fn append(mut file: Arc<File>, delivery: Delivery) -> Result<(), HandlerError> {
    let entry = json!({
        // A delivery may come again after a restart; whoever reads the log can tell by the key.
        "key": delivery.key().to_string(),
        "time": delivery.triggered_at().map(|time| time.to_string()),
        "user": delivery.owner().to_string(),
        "event": delivery.event_name(),
        "file": delivery.file().as_str(),
    });
    // One write for a line, so that lines of deliveries at the same time do not mix.
    let line = format!("{entry}\n");
    tokio::task::spawn_blocking(move || {
        file.write_all(line.as_bytes())?;
        file.sync_data()
    })
    .await??;
    Ok(())
}
