//! PostgreSQL behind pgbouncer, as the README says to set it up.
use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler as _};

use crate::{EventFilter, EventState, Inbox, InboxErrorKind};

use crate::it::fixture::{Folder, Server, delivery};

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
        let (host, database_port) =
            server.host().rsplit_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
        let (user, password) = server.credentials();
        let mut settings = String::new();
        // The role has its search path as a default, since a pooler passes no options on.
        writeln!(
            settings,
            "[databases]\n* = host={host} port={database_port} user={user} password={password} pool_size=20"
        )
        .unwrap();
        writeln!(settings, "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any")
            .unwrap();
        writeln!(settings, "unix_socket_dir =\npool_mode = session\nserver_login_retry = 1\nignore_startup_parameters = {ignored}").unwrap();
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
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
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
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pooler_in_session_mode_works() {
    let Some(server) = Server::new().await else { return };
    let Some(bouncer) = Bouncer::start(&server, "extra_float_digits").await else { return };
    server.execute(format!("CREATE DATABASE {}", server.schema())).await;
    let (one, two) = (
        Inbox::open(&bouncer.url(&server)).await.unwrap(),
        Inbox::open(&bouncer.url(&server)).await.unwrap(),
    );
    let plain = two.worker(|_: Delivery| async { Ok(()) }).ordered_by_file().spawn();
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
    let storing: Vec<_> = (0..200)
        .map(|number| {
            let inbox = one.clone();
            tokio::spawn(async move { inbox.handle(delivery(number)).await.is_ok() })
        })
        .collect();
    for one in storing {
        assert!(one.await.unwrap());
    }
    while one.list(EventFilter::default().state(EventState::Completed)).await.unwrap().len() < 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(one.list(EventFilter::default()).await.unwrap().iter().all(|event| event.attempts == 1));
    plain.shutdown().await.unwrap();
    transactional.shutdown().await.unwrap();
    drop((one, two, bouncer));
    server.execute(format!("DROP DATABASE {} WITH (FORCE)", server.schema())).await;
}

#[tokio::test]
async fn pooler_that_rejects_startup_parameter_is_named_at_once() {
    let Some(server) = Server::new().await else { return };
    let Some(bouncer) = Bouncer::start(&server, "").await else { return };
    let error = Inbox::open(&bouncer.url(&server)).await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::InvalidSettings, "{error}");
    assert!(error.to_string().contains("extra_float_digits"), "{error}");
}
