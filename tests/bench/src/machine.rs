//! Where and with what it was measured.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use crate::figures::{Figure, milliseconds, p99};
use crate::folder::Folder;
use crate::report::{Cell, Table};
use crate::samples::Samples;
use crate::schema::Schema;
use crate::{Outcome, Scale};

const UNKNOWN: &str = "unknown";

pub(crate) async fn describe(quick: bool, schema: Option<&Schema>) -> Outcome<Vec<(&'static str, String)>> {
    let cores =
        std::thread::available_parallelism().map_or_else(|_| UNKNOWN.into(), |count| count.to_string());
    let mut sqlite = SqliteConnection::connect("sqlite::memory:").await?;
    let postgres = match schema {
        Some(schema) => schema.version().await?,
        None => "none: DATABASE_URL named no server".to_owned(),
    };
    Ok(vec![
        ("date", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()),
        ("scale", if quick { "--quick".to_owned() } else { "full".to_owned() }),
        ("machine", format!("{cores} cores, {}; the disk's kind is unknown", processor())),
        ("load before", load()),
        ("system", format!("{} {}", std::env::consts::OS, line_of("/proc/sys/kernel/osrelease"))),
        ("smartshape-webhook-inbox", env!("CARGO_PKG_VERSION").to_owned()),
        ("Rust", rust()),
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

/// The averages of one, five and fifteen minutes.
pub(crate) fn load() -> String {
    let line = line_of("/proc/loadavg");
    line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Resident memory of this process.
pub(crate) fn resident_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
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

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or(UNKNOWN, |(_, model)| model).to_owned()
}

fn rust() -> String {
    let output =
        Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().nth(1).unwrap_or(UNKNOWN).to_owned()
}

fn line_of(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| UNKNOWN.to_owned(), |text| text.trim().to_owned())
}
