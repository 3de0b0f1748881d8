//! Faults of a SQLite file, and the errors that report them.
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::event::NewEvent;
use crate::storage::ClaimRequest;
use crate::{
    Count, DeadLetterReason, EventFilter, EventState, Inbox, InboxError, InboxErrorKind, PageCursor, ReasonId,
};
use smartshape_webhook::{Delivery, Handler as _, HandlerError, HandlerErrorKind};
use sqlx::{Connection as _, SqliteConnection};

use crate::it::fixture::{COMPLETED, Folder, all_settled, attempt_recording_handler, delivery, settle};

async fn connect(path: &str) -> SqliteConnection {
    SqliteConnection::connect(path).await.unwrap()
}

async fn execute(path: &str, sql: &'static str) {
    let mut connection = connect(path).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn rejected(path: &str) -> InboxError {
    Inbox::builder(path).connect_timeout(Duration::ZERO).open().await.unwrap_err()
}

async fn store(inbox: &Inbox, number: u32) -> Result<(), HandlerErrorKind> {
    inbox.handle(delivery(number)).await.map_err(|error| error.kind())
}

/// Copies in another process: closing the file in this one would drop the locks that SQLite holds on it.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

/// Runs a worker that handles everything until the inbox is empty.
async fn drain(inbox: &Inbox) {
    let worker = inbox.worker(|_: Delivery| async { Ok(()) }).spawn();
    all_settled(inbox).await;
    worker.shutdown().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn file_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    drain(&inbox).await;
    for name in ["inbox.db", "inbox.db-wal", "inbox.db-shm", "inbox.db-worker", "inbox.db-ballast"] {
        let mode = fs::metadata(folder.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn open_rejects_wrong_paths() {
    let folder = Folder::new();
    let inside = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    for (path, kind, advice) in [
        (inside("none/inbox.db"), InboxErrorKind::InvalidSettings, "create its folder"),
        (inside(""), InboxErrorKind::InvalidSettings, "not a folder"),
        (String::new(), InboxErrorKind::InvalidSettings, "give it a path"),
        (":memory:".to_owned(), InboxErrorKind::InvalidSettings, "plain path"),
        ("host=db.example dbname=app user=app".to_owned(), InboxErrorKind::InvalidSettings, "postgres://"),
        ("user = app password = hunter2".to_owned(), InboxErrorKind::InvalidSettings, "by keywords"),
        ("file:inbox.db?mode=memory".to_owned(), InboxErrorKind::InvalidSettings, "plain path"),
        ("sqlite:inbox.db".to_owned(), InboxErrorKind::InvalidSettings, "plain path"),
        ("mysql://db/app".to_owned(), InboxErrorKind::InvalidSettings, "postgres://"),
    ] {
        let error = rejected(&path).await;
        assert_eq!(error.kind(), kind, "{path}: {error}");
        assert!(error.to_string().contains(advice), "{path}: {error}");
    }
}

#[tokio::test]
async fn open_rejects_read_only_file() {
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
async fn open_leaves_files_of_other_programs_unchanged() {
    let folder = Folder::new();
    let path = folder.inbox();
    execute(&format!("sqlite://{path}?mode=rwc"), "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
        .await;
    let before = fs::read(&path).unwrap();
    let error = rejected(&path).await;
    assert_eq!(error.kind(), InboxErrorKind::NotAnInbox, "{error}");
    assert!(error.to_string().contains("another program"), "{error}");
    assert!(fs::read(&path).unwrap() == before, "somebody else's database was changed");

    fs::write(&path, "This is no database, however long it is made. ".repeat(100)).unwrap();
    let error = rejected(&path).await;
    assert_eq!(error.kind(), InboxErrorKind::NotAnInbox, "{error}");
}

#[tokio::test]
async fn damaged_file_is_an_error_and_never_a_false_ok() {
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
    let error = match Inbox::builder(&path).connect_timeout(Duration::ZERO).open().await {
        Ok(inbox) => {
            assert!(store(&inbox, 1000).await.is_err());
            inbox.list(EventFilter::default()).await.unwrap_err()
        }
        Err(error) => error,
    };
    assert_eq!(error.kind(), InboxErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(".recover"), "{error}");
}

#[tokio::test]
async fn newer_schema_is_used_if_compatible() {
    let folder = Folder::new();
    let path = folder.inbox();
    store(&Inbox::open(&path).await.unwrap(), 1).await.unwrap();
    execute(&path, "ALTER TABLE events ADD COLUMN later TEXT; PRAGMA user_version = 9").await;
    let inbox = Inbox::open(&path).await.unwrap();
    store(&inbox, 2).await.unwrap();
    drain(&inbox).await;
    drop(inbox);
    execute(&path, "UPDATE meta SET value = 9 WHERE name = 'reads_from'").await;
    let error = rejected(&path).await;
    assert_eq!(error.kind(), InboxErrorKind::NewerSchema, "{error}");
}

/// The committed file was written by version 0.1.0: one event waiting, one dead, one completed.
#[tokio::test]
async fn file_of_earlier_version_is_processed() {
    let folder = Folder::new();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inbox-0.1.0.db");
    fs::copy(old, folder.path("inbox.db")).unwrap();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let events = inbox.list(EventFilter::default()).await.unwrap();
    let states: Vec<EventState> = events.iter().map(|event| event.state).collect();
    assert_eq!(states, [EventState::Completed, EventState::DeadLetter, EventState::Waiting]);
    for number in 1..=3 {
        store(&inbox, number).await.unwrap();
    }
    assert_eq!(inbox.list(EventFilter::default()).await.unwrap().len(), 3, "all three are known");
    assert_eq!(inbox.replay(EventFilter::default()).await.unwrap(), 1);
    drain(&inbox).await;
    assert_eq!(inbox.list(EventFilter::default().state(EventState::Completed)).await.unwrap().len(), 3);
}

#[tokio::test]
async fn size_limit_rejects_until_events_are_completed() {
    let folder = Folder::new();
    let inbox = Inbox::builder(&folder.inbox()).max_size_bytes(2 * 1024 * 1024).open().await.unwrap();
    let mut stored = 0;
    let rejection = loop {
        match inbox.handle(delivery_with_body(stored, 100_000)).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100);
    };
    assert!(matches!(rejection.kind(), HandlerErrorKind::RetryAfter(_)), "{rejection}");
    assert!(rejection.to_string().contains("maximum size"), "{rejection}");
    assert_eq!(inbox.stats().await.unwrap().waiting, u64::from(stored));
    drain(&inbox).await;
    assert!(inbox.handle(delivery_with_body(1000, 100_000)).await.is_ok());
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

fn delivery_with_body(number: u32, bytes: usize) -> Delivery {
    let filler = "z".repeat(bytes);
    Delivery::for_test(format!(
        r#"{{"file":"f","event":"file_uploaded","data":"{filler}","owner":"o","runTimestamp":1,"uuid":"big-{number}"}}"#
    ))
    .unwrap()
}

async fn fill(inbox: &Inbox, from: u32) -> u32 {
    let mut number = from;
    loop {
        match inbox.handle(delivery_with_body(number, 100_000)).await {
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
async fn full_disk_rejects_and_still_completes_and_purges() {
    let Some(disk) = SmallDisk::new(24) else { return };
    let inbox = Inbox::open(&disk.0.inbox()).await.unwrap();
    let stored = fill(&inbox, 0).await;
    assert_eq!(inbox.stats().await.unwrap().waiting, u64::from(stored));
    // A member of a group that does not fit is rejected, whatever its size.
    let small = fill_with_small(&inbox).await;
    let waiting = inbox.stats().await.unwrap().waiting;
    assert_eq!(waiting, u64::from(stored + small));
    assert_eq!(inbox.purge(EventFilter::default().limit(20)).await.unwrap(), 20);
    drain(&inbox).await;
    assert_eq!(inbox.stats().await.unwrap().dead_letters, 0);
    assert!(inbox.handle(delivery_with_body(9999, 100_000)).await.is_ok(), "there is room again");
}

/// Stores small events until none fits. Returns how many fit.
async fn fill_with_small(inbox: &Inbox) -> u32 {
    for number in 0..10_000 {
        if store(inbox, 50_000 + number).await.is_err() {
            return number;
        }
    }
    panic!("the disk is not full");
}

#[tokio::test]
async fn locked_file_rejects_and_recovers() {
    let folder = Folder::new();
    let path = folder.inbox();
    let inbox = Inbox::builder(&path).store_timeout(Duration::from_millis(100)).open().await.unwrap();
    store(&inbox, 1).await.unwrap();
    let mut other = connect(&path).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    assert!(matches!(store(&inbox, 2).await, Err(HandlerErrorKind::RetryAfter(_))));
    let health = inbox.health().await;
    assert!(!health.is_ready() && health.storage_error.is_some(), "{health:?}");
    other.close().await.unwrap();
    while store(&inbox, 3).await.is_err() {}
    drain(&inbox).await;
    assert_eq!(
        inbox.list(EventFilter::default()).await.unwrap().len(),
        3,
        "the rejected one was stored in the end"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn deleted_file_rejects() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    fs::remove_file(folder.path("inbox.db")).unwrap();
    assert!(matches!(store(&inbox, 2).await, Err(HandlerErrorKind::RetryAfter(_))));
    // A new file at this path is not ours either.
    fs::write(folder.path("inbox.db"), "").unwrap();
    assert!(store(&inbox, 3).await.is_err());
    assert!(inbox.health().await.storage_error.unwrap().contains("moved, deleted or replaced"));
}

/// The log of the file that was moved away must not be applied to the other one.
#[cfg(unix)]
#[tokio::test]
async fn file_replaced_by_another_inbox_damages_neither() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    let backup = folder.path("backup.db");
    sqlx::query("VACUUM INTO ?")
        .bind(backup.to_str().unwrap())
        .execute(&mut connect(&folder.inbox()).await)
        .await
        .unwrap();
    for number in 2..10 {
        store(&inbox, number).await.unwrap();
    }
    // The reader is open, too.
    assert_eq!(inbox.stats().await.unwrap().waiting, 9);
    fs::rename(folder.path("inbox.db"), folder.path("away.db")).unwrap();
    fs::rename(&backup, folder.path("inbox.db")).unwrap();
    for _ in 0..3 {
        assert!(store(&inbox, 50).await.is_err());
        assert!(inbox.health().await.storage_error.unwrap().contains("moved, deleted or replaced"));
    }
    for (name, waiting) in [("inbox.db", 1), ("away.db", 9)] {
        let file = Inbox::open(folder.path(name).to_str().unwrap()).await.unwrap();
        assert_eq!(file.stats().await.unwrap().waiting, waiting, "{name}");
        let mut connection = connect(folder.path(name).to_str().unwrap()).await;
        let check: String =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        assert_eq!(check, "ok", "{name}");
    }
}

/// The other process has opened the new file, and shares the log, which belongs to the path.
#[cfg(unix)]
#[tokio::test]
async fn replaced_file_keeps_what_another_process_has_stored() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    inbox.storage().checkpoint().await.unwrap();
    copy(&folder.path("inbox.db"), &folder.path("backup.db"));
    fs::rename(folder.path("inbox.db"), folder.path("away.db")).unwrap();
    fs::rename(folder.path("backup.db"), folder.path("inbox.db")).unwrap();
    let mut other = connect(&folder.inbox()).await;
    sqlx::raw_sql("INSERT INTO meta VALUES ('stored', 1)").execute(&mut other).await.unwrap();
    assert!(store(&inbox, 2).await.is_err());
    let stored = "SELECT count(*) FROM meta WHERE name = 'stored'";
    let stored: i64 =
        sqlx::query_scalar(stored).fetch_one(&mut connect(&folder.inbox()).await).await.unwrap();
    assert_eq!(stored, 1);
}

/// Deliveries would be acknowledged, and lost with the process.
#[cfg(unix)]
#[tokio::test]
async fn deleted_wal_rejects_and_loses_nothing() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    fs::rename(folder.path("inbox.db-wal"), folder.path("away")).unwrap();
    assert!(matches!(store(&inbox, 2).await, Err(HandlerErrorKind::RetryAfter(_))));
    // The copy is what a kill would leave.
    copy(&folder.path("inbox.db"), &folder.path("copy.db"));
    let copy = Inbox::open(folder.path("copy.db").to_str().unwrap()).await.unwrap();
    assert_eq!(copy.stats().await.unwrap().waiting, 1, "what was acknowledged is there");
    // A new one at its path, as a new reader creates it, is not ours either.
    let mut reader = connect(&folder.inbox()).await;
    sqlx::raw_sql("SELECT * FROM events").execute(&mut reader).await.unwrap();
    assert!(fs::exists(folder.path("inbox.db-wal")).unwrap());
    assert!(store(&inbox, 3).await.is_err());
    // Even our own log in its old place is of no use any more: the reader has another one open.
    fs::rename(folder.path("away"), folder.path("inbox.db-wal")).unwrap();
    assert!(inbox.health().await.storage_error.unwrap().contains("-wal was moved, deleted or replaced"));
}

/// SQLite deletes the log with its last connection, and begins another one with the next.
#[cfg(unix)]
#[tokio::test]
async fn wal_that_sqlite_recreates_is_accepted() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    // For the fault the connection is given up.
    fs::rename(folder.path("inbox.db"), folder.path("away.db")).unwrap();
    assert!(store(&inbox, 2).await.is_err());
    fs::rename(folder.path("away.db"), folder.path("inbox.db")).unwrap();
    // Meanwhile another process is the last one to close the file, and deletes the log.
    execute(&folder.inbox(), "SELECT 1 FROM events").await;
    assert_eq!(inbox.stats().await.unwrap().waiting, 1);
    store(&inbox, 2).await.unwrap();
    store(&inbox, 3).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().waiting, 3);
}

#[tokio::test]
async fn shutdown_checkpoints_wal_into_file() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    // What a reader still needs is left for the next time.
    let mut reader = connect(&folder.inbox()).await;
    sqlx::raw_sql("BEGIN; SELECT * FROM events").execute(&mut reader).await.unwrap();
    drain(&inbox).await;
    reader.close().await.unwrap();

    store(&inbox, 2).await.unwrap();
    drain(&inbox).await;
    copy(&folder.path("inbox.db"), &folder.path("copy.db"));
    let copy = Inbox::open(folder.path("copy.db").to_str().unwrap()).await.unwrap();
    let completed = copy.list(EventFilter::default().state(EventState::Completed)).await.unwrap();
    assert_eq!(completed.len(), 2);
}

#[tokio::test]
async fn worker_lock_lets_one_process_work_and_others_read() {
    let folder = Folder::new();
    let path = folder.inbox();
    let first = Inbox::open(&path).await.unwrap();
    let second = Inbox::builder(&path).worker_lock_timeout(Duration::from_millis(10)).open().await.unwrap();
    let (handler, mut started) = attempt_recording_handler(|_| async { Err(HandlerError::permanent("no")) });
    let worker = first.worker(handler).spawn();
    store(&second, 1).await.unwrap();
    assert_eq!(started.recv().await, Some(("uuid-1".to_owned(), 1)));
    let mut locked_out = second.worker(|_: Delivery| async { Ok(()) }).spawn();
    locked_out.stopped().await;
    let error = locked_out.shutdown().await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::Locked, "{error}");
    while second.stats().await.unwrap().dead_letters == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(second.replay(EventFilter::default()).await.unwrap(), 1);
    assert_eq!(started.recv().await, Some(("uuid-1".to_owned(), 1)));
    while second.purge(EventFilter::default().state(EventState::DeadLetter)).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    worker.shutdown().await.unwrap();
    // The guard is free now.
    drain(&second).await;
}

#[tokio::test]
async fn dead_letter_without_body_can_be_purged() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    execute(&folder.inbox(), "DELETE FROM bodies").await;
    drain(&inbox).await;
    assert_eq!(inbox.stats().await.unwrap().dead_letters, 1);
    assert_eq!(inbox.purge(EventFilter::default()).await.unwrap(), 0, "no body was deleted");
    assert_eq!(inbox.stats().await.unwrap().dead_letters, 0);
}

/// One process may have opened it by another name, or gone elsewhere.
#[cfg(unix)]
#[tokio::test]
async fn link_is_resolved_to_file() {
    let folder = Folder::new();
    fs::create_dir(folder.path("real")).unwrap();
    std::os::unix::fs::symlink("real/inbox.db", folder.path("inbox.db")).unwrap();
    let error = rejected(&folder.inbox()).await;
    assert!(
        error.kind() == InboxErrorKind::InvalidSettings && error.to_string().contains("a link to nowhere"),
        "{error}"
    );
    drop(Inbox::open(folder.path("real/inbox.db").to_str().unwrap()).await.unwrap());
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    store(&inbox, 2).await.unwrap();
    drain(&inbox).await;
    for name in ["-wal", "-worker", "-ballast"] {
        assert!(fs::exists(folder.path(&format!("real/inbox.db{name}"))).unwrap(), "{name}");
        assert!(!fs::exists(folder.path(&format!("inbox.db{name}"))).unwrap(), "{name}");
    }
}

/// The owner of the folder must not be able to make another user's process write to other files.
#[cfg(unix)]
#[tokio::test]
async fn links_beside_file_are_never_written_through() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    let victim = folder.path("victim");
    fs::write(&victim, "precious").unwrap();
    for name in ["inbox.db-ballast", "inbox.db-ballast.new"] {
        let _ = fs::remove_file(folder.path("inbox.db-ballast"));
        symlink(&victim, folder.path(name)).unwrap();
        drop(Inbox::open(&folder.inbox()).await.unwrap());
        assert!(fs::symlink_metadata(folder.path("inbox.db-ballast")).unwrap().is_file());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name}");
    }
    symlink(&victim, folder.path("inbox.db-worker")).unwrap();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let error = inbox.storage().lock_worker().await.unwrap_err();
    assert!(error.to_string().contains("no plain file"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn worker_without_lock_file_claims_nothing() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let storage = std::sync::Arc::clone(inbox.storage());
    let guard = storage.lock_worker().await.unwrap();
    store(&inbox, 1).await.unwrap();
    let request = ClaimRequest::new(1, Duration::ZERO);
    assert_eq!(storage.claim(request).await.unwrap().attempts.len(), 1);
    fs::remove_file(folder.path("inbox.db-worker")).unwrap();
    let error = storage.claim(request).await.unwrap_err();
    assert!(error.to_string().contains("another process could work at the same time"), "{error}");
    drop(guard);
    drain(&inbox).await;
}

/// A reader keeps the log from being emptied, and the log takes space like everything else.
#[tokio::test]
async fn growing_wal_counts_against_size_limit() {
    const MIB: usize = 1024 * 1024;
    let folder = Folder::new();
    let inbox = Inbox::builder(&folder.inbox()).max_size_bytes(4 << 20).open().await.unwrap();
    store(&inbox, 1).await.unwrap();
    let mut reader = connect(&folder.inbox()).await;
    sqlx::raw_sql("BEGIN; SELECT * FROM events").execute(&mut reader).await.unwrap();
    let mut stored = 0;
    let rejection = loop {
        if let Err(error) = inbox.handle(delivery_with_body(stored, MIB)).await {
            break error;
        }
        stored += 1;
        inbox.purge(EventFilter::default()).await.unwrap();
        assert!(stored < 100);
    };
    assert!(rejection.to_string().contains("maximum size"), "{rejection}");
    assert!(inbox.stats().await.unwrap().disk_bytes > 16 << 20);
    reader.close().await.unwrap();
    execute(&folder.inbox(), "PRAGMA wal_checkpoint(TRUNCATE)").await;
    assert!(inbox.handle(delivery_with_body(1000, MIB)).await.is_ok());
    assert!(inbox.stats().await.unwrap().disk_bytes < 16 << 20);
}

/// The commands of docs/inbox-operations.md, while deliveries come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_ends_under_load_and_can_be_restored_and_shrunk() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    for number in 0..20 {
        inbox.handle(delivery_with_body(number, 100_000)).await.unwrap();
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

    // Restored under the name of the old one, of which nothing may be left.
    drop((inbox, connection));
    for name in ["inbox.db", "inbox.db-wal", "inbox.db-shm"] {
        let _ = fs::remove_file(folder.path(name));
    }
    fs::rename(&backup, folder.path("inbox.db")).unwrap();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let waiting = inbox.stats().await.unwrap().waiting;
    assert!((20..=20 + u64::from(later)).contains(&waiting), "{waiting} of {later}");
    assert_eq!(inbox.purge(EventFilter::default().limit(20)).await.unwrap(), 20);
    drain(&inbox).await;
    let before = fs::metadata(folder.path("inbox.db")).unwrap().len();
    drop(inbox);
    execute(&folder.inbox(), "VACUUM").await;
    assert!(fs::metadata(folder.path("inbox.db")).unwrap().len() < before / 4);
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let completed = inbox.list(EventFilter::default().state(EventState::Completed)).await.unwrap().len();
    assert_eq!(completed as u64, waiting);
}

/// More of them than go in one portion; deliveries are stored in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_and_purge_work_in_chunks() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let storage = inbox.storage();
    let events = (0..5000).map(|number| NewEvent::from(&delivery(number)));
    storage.insert(events.collect()).await.unwrap();
    let dead = |filter: EventFilter| filter.state(EventState::DeadLetter);
    execute(&folder.inbox(), "UPDATE events SET state = 3, settled = 0").await;
    assert_eq!(inbox.replay(dead(EventFilter::default()).limit(2500)).await.unwrap(), 2500);
    assert_eq!(inbox.replay(dead(EventFilter::default()).limit(u32::MAX)).await.unwrap(), 2500);
    let (purged, stored) =
        tokio::join!(inbox.purge(EventFilter::default().limit(u32::MAX)), store(&inbox, 9999));
    assert!(stored.is_ok());
    assert!((5000..=5001).contains(&purged.unwrap()));
}

/// Without an index for the filter, all events are read.
#[tokio::test]
async fn replay_and_purge_find_events_without_write_lock() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    store(&inbox, 1).await.unwrap();
    let mut writing = SqliteConnection::connect(&folder.inbox()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writing).await.unwrap();
    assert_eq!(inbox.purge(EventFilter::default().secret_name("another's")).await.unwrap(), 0);
    assert_eq!(inbox.replay(EventFilter::default().event("another")).await.unwrap(), 0);
}

/// A newer program migrates while this one starts, too.
#[tokio::test]
async fn newer_schema_is_kept_by_concurrent_migration() {
    let folder = Folder::new();
    fs::write(folder.inbox(), "").unwrap();
    // Without a change, the file would not keep the mode, and this program would wait before it reads the version.
    execute(&folder.inbox(), "PRAGMA journal_mode = WAL; CREATE TABLE t (c); DROP TABLE t").await;
    let mut newer = SqliteConnection::connect(&folder.inbox()).await.unwrap();
    for step in [
        "BEGIN IMMEDIATE",
        include_str!("../../migrations/sqlite-0001.sql"),
        include_str!("../../migrations/sqlite-0002.sql"),
        include_str!("../../migrations/sqlite-0003.sql"),
        include_str!("../../migrations/sqlite-0004.sql"),
        "PRAGMA application_id = 0x53534942; PRAGMA user_version = 9",
    ] {
        sqlx::raw_sql(step).execute(&mut newer).await.unwrap();
    }
    let path = folder.inbox();
    let mut opening = tokio::spawn(async move { Inbox::open(&path).await });
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut opening).await.is_err(), "it waits");
    sqlx::raw_sql("COMMIT").execute(&mut newer).await.unwrap();
    store(&opening.await.unwrap().unwrap(), 1).await.unwrap();
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut newer).await.unwrap();
    assert_eq!(version, 9);
}

/// The order is kept across the update, also for what a process of the version before stores afterwards.
#[tokio::test]
async fn file_of_earlier_version_keeps_order() {
    const THREE: &str = "INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, received, bytes, stored) \
         SELECT version, randomblob(16), 0, due, file_hash, event, file, uuid, received, bytes, stored \
         FROM events JOIN (VALUES (1), (2), (3)) WHERE state = 0 AND seq = (SELECT min(seq) FROM events WHERE state = 0)";
    let folder = Folder::new();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inbox-0.1.0.db");
    fs::copy(old, folder.path("inbox.db")).unwrap();
    execute(&folder.inbox(), THREE).await;
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    execute(&folder.inbox(), THREE).await;
    let request = ClaimRequest::ordered(9, Duration::from_secs(3600));
    let mut seen = Vec::new();
    loop {
        let attempts = inbox.storage().claim(request).await.unwrap().attempts;
        let [attempt] = &attempts[..] else { break };
        seen.push(attempt.lease.seq);
        assert!(settle(&**inbox.storage(), attempt.lease, COMPLETED).await);
    }
    assert!(seen.len() == 7 && seen.is_sorted(), "{seen:?}");
}

/// A look at a copy, at an old version, at a running inbox: nothing is created or migrated, nothing can be changed.
#[tokio::test]
async fn read_only_writes_nothing() {
    let folder = Folder::new();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inbox-0.1.0.db");
    fs::copy(&old, folder.path("inbox.db")).unwrap();
    let read = async || Inbox::builder(&folder.inbox()).read_only(true).open().await.unwrap();
    let inbox = read().await;
    assert_eq!(inbox.list(EventFilter::default()).await.unwrap().len(), 3);
    assert_eq!(inbox.stats().await.unwrap().dead_letters, 1);
    assert_eq!(inbox.purge(EventFilter::default()).await.unwrap_err().kind(), InboxErrorKind::ReadOnly);
    assert!(store(&inbox, 9).await.is_err());
    drop(inbox);
    assert!(fs::read(folder.path("inbox.db")).unwrap() == fs::read(&old).unwrap());
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 1);

    // It was opened, and has read, before a receiver started.
    let early = read().await;
    assert_eq!(early.list(EventFilter::default()).await.unwrap().len(), 3);
    let running = Inbox::open(&folder.inbox()).await.unwrap();
    store(&running, 9).await.unwrap();
    for reading in [early, read().await] {
        assert_eq!(reading.list(EventFilter::default()).await.unwrap().len(), 4);
    }
    store(&running, 10).await.unwrap();
    drop(running);
    let error = Inbox::builder(&format!("{}-none", folder.inbox())).read_only(true).open().await.unwrap_err();
    assert!(error.to_string().contains("there is no inbox"), "{error}");
}

/// The committed file has the second form of the schema, and was written by the version that had it: one completed
/// event, two dead letters, three waiting events of which one was attempted.
#[tokio::test]
async fn file_of_second_schema_is_migrated() {
    let folder = Folder::new();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inbox-schema-2.db");
    fs::copy(old, folder.path("inbox.db")).unwrap();
    let reading = Inbox::builder(&folder.inbox()).read_only(true).open().await.unwrap();
    assert_eq!(reading.counts().await.unwrap().dead_letters, Count::Exactly(2));
    assert_eq!(reading.page(EventFilter::default(), PageCursor::Newest).await.unwrap().events.len(), 6);
    let error = reading.dead_letter_reasons(9).await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::OlderSchema, "{error}");
    drop(reading);

    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let counts = inbox.counts().await.unwrap();
    assert_eq!(
        (counts.waiting, counts.dead_letters, counts.stored),
        (Count::Exactly(3), Count::Exactly(2), 6)
    );
    // A process of the version before stores and dead-letters beside us.
    execute(
        &folder.inbox(),
        "INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, received, bytes, stored) \
         SELECT version, randomblob(16), 0, due, file_hash, event, file, uuid, received, bytes, stored FROM events WHERE seq = 6; \
         UPDATE events SET state = 3, settled = 1, error = 'no part 5b337c601e24e904da827738 in the catalogue' WHERE seq = 7",
    )
    .await;
    let worker = inbox.worker(|_: Delivery| async { Ok(()) }).spawn();
    let expected = ReasonId::from_error("no part 5b337c601e24e904da827738 in the catalogue");
    let is_grouped = |reason: &DeadLetterReason| (reason.id, reason.dead_letters) == (expected, 3);
    while !inbox.dead_letter_reasons(9).await.unwrap().first().is_some_and(is_grouped)
        || inbox.counts().await.unwrap().waiting != Count::Exactly(0)
    {
        tokio::task::yield_now().await;
    }
    worker.shutdown().await.unwrap();
    let reasons = inbox.dead_letter_reasons(9).await.unwrap();
    assert_eq!((reasons.len(), &*reasons[0].text), (1, "no part … in the catalogue"));
}

/// A runtime of actix-web stands still while a handler blocks its thread.
#[test]
fn write_goes_on_when_its_runtime_stands_still() {
    use std::pin::pin;
    use std::task::{Context, Waker};

    let opener = tokio::runtime::Runtime::new().unwrap();
    let folder = Folder::new();
    let inbox = opener.block_on(Inbox::open(&folder.inbox())).unwrap();
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        let pausing = pin!(inbox.pause("operator"));
        assert!(pausing.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
    opener.block_on(async {
        let paused = async {
            while inbox.paused().await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), paused).await.unwrap();
    });
}
