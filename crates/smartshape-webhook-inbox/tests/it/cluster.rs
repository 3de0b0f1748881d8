//! A primary and a standby that it replicates to synchronously, on this machine.
use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use smartshape_webhook::Secret;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Longer than any step takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Reads the password, which is checked in clear text: a hash takes seconds in a client that is not optimized. A copy
/// of data that no server has changed yet is as good as a base backup.
const CREATE: &str = r#"
set -e
umask 077
mkdir "$1"
cd "$1"
cat > password
initdb --username=postgres --auth=password --pwfile=password --encoding=UTF8 --locale=C --no-sync --pgdata=0 > log
cp -a 0 1
touch 1/standby.signal
conninfo="host=127.0.0.1 port=$2 user=postgres password=$(cat password) application_name=standby"
echo "primary_conninfo = '$conninfo'" >> 1/postgresql.conf
echo "synchronous_standby_names = 'standby'" >> 0/postgresql.conf
"#;

/// Ends the server when its standard input is closed, so also with the test.
const RUN: &str = r#""$@" & server=$!; read -r line; kill -QUIT $server; wait $server"#;

/// Server 0 begins as the primary, and server 1 as its standby.
pub(crate) struct Cluster {
    /// Runs a command with PostgreSQL's programs, as an account that may run a server.
    command: String,
    folder: PathBuf,
    password: String,
    ports: [u16; 2],
    servers: [Option<Child>; 2],
}

impl Cluster {
    pub(crate) async fn start() -> Option<Self> {
        let Ok(command) = std::env::var("AS_POSTGRES") else {
            println!("skipped: AS_POSTGRES runs no PostgreSQL; `cargo xtask test` provides it");
            return None;
        };
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.map(|listener| listener.local_addr().unwrap().port());
        let password = Secret::generate().unwrap().expose().to_owned();
        let folder = std::env::temp_dir().join(format!("smartshape-cluster-{}", ports[0]));
        let mut cluster = Self { command, folder, password, ports, servers: [None, None] };
        let mut create = Command::new(&cluster.command);
        create.args(["sh", "-c", CREATE, "sh"]).arg(&cluster.folder).arg(ports[0].to_string());
        let mut create = create.stdin(Stdio::piped()).spawn().unwrap();
        create.stdin.take().unwrap().write_all(cluster.password.as_bytes()).unwrap();
        assert!(create.wait().unwrap().success(), "no new database in {}", cluster.folder.display());
        cluster.run(0, &[]).await;
        cluster.run(1, &[]).await;
        while cluster.value(0, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").await
            == 0
        {
            tokio::task::yield_now().await;
        }
        Some(cluster)
    }

    /// Starts a server on its data, and waits until it responds.
    pub(crate) async fn run(&mut self, server: usize, settings: &[&str]) {
        let started = async {
            loop {
                let log = File::create(self.folder.join(format!("log-{server}"))).unwrap();
                let mut command = Command::new(&self.command);
                command
                    .args(["sh", "-c", RUN, "sh", "postgres", "-D"])
                    .arg(self.folder.join(server.to_string()));
                command.args(["-p", &self.ports[server].to_string(), "-c", "listen_addresses=127.0.0.1"]);
                command.args(["-c", "unix_socket_directories="]).args(settings);
                command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
                let mut child = command.spawn().unwrap();
                while child.try_wait().unwrap().is_none() {
                    if PgConnection::connect(&self.url(&self.address(server))).await.is_ok() {
                        return child;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                // What a killed server has left is in use until its last process has ended.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let started = tokio::time::timeout(TIMEOUT, started).await;
        let log = || std::fs::read_to_string(self.folder.join(format!("log-{server}"))).unwrap_or_default();
        self.servers[server] = Some(started.unwrap_or_else(|_| panic!("it does not start: {}", log())));
    }

    pub(crate) fn kill(&mut self, server: usize) {
        let file = self.folder.join(server.to_string()).join("postmaster.pid");
        let process = std::fs::read_to_string(file).unwrap().lines().next().unwrap().to_owned();
        assert!(Command::new("kill").args(["-KILL", &process]).status().unwrap().success());
        self.end(server);
    }

    pub(crate) async fn promote(&self, server: usize) {
        assert_eq!(self.value(server, "SELECT pg_promote()::int::bigint").await, 1);
    }

    fn end(&mut self, server: usize) {
        if let Some(mut child) = self.servers[server].take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }

    pub(crate) fn address(&self, server: usize) -> String {
        format!("127.0.0.1:{}", self.ports[server])
    }

    pub(crate) fn url(&self, hosts: &str) -> String {
        format!("postgres://postgres:{}@{hosts}/postgres", self.password)
    }

    pub(crate) async fn execute(&self, server: usize, sql: &'static str) {
        let mut connection = PgConnection::connect(&self.url(&self.address(server))).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }

    pub(crate) async fn value(&self, server: usize, sql: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.url(&self.address(server))).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end(0);
        self.end(1);
        let _ = Command::new(&self.command).args(["rm", "-rf"]).arg(&self.folder).status();
    }
}
