//! How many hashes a second one thread verifies, beside the `bcrypt` crate: `cargo bench -p bcrypt-lanes`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark talks to people")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bcrypt_lanes::{Hash, verify_all};

const COST: u32 = 8;
const ROUNDS: usize = 25;
/// How many times the crate's rate we want with so many jobs.
const AIMS: [(usize, f64); 2] = [(1, 1.0), (4, 2.3)];
const PASSWORD: &str = "a long and random string";

fn main() {
    // `cargo test --benches` only builds and starts it.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 1 };
    let text = bcrypt::hash_with_salt("another", COST, [7; 16]).unwrap().to_string();
    let hash: Hash = text.parse().unwrap();
    println!("| jobs | `bcrypt`, ms | lanes, ms | times the rate | aim |\n|---|---|---|---|---|");
    for jobs in [1, 2, 3, 4, 8, 9] {
        // In turns, and each round's ratio for itself, so that a busy moment of the machine meets both sides.
        let mut measured: Vec<_> = (0..rounds)
            .map(|_| {
                let alone = time(|| {
                    for _ in 0..jobs {
                        black_box(bcrypt::verify(PASSWORD, &text).unwrap());
                    }
                });
                let lanes = time(|| {
                    black_box(verify_all((0..jobs).map(|_| (PASSWORD, hash.clone()))));
                });
                (alone.as_secs_f64() / lanes.as_secs_f64(), alone, lanes)
            })
            .collect();
        measured.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, alone, lanes) = measured[rounds / 2];
        let (low, high) = (measured[rounds / 4].0, measured[rounds * 3 / 4].0);
        let [alone, lanes] = [alone, lanes].map(|time| time.as_secs_f64() * 1000.0);
        let aim = AIMS.iter().find(|(count, _)| *count == jobs).map_or("–".to_owned(), |(_, aim)| {
            format!("≥ {aim:.1}: {}", if ratio >= *aim { "met" } else { "missed" })
        });
        println!("| {jobs} | {alone:.1} | {lanes:.1} | {ratio:.2} ({low:.2} to {high:.2}) | {aim} |");
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let started_at = Instant::now();
    work();
    started_at.elapsed()
}
