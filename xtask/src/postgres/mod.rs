//! A PostgreSQL server for tests: the one that `DATABASE_URL` names, else a fresh one of our own.
//!
//! Our own ends, and its folder goes, when [`Postgres`] is dropped, and also when xtask is interrupted
//! or killed: a shell in a process group of its own waits for that. What remains: whoever kills that
//! shell too leaves a server and a temporary folder behind.

#[cfg(unix)]
mod account;
#[cfg(unix)]
mod crash;
#[cfg(unix)]
mod find;
#[cfg(unix)]
mod guard;
#[cfg(unix)]
mod installation;
#[cfg(unix)]
mod server;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cargo;

#[cfg(unix)]
pub(crate) use server::Postgres;

/// A server to test with.
pub(crate) enum Provided {
    /// The environment's.
    External(String),
    /// Ours.
    #[cfg(unix)]
    Started(Box<Postgres>),
}

/// Where to look for a server.
struct Environment {
    database_url: Option<String>,
    path: OsString,
    /// Debian's folder of versions.
    versions: PathBuf,
    /// Where Debian's packages are unpacked.
    unpacked: PathBuf,
}

/// Provides a server, or says in one line why there is none.
pub(crate) fn provide() -> Result<Provided, String> {
    provide_in(&Environment::current())
}

impl Provided {
    /// Holds a password.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::External(url) => url,
            #[cfg(unix)]
            Self::Started(server) => server.url(),
        }
    }

    /// What tests read of it: its URL, and of ours the command that runs PostgreSQL's programs.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![("DATABASE_URL", self.url().to_owned())];
        #[cfg(unix)]
        if let Self::Started(server) = self {
            environment.push(("AS_POSTGRES", server.command().to_string_lossy().into_owned()));
        }
        environment
    }

    /// Whether the server is not ours, to do with as we like.
    pub(crate) fn is_external(&self) -> bool {
        matches!(self, Self::External(_))
    }

    /// Does what `torture` asks for, and returns what the response says.
    pub(crate) fn fulfil(&mut self, request: &str) -> Result<String, String> {
        match (self, request) {
            #[cfg(unix)]
            (Self::Started(server), "restart-database") => server.restart().map(|()| String::new()),
            #[cfg(unix)]
            (Self::Started(server), "database-processes") => {
                Ok(server.processes().iter().map(|process| format!("{process} ")).collect())
            }
            _ => Err(format!("cannot {request}")),
        }
    }
}

impl Environment {
    fn current() -> Self {
        Self {
            database_url: std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()),
            path: std::env::var_os("PATH").unwrap_or_default(),
            versions: "/usr/lib/postgresql".into(),
            unpacked: cargo::target().join("postgres-debian"),
        }
    }
}

fn provide_in(environment: &Environment) -> Result<Provided, String> {
    match &environment.database_url {
        Some(url) => Ok(Provided::External(url.clone())),
        None => provision(environment),
    }
}

#[cfg(unix)]
fn provision(environment: &Environment) -> Result<Provided, String> {
    let account = account::for_postgres()?;
    let start = |installation| {
        let server = Postgres::start(installation, account)?;
        // Standard output belongs to the command that wants the server.
        eprintln!("{}", server.description());
        Ok(Provided::Started(Box::new(server)))
    };
    let mut reasons = Vec::new();
    for folder in find::candidate_folders(environment) {
        match find::check(&folder, account).and_then(start) {
            Ok(server) => return Ok(server),
            Err(reason) => reasons.push(format!("{}: {reason}", folder.display())),
        }
    }
    if reasons.is_empty() {
        reasons.push(format!("there is none on the PATH or in {}", environment.versions.display()));
    }
    find::debian(environment, account).and_then(start).map_err(|reason| {
        reasons.push(reason);
        reasons.join("; ")
    })
}

#[cfg(not(unix))]
fn provision(_: &Environment) -> Result<Provided, String> {
    Err("DATABASE_URL is not set, and xtask starts servers on Unix only".into())
}

#[cfg(test)]
mod tests {
    use super::{Environment, Provided, provide_in};

    fn nowhere() -> Environment {
        Environment {
            database_url: None,
            path: "/nonexistent/bin".into(),
            versions: "/nonexistent/postgresql".into(),
            unpacked: "/nonexistent/target".into(),
        }
    }

    #[test]
    fn database_url_comes_first() {
        let environment = Environment { database_url: Some("postgres://there".into()), ..nowhere() };
        let provided = provide_in(&environment).ok().unwrap();
        assert!(matches!(&provided, Provided::External(_)));
        assert_eq!(provided.url(), "postgres://there");
    }

    #[cfg(unix)]
    #[test]
    fn missing_postgres_is_reported_in_one_line() {
        let reason = provide_in(&nowhere()).err().unwrap();
        assert_eq!(
            reason,
            "there is none on the PATH or in /nonexistent/postgresql; \
             Debian's packages are out of reach: no apt-get on the PATH"
        );
    }

    #[cfg(unix)]
    #[test]
    fn broken_installation_is_reported_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        std::fs::write(path.join("pg_ctl"), "a copy without its siblings").unwrap();
        let reason = provide_in(&Environment { path: path.clone().into(), ..nowhere() }).err().unwrap();
        let expected = format!("{}: no initdb beside the rest; ", path.display());
        assert!(reason.starts_with(&expected), "{reason}");
    }
}
