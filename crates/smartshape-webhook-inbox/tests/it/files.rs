//! Faults of a SQLite file, and the errors that report them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::storage::ClaimRequest;
use crate::{EventFilter, EventState, Inbox, InboxErrorKind};
use smartshape_webhook::{Handler as _, HandlerError};
use sqlx::Connection as _;

use crate::it::fixture::{
    COMPLETED, Fixture as _, Folder, LONG, assert_error, attempt_recording_handler, blocking_handler,
    delivery, file_inbox, long_delivery, open_error, poll_until, succeed,
};

/// Another file of the folder.
async fn open(folder: &Folder, name: &str) -> Inbox {
    Inbox::open(folder.path(name).to_str().unwrap()).await.unwrap()
}

/// A file that an older version has written.
fn old_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A folder with a copy of such a file.
fn copy_of(name: &str) -> Folder {
    let folder = Folder::new();
    fs::copy(old_file(name), folder.path("inbox.db")).unwrap();
    folder
}

/// Copies in another process: closing the file in this one would drop the locks that SQLite holds on it.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

#[cfg(unix)]
#[tokio::test]
async fn file_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, inbox) = file_inbox().await;
    inbox.store([1]).await;
    inbox.drain().await;
    for name in ["inbox.db", "inbox.db-wal", "inbox.db-shm", "inbox.db-worker", "inbox.db-ballast"] {
        let mode = fs::metadata(folder.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn open_rejects_wrong_paths() {
    let folder = Folder::new();
    let inside = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    for (path, advice) in [
        (inside("none/inbox.db").as_str(), "create its folder"),
        (&inside(""), "not a folder"),
        ("", "give it a path"),
        (":memory:", "plain path"),
        ("host=db.example dbname=app user=app", "postgres://"),
        ("user = app password = hunter2", "by keywords"),
        ("file:inbox.db?mode=memory", "plain path"),
        ("sqlite:inbox.db", "plain path"),
        ("mysql://db/app", "postgres://"),
        ("postgres:/app:hunter2@db/app", "a path or a postgres:// URL"),
        ("postgres:app:hunter2@db", "a path or a postgres:// URL"),
        ("postgresql//app:hunter2@db/app", "a path or a postgres:// URL"),
        ("Postgres//app:hunter2@db", "a path or a postgres:// URL"),
        ("postgres:/app:hunter2@db/app?application_name=http://app", "a path or a postgres:// URL"),
    ] {
        let error = open_error(path).await;
        assert_error(&error, InboxErrorKind::InvalidSettings, advice);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn open_rejects_read_only_file() {
    let (folder, inbox) = file_inbox().await;
    drop(inbox);
    let path = folder.path("inbox.db");
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    if fs::OpenOptions::new().write(true).open(&path).is_ok() {
        println!("skipped: this user may write to read-only files");
        return;
    }
    let error = folder.open_error().await;
    assert_eq!(error.kind(), InboxErrorKind::ReadOnly, "{error}");
}

#[tokio::test]
async fn open_leaves_files_of_other_programs_unchanged() {
    let folder = Folder::new();
    let path = folder.url();
    folder.execute("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").await;
    let before = fs::read(&path).unwrap();
    assert_error(&folder.open_error().await, InboxErrorKind::NotAnInbox, "another program");
    assert!(fs::read(&path).unwrap() == before, "somebody else's database was changed");

    fs::write(&path, "This is no database, however long it is made. ".repeat(100)).unwrap();
    assert_error(&folder.open_error().await, InboxErrorKind::NotAnInbox, "");
}

#[tokio::test]
async fn damaged_file_is_an_error_and_never_a_false_ok() {
    let (folder, inbox) = file_inbox().await;
    let path = folder.url();
    inbox.store(0..200).await;
    drop(inbox);
    folder.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let mut bytes = fs::read(&path).unwrap();
    // All pages after the first, so that the header still looks well.
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = match Inbox::builder(&path).connect_timeout(Duration::ZERO).open().await {
        Ok(inbox) => {
            assert!(inbox.handle(delivery(1000)).await.is_err());
            inbox.list(EventFilter::default()).await.unwrap_err()
        }
        Err(error) => error,
    };
    assert_error(&error, InboxErrorKind::Corrupt, ".recover");
}

/// The committed file was written by version 0.1.0: one event waiting, one dead, one completed.
#[tokio::test]
async fn file_of_earlier_version_is_processed() {
    let folder = copy_of("inbox-0.1.0.db");
    let inbox = folder.inbox().await;
    let events = inbox.events().await;
    let states: Vec<EventState> = events.iter().map(|event| event.state).collect();
    assert_eq!(states, [EventState::Completed, EventState::DeadLetter, EventState::Waiting]);
    inbox.store(1..=3).await;
    assert_eq!(inbox.events().await.len(), 3, "all three are known");
    assert_eq!(inbox.replay(EventFilter::default()).await.unwrap(), 1);
    inbox.drain().await;
    assert_eq!(inbox.in_state(EventState::Completed).await.len(), 3);
}

/// A folder on a disk of its own, which is soon full.
struct SmallDisk(Folder);

impl SmallDisk {
    fn new() -> Option<Self> {
        let folder = Folder::new();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(folder.path("")).output();
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

/// Stores deliveries of this length until none fits. Returns how many fit.
async fn fill(inbox: &Inbox, first: u32, bytes: usize) -> u32 {
    for number in 0..10_000 {
        if let Err(error) = inbox.handle(long_delivery(first + number, bytes)).await {
            assert!(error.to_string().contains("disk is full"), "{error}");
            assert_eq!(inbox.stats().await.unwrap().waiting, u64::from(first + number));
            return number;
        }
    }
    panic!("the disk is not full");
}

#[tokio::test]
async fn full_disk_rejects_and_still_completes_and_purges() {
    let Some(disk) = SmallDisk::new() else { return };
    let inbox = disk.0.inbox().await;
    let stored = fill(&inbox, 0, 100_000).await;
    // A member of a group that does not fit is rejected, whatever its size.
    let small = fill(&inbox, stored, 0).await;
    inbox.rejection(stored + small).await;
    assert_eq!(inbox.purge(EventFilter::default().limit(20)).await.unwrap(), 20);
    inbox.drain().await;
    assert_eq!(inbox.stats().await.unwrap().dead_letters, 0);
    assert!(inbox.handle(long_delivery(9999, 100_000)).await.is_ok(), "there is room again");
}

/// The log and its index are deleted with the last connection, so opening the file needs space, too.
#[tokio::test]
async fn full_disk_lets_stopped_inbox_start_and_purge() {
    let Some(disk) = SmallDisk::new() else { return };
    let inbox = disk.0.inbox().await;
    inbox.store(0..30).await;
    drop(inbox);
    poll_until(async || !disk.0.path("inbox.db-shm").exists()).await;
    let mut filler = fs::File::create(disk.0.path("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    let inbox = disk.0.inbox().await;
    assert_eq!(inbox.purge(EventFilter::default().limit(20)).await.unwrap(), 20);
    inbox.drain().await;
}

#[tokio::test]
async fn locked_file_rejects_and_recovers() {
    let folder = Folder::new();
    let inbox = Inbox::builder(&folder.url()).store_timeout(Duration::from_millis(100)).open().await.unwrap();
    inbox.store([1]).await;
    let mut other = folder.connect().await;
    Folder::run(&mut other, "BEGIN IMMEDIATE").await;
    inbox.rejection(2).await;
    let health = inbox.health().await;
    assert!(!health.is_ready() && health.storage_error.is_some(), "{health:?}");
    other.close().await.unwrap();
    while inbox.handle(delivery(3)).await.is_err() {}
    inbox.drain().await;
    assert_eq!(inbox.events().await.len(), 3, "the rejected one was stored in the end");
}

#[cfg(unix)]
#[tokio::test]
async fn deleted_file_rejects() {
    let (folder, inbox) = file_inbox().await;
    inbox.store([1]).await;
    fs::remove_file(folder.path("inbox.db")).unwrap();
    assert!(inbox.rejection(2).await.contains("moved, deleted or replaced"));
    // A new file at this path is not ours either.
    fs::write(folder.path("inbox.db"), "").unwrap();
    assert!(inbox.handle(delivery(3)).await.is_err());
    assert!(inbox.health().await.storage_error.unwrap().contains("moved, deleted or replaced"));
}

/// The log of the file that was moved away must not be applied to the other one.
#[cfg(unix)]
#[tokio::test]
async fn file_replaced_by_another_inbox_damages_neither() {
    let (folder, inbox) = file_inbox().await;
    inbox.store([1]).await;
    let backup = folder.path("backup.db");
    folder.execute(format!("VACUUM INTO '{}'", backup.display())).await;
    inbox.store(2..10).await;
    // The reader is open, too.
    assert_eq!(inbox.stats().await.unwrap().waiting, 9);
    fs::rename(folder.path("inbox.db"), folder.path("away.db")).unwrap();
    fs::rename(&backup, folder.path("inbox.db")).unwrap();
    for _ in 0..3 {
        assert!(inbox.handle(delivery(50)).await.is_err());
        assert!(inbox.health().await.storage_error.unwrap().contains("moved, deleted or replaced"));
    }
    for (name, waiting) in [("inbox.db", 1), ("away.db", 9)] {
        assert_eq!(open(&folder, name).await.stats().await.unwrap().waiting, waiting, "{name}");
        let path = folder.path(name);
        let mut connection = sqlx::SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
        let check: String =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        assert_eq!(check, "ok", "{name}");
    }
}

/// The other process has opened the new file, and shares the log, which belongs to the path.
#[cfg(unix)]
#[tokio::test]
async fn replaced_file_keeps_what_another_process_has_stored() {
    let (folder, inbox) = file_inbox().await;
    inbox.store([1]).await;
    inbox.storage().checkpoint().await.unwrap();
    copy(&folder.path("inbox.db"), &folder.path("backup.db"));
    fs::rename(folder.path("inbox.db"), folder.path("away.db")).unwrap();
    fs::rename(folder.path("backup.db"), folder.path("inbox.db")).unwrap();
    let mut other = folder.connect().await;
    Folder::run(&mut other, "INSERT INTO meta VALUES ('stored', 1)").await;
    assert!(inbox.handle(delivery(2)).await.is_err());
    assert_eq!(folder.number("SELECT count(*) FROM meta WHERE name = 'stored'").await, 1);
}

/// Deliveries would be acknowledged, and lost with the process.
#[cfg(unix)]
#[tokio::test]
async fn deleted_wal_rejects_and_loses_nothing() {
    let (folder, inbox) = file_inbox().await;
    inbox.store([1]).await;
    fs::rename(folder.path("inbox.db-wal"), folder.path("away")).unwrap();
    inbox.rejection(2).await;
    // The copy is what a kill would leave.
    copy(&folder.path("inbox.db"), &folder.path("copy.db"));
    let copy = open(&folder, "copy.db").await;
    assert_eq!(copy.stats().await.unwrap().waiting, 1, "what was acknowledged is there");
    // A new one at its path, as a new reader creates it, is not ours either.
    let mut reader = folder.connect().await;
    Folder::run(&mut reader, "SELECT * FROM events").await;
    assert!(fs::exists(folder.path("inbox.db-wal")).unwrap());
    assert!(inbox.handle(delivery(3)).await.is_err());
    // Even our own log in its old place is of no use any more: the reader has another one open.
    fs::rename(folder.path("away"), folder.path("inbox.db-wal")).unwrap();
    assert!(inbox.health().await.storage_error.unwrap().contains("-wal was moved, deleted or replaced"));
}

/// SQLite deletes the log with its last connection, and begins another one with the next.
#[cfg(unix)]
#[tokio::test]
async fn wal_that_sqlite_recreates_is_accepted() {
    let (folder, inbox) = file_inbox().await;
    inbox.store([1]).await;
    // For the fault the connection is given up.
    fs::rename(folder.path("inbox.db"), folder.path("away.db")).unwrap();
    assert!(inbox.handle(delivery(2)).await.is_err());
    fs::rename(folder.path("away.db"), folder.path("inbox.db")).unwrap();
    // Meanwhile another process is the last one to close the file, and deletes the log.
    folder.execute("SELECT 1 FROM events").await;
    assert_eq!(inbox.stats().await.unwrap().waiting, 1);
    inbox.store(2..4).await;
    assert_eq!(inbox.stats().await.unwrap().waiting, 3);
}

#[tokio::test]
async fn shutdown_checkpoints_wal_into_file() {
    let (folder, inbox) = file_inbox().await;
    inbox.store([1]).await;
    // What a reader still needs is left for the next time.
    let mut reader = folder.connect().await;
    Folder::run(&mut reader, "BEGIN; SELECT * FROM events").await;
    inbox.drain().await;
    reader.close().await.unwrap();

    inbox.store([2]).await;
    inbox.drain().await;
    copy(&folder.path("inbox.db"), &folder.path("copy.db"));
    let copy = open(&folder, "copy.db").await;
    assert_eq!(copy.in_state(EventState::Completed).await.len(), 2);
}

/// The other process would attempt its event beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_lock_is_held_by_handler_that_blocks_its_thread() {
    let (folder, first) = file_inbox().await;
    first.store([1]).await;
    let (handler, mut started, unblock) = blocking_handler();
    let worker = first.worker(handler).shutdown_timeout(Duration::ZERO).spawn();
    started.recv().await.unwrap();
    worker.shutdown().await.unwrap();
    let builder = Inbox::builder(&folder.url());
    let impatient = builder.clone().worker_lock_timeout(Duration::ZERO).open().await.unwrap();
    let (handler, mut handled) = attempt_recording_handler(|_| async { Ok(()) });
    let beside = impatient.worker(handler).run(async { drop(handled.recv().await) }).await;
    assert_eq!(beside.unwrap_err().kind(), InboxErrorKind::Locked);
    drop(unblock);
    let (handler, mut handled) = attempt_recording_handler(|_| async { Ok(()) });
    let worker = builder.open().await.unwrap().worker(handler).spawn();
    assert_eq!(handled.recv().await, Some(("uuid-1".to_owned(), 2)));
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn worker_lock_lets_one_process_work_and_others_read() {
    let (folder, first) = file_inbox().await;
    let second = Inbox::builder(&folder.url()).worker_lock_timeout(Duration::from_millis(10));
    let second = second.open().await.unwrap();
    let (handler, mut started) = attempt_recording_handler(|_| async { Err(HandlerError::permanent("no")) });
    let worker = first.worker(handler).spawn();
    second.store([1]).await;
    assert_eq!(started.recv().await, Some(("uuid-1".to_owned(), 1)));
    let mut locked_out = second.worker(succeed).spawn();
    locked_out.stopped().await;
    let error = locked_out.shutdown().await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::Locked, "{error}");
    second.wait_for_state(EventState::DeadLetter, 1).await;
    assert_eq!(second.replay(EventFilter::default()).await.unwrap(), 1);
    assert_eq!(started.recv().await, Some(("uuid-1".to_owned(), 1)));
    second.wait_for_state(EventState::DeadLetter, 1).await;
    assert_eq!(second.purge(EventFilter::default()).await.unwrap(), 1);
    worker.shutdown().await.unwrap();
    // The guard is free now.
    second.drain().await;
}

#[tokio::test]
async fn dead_letter_without_body_can_be_purged() {
    let (folder, inbox) = file_inbox().await;
    inbox.store([1]).await;
    folder.execute("DELETE FROM bodies").await;
    inbox.drain().await;
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
    assert_error(&folder.open_error().await, InboxErrorKind::InvalidSettings, "a link to nowhere");
    drop(open(&folder, "real/inbox.db").await);
    let inbox = folder.inbox().await;
    inbox.store(1..3).await;
    inbox.drain().await;
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
        drop(folder.inbox().await);
        assert!(fs::symlink_metadata(folder.path("inbox.db-ballast")).unwrap().is_file());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name}");
    }
    symlink(&victim, folder.path("inbox.db-worker")).unwrap();
    let inbox = folder.inbox().await;
    let error = inbox.storage().lock_worker().await.unwrap_err();
    assert!(error.to_string().contains("no plain file"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn worker_without_lock_file_claims_nothing() {
    let (folder, inbox) = file_inbox().await;
    let guard = inbox.storage().lock_worker().await.unwrap();
    inbox.store([1]).await;
    inbox.storage().attempt(Duration::ZERO).await;
    fs::remove_file(folder.path("inbox.db-worker")).unwrap();
    let error = inbox.storage().claim(ClaimRequest::new(1, Duration::ZERO)).await.unwrap_err();
    assert!(error.to_string().contains("another process could work at the same time"), "{error}");
    drop(guard);
    inbox.drain().await;
}

/// A reader keeps the log from being emptied, and the log takes space like everything else.
#[tokio::test]
async fn growing_wal_counts_against_size_limit() {
    const MIB: usize = 1024 * 1024;
    let folder = Folder::new();
    let inbox = Inbox::builder(&folder.url()).max_size_bytes(4 << 20).open().await.unwrap();
    inbox.store([1]).await;
    let mut reader = folder.connect().await;
    Folder::run(&mut reader, "BEGIN; SELECT * FROM events").await;
    let mut stored = 0;
    let rejection = loop {
        if let Err(error) = inbox.handle(long_delivery(stored, MIB)).await {
            break error;
        }
        stored += 1;
        inbox.purge(EventFilter::default()).await.unwrap();
        assert!(stored < 100);
    };
    assert!(rejection.to_string().contains("maximum size"), "{rejection}");
    assert!(inbox.stats().await.unwrap().disk_bytes > 16 << 20);
    reader.close().await.unwrap();
    folder.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    assert!(inbox.handle(long_delivery(1000, MIB)).await.is_ok());
    assert!(inbox.stats().await.unwrap().disk_bytes < 16 << 20);
}

/// The commands of docs/inbox-operations.md, while deliveries come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_ends_under_load_and_can_be_restored_and_shrunk() {
    let (folder, inbox) = file_inbox().await;
    let long = 100_000;
    for number in 0..20 {
        inbox.handle(long_delivery(number, long)).await.unwrap();
    }
    let (ended, is_over) = tokio::sync::watch::channel(false);
    let load = tokio::spawn({
        let inbox = inbox.clone();
        async move {
            let mut number = 100;
            while !*is_over.borrow() {
                inbox.store([number]).await;
                number += 1;
            }
            number - 100
        }
    });
    let backup = folder.path("backup.db");
    folder.execute(format!("VACUUM INTO '{}'", backup.display())).await;
    ended.send(true).unwrap();
    let later = load.await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().waiting, 20 + u64::from(later));

    // Restored under the name of the old one, of which nothing may be left.
    drop(inbox);
    for name in ["inbox.db", "inbox.db-wal", "inbox.db-shm"] {
        let _ = fs::remove_file(folder.path(name));
    }
    fs::rename(&backup, folder.path("inbox.db")).unwrap();
    let inbox = folder.inbox().await;
    let waiting = inbox.stats().await.unwrap().waiting;
    assert!((20..=20 + u64::from(later)).contains(&waiting), "{waiting} of {later}");
    assert_eq!(inbox.purge(EventFilter::default().limit(20)).await.unwrap(), 20);
    inbox.drain().await;
    let before = fs::metadata(folder.path("inbox.db")).unwrap().len();
    drop(inbox);
    folder.execute("VACUUM").await;
    // By the long bodies at least; how many short events came before the backup depends on the machine.
    assert!(fs::metadata(folder.path("inbox.db")).unwrap().len() + 15 * long as u64 <= before);
    let inbox = folder.inbox().await;
    assert_eq!(inbox.in_state(EventState::Completed).await.len() as u64, waiting);
}

/// Without an index for the filter, all events are read.
#[tokio::test]
async fn replay_and_purge_find_events_without_write_lock() {
    let (folder, inbox) = file_inbox().await;
    inbox.store([1]).await;
    let mut writing = folder.connect().await;
    Folder::run(&mut writing, "BEGIN IMMEDIATE").await;
    assert_eq!(inbox.purge(EventFilter::default().secret_name("another's")).await.unwrap(), 0);
    assert_eq!(inbox.replay(EventFilter::default().event("another")).await.unwrap(), 0);
}

/// The order is kept across the update, also for what a process of the version before stores afterwards.
#[tokio::test]
async fn file_of_earlier_version_keeps_order() {
    const THREE: &str = "INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, received, bytes, stored) \
         SELECT version, randomblob(16), 0, due, file_hash, event, file, uuid, received, bytes, stored \
         FROM events JOIN (VALUES (1), (2), (3)) WHERE state = 0 AND seq = (SELECT min(seq) FROM events WHERE state = 0)";
    let folder = copy_of("inbox-0.1.0.db");
    folder.execute(THREE).await;
    let inbox = folder.inbox().await;
    folder.execute(THREE).await;
    let request = ClaimRequest::ordered(9, LONG);
    let mut seen = Vec::new();
    loop {
        let attempts = inbox.storage().claim(request).await.unwrap().attempts;
        let [attempt] = &attempts[..] else { break };
        seen.push(attempt.lease.seq);
        assert!(inbox.storage().end(attempt.lease, COMPLETED).await);
    }
    assert!(seen.len() == 7 && seen.is_sorted(), "{seen:?}");
}

/// A look at a copy, at an old version, at a running inbox: nothing is created or migrated, nothing can be changed.
#[tokio::test]
async fn read_only_writes_nothing() {
    let folder = copy_of("inbox-0.1.0.db");
    let read = async || Inbox::builder(&folder.url()).read_only(true).open().await.unwrap();
    let inbox = read().await;
    assert_eq!(inbox.events().await.len(), 3);
    assert_eq!(inbox.stats().await.unwrap().dead_letters, 1);
    assert_eq!(inbox.purge(EventFilter::default()).await.unwrap_err().kind(), InboxErrorKind::ReadOnly);
    assert!(inbox.handle(delivery(9)).await.is_err());
    drop(inbox);
    assert!(fs::read(folder.path("inbox.db")).unwrap() == fs::read(old_file("inbox-0.1.0.db")).unwrap());
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 1);

    // It was opened, and has read, before a receiver started.
    let early = read().await;
    assert_eq!(early.events().await.len(), 3);
    let running = folder.inbox().await;
    running.store([9]).await;
    for reading in [early, read().await] {
        assert_eq!(reading.events().await.len(), 4);
    }
    running.store([10]).await;
    drop(running);
    let error = Inbox::builder(&format!("{}-none", folder.url())).read_only(true).open().await.unwrap_err();
    assert!(error.to_string().contains("there is no inbox"), "{error}");
}

/// A runtime of actix-web stands still while a handler blocks its thread.
#[test]
fn write_goes_on_when_its_runtime_stands_still() {
    use std::pin::pin;
    use std::task::{Context, Waker};

    let opener = tokio::runtime::Runtime::new().unwrap();
    let folder = Folder::new();
    let inbox = opener.block_on(Inbox::open(&folder.url())).unwrap();
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        let pausing = pin!(inbox.pause("operator"));
        assert!(pausing.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
    opener.block_on(poll_until(async || inbox.paused().await.unwrap().is_some()));
}
