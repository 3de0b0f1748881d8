//! Builds an activity log: appends a line of JSON for each event to the file `ACTIVITY_LOG`.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use serde_json::json;
use smartshape_webhook_tower::{Delivery, HandlerError};
use tokio::sync::Mutex;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let log = Arc::new(Mutex::new(ActivityLog::open(&std::env::var("ACTIVITY_LOG")?)?));
    example_uses::serve(move |delivery| append(Arc::clone(&log), delivery)).await
}

async fn append(log: Arc<Mutex<ActivityLog>>, delivery: Delivery) -> Result<(), HandlerError> {
    let entry = json!({
        // A delivery may come again after a restart; whoever reads the log can tell by the key.
        "key": delivery.key().to_string(),
        "time": delivery.triggered_at().map(|time| time.to_string()),
        "user": delivery.owner().to_string(),
        "event": delivery.event_name(),
        "file": delivery.file().as_str(),
    });
    tokio::task::spawn_blocking(move || log.blocking_lock().append(&entry.to_string())).await??;
    Ok(())
}

struct ActivityLog {
    file: File,
    /// Whether the file may end in half a line, as after a full disk. The next line must not be written behind it.
    is_torn: bool,
}

impl ActivityLog {
    fn open(path: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(-1)).is_ok() {
            file.read_exact(&mut last)?;
        }
        Ok(Self { file, is_torn: last != *b"\n" })
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        let start = if self.is_torn { "\n" } else { "" };
        self.is_torn = true;
        self.file.write_all(format!("{start}{line}\n").as_bytes())?;
        self.is_torn = false;
        self.file.sync_data()
    }
}
