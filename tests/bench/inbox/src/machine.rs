//! What it was measured with, and the disk by itself.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bench_report::{Cell, Figure, Table, milliseconds, p99};
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use crate::folder::Folder;
use crate::samples::Samples;
use crate::schema::Schema;
use crate::{Outcome, Scale};

/// What the figures depend on beside the machine.
pub(crate) async fn describe(schema: Option<&Schema>) -> Outcome<Vec<(&'static str, String)>> {
    let mut sqlite = SqliteConnection::connect("sqlite::memory:").await?;
    let postgres = match schema {
        Some(schema) => schema.version().await?,
        None => "none: DATABASE_URL named no server".to_owned(),
    };
    Ok(vec![
        ("disk", "its kind is unknown".to_owned()),
        ("smartshape-webhook-inbox", env!("CARGO_PKG_VERSION").to_owned()),
        ("SQLite", sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut sqlite).await?),
        ("PostgreSQL", postgres),
        (
            "payload",
            format!(
                "the fake's `file_uploaded`, {} bytes, a new uuid each, ten for each file",
                Samples::new()?.body_bytes()
            ),
        ),
    ])
}

/// What each durable commit waits for at least.
pub(crate) fn sync_latency(folder: &Folder, scale: Scale) -> Outcome<Table> {
    let mut file = File::create(folder.path().join("sync"))?;
    let mut row = Vec::new();
    for bytes in [4 * 1024, 64 * 1024] {
        let block = vec![b'x'; bytes];
        let mut rounds = (Vec::new(), Vec::new());
        for _ in 0..scale.worker_rounds {
            let (mut latencies, begun) = (Vec::new(), Instant::now());
            while latencies.len() < 100 && begun.elapsed() < Duration::from_secs(1) {
                file.write_all(&block)?;
                let asked = Instant::now();
                file.sync_data()?;
                latencies.push(asked.elapsed());
            }
            rounds.1.push(milliseconds(p99(&mut latencies)));
            rounds.0.push(Figure::of(latencies.into_iter().map(milliseconds).collect()).median);
        }
        row.push(vec![
            Cell::Text(format!("{} KiB appended", bytes / 1024)),
            Cell::Figure(Figure::of(rounds.0), 2),
            Cell::Figure(Figure::of(rounds.1), 2),
        ]);
    }
    Ok(Table {
        title: "The disk's own fdatasync",
        meaning: "What a durable commit waits for at least, without any database.".into(),
        columns: vec!["write", "median, ms", "p99, ms"],
        rows: row,
    })
}
