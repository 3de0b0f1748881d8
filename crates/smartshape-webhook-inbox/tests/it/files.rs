//! What a file can suffer, and what its users are told.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler as _, HandlerErrorKind};
use smartshape_webhook_inbox::{Filter, Inbox, InboxError, InboxErrorKind, State};
use sqlx::{Connection as _, SqliteConnection};

use crate::bench::{Folder, delivery};

async fn connect(path: &str) -> SqliteConnection {
    SqliteConnection::connect(path).await.unwrap()
}

async fn execute(path: &str, sql: &'static str) {
    let mut connection = connect(path).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn rejected(path: &str) -> InboxError {
    Inbox::builder(path).open_deadline(Duration::ZERO).open().await.unwrap_err()
}

async fn store(inbox: &Inbox, number: u32) -> Result<(), HandlerErrorKind> {
    inbox.handle(delivery(number)).await.map_err(|error| error.kind())
}

/// In a process of its own: what reads a file in ours drops the locks that SQLite holds on it.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

/// A worker that handles everything, until the inbox is empty.
async fn work_off(inbox: &Inbox) {
    let worker = inbox.worker(|_: Delivery| async { Ok(()) }).spawn();
    loop {
        let stats = inbox.stats().await.unwrap();
        if stats.waiting + stats.at_work == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    worker.finish().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn others_cannot_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    work_off(&inbox).await;
    for name in ["inbox.db", "inbox.db-wal", "inbox.db-shm", "inbox.db-worker", "inbox.db-reserve"] {
        let mode = fs::metadata(folder.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn wrong_places_are_named() {
    let folder = Folder::new();
    let inside = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    for (place, kind, advice) in [
        (inside("none/inbox.db"), InboxErrorKind::Settings, "create its folder"),
        (inside(""), InboxErrorKind::Settings, "not a folder"),
        (String::new(), InboxErrorKind::Settings, "give it a path"),
        (":memory:".to_owned(), InboxErrorKind::Settings, "plain path"),
        ("host=db.example dbname=app user=app".to_owned(), InboxErrorKind::Settings, "postgres://"),
        ("user = app password = hunter2".to_owned(), InboxErrorKind::Settings, "by keywords"),
        ("file:inbox.db?mode=memory".to_owned(), InboxErrorKind::Settings, "plain path"),
        ("sqlite:inbox.db".to_owned(), InboxErrorKind::Settings, "plain path"),
        ("mysql://db/app".to_owned(), InboxErrorKind::Settings, "postgres://"),
    ] {
        let error = rejected(&place).await;
        assert_eq!(error.kind(), kind, "{place}: {error}");
        assert!(error.to_string().contains(advice), "{place}: {error}");
    }
}

#[tokio::test]
async fn a_read_only_file_is_named() {
    let folder = Folder::new();
    drop(Inbox::open(&folder.inbox()).await.unwrap());
    let path = folder.path("inbox.db");
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    if fs::OpenOptions::new().write(true).open(&path).is_ok() {
        println!("skipped: this user may write to read-only files");
        return;
    }
    let error = rejected(&folder.inbox()).await;
    assert_eq!(error.kind(), InboxErrorKind::ReadOnly, "{error}");
}

#[tokio::test]
async fn files_of_others_are_left_as_they_are() {
    let folder = Folder::new();
    let path = folder.inbox();
    execute(&format!("sqlite://{path}?mode=rwc"), "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
        .await;
    let before = fs::read(&path).unwrap();
    let error = rejected(&path).await;
    assert_eq!(error.kind(), InboxErrorKind::Foreign, "{error}");
    assert!(error.to_string().contains("another program"), "{error}");
    assert!(fs::read(&path).unwrap() == before, "somebody else's database was changed");

    fs::write(&path, "This is no database, however long it is made. ".repeat(100)).unwrap();
    let error = rejected(&path).await;
    assert_eq!(error.kind(), InboxErrorKind::Foreign, "{error}");
}

#[tokio::test]
async fn damage_is_an_error_and_never_a_false_ok() {
    let folder = Folder::new();
    let path = folder.inbox();
    let inbox = Inbox::open(&path).await.unwrap();
    for number in 0..200 {
        store(&inbox, number).await.unwrap();
    }
    drop(inbox);
    execute(&path, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    let mut bytes = fs::read(&path).unwrap();
    // All pages after the first, so that the header still looks well.
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = match Inbox::builder(&path).open_deadline(Duration::ZERO).open().await {
        Ok(inbox) => {
            assert!(store(&inbox, 1000).await.is_err());
            inbox.list(Filter::default()).await.unwrap_err()
        }
        Err(error) => error,
    };
    assert_eq!(error.kind(), InboxErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(".recover"), "{error}");
}

#[tokio::test]
async fn a_newer_schema_is_used_if_it_says_so() {
    let folder = Folder::new();
    let path = folder.inbox();
    store(&Inbox::open(&path).await.unwrap(), 1).await.unwrap();
    execute(&path, "ALTER TABLE events ADD COLUMN later TEXT; PRAGMA user_version = 3").await;
    let inbox = Inbox::open(&path).await.unwrap();
    store(&inbox, 2).await.unwrap();
    work_off(&inbox).await;
    drop(inbox);
    execute(&path, "UPDATE meta SET value = 3 WHERE name = 'reads_from'").await;
    let error = rejected(&path).await;
    assert_eq!(error.kind(), InboxErrorKind::Newer, "{error}");
}

/// The committed file was written by version 0.1.0: one event waiting, one dead, one completed.
#[tokio::test]
async fn files_of_earlier_versions_are_worked_on() {
    let folder = Folder::new();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inbox-0.1.0.db");
    fs::copy(old, folder.path("inbox.db")).unwrap();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let events = inbox.list(Filter::default()).await.unwrap();
    let states: Vec<State> = events.iter().map(|event| event.state).collect();
    assert_eq!(states, [State::Completed, State::Dead, State::Waiting]);
    for number in 1..=3 {
        store(&inbox, number).await.unwrap();
    }
    assert_eq!(inbox.list(Filter::default()).await.unwrap().len(), 3, "all three are known");
    assert_eq!(inbox.replay(Filter::default()).await.unwrap(), 1);
    work_off(&inbox).await;
    assert_eq!(inbox.list(Filter::default().state(State::Completed)).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_size_cap_rejects_until_there_is_room() {
    let folder = Folder::new();
    let inbox = Inbox::builder(&folder.inbox()).max_stored_bytes(2 * 1024 * 1024).open().await.unwrap();
    let mut stored = 0;
    let rejection = loop {
        match inbox.handle(delivery_of(stored, 100_000)).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100);
    };
    assert!(matches!(rejection.kind(), HandlerErrorKind::RetryAfter(_)), "{rejection}");
    assert!(rejection.to_string().contains("size cap"), "{rejection}");
    assert_eq!(inbox.stats().await.unwrap().waiting, u64::from(stored));
    work_off(&inbox).await;
    assert!(inbox.handle(delivery_of(1000, 100_000)).await.is_ok());
}

/// A folder on a disk of its own, which is soon full.
struct SmallDisk(Folder);

impl SmallDisk {
    fn new(mib: u32) -> Option<Self> {
        let folder = Folder::new();
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path("")).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: no disk of a given size can be mounted here");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path("")).status();
    }
}

fn delivery_of(number: u32, bytes: usize) -> Delivery {
    let filler = "z".repeat(bytes);
    Delivery::for_test(format!(
        r#"{{"file":"f","event":"file_uploaded","data":"{filler}","owner":"o","runTimestamp":1,"uuid":"big-{number}"}}"#
    ))
    .unwrap()
}

async fn fill(inbox: &Inbox, from: u32) -> u32 {
    let mut number = from;
    loop {
        match inbox.handle(delivery_of(number, 100_000)).await {
            Ok(()) => number += 1,
            Err(error) => {
                assert!(matches!(error.kind(), HandlerErrorKind::RetryAfter(_)), "{error}");
                assert!(error.to_string().contains("disk is full"), "{error}");
                return number;
            }
        }
        assert!(number < from + 1000, "the disk is not full");
    }
}

#[tokio::test]
async fn a_full_disk_rejects_and_still_works_off_and_purges() {
    let Some(disk) = SmallDisk::new(24) else { return };
    let inbox = Inbox::open(&disk.0.inbox()).await.unwrap();
    let stored = fill(&inbox, 0).await;
    assert_eq!(inbox.stats().await.unwrap().waiting, u64::from(stored));
    // A member of a group that does not fit is rejected, whatever its size.
    let small = fill_small(&inbox).await;
    let waiting = inbox.stats().await.unwrap().waiting;
    assert_eq!(waiting, u64::from(stored + small));
    assert_eq!(inbox.purge(Filter::default().limit(20)).await.unwrap(), 20);
    work_off(&inbox).await;
    assert_eq!(inbox.stats().await.unwrap().dead, 0);
    assert!(inbox.handle(delivery_of(9999, 100_000)).await.is_ok(), "there is room again");
}

/// Until not even a small one fits.
async fn fill_small(inbox: &Inbox) -> u32 {
    for number in 0..10_000 {
        if store(inbox, 50_000 + number).await.is_err() {
            return number;
        }
    }
    panic!("the disk is not full");
}

#[tokio::test]
async fn a_store_that_is_locked_rejects_and_recovers() {
    let folder = Folder::new();
    let path = folder.inbox();
    let inbox = Inbox::builder(&path).store_limit(Duration::from_millis(100)).open().await.unwrap();
    store(&inbox, 1).await.unwrap();
    let mut other = connect(&path).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    assert!(matches!(store(&inbox, 2).await, Err(HandlerErrorKind::RetryAfter(_))));
    let health = inbox.health().await;
    assert!(!health.is_ready() && health.store.is_some(), "{health:?}");
    other.close().await.unwrap();
    while store(&inbox, 3).await.is_err() {}
    work_off(&inbox).await;
    assert_eq!(
        inbox.list(Filter::default()).await.unwrap().len(),
        3,
        "the rejected one was stored in the end"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_was_deleted_is_no_place_to_store() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    fs::remove_file(folder.path("inbox.db")).unwrap();
    assert!(matches!(store(&inbox, 2).await, Err(HandlerErrorKind::RetryAfter(_))));
    // Another file in its place is not ours either.
    fs::write(folder.path("inbox.db"), "").unwrap();
    assert!(store(&inbox, 3).await.is_err());
    assert!(inbox.health().await.store.unwrap().contains("moved, deleted or replaced"));
}

/// Deliveries would be acknowledged, and lost with the process.
#[cfg(unix)]
#[tokio::test]
async fn without_its_log_nothing_is_stored_and_nothing_is_lost() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    fs::rename(folder.path("inbox.db-wal"), folder.path("away")).unwrap();
    assert!(matches!(store(&inbox, 2).await, Err(HandlerErrorKind::RetryAfter(_))));
    // As after a kill.
    copy(&folder.path("inbox.db"), &folder.path("copy.db"));
    let copy = Inbox::open(folder.path("copy.db").to_str().unwrap()).await.unwrap();
    assert_eq!(copy.stats().await.unwrap().waiting, 1, "what was acknowledged is there");
    // Another one in its place, as a new reader makes it, is not ours either.
    let mut reader = connect(&folder.inbox()).await;
    sqlx::raw_sql("SELECT * FROM events").execute(&mut reader).await.unwrap();
    assert!(fs::exists(folder.path("inbox.db-wal")).unwrap());
    assert!(store(&inbox, 3).await.is_err());
    // By now that reader has another one than ours.
    fs::rename(folder.path("away"), folder.path("inbox.db-wal")).unwrap();
    assert!(inbox.health().await.store.unwrap().contains("-wal was moved, deleted or replaced"));
}

/// SQLite deletes the log with its last connection, and begins another one with the next.
#[cfg(unix)]
#[tokio::test]
async fn a_log_that_sqlite_begins_anew_is_the_right_one() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    // For the fault the connection is given up.
    fs::rename(folder.path("inbox.db"), folder.path("away.db")).unwrap();
    assert!(store(&inbox, 2).await.is_err());
    fs::rename(folder.path("away.db"), folder.path("inbox.db")).unwrap();
    // Another user is the last one meanwhile.
    execute(&folder.inbox(), "SELECT 1 FROM events").await;
    assert_eq!(inbox.stats().await.unwrap().waiting, 1);
    store(&inbox, 2).await.unwrap();
    store(&inbox, 3).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().waiting, 3);
}

#[tokio::test]
async fn after_a_clean_end_the_file_alone_has_everything() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    // What a reader still needs is left for the next time.
    let mut reader = connect(&folder.inbox()).await;
    sqlx::raw_sql("BEGIN; SELECT * FROM events").execute(&mut reader).await.unwrap();
    work_off(&inbox).await;
    reader.close().await.unwrap();

    store(&inbox, 2).await.unwrap();
    work_off(&inbox).await;
    copy(&folder.path("inbox.db"), &folder.path("copy.db"));
    let copy = Inbox::open(folder.path("copy.db").to_str().unwrap()).await.unwrap();
    let completed = copy.list(Filter::default().state(State::Completed)).await.unwrap();
    assert_eq!(completed.len(), 2);
}

#[tokio::test]
async fn one_process_works_while_another_looks() {
    let folder = Folder::new();
    let path = folder.inbox();
    let first = Inbox::open(&path).await.unwrap();
    let second = Inbox::builder(&path).worker_wait(Duration::from_millis(10)).open().await.unwrap();
    let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let worker = first
        .worker(move |delivery: Delivery| {
            let sent = sender.send(delivery.uuid().to_owned());
            async move {
                sent?;
                Err(smartshape_webhook::HandlerError::permanent("no"))
            }
        })
        .spawn();
    store(&second, 1).await.unwrap();
    assert_eq!(begun.recv().await.as_deref(), Some("uuid-1"));
    let mut locked_out = second.worker(|_: Delivery| async { Ok(()) }).spawn();
    locked_out.ended().await;
    let error = locked_out.finish().await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::Locked, "{error}");
    while second.stats().await.unwrap().dead == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(second.replay(Filter::default()).await.unwrap(), 1);
    assert_eq!(begun.recv().await.as_deref(), Some("uuid-1"));
    while second.purge(Filter::default().state(State::Dead)).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    worker.finish().await.unwrap();
    // The seat is free now.
    work_off(&second).await;
}

#[tokio::test]
async fn a_dead_letter_without_a_body_can_be_purged() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    execute(&folder.inbox(), "DELETE FROM bodies").await;
    work_off(&inbox).await;
    assert_eq!(inbox.stats().await.unwrap().dead, 1);
    assert_eq!(inbox.purge(Filter::default()).await.unwrap(), 0, "no body was deleted");
    assert_eq!(inbox.stats().await.unwrap().dead, 0);
}

/// One process may have opened it by another name, or gone elsewhere.
#[cfg(unix)]
#[tokio::test]
async fn a_link_leads_to_the_file_itself() {
    let folder = Folder::new();
    fs::create_dir(folder.path("real")).unwrap();
    std::os::unix::fs::symlink("real/inbox.db", folder.path("inbox.db")).unwrap();
    let error = rejected(&folder.inbox()).await;
    assert!(
        error.kind() == InboxErrorKind::Settings && error.to_string().contains("a link to nowhere"),
        "{error}"
    );
    drop(Inbox::open(folder.path("real/inbox.db").to_str().unwrap()).await.unwrap());
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    store(&inbox, 2).await.unwrap();
    work_off(&inbox).await;
    for name in ["-wal", "-worker", "-reserve"] {
        assert!(fs::exists(folder.path(&format!("real/inbox.db{name}"))).unwrap(), "{name}");
        assert!(!fs::exists(folder.path(&format!("inbox.db{name}"))).unwrap(), "{name}");
    }
}

/// Whoever owns the folder must not have other files written by whoever opens the inbox.
#[cfg(unix)]
#[tokio::test]
async fn nothing_is_written_through_a_link_beside_it() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    let victim = folder.path("victim");
    fs::write(&victim, "precious").unwrap();
    for name in ["inbox.db-reserve", "inbox.db-reserve.new"] {
        let _ = fs::remove_file(folder.path("inbox.db-reserve"));
        symlink(&victim, folder.path(name)).unwrap();
        drop(Inbox::open(&folder.inbox()).await.unwrap());
        assert!(fs::symlink_metadata(folder.path("inbox.db-reserve")).unwrap().is_file());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name}");
    }
    symlink(&victim, folder.path("inbox.db-worker")).unwrap();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let error = inbox.engine().seat().await.unwrap_err();
    assert!(error.to_string().contains("no plain file"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_worker_whose_lock_file_was_removed_takes_no_more() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let engine = std::sync::Arc::clone(inbox.engine());
    let seat = engine.seat().await.unwrap();
    store(&inbox, 1).await.unwrap();
    let wanted = smartshape_webhook_inbox::Wanted::new(1, Duration::ZERO);
    assert_eq!(engine.claim(wanted).await.unwrap().attempts.len(), 1);
    fs::remove_file(folder.path("inbox.db-worker")).unwrap();
    let error = engine.claim(wanted).await.unwrap_err();
    assert!(error.to_string().contains("another process could work at the same time"), "{error}");
    drop(seat);
    work_off(&inbox).await;
}

/// A reader keeps the log from being emptied, and the log takes space like everything else.
#[tokio::test]
async fn a_log_that_grows_counts() {
    const MIB: usize = 1024 * 1024;
    let folder = Folder::new();
    let inbox = Inbox::builder(&folder.inbox()).max_stored_bytes(4 << 20).open().await.unwrap();
    store(&inbox, 1).await.unwrap();
    let mut reader = connect(&folder.inbox()).await;
    sqlx::raw_sql("BEGIN; SELECT * FROM events").execute(&mut reader).await.unwrap();
    let mut stored = 0;
    let rejection = loop {
        if let Err(error) = inbox.handle(delivery_of(stored, MIB)).await {
            break error;
        }
        stored += 1;
        inbox.purge(Filter::default()).await.unwrap();
        assert!(stored < 100);
    };
    assert!(rejection.to_string().contains("size cap"), "{rejection}");
    assert!(inbox.stats().await.unwrap().stored_bytes > 16 << 20);
    reader.close().await.unwrap();
    execute(&folder.inbox(), "PRAGMA wal_checkpoint(TRUNCATE)").await;
    assert!(inbox.handle(delivery_of(1000, MIB)).await.is_ok());
    assert!(inbox.stats().await.unwrap().stored_bytes < 16 << 20);
}

/// As the README says, while deliveries come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_ends_under_load_and_can_be_restored_and_shrunk() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    for number in 0..20 {
        inbox.handle(delivery_of(number, 100_000)).await.unwrap();
    }
    let (ended, is_over) = tokio::sync::watch::channel(false);
    let load = tokio::spawn({
        let inbox = inbox.clone();
        async move {
            let mut number = 100;
            while !*is_over.borrow() {
                store(&inbox, number).await.unwrap();
                number += 1;
            }
            number - 100
        }
    });
    let backup = folder.path("backup.db");
    let sql = format!("VACUUM INTO '{}'", backup.display());
    let mut connection = connect(&folder.inbox()).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    ended.send(true).unwrap();
    let later = load.await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().waiting, 20 + u64::from(later));

    // DeliveryMeta under the name of the old one, of which nothing may be left.
    drop((inbox, connection));
    for name in ["inbox.db", "inbox.db-wal", "inbox.db-shm"] {
        let _ = fs::remove_file(folder.path(name));
    }
    fs::rename(&backup, folder.path("inbox.db")).unwrap();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let waiting = inbox.stats().await.unwrap().waiting;
    assert!((20..=20 + u64::from(later)).contains(&waiting), "{waiting} of {later}");
    assert_eq!(inbox.purge(Filter::default().limit(20)).await.unwrap(), 20);
    work_off(&inbox).await;
    let before = fs::metadata(folder.path("inbox.db")).unwrap().len();
    drop(inbox);
    execute(&folder.inbox(), "VACUUM").await;
    assert!(fs::metadata(folder.path("inbox.db")).unwrap().len() < before / 4);
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let completed = inbox.list(Filter::default().state(State::Completed)).await.unwrap().len();
    assert_eq!(completed as u64, waiting);
}

/// More of them than go in one portion; deliveries are stored in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_replayed_and_purged_in_portions() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let engine = inbox.engine();
    let records = (0..5000).map(|number| smartshape_webhook_inbox::Record::of(&delivery(number)));
    engine.insert(records.collect()).await.unwrap();
    let dead = |filter: Filter| filter.state(State::Dead);
    execute(&folder.inbox(), "UPDATE events SET state = 3, settled = 0").await;
    assert_eq!(inbox.replay(dead(Filter::default()).limit(2500)).await.unwrap(), 2500);
    assert_eq!(inbox.replay(dead(Filter::default()).limit(u32::MAX)).await.unwrap(), 2500);
    let (purged, stored) = tokio::join!(inbox.purge(Filter::default().limit(u32::MAX)), store(&inbox, 9999));
    assert!(stored.is_ok());
    assert!((5000..=5001).contains(&purged.unwrap()));
}

/// The order is kept across the update, also for what a process of the version before stores afterwards.
#[tokio::test]
async fn files_of_earlier_versions_keep_the_order() {
    const THREE: &str = "INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, received, bytes, stored) \
         SELECT version, randomblob(16), 0, due, file_hash, event, file, uuid, received, bytes, stored \
         FROM events JOIN (VALUES (1), (2), (3)) WHERE state = 0 AND seq = (SELECT min(seq) FROM events WHERE state = 0)";
    let folder = Folder::new();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inbox-0.1.0.db");
    fs::copy(old, folder.path("inbox.db")).unwrap();
    execute(&folder.inbox(), THREE).await;
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    execute(&folder.inbox(), THREE).await;
    let mut wanted = smartshape_webhook_inbox::Wanted::new(9, Duration::from_secs(3600));
    wanted.ordered = true;
    let mut seen = Vec::new();
    loop {
        let attempts = inbox.engine().claim(wanted).await.unwrap().attempts;
        let [attempt] = &attempts[..] else { break };
        seen.push(attempt.lease.seq);
        inbox
            .engine()
            .settle(
                [smartshape_webhook_inbox::Settlement {
                    lease: attempt.lease,
                    verdict: smartshape_webhook_inbox::Verdict::Completed { keep_body: false },
                }]
                .into(),
            )
            .await
            .unwrap();
    }
    assert!(seen.len() == 7 && seen.is_sorted(), "{seen:?}");
}

/// A look at a copy, at an old version, at a running inbox: nothing is created or migrated, nothing can be changed.
#[tokio::test]
async fn reading_writes_nothing() {
    let folder = Folder::new();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inbox-0.1.0.db");
    fs::copy(&old, folder.path("inbox.db")).unwrap();
    let read = async || Inbox::builder(&folder.inbox()).read_only(true).open().await.unwrap();
    let inbox = read().await;
    assert_eq!(inbox.list(Filter::default()).await.unwrap().len(), 3);
    assert_eq!(inbox.stats().await.unwrap().dead, 1);
    assert_eq!(inbox.purge(Filter::default()).await.unwrap_err().kind(), InboxErrorKind::ReadOnly);
    assert!(store(&inbox, 9).await.is_err());
    drop(inbox);
    assert!(fs::read(folder.path("inbox.db")).unwrap() == fs::read(&old).unwrap());
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 1);

    let running = Inbox::open(&folder.inbox()).await.unwrap();
    store(&running, 9).await.unwrap();
    assert_eq!(read().await.list(Filter::default()).await.unwrap().len(), 4);
    store(&running, 10).await.unwrap();
    drop(running);
    let error = Inbox::builder(&format!("{}-none", folder.inbox())).read_only(true).open().await.unwrap_err();
    assert!(error.to_string().contains("there is no inbox"), "{error}");
}
