//! Opens the file: creates it, checks its identity, sets its durability and migrates its schema.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::clock::file_time;
use super::error;
use crate::error::{InboxError, InboxErrorKind};
use crate::lock::locked;

/// "SSIB" in the file's header says that it is an inbox.
const APPLICATION_ID: i64 = 0x5353_4942;
/// Each brings the schema from one version to the next.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../../migrations/sqlite-0001.sql"),
    include_str!("../../../migrations/sqlite-0002.sql"),
    include_str!("../../../migrations/sqlite-0003.sql"),
    include_str!("../../../migrations/sqlite-0004.sql"),
    include_str!("../../../migrations/sqlite-0005.sql"),
];
pub(super) const SCHEMA: i64 = MIGRATIONS.len() as i64;
pub(super) const REPLACED: &str = "the file was moved, deleted or replaced";
/// Truncates the log that a long reader, or a long body, has made long.
const JOURNAL_LIMIT: &str = "PRAGMA journal_size_limit = 16777216";
/// Maximum time to wait for the write transaction of another process.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a file that [`create`] has found or created. Returns the time by the file's clock too.
pub(super) async fn open(path: &Path) -> Result<(SqliteConnection, i64), InboxError> {
    let mut connection = connect_to(path, Expected::InboxOrNothing).await?;
    migrate(path, &mut connection).await?;
    check_writable(path, &mut connection).await?;
    let now = file_time(&mut connection).await.map_err(|error| error::from_sqlx(path, error))?;
    Ok((connection, now))
}

/// Opens a file that [`find`] has found, without changing it. Returns the time by its clock and its schema too.
pub(super) async fn open_read_only(path: &Path) -> Result<(SqliteConnection, i64, i64), InboxError> {
    let (log, index) = (sibling(path, "-wal"), sibling(path, "-shm"));
    let log_is_empty = fs::metadata(log).map_or(true, |log| log.len() == 0);
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        // No process has it open. Otherwise SQLite would create the index of the empty log.
        .immutable(log_is_empty && !index.exists())
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let opened = async {
        let mut connection =
            SqliteConnection::connect_with(&options).await.map_err(|error| error::from_sqlx(path, error))?;
        check_identity(path, &mut connection, Expected::InboxToRead).await?;
        Ok((version(path, &mut connection).await?, connection))
    };
    let (schema, mut connection) = opened.await.map_err(|error: InboxError| {
        if log_is_empty || index.exists() || error.kind() != InboxErrorKind::Unavailable {
            return error;
        }
        let text = format!("{error}; to read a copy whose -wal is not empty, its folder must be writable");
        InboxError::new(InboxErrorKind::ReadOnly, text)
    })?;
    let now = file_time(&mut connection).await.map_err(|error| error::from_sqlx(path, error))?;
    Ok((connection, now, schema))
}

/// What kind of file is accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Inbox,
    InboxToRead,
    InboxOrNothing,
}

/// Another connection to a file that [`open`] has opened.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection, InboxError> {
    connect_to(path, Expected::Inbox).await
}

/// Opens a durable connection: what it has committed survives a loss of power.
async fn connect_to(path: &Path, expected: Expected) -> Result<SqliteConnection, InboxError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(256)
        .disable_statement_logging();
    let mut connection =
        SqliteConnection::connect_with(&options).await.map_err(|e| error::from_sqlx(path, e))?;
    check_identity(path, &mut connection, expected).await?;
    let mode: String = query(path, &mut connection, "PRAGMA journal_mode = WAL").await?;
    if mode != "wal" {
        let text = format!(
            "{}: the file system does not support SQLite's write-ahead log: keep the inbox on a local disk",
            path.display()
        );
        return Err(InboxError::new(InboxErrorKind::InvalidSettings, text));
    }
    for setting in [
        "PRAGMA synchronous = FULL",
        // Required for a durable sync on macOS; no effect elsewhere.
        "PRAGMA fullfsync = ON",
        "PRAGMA wal_autocheckpoint = 2000",
        JOURNAL_LIMIT,
        // Keeps the statement journal of a statement with many rows out of a file.
        "PRAGMA temp_store = MEMORY",
    ] {
        sqlx::query(setting).execute(&mut connection).await.map_err(|error| error::from_sqlx(path, error))?;
    }
    Ok(connection)
}

/// The path of a file that belongs to the inbox.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(suffix);
    name.into()
}

/// Options for a file that only its owner may read, write and lock.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates the file if it does not exist. Returns its canonical path, in whose folder SQLite puts the log, so that
/// neither links nor a change of the working directory matter. An existing file is not opened: closing any descriptor
/// of a file drops all locks that this process holds on it, including SQLite's. Another process that reads the
/// file would then delete the log that this one writes to.
pub(super) fn create(path: &Path) -> Result<PathBuf, InboxError> {
    /// The new file is closed before another task of this process opens it with SQLite.
    static CREATING: Mutex<()> = Mutex::new(());
    let _alone = locked(&CREATING);
    match private().create_new(true).open(path) {
        // Until the folder is synced, a loss of power can remove the file's name.
        Ok(file) => file.sync_all().and_then(|()| sync_folder(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            found => found.map(drop),
        },
        Err(error) => Err(error),
    }
    .and_then(|()| fs::canonicalize(path))
    .inspect(|path| warn_of_access_by_others(path))
    .map_err(|error| {
        let shown = path.display();
        let (kind, advice) = match error.kind() {
            io::ErrorKind::NotFound if fs::symlink_metadata(path).is_ok() => {
                (InboxErrorKind::InvalidSettings, "it is a link to nowhere: name the file itself")
            }
            io::ErrorKind::NotFound => (InboxErrorKind::InvalidSettings, "create its folder first"),
            io::ErrorKind::IsADirectory => (InboxErrorKind::InvalidSettings, "name a file, not a folder"),
            io::ErrorKind::StorageFull => (InboxErrorKind::Full, "free some space"),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                (InboxErrorKind::ReadOnly, "let this user write to the file and its folder")
            }
            _ => (InboxErrorKind::Unavailable, "check the path"),
        };
        InboxError::new(kind, format!("cannot open the inbox {shown}: {error}; {advice}")).caused_by(error)
    })
}

/// The file's canonical path, if it exists.
pub(super) fn find(path: &Path) -> Result<PathBuf, InboxError> {
    fs::canonicalize(path).map_err(|error| {
        let text = format!("there is no inbox at {}: {error}", path.display());
        InboxError::new(InboxErrorKind::InvalidSettings, text).caused_by(error)
    })
}

/// Other users who can open the file can read the stored events.
fn warn_of_access_by_others(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(file) = fs::metadata(path) else { return };
        if file.mode() & 0o077 != 0 {
            tracing::warn!(
                inbox = %path.display(),
                mode = %format_args!("{:o}", file.mode() & 0o7777),
                "other users can open the inbox's file: chmod 600 it"
            );
        }
        // /proc/self belongs to the user that this process runs as.
        if fs::metadata("/proc/self").is_ok_and(|this| this.uid() != file.uid()) {
            tracing::warn!(
                inbox = %path.display(),
                owner = file.uid(),
                "the inbox's file belongs to another user, who can read and change all that is in it"
            );
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// SQLite silently opens a file read-only when it may not write to it.
async fn check_writable(path: &Path, connection: &mut SqliteConnection) -> Result<(), InboxError> {
    let writes = "BEGIN IMMEDIATE; UPDATE meta SET value = value WHERE name = 'clock'; ROLLBACK";
    sqlx::raw_sql(writes).execute(connection).await.map(drop).map_err(|error| error::from_sqlx(path, error))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if cfg!(unix) { File::open(folder.unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
}

/// The file's device and inode, where the system has them.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| file_identity(&file))
}

pub(super) fn file_identity(file: &fs::Metadata) -> (u64, u64) {
    #[cfg(unix)]
    return (std::os::unix::fs::MetadataExt::dev(file), std::os::unix::fs::MetadataExt::ino(file));
    #[cfg(not(unix))]
    return (0, u64::from(file.is_file()));
}

/// Rejects a database of another program before anything is changed.
async fn check_identity(
    path: &Path,
    connection: &mut SqliteConnection,
    expected: Expected,
) -> Result<(), InboxError> {
    let id: i64 = query(path, connection, "PRAGMA application_id").await?;
    let tables: i64 = query(path, connection, "SELECT count(*) FROM sqlite_master").await?;
    let shown = path.display();
    match (id, tables, expected) {
        (APPLICATION_ID, ..) | (0, 0, Expected::InboxOrNothing) => return Ok(()),
        (0, 0, Expected::Inbox) => {
            let text = format!("inbox {shown}: {REPLACED}");
            return Err(InboxError::new(InboxErrorKind::Unavailable, text));
        }
        _ => {}
    }
    let text = format!("{shown} is a SQLite database of another program, not an inbox: name another file");
    Err(InboxError::new(InboxErrorKind::NotAnInbox, text))
}

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), InboxError> {
    if version(path, connection).await? >= SCHEMA {
        return Ok(());
    }
    // If several processes start at once, one migrates. The others read the version again: a newer program may have
    // been first.
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut *connection)
        .await
        .map_err(|error| error::from_sqlx(path, error))?;
    let version = version(path, connection).await?;
    let migrated = async {
        if version < SCHEMA {
            for step in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
                sqlx::raw_sql(*step).execute(&mut *connection).await?;
            }
            let stamp = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(stamp)).execute(&mut *connection).await?;
        }
        sqlx::query("COMMIT").execute(&mut *connection).await
    };
    migrated.await.map(drop).map_err(|error| error::from_sqlx(path, error))
}

/// The schema's version. Fails when this program cannot use it.
async fn version(path: &Path, connection: &mut SqliteConnection) -> Result<i64, InboxError> {
    let version: i64 = query(path, connection, "PRAGMA user_version").await?;
    if version > SCHEMA {
        let needed: i64 = query(path, connection, "SELECT value FROM meta WHERE name = 'reads_from'").await?;
        super::super::check_schema(&path.display(), needed, SCHEMA)?;
    }
    Ok(version)
}

async fn query<T>(path: &Path, connection: &mut SqliteConnection, sql: &'static str) -> Result<T, InboxError>
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(|error| error::from_sqlx(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Killing a process proves nothing about syncing, so the test reads the settings.
    #[tokio::test]
    async fn connection_syncs_the_log_at_each_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = create(&folder.path().join("inbox.db")).unwrap();
        let (first, _) = open(&path).await.unwrap();
        for mut connection in [first, connect(&path).await.unwrap()] {
            let mut ask = async |sql| query::<i64>(&path, &mut connection, sql).await.unwrap();
            assert_eq!(ask("PRAGMA synchronous").await, 2, "FULL");
            assert_eq!(ask("PRAGMA fullfsync").await, 1);
            let mode: String = query(&path, &mut connection, "PRAGMA journal_mode").await.unwrap();
            assert_eq!(mode, "wal");
        }
    }
}
