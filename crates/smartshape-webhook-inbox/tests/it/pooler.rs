//! PostgreSQL behind pgbouncer, as the README says to set it up.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use futures_util::future::join_all;

use crate::it::fixture::{
    Fixture as _, Folder, Server, assert_error, on_postgres, open_error, poll_until, succeed,
};
use crate::{EventState, Inbox, InboxErrorKind};

on_postgres! {
    database:
    pooler_in_session_mode_works
    pooler_that_rejects_startup_parameter_is_named_at_once
}

struct Bouncer {
    child: Child,
    port: u16,
    _folder: Folder,
}

impl Bouncer {
    /// `ignored` are the parameters of a session's start that it does not reject.
    async fn start(server: &Server, ignored: &str) -> Option<Self> {
        let Ok(program) = std::env::var("PGBOUNCER") else {
            println!("skipped: PGBOUNCER names no pgbouncer; `cargo xtask test` provides one");
            return None;
        };
        let folder = Folder::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = server.host();
        let (host, database_port) = address.rsplit_once(':').unwrap();
        let (user, password) = server.credentials();
        let settings = format!(
            "[databases]\n* = host={host} port={database_port} user={user} password={password} pool_size=20\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n\
             unix_socket_dir =\npool_mode = session\nserver_login_retry = 1\n\
             ignore_startup_parameters = {ignored}\n"
        );
        let file = folder.path("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new(program);
        // pgbouncer does not run as root.
        if Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" {
            command.args(["-u", "nobody"]);
        }
        let child = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let bouncer = Self { child, port, _folder: folder };
        poll_until(async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        Some(bouncer)
    }

    fn url(&self, server: &Server) -> String {
        let (user, _) = server.credentials();
        format!("postgres://{user}@127.0.0.1:{}/{}", self.port, server.schema())
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two processes, inserts and workers, order and transactions.
async fn pooler_in_session_mode_works(server: &Server) {
    let Some(bouncer) = Bouncer::start(server, "extra_float_digits").await else { return };
    server.execute(format!("CREATE DATABASE {}", server.schema())).await;
    let (one, two) =
        (Inbox::open(&bouncer.url(server)).await.unwrap(), Inbox::open(&bouncer.url(server)).await.unwrap());
    let plain = two.worker(succeed).ordered_by_file().spawn();
    let transactional = two
        .transactional_worker(|transaction, _| {
            Box::pin(async move {
                sqlx::query("SELECT 1").execute(&mut **transaction).await?;
                Ok(())
            })
        })
        .unwrap()
        .concurrency(2)
        .spawn();
    join_all((0..200).map(|number| one.store([number]))).await;
    one.wait_for_state(EventState::Completed, 200).await;
    assert!(one.events().await.iter().all(|event| event.attempts == 1));
    plain.shutdown().await.unwrap();
    transactional.shutdown().await.unwrap();
    drop((one, two, bouncer));
    server.execute(format!("DROP DATABASE {} WITH (FORCE)", server.schema())).await;
}

async fn pooler_that_rejects_startup_parameter_is_named_at_once(server: &Server) {
    let Some(bouncer) = Bouncer::start(server, "").await else { return };
    let error = open_error(&bouncer.url(server)).await;
    assert_error(&error, InboxErrorKind::InvalidSettings, "extra_float_digits");
}
