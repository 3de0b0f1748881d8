//! One process opens a file twice, while another one reads it and backs it up.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::it::fixture::{Fixture as _, Folder, file_inbox};

/// How often the other process reads: a few seconds' worth, unless `TWICE_READS` says otherwise, as
/// `cargo xtask torture` does.
fn reads() -> u32 {
    std::env::var("TWICE_READS").map_or(300, |reads| reads.parse().unwrap())
}

/// SQLite's own program: what `SQLITE3` names, else the machine's.
fn sqlite() -> Command {
    Command::new(std::env::var_os("SQLITE3").unwrap_or_else(|| "sqlite3".into()))
}

/// What another process reads. Whoever closes a file as its last user deletes the log.
fn query(path: &str, sql: &str) -> String {
    let run = sqlite().args(["-cmd", ".timeout 10000", path, sql]).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_opened_twice_loses_nothing() {
    if sqlite().arg("--version").output().is_err() {
        println!("skipped: there is no program sqlite3");
        return;
    }
    let folder = Folder::new();
    let path = folder.url();
    let inboxes = [folder.inbox().await, folder.inbox().await];
    let (next, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let stores: Vec<_> = (0..16)
        .map(|task| {
            let inbox = inboxes[task % 2].clone();
            let (next, ended) = (Arc::clone(&next), Arc::clone(&ended));
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    inbox.store([next.fetch_add(1, Ordering::Relaxed)]).await;
                }
            })
        })
        .collect();
    let read = path.clone();
    let reads = tokio::task::spawn_blocking(move || {
        for number in 0..reads() {
            query(&read, "SELECT count(*) FROM events");
            if number % 10 == 0 {
                let backup = format!("{read}-{number}");
                query(&read, &format!("VACUUM INTO '{backup}'"));
                std::fs::remove_file(backup).unwrap();
            }
        }
    });
    let read = reads.await;
    ended.store(true, Ordering::Relaxed);
    for store in stores {
        store.await.unwrap();
    }
    read.unwrap();
    let found = query(&path, "SELECT count(*) FROM events");
    assert_eq!(found, next.load(Ordering::Relaxed).to_string(), "each was acknowledged");
}

/// Newer versions of SQLite notice it when its locks are gone, older ones delete the log.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn second_open_keeps_locks_of_first() {
    use std::os::unix::fs::MetadataExt as _;
    let (folder, first) = file_inbox().await;
    let locked = || {
        let file = format!(":{} ", std::fs::metadata(folder.url()).unwrap().ino());
        std::fs::read_to_string("/proc/locks").unwrap().contains(&file)
    };
    assert!(locked());
    let second = folder.inbox().await;
    assert!(locked());
    drop((first, second));
}
