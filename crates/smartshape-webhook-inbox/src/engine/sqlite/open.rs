//! Opening the file: creating it, knowing it, setting its durability, bringing it up to date.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{fault, sql};
use crate::error::{InboxError, InboxErrorKind};

/// "SSIB" in the file's header says that it is an inbox.
const APPLICATION_ID: i64 = 0x5353_4942;
/// Each brings the schema from one version to the next.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../../migrations/sqlite-0001.sql"),
    include_str!("../../../migrations/sqlite-0002.sql"),
];
const SCHEMA: i64 = MIGRATIONS.len() as i64;
pub(super) const REPLACED: &str = "the file was moved, deleted or replaced";
/// After a long reader, or a long body, the log does not keep its length.
const JOURNAL_LIMIT: &str = "PRAGMA journal_size_limit = 16777216";
/// How long another process may write before we give up for the time being.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// Opens a file that [`create`] has found or made. The file's time of its last use comes with it.
pub(super) async fn open(path: &Path) -> Result<(SqliteConnection, i64), InboxError> {
    let mut connection = connect_to(path, Expected::InboxOrNothing).await?;
    migrate(path, &mut connection).await?;
    check_writable(path, &mut connection).await?;
    // The clock is recorded from time to time only; no event may have arrived later than now.
    let (_, clock) = sql::look(&mut connection, false).await.map_err(|error| fault::at(path, error))?;
    Ok((connection, clock))
}

/// Opens a file that [`find`] has found, as it is.
pub(super) async fn open_read_only(path: &Path) -> Result<(SqliteConnection, i64), InboxError> {
    let (log, index) = (beside(path, "-wal"), beside(path, "-shm"));
    let log_is_empty = fs::metadata(log).map_or(true, |log| log.len() == 0);
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        // Nobody has it open: else SQLite would make the index of the log, which holds nothing.
        .immutable(log_is_empty && !index.exists())
        .busy_timeout(BUSY)
        .disable_statement_logging();
    let opened = async {
        let mut connection =
            SqliteConnection::connect_with(&options).await.map_err(|error| fault::at(path, error))?;
        check_identity(path, &mut connection, Expected::InboxToRead).await?;
        Ok((version(path, &mut connection).await?, connection))
    };
    let (_, mut connection) = opened.await.map_err(|error: InboxError| {
        if log_is_empty || index.exists() || error.kind() != InboxErrorKind::Unavailable {
            return error;
        }
        let text = format!("{error}; to read a copy whose -wal is not empty, its folder must be writable");
        InboxError::new(InboxErrorKind::ReadOnly, text)
    })?;
    let (_, clock) = sql::look(&mut connection, false).await.map_err(|error| fault::at(path, error))?;
    Ok((connection, clock))
}

/// What the file may be.
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

/// A connection that is durable: an answer given after its commit survives a loss of power.
async fn connect_to(path: &Path, expected: Expected) -> Result<SqliteConnection, InboxError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .statement_cache_capacity(256)
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(|e| fault::at(path, e))?;
    check_identity(path, &mut connection, expected).await?;
    let mode: String = query(path, &mut connection, "PRAGMA journal_mode = WAL").await?;
    if mode != "wal" {
        let text = format!(
            "{}: the file system does not support SQLite's write-ahead log: keep the inbox on a local disk",
            path.display()
        );
        return Err(InboxError::new(InboxErrorKind::Rejected, text));
    }
    for setting in [
        "PRAGMA synchronous = FULL",
        // What syncing needs on macOS; elsewhere it does nothing.
        "PRAGMA fullfsync = ON",
        "PRAGMA wal_autocheckpoint = 2000",
        JOURNAL_LIMIT,
        // Else what undoes a statement of many rows is written to a file of its own.
        "PRAGMA temp_store = MEMORY",
    ] {
        sqlx::query(setting).execute(&mut connection).await.map_err(|error| fault::at(path, error))?;
    }
    Ok(connection)
}

/// The name of a file that belongs to the inbox.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(ending);
    name.into()
}

/// A file that its owner alone may read, write and lock.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates the file where there is none. Returns its own path, beside which SQLite puts the log, whatever links
/// lead there and wherever the process goes. Opens no file that is there: closing any descriptor of a file drops
/// all locks that this process holds on it, those of SQLite included. Another process that reads the
/// file would then delete the log that this one writes to.
pub(super) fn create(path: &Path) -> Result<PathBuf, InboxError> {
    /// The new file is closed before anybody else in this process gives it to SQLite.
    static CREATING: Mutex<()> = Mutex::new(());
    let _alone = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    match private().create_new(true).open(path) {
        // Until the folder is synced, a loss of power can take the file's name away.
        Ok(file) => file.sync_all().and_then(|()| sync_folder(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            found => found.map(drop),
        },
        Err(error) => Err(error),
    }
    .and_then(|()| fs::canonicalize(path))
    .inspect(|path| warn_of_others(path))
    .map_err(|error| {
        let shown = path.display();
        let (kind, advice) = match error.kind() {
            io::ErrorKind::NotFound if fs::symlink_metadata(path).is_ok() => {
                (InboxErrorKind::Settings, "it is a link to nowhere: name the file itself")
            }
            io::ErrorKind::NotFound => (InboxErrorKind::Settings, "create its folder first"),
            io::ErrorKind::IsADirectory => (InboxErrorKind::Settings, "name a file, not a folder"),
            io::ErrorKind::StorageFull => (InboxErrorKind::Full, "free some space"),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                (InboxErrorKind::ReadOnly, "let this user write to the file and its folder")
            }
            _ => (InboxErrorKind::Unavailable, "check the path"),
        };
        InboxError::new(kind, format!("cannot open the inbox {shown}: {error}; {advice}")).caused_by(error)
    })
}

/// The file's own path, where there is one.
pub(super) fn find(path: &Path) -> Result<PathBuf, InboxError> {
    fs::canonicalize(path).map_err(|error| {
        let text = format!("there is no inbox at {}: {error}", path.display());
        InboxError::new(InboxErrorKind::Settings, text).caused_by(error)
    })
}

/// Whoever can read the file can read what customers have stored in it.
fn warn_of_others(path: &Path) {
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
        // The owner of a process's own entry is the user that it runs as.
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

/// SQLite opens a file that it may not write to for reading, without a word.
async fn check_writable(path: &Path, connection: &mut SqliteConnection) -> Result<(), InboxError> {
    let writes = "BEGIN IMMEDIATE; UPDATE meta SET value = value WHERE name = 'clock'; ROLLBACK";
    sqlx::raw_sql(writes).execute(connection).await.map(drop).map_err(|error| fault::at(path, error))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if cfg!(unix) { File::open(folder.unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
}

/// What identifies the file behind the path, where the system has such a thing.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| identity_of(&file))
}

pub(super) fn identity_of(file: &fs::Metadata) -> (u64, u64) {
    #[cfg(unix)]
    return (std::os::unix::fs::MetadataExt::dev(file), std::os::unix::fs::MetadataExt::ino(file));
    #[cfg(not(unix))]
    return (0, u64::from(file.is_file()));
}

/// Looks before anything is changed: the file may be somebody else's.
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
    Err(InboxError::new(InboxErrorKind::Foreign, text))
}

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), InboxError> {
    if version(path, connection).await? >= SCHEMA {
        return Ok(());
    }
    // Of processes that start at once, one migrates. The others look anew: a newer one may have been first.
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(|error| fault::at(path, error))?;
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
    migrated.await.map(drop).map_err(|error| fault::at(path, error))
}

/// The schema's version, if it is one that this program can use.
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
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(|error| fault::at(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Killing a process proves nothing about syncing, so the settings are looked at.
    #[tokio::test]
    async fn every_connection_syncs_the_log_at_each_commit() {
        let folder = std::env::temp_dir().join(format!("smartshape-open-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = create(&folder.join("inbox.db")).unwrap();
        let (first, _) = open(&path).await.unwrap();
        for mut connection in [first, connect(&path).await.unwrap()] {
            let mut ask = async |sql| query::<i64>(&path, &mut connection, sql).await.unwrap();
            assert_eq!(ask("PRAGMA synchronous").await, 2, "FULL");
            assert_eq!(ask("PRAGMA fullfsync").await, 1);
            let mode: String = query(&path, &mut connection, "PRAGMA journal_mode").await.unwrap();
            assert_eq!(mode, "wal");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
