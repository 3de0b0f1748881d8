//! `smartshape relay`, its target and its store are killed at random moments under load.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::crash::{Plan, drain_inbox};
use crate::load::Load;
use crate::observed::{Observations, uuid_of};
use crate::random::Random;
use crate::server::{Server, TIMEOUT};
use crate::store::Store;
use crate::{Error, caller, print_line};

/// The argument with which this program is the target.
pub(crate) const TARGET: &str = "target";

const SIGNING_SECRET: &str = "whsec_c2lnbnMgdGVzdHMgYW5kIG5vdGhpbmcgZWxzZSE=";

/// Fewer events in a round would mean that the kills left no load to lose.
const MIN_ACKNOWLEDGED_PER_ROUND: usize = 5;

struct RelayTest<'a> {
    plan: &'a Plan,
    inbox_url: String,
    settings: String,
    target: String,
    received: String,
    random: Random,
    kills: [usize; 3],
}

pub(crate) async fn run(plan: &Plan, store: &Store, folder: &Path) -> Result<(), Error> {
    if !plan.database_crashes {
        return Err("the relay is tortured with a database that may be killed".into());
    }
    let started_at = Instant::now();
    // Keeps the port while no target listens.
    let kept = socket("127.0.0.1:0")?;
    let target = kept.local_addr()?.to_string();
    let settings = folder.join("relay.toml");
    std::fs::write(
        &settings,
        format!(
            "max_backoff_seconds = 1\n[[route]]\nto = \"http://{target}/\"\nallow_private_addresses = true\n\
             timeout_seconds = 5\n"
        ),
    )?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut random = Random::new(plan.seed);
    let (observations, url) = (Arc::new(Observations::default()), watch::Sender::new(None));
    let mut test = RelayTest {
        plan,
        inbox_url: store.inbox_url(),
        settings: text(&settings),
        target,
        received: text(&folder.join("received")),
        random: random.fork(),
        kills: [0; 3],
    };
    // The tables must be there before the database is killed.
    let mut first = test.relay()?;
    first.url().await?;
    first.kill().await?;
    let load = Load::start(&[url.subscribe()], &observations, &mut random);
    for round in 1..=plan.rounds {
        test.round(&url, &observations).await?;
        if round % 10 == 0 {
            let acknowledged = observations.lock().acknowledged.len();
            print_line(&format!("  round {round}: {acknowledged} events acknowledged"))?;
        }
    }

    let under_kills = observations.lock().acknowledged.len();
    if under_kills < MIN_ACKNOWLEDGED_PER_ROUND * plan.rounds {
        return Err(format!("only {under_kills} events were acknowledged while all were being killed").into());
    }
    let _target = test.start_target().await?;
    let mut last = test.relay()?;
    url.send_replace(Some(last.url().await?));
    load.finish(TIMEOUT).await?;
    drain_inbox(store, last, || test.relay()).await?.stop().await?;

    let lines = std::fs::read_to_string(&test.received)?;
    let received: HashSet<&str> = lines.lines().collect();
    let observed = observations.lock();
    let missing: Vec<_> =
        observed.acknowledged.iter().filter(|uuid| !received.contains(uuid.as_str())).take(20).collect();
    let [relays, targets, databases] = test.kills;
    print_line(&format!(
        "  {} s: the relay was killed {relays} times, its target {targets} times, the database {databases} times",
        started_at.elapsed().as_secs()
    ))?;
    print_line(&format!(
        "  {} events acknowledged, {} received by the target, {} of them more than once",
        observed.acknowledged.len(),
        received.len(),
        lines.lines().count() - received.len()
    ))?;
    match (missing.as_slice(), observed.faults.first()) {
        ([], None) => print_line("  ok: nothing acknowledged is missing at the target"),
        ([], Some(fault)) => Err(fault.clone().into()),
        (missing, _) => Err(format!("acknowledged, and never passed on: {missing:?}").into()),
    }
}

impl RelayTest<'_> {
    fn relay(&self) -> Result<Server, Error> {
        let mut command = Command::new(&self.plan.binary);
        command.args([
            "relay",
            "--listen",
            "127.0.0.1:0",
            "--inbox",
            &self.inbox_url,
            "--config",
            &self.settings,
        ]);
        command.env("SMARTSHAPE_RELAY_SIGNING_SECRET", SIGNING_SECRET);
        Server::start_unread(command, &self.inbox_url)
    }

    /// Waits until it listens.
    async fn start_target(&self) -> Result<Child, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([TARGET, &self.target, &self.received]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let mut ready = [0];
        child.stdout.take().ok_or("no standard output")?.read_exact(&mut ready).await?;
        Ok(child)
    }

    /// Starts all and kills each once, at random moments: in three rounds of four after an event was acknowledged.
    async fn round(
        &mut self,
        url: &watch::Sender<Option<String>>,
        observations: &Observations,
    ) -> Result<(), Error> {
        let acknowledged = || observations.lock().acknowledged.len();
        let before = acknowledged();
        let mut target = self.start_target().await?;
        let mut relay = self.relay()?;
        url.send_replace(Some(relay.url().await?));
        if !self.random.one_in(4) {
            let accepts = async {
                while acknowledged() == before {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            let accepts = timeout(TIMEOUT, accepts).await;
            accepts.map_err(|_| "the relay acknowledges nothing")?;
        }
        let [relay_life, target_life, database_life] = [(); 3].map(|()| self.random.milliseconds(100, 1500));
        let kill_target = async {
            sleep(target_life).await;
            target.kill().await?;
            Ok::<_, Error>(())
        };
        let kill_database = async {
            sleep(database_life).await;
            caller::restart_database().await
        };
        let kill_relay = async {
            sleep(relay_life).await;
            relay.kill().await?;
            url.send_replace(None);
            Ok(())
        };
        tokio::try_join!(kill_target, kill_database, kill_relay)?;
        self.kills = self.kills.map(|kills| kills + 1);
        Ok(())
    }
}

fn socket(address: &str) -> Result<TcpSocket, Error> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address.parse()?)?;
    Ok(socket)
}

/// Appends the uuid of each event to the file before it responds.
pub(crate) async fn serve_target(address: &str, file: &str) -> Result<(), Error> {
    let listener = socket(address)?.listen(1024)?;
    let file = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
    let file = Arc::new(file);
    let receive = async move |body: Bytes| {
        let uuid = uuid_of(&body).ok_or(StatusCode::BAD_REQUEST)?;
        // One write, since a kill may come between two.
        let written = (&*file).write_all(format!("{uuid}\n").as_bytes());
        written.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    };
    print_line("")?;
    Ok(axum::serve(listener, Router::new().route("/", post(receive))).await?)
}
