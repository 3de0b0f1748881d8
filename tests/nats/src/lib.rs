//! NATS servers as processes: one, or a cluster.
#![allow(clippy::missing_errors_doc, clippy::must_use_candidate, reason = "a part of tests, not an API")]

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher as _;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A server starts, and a cluster elects its leaders, in less.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A server that is killed when the shell's standard input closes, also because this process has ended in whatever way.
const SCRIPT: &str = r#"trap '' HUP INT TERM; "$@" & read -r line; kill -KILL $!; wait $!"#;

/// Killed when dropped, and their folder removed.
#[derive(Debug)]
pub struct Servers {
    program: PathBuf,
    folder: PathBuf,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    client_port: u16,
    monitor_port: u16,
    process: Option<Child>,
}

impl Servers {
    /// Starts `count` servers, a cluster if they are several, and waits until all of them are healthy. `settings` are
    /// further lines of each configuration file; `{store}` in them is the server's own folder.
    pub fn start(program: &Path, count: usize, settings: &str) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("test-nats-{:016x}", random()));
        fs::create_dir_all(&folder)?;
        let ports: Vec<[u16; 3]> = (0..count).map(|_| [(); 3].map(|()| free_port())).collect();
        let routes: Vec<_> = ports.iter().map(|[_, _, route]| format!("nats://127.0.0.1:{route}")).collect();
        let mut nodes = Vec::new();
        for (index, [client_port, monitor_port, route_port]) in ports.into_iter().enumerate() {
            let store = folder.join(index.to_string());
            let mut config = format!(
                "server_name: n{index}\nlisten: 127.0.0.1:{client_port}\nhttp: 127.0.0.1:{monitor_port}\n\
                 jetstream {{ store_dir: {store:?}, max_mem: 64MB, max_file: 8GB, sync_interval: always }}\n{}\n",
                settings.replace("{store}", &store.to_string_lossy())
            );
            if count > 1 {
                let routes = routes.join(", ");
                config += &format!(
                    "cluster {{ name: test, listen: 127.0.0.1:{route_port}, routes: [{routes}] }}\n"
                );
            }
            fs::write(folder.join(format!("{index}.conf")), config)?;
            nodes.push(Node { client_port, monitor_port, process: None });
        }
        let mut servers = Self { program: program.to_owned(), folder, nodes };
        servers.restart()?;
        Ok(servers)
    }

    /// The URLs of all servers, separated by commas.
    pub fn urls(&self) -> String {
        let urls: Vec<_> =
            self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.client_port)).collect();
        urls.join(",")
    }

    /// Ends a server at once (SIGKILL).
    pub fn kill(&mut self, index: usize) -> io::Result<()> {
        let Some(mut process) = self.nodes[index].process.take() else { return Ok(()) };
        drop(process.stdin.take());
        process.wait().map(|_| ())
    }

    /// Ends all servers at once.
    pub fn kill_all(&mut self) -> io::Result<()> {
        for node in &mut self.nodes {
            drop(node.process.as_mut().and_then(|process| process.stdin.take()));
        }
        (0..self.nodes.len()).try_for_each(|index| self.kill(index))
    }

    /// Starts the servers that do not run, and waits until all are healthy.
    pub fn restart(&mut self) -> io::Result<()> {
        for (index, node) in self.nodes.iter_mut().enumerate().filter(|(_, node)| node.process.is_none()) {
            let file = |extension: &str| self.folder.join(format!("{index}.{extension}"));
            let process = Command::new("sh")
                .args(["-c", SCRIPT, "sh"])
                .arg(&self.program)
                .arg("-c")
                .arg(file("conf"))
                .arg("-l")
                .arg(file("log"))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            node.process = Some(process);
        }
        let is_healthy =
            |node: &Node| get(node.monitor_port, "/healthz").is_some_and(|body| body["status"] == "ok");
        if poll_until(|| self.nodes.iter().all(is_healthy).then_some(())).is_some() {
            return Ok(());
        }
        let logs = (0..self.nodes.len())
            .filter_map(|index| fs::read_to_string(self.folder.join(format!("{index}.log"))).ok());
        Err(io::Error::other(format!("a NATS server does not become healthy: {}", logs.collect::<String>())))
    }

    /// Waits until a stream has a leader, and returns its index.
    pub fn leader(&self, stream: &str) -> io::Result<usize> {
        let running = || self.nodes.iter().enumerate().filter(|(_, node)| node.process.is_some());
        let leads = |index: usize, node: &Node| {
            let accounts =
                get(node.monitor_port, "/jsz?accounts=true&streams=true")?["account_details"].take();
            let streams =
                accounts.as_array()?.iter().flat_map(|account| account["stream_detail"].as_array()).flatten();
            let mut ours = streams.filter(|detail| detail["name"] == stream);
            // Each server knows the leader; the leader knows best.
            (ours.next()?["cluster"]["leader"] == format!("n{index}")).then_some(index)
        };
        poll_until(|| running().find_map(|(index, node)| leads(index, node)))
            .ok_or_else(|| io::Error::other(format!("the stream {stream} has no leader")))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The processes end with this one at the latest.
        let _ = self.kill_all();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn poll_until<T>(mut reached: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let found = reached();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a server says of itself.
fn get(port: u16, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    serde_json::from_str(response.split_once("\r\n\r\n")?.1).ok()
}

/// Below the ports that the system gives to outgoing connections, which could take that of a killed server. Counted, so
/// that two servers of this process never get the same one before they listen.
fn free_port() -> u16 {
    static FIRST: LazyLock<u64> = LazyLock::new(random);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let next = FIRST.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(next % 12_000).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}
