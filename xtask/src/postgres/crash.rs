//! What crash tests do to a server, and need to know of it.

use std::fs;
use std::process::Command;

use super::server::{Postgres, StartError, poll_until, run};

impl Postgres {
    /// Kills the server and all of its processes (SIGKILL), as a crash would.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            // The process id may be another's by now.
            return Ok(());
        }
        let children = children_of(self.child.id());
        self.child.kill().map_err(|error| format!("cannot kill PostgreSQL: {error}"))?;
        self.child.wait().map_err(|error| format!("cannot wait for PostgreSQL: {error}"))?;
        self.guard.watch(0).map_err(|error| format!("the guard has ended: {error}"))?;
        // Left alone, each would end as soon as it waits for something. It fails for those that have.
        let ids = children.iter().map(u32::to_string);
        let _ = Command::new("sh").args(["-c", "kill -KILL \"$@\" 2>&-", "sh"]).args(ids).status();
        poll_until(|| children.iter().all(|child| !is_running(*child)).then_some(()))
            .ok_or("its processes go on".into())
    }

    /// Starts a killed server again, with its data and its port.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.kill()?;
        let mut reason = None;
        let child = poll_until(|| match run(&self.installation, &self.folder, self.port, &mut self.guard) {
            Ok(child) => Some(Ok(child)),
            Err(StartError::PortInUse(busy)) => {
                reason = Some(busy);
                None
            }
            Err(StartError::Other(reason)) => Some(Err(reason)),
        });
        self.child = child.unwrap_or_else(|| Err(reason.unwrap_or_default()))?;
        Ok(())
    }

    /// The server and the processes that it started.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut processes = children_of(self.child.id());
        processes.push(self.child.id());
        processes
    }
}

/// The processes that a process started; none where there is no `/proc`.
fn children_of(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    processes.filter(|process| stat(*process).is_some_and(|(_, its_parent)| its_parent == parent)).collect()
}

/// Whether the process runs. A zombie does not: it only waits for its parent to take notice.
fn is_running(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z" && state != "X")
}

/// State and parent of a process.
fn stat(process: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::Postgres;
    use crate::postgres::{Environment, account, find};

    /// A server of this machine, or of packages that were unpacked earlier: nothing is downloaded here.
    fn start() -> Option<Postgres> {
        let account = account::for_postgres().ok()?;
        let environment = Environment::current();
        let folders = find::candidate_folders(&environment).into_iter();
        let installations = folders.map(|folder| find::check(&folder, account));
        let unpacked = std::iter::once_with(|| find::unpacked(&environment.unpacked, account));
        installations.chain(unpacked).flatten().find_map(|found| Postgres::start(found, account).ok())
    }

    /// Whether PostgreSQL accepts connections on the port: it responds `N` to a request for TLS, which it does not
    /// speak.
    fn accepts_connections(port: u16) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        let mut response = [0];
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).is_ok()
            && stream.read_exact(&mut response).is_ok()
            && response == *b"N"
    }

    #[test]
    fn server_accepts_connections_until_killed_again_after_restart_and_leaves_nothing_behind() {
        let Some(mut server) = start() else {
            let required = std::env::var("SMARTSHAPE_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "no PostgreSQL that works, but SMARTSHAPE_REQUIRE_ALL is set");
            println!("skipped: no PostgreSQL that works");
            return;
        };
        let (port, folder, url) = (server.port, server.folder.clone(), server.url().to_owned());
        let password = url.split([':', '@']).nth(2).unwrap();
        assert!(accepts_connections(port));
        assert!(!server.description().contains(password));
        assert!(!folder.join("password").exists());

        server.kill().unwrap();
        assert!(!accepts_connections(port));
        server.restart().unwrap();
        assert!(accepts_connections(port));
        assert_eq!(server.url(), url);
        let log = std::fs::read_to_string(folder.join("log")).unwrap();
        assert!(log.contains("was not properly shut down"), "{log}");

        drop(server);
        assert!(!accepts_connections(port));
        assert!(!folder.exists());
    }
}
