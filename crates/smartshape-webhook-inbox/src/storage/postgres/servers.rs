//! Finds the server that can be written to among the hosts of the URL, now and after each failover.
//!
//! Each promotion of a standby begins a timeline with a higher number. Of several servers that can be written to, the
//! one with the highest number has taken over from the others, and no server with a lower number than the highest one
//! seen is written to any more. A client cannot know of a promotion while it reaches only the former primary.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::error;
use crate::error::{InboxError, InboxErrorKind};
use crate::lock::locked;

/// Maximum time to find the server. Shorter than `CONNECT_TIMEOUT`, so that the error says what each server responded.
const FIND_TIMEOUT: Duration = Duration::from_secs(4);
/// Once a server has been found, the others have this long to respond: one of them may have taken over from it.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(500);

/// The servers of one database.
#[derive(Clone)]
pub(super) struct Servers {
    hosts: Arc<[PgConnectOptions]>,
    read_only: bool,
    allow_untested: bool,
    /// The last primary that was found.
    primary: Arc<Mutex<Primary>>,
}

/// A server that can be written to. With one host, timelines are not compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Primary {
    /// 0 for a standby, which only a read-only inbox uses.
    timeline: u32,
    host: usize,
}

impl Servers {
    pub(super) fn new(hosts: Vec<PgConnectOptions>, read_only: bool, allow_untested: bool) -> Self {
        Self { hosts: hosts.into(), read_only, allow_untested, primary: Arc::default() }
    }

    pub(super) fn are_several(&self) -> bool {
        self.hosts.len() > 1
    }

    pub(super) fn primary(&self) -> Primary {
        *locked(&self.primary)
    }

    /// Whether another server has taken over from this one.
    pub(super) fn is_former(&self, server: Primary) -> bool {
        !self.read_only && server.timeline < self.primary().timeline
    }

    pub(super) fn options(&self, server: Primary) -> PgConnectOptions {
        self.hosts[server.host].clone()
    }

    /// Connects to the server that can be written to. A read-only inbox gets a standby when there is none.
    pub(super) async fn connect(&self) -> Result<(PgConnection, Primary), InboxError> {
        if let [host] = &*self.hosts {
            let mut connection = host.connect().await.map_err(error::from_sqlx)?;
            self.check_version(&mut connection).await?;
            return Ok((connection, Primary::default()));
        }
        let mut probes = JoinSet::new();
        for host in 0..self.hosts.len() {
            let servers = self.clone();
            probes.spawn(async move { (host, servers.probe(host).await) });
        }
        let mut reasons =
            vec![(InboxErrorKind::Unavailable, "it did not respond in time".to_owned()); self.hosts.len()];
        let mut found: Option<(PgConnection, Primary)> = None;
        let mut deadline = Instant::now() + FIND_TIMEOUT;
        while let Ok(Some(Ok((host, probed)))) = timeout_at(deadline, probes.join_next()).await {
            let server = match probed {
                Ok((connection, timeline)) => (connection, Primary { timeline, host }),
                Err(error) => {
                    reasons[host] = (error.kind(), error.to_string());
                    continue;
                }
            };
            if server.1.timeline == 0 && !self.read_only {
                "it is a standby, or read-only".clone_into(&mut reasons[host].1);
            } else if self.is_former(server.1) {
                "another server has taken over from it".clone_into(&mut reasons[host].1);
            } else {
                deadline = deadline.min(Instant::now() + OTHERS_TIMEOUT);
                // Two addresses of one server tie; keep the current choice.
                let rank = |server: Primary| (server.timeline, server.host == self.primary().host);
                if found.as_ref().is_none_or(|other| rank(other.1) < rank(server.1)) {
                    found = Some(server);
                }
            }
        }
        let found = found.ok_or_else(|| no_primary_error(&reasons))?;
        let mut primary = locked(&self.primary);
        if found.1.timeline < primary.timeline && !self.read_only {
            let text = "inbox on PostgreSQL: another server has just taken over";
            return Err(InboxError::new(InboxErrorKind::Unavailable, text));
        }
        *primary = found.1;
        Ok(found)
    }

    /// A connection, and the timeline of a server that can be written to; 0 for others.
    async fn probe(&self, host: usize) -> Result<(PgConnection, u32), InboxError> {
        let mut connection = self.hosts[host].connect().await.map_err(error::from_sqlx)?;
        if !self.check_version(&mut connection).await? {
            // All servers of a distributed database can be written to.
            return Ok((connection, 1));
        }
        // A standby's transactions are read-only too. The name of a segment of the log begins with the timeline.
        let timeline: Option<String> = sqlx::query_scalar(
            "SELECT CASE pg_catalog.current_setting('transaction_read_only') WHEN 'off' THEN \
               pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) END",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(error::from_sqlx)?;
        let timeline = timeline.and_then(|timeline| u32::from_str_radix(&timeline, 16).ok());
        Ok((connection, timeline.unwrap_or(0)))
    }

    /// Whether the server is PostgreSQL. Fails for others, unless they are allowed or only read.
    async fn check_version(&self, connection: &mut PgConnection) -> Result<bool, InboxError> {
        let version: String = sqlx::query_scalar("SELECT pg_catalog.version()")
            .fetch_one(connection)
            .await
            .map_err(error::from_sqlx)?;
        match untested(&version) {
            Some(name) if !self.allow_untested && !self.read_only => {
                let text = format!(
                    "the server is {name}, on which the inbox was never tested, so none of its promises is known to hold \
                     there: use PostgreSQL, or allow it with danger_allow_untested_server"
                );
                Err(InboxError::new(InboxErrorKind::InvalidSettings, text))
            }
            name => Ok(name.is_none()),
        }
    }
}

/// The name of a server that speaks PostgreSQL's protocol and is another database.
fn untested(version: &str) -> Option<&'static str> {
    let names = [("CockroachDB", "CockroachDB"), ("-YB-", "YugabyteDB")];
    names.into_iter().find_map(|(part, name)| version.contains(part).then_some(name))
}

/// Numbers the servers in the order of the URL, and repeats no part of it.
fn no_primary_error(reasons: &[(InboxErrorKind, String)]) -> InboxError {
    let first = reasons.first().map_or(InboxErrorKind::Unavailable, |(kind, _)| *kind);
    let alike = reasons.iter().all(|(kind, _)| *kind == first);
    let texts: Vec<_> =
        (1..).zip(reasons).map(|(number, (_, text))| format!("server {number}: {text}")).collect();
    let text = format!("inbox on PostgreSQL: no server of the URL can be written to ({})", texts.join("; "));
    InboxError::new(if alike { first } else { InboxErrorKind::Unavailable }, text)
}

#[cfg(test)]
mod tests {
    use super::untested;

    #[test]
    fn databases_other_than_postgresql_are_known_by_their_version() {
        for (version, name) in [
            ("PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc", None),
            ("CockroachDB CCL v24.1.0 (x86_64-pc-linux-gnu, built 2024/05/15)", Some("CockroachDB")),
            ("PostgreSQL 11.2-YB-2.20.1.3-b0 on x86_64-pc-linux-gnu, compiled by clang", Some("YugabyteDB")),
        ] {
            assert_eq!(untested(version), name, "{version}");
        }
    }
}
