//! `smartshape relay`: what reaches the target.

use std::os::unix::fs::PermissionsExt as _;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use smartshape_fake::{DeliveryOutcome, EventPayload, FakeSmartShape, Sender, SenderSettings};
use smartshape_webhook::EventKind::{self, AnnotationCreated, FileOptimized, FileUploaded};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::event::serve;
use crate::program::Program;
use crate::support::{Home, SECRET, log_in, poll_until, request, run, within};
use crate::ui::{Console, login};

/// 24 bytes in base64. It protects nothing.
pub(crate) const SIGNING_SECRET: &str = "whsec_c2lnbnMgdGVzdHMgYW5kIG5vdGhpbmcgZWxzZSE=";

/// A running relay; killed when dropped.
pub(crate) struct Relay {
    program: Program,
    pub(crate) url: String,
}

pub(crate) fn command(home: &Home, arguments: &[&str]) -> Command {
    let mut command = home.program(&[&["relay", "--listen", "127.0.0.1:0"], arguments].concat());
    command.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET).env("SMARTSHAPE_RELAY_SIGNING_SECRET", SIGNING_SECRET);
    command
}

/// The program that passes on to this target.
fn command_to(home: &Home, target: &str) -> Command {
    command(home, &["--inbox", "relay.db", "--to", target, "--allow-private-addresses"])
}

/// The same, which registers the declared webhooks.
fn applying(home: &Home, target: &str, declared: &str) -> Command {
    home.write("webhooks.json", declared);
    let mut command = command_to(home, target);
    command.args(["--apply", "webhooks.json"]);
    command
}

impl Relay {
    pub(crate) async fn to(home: &Home, target: &str) -> Self {
        Self::start(command_to(home, target)).await
    }

    /// Passes on to a shell script.
    async fn to_script(home: &Home, text: &str) -> Self {
        Self::to(home, &script(home, text)).await
    }

    /// With a settings file.
    pub(crate) async fn of(home: &Home, settings: &str) -> Self {
        home.write("relay.toml", settings);
        Self::start(command(home, &["--inbox", "relay.db", "--config", "relay.toml"])).await
    }

    pub(crate) async fn start(mut command: Command) -> Self {
        let mut program = Program::spawn(&mut command);
        let line = program.read_until("listening on ").await;
        let (_, url) = line.split_once("listening on ").unwrap();
        Self { url: url.trim_end_matches("\"}").to_owned(), program }
    }

    pub(crate) async fn accepts(&self, event: &EventPayload) {
        self.accepts_with(SECRET, event).await;
    }

    async fn accepts_with(&self, secret: &str, event: &EventPayload) {
        let outcome = send_with(secret, &self.url, event).await;
        assert!(outcome.accepted(), "{outcome}: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        self.program.log()
    }

    /// Status and body of another page.
    async fn get(&self, page: &str) -> (String, String) {
        let page = format!("{}{page}", self.url.strip_suffix("/callback").unwrap());
        let response = request("GET", &page, &[], b"").await;
        (response.status().to_owned(), response.body)
    }

    /// Waits until `exec:program` has had this outcome so many times.
    async fn wait_for_exec(&self, outcome: &str, count: u32) {
        let target = r#"{target="exec:program",outcome=""#;
        self.wait_for_metric(&format!("smartshape_relay_attempts_total{target}{outcome}\"}} {count}")).await;
    }

    /// Waits until a line of the metrics begins so.
    pub(crate) async fn wait_for_metric(&self, begins: &str) {
        poll_until(async || self.get("/metrics").await.1.lines().any(|line| line.starts_with(begins))).await;
    }

    /// Waits until this counter is no longer 0.
    pub(crate) async fn wait_for_counter(&self, series: &str) {
        let counted = |line: &str| line.strip_prefix(series).is_some_and(|value| value.trim() != "0");
        poll_until(async || self.get("/metrics").await.1.lines().any(counted)).await;
    }

    async fn wait_until_ready(&self) {
        poll_until(async || self.get("/ready").await.0 == "200").await;
    }

    /// Ends the relay; returns its whole log.
    pub(crate) async fn terminate(self) -> String {
        self.program.stop("-TERM").await.1
    }

    /// Ends it at once (SIGKILL).
    pub(crate) async fn kill(mut self) {
        self.program.child.kill().await.unwrap();
    }
}

/// One attempt.
pub(crate) async fn send(url: &str, event: &EventPayload) -> DeliveryOutcome {
    send_with(SECRET, url, event).await
}

async fn send_with(secret: &str, url: &str, event: &EventPayload) -> DeliveryOutcome {
    let settings = SenderSettings { max_attempts: 1, ..SenderSettings::quick() };
    Sender::new(secret, settings).deliver(event, url).await
}

/// An endpoint that responds with 200, and what it receives.
async fn endpoint() -> (String, mpsc::UnboundedReceiver<(HeaderMap, Bytes)>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let app = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
        sender.send((headers, body)).unwrap();
        async { StatusCode::OK }
    });
    (serve(app).await.replace("/callback", "/events"), requests)
}

/// A program for `exec:`.
fn script(home: &Home, text: &str) -> String {
    let path = home.path().join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("exec:{}", path.display())
}

#[tokio::test]
async fn relay_posts_signed_events_byte_for_byte() {
    let (home, (url, mut requests)) = (Home::new(), endpoint().await);
    let relay = Relay::to(&home, &url).await;
    let event = EventPayload::sample(FileUploaded);
    relay.accepts(&event).await;
    let (headers, body) = within(requests.recv()).await.unwrap();
    assert_eq!((&body, &headers["ce-type"]), (&event.to_body(), &"file_uploaded".parse().unwrap()));
    standardwebhooks::Webhook::new(SIGNING_SECRET).unwrap().verify(&body, &headers).unwrap();
    // A repetition is acknowledged and not passed on: the next event is the next request.
    relay.accepts(&event).await;
    let next = EventPayload::sample(FileOptimized);
    relay.accepts(&next).await;
    assert_eq!(within(requests.recv()).await.unwrap().1, next.to_body());
    let log = relay.terminate().await;
    assert!(!log.contains(SECRET) && !log.contains("whsec") && !log.contains("/events"), "{log}");
}

#[tokio::test]
async fn relay_uses_no_proxy_for_its_target() {
    let (home, (url, mut requests), (proxy, mut proxied)) =
        (Home::new(), endpoint().await, crate::proxy::proxy().await);
    let mut program = command_to(&home, &url);
    program.env("HTTP_PROXY", &proxy).env("ALL_PROXY", &proxy);
    let relay = Relay::start(program).await;
    relay.accepts(&EventPayload::sample(FileUploaded)).await;
    tokio::select! {
        request = within(requests.recv()) => assert_eq!(request.unwrap().0["ce-type"], "file_uploaded"),
        request = proxied.recv() => panic!("the proxy got {request:?}"),
    }
}

#[tokio::test]
async fn failed_attempt_is_logged_with_event_and_target() {
    let (home, (_socket, unused)) = (Home::new(), crate::support::unused_url());
    let others = script(&home, "exit 1");
    let settings = format!(
        "[[route]]\nevents = ['file_uploaded', 'file_optimized']\nto = '{unused}/do-not-show'\n\
         allow_private_addresses = true\n[[route]]\nto = '{others}'\n"
    );
    let relay = Relay::of(&home, &settings).await;
    let page = relay.get("/metrics").await.1;
    for (kind, target) in [(FileUploaded, unused.as_str()), (AnnotationCreated, "exec:program")] {
        for outcome in ["passed_on", "failed"] {
            let line =
                format!("smartshape_relay_attempts_total{{target=\"{target}\",outcome=\"{outcome}\"}} 0\n");
            assert!(page.contains(&line), "{page}");
        }
        relay.accepts(&EventPayload::sample(kind)).await;
        let failed = format!("smartshape_relay_attempts_total{{target=\"{target}\",outcome=\"failed\"}}");
        relay.wait_for_counter(&failed).await;
    }
    let log = relay.terminate().await;
    let has = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["an attempt failed", "file_uploaded", &format!("error={unused}: ")]), "{log}");
    assert!(
        has(&["an attempt failed", "annotation_created", "error=exec:program: it ended with 1"]),
        "{log}"
    );
    assert!(has(&[&unused, "events=\"file_uploaded, file_optimized\""]), "{log}");
    assert!(has(&["exec:program", "events=\"all others\""]) && !log.contains("do-not-show"), "{log}");
}

#[tokio::test]
async fn relay_runs_program_with_event_on_standard_input() {
    let home = Home::new();
    let text = "cat > body.part; env > variables; mv body.part body; echo 'it\x1b[2J works'";
    let relay = Relay::to_script(&home, text).await;
    let event = EventPayload::sample(FileUploaded).with_file("gr\u{f6}\u{df}e");
    relay.accepts(&event).await;
    relay.wait_for_exec("passed_on", 1).await;
    assert_eq!(std::fs::read(home.path().join("body")).unwrap(), event.to_body());
    let variables = home.read("variables");
    let has = |line: &str| variables.lines().any(|one| one.starts_with(line));
    assert!(
        has("CE_TYPE=file_uploaded") && has("CE_SUBJECT=gr%C3%B6%C3%9Fe") && has("CE_ID="),
        "{variables}"
    );
    assert!(!variables.contains("SMARTSHAPE_"), "{variables}");
    let log = relay.terminate().await;
    assert!(log.contains(r"it\u{1b}[2J works") && !log.contains("it\x1b"), "{log}");
}

#[tokio::test]
async fn program_that_fails_is_run_again_unless_it_ends_with_65() {
    let home = Home::new();
    let text = "case $CE_TYPE in file_optimized) exit 65;; esac\nmkdir first 2>/dev/null && exit 1\nexit 0";
    let relay = Relay::to_script(&home, text).await;
    relay.accepts(&EventPayload::sample(FileUploaded)).await;
    relay.wait_for_exec("passed_on", 1).await;
    relay.accepts(&EventPayload::sample(FileOptimized)).await;
    relay.wait_for_exec("failed", 2).await;
    relay.terminate().await;
    let listed = home.run(&["inbox", "list", "relay.db", "--state", "dead-letter"]).await.assert_ok().out;
    assert!(listed.contains("file_optimized") && listed.contains("ended with 65"), "{listed}");
    assert!(!listed.contains("file_uploaded"), "{listed}");
}

#[tokio::test]
async fn script_without_a_line_that_says_what_runs_it_is_not_started() {
    let home = Home::new();
    let target = script(&home, "exit 0");
    home.write("program", "exit 0\n");
    let relay = Relay::to(&home, &target).await;
    relay.accepts(&EventPayload::sample(FileUploaded)).await;
    relay.wait_for_exec("failed", 1).await;
    let log = relay.terminate().await;
    assert!(log.contains("Exec format error"), "{log}");
}

/// Whether the process of this number is there, and no zombie.
#[cfg(target_os = "linux")]
fn runs(home: &Home, pid_file: &str) -> bool {
    let pid = home.read(pid_file);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn program_and_its_children_are_killed_after_the_timeout() {
    let home = Home::new();
    let target = script(&home, "echo 'waits for a lock' >&2; sleep 1000 & echo $! > pid; wait");
    let relay = Relay::of(&home, &format!("[[route]]\nto = '{target}'\ntimeout_seconds = 1\n")).await;
    relay.accepts(&EventPayload::sample(FileUploaded)).await;
    relay.wait_for_exec("failed", 1).await;
    poll_until(async || !runs(&home, "pid")).await;
    let log = relay.terminate().await;
    assert!(log.contains("was killed after its 1 s") && log.contains("waits for a lock"), "{log}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn program_and_its_children_are_killed_at_shutdown() {
    let home = Home::new();
    let target = script(&home, "sleep 1000 & echo $! > pid.part; mv pid.part pid; wait");
    let relay =
        Relay::of(&home, &format!("shutdown_timeout_seconds = 1\n[[route]]\nto = '{target}'\n")).await;
    relay.accepts(&EventPayload::sample(FileUploaded)).await;
    poll_until(async || home.path().join("pid").exists()).await;
    relay.terminate().await;
    assert!(!runs(&home, "pid"));
    assert_eq!(home.run_json(&["inbox", "stats", "relay.db"]).await["waiting"], 1, "the event is kept");
}

#[tokio::test]
async fn program_may_leave_its_input_and_write_without_end() {
    let home = Home::new();
    let text = "exec <&-; sleep 1000 & head -c 5000000 /dev/zero | tr '\\0' x; exit 0";
    let relay = Relay::to_script(&home, text).await;
    let event = EventPayload::sample(FileUploaded).with_data("x".repeat(1_000_000));
    relay.accepts(&event).await;
    relay.wait_for_exec("passed_on", 1).await;
    let log = relay.terminate().await;
    assert!(log.len() < 10_000, "{}", log.len());
}

/// The later event waits even if it came by another webhook.
#[tokio::test]
async fn failing_event_holds_back_later_ones_of_its_file() {
    let home = Home::new();
    let target = script(&home, "[ $CE_TYPE != file_uploaded ]");
    let settings = format!(
        "ordered_by_file = true\n[[route]]\nto = '{target}'\n\
         [[secret]]\nname = 'uploads'\nenv = 'UPLOADS'\nevents = ['file_uploaded']\n\
         [[secret]]\nname = 'others'\nenv = 'OTHERS'\nevents = ['file_optimized']\n"
    );
    home.write("relay.toml", settings);
    let mut program = command(&home, &["--inbox", "relay.db", "--config", "relay.toml"]);
    let others = "another secret of the same account";
    program.env("UPLOADS", SECRET).env("OTHERS", others);
    let relay = Relay::start(program).await;
    relay.accepts(&EventPayload::sample(FileUploaded)).await;
    relay.accepts_with(others, &EventPayload::sample(FileOptimized)).await;
    relay.wait_for_exec("failed", 2).await;
    let metrics = relay.get("/metrics").await.1;
    assert!(!metrics.contains("passed_on\"} 1"), "{metrics}");
    relay.terminate().await;
}

/// ssh leaves such a process behind when it shares a connection.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn program_that_leaves_a_process_behind_has_ended() {
    let home = Home::new();
    let left = "setsid sh -c 'echo > left; exec sleep 20' & until [ -e left ]; do :; done";
    let target = script(&home, &format!("cat > /dev/null; echo kept; rm -f left; {left}"));
    let relay = Relay::of(&home, &format!("[[route]]\nto = '{target}'\ntimeout_seconds = 10\n")).await;
    relay.accepts(&EventPayload::sample(FileUploaded)).await;
    relay.wait_for_exec("passed_on", 1).await;
    let log = relay.terminate().await;
    assert!(log.contains("stdout=\"kept\"") || log.contains("stdout=kept"), "{log}");
}

#[tokio::test]
async fn relay_routes_by_event_and_counts_the_rest() {
    let (home, (uploads, mut uploaded), (others, mut other)) =
        (Home::new(), endpoint().await, endpoint().await);
    let settings = format!(
        "[[route]]\nevents = ['file_uploaded']\nto = '{uploads}'\nallow_private_addresses = true\n\
         [[route]]\nevents = ['annotation_created']\nto = '{others}'\nallow_private_addresses = true\n"
    );
    let relay = Relay::of(&home, &settings).await;
    assert!(relay.log().contains("events=\"file_uploaded\""), "{}", relay.log());
    relay.wait_for_metric("smartshape_relay_unrouted_events_total 0").await;
    for kind in [FileOptimized, AnnotationCreated, FileUploaded] {
        relay.accepts(&EventPayload::sample(kind)).await;
    }
    assert_eq!(within(uploaded.recv()).await.unwrap().0["ce-type"], "file_uploaded");
    assert_eq!(within(other.recv()).await.unwrap().0["ce-type"], "annotation_created");
    relay.wait_for_metric("smartshape_relay_unrouted_events_total 1").await;
    assert!(uploaded.try_recv().is_err() && other.try_recv().is_err());
}

/// In a restart, the new process may start before the old one has ended.
#[tokio::test]
async fn second_relay_on_one_file_waits_for_the_end_of_the_first() {
    let (home, (url, mut requests)) = (Home::new(), endpoint().await);
    let first = Relay::to(&home, &url).await;
    first.wait_until_ready().await;
    let second = Relay::to(&home, &url).await;
    poll_until(async || second.log().contains("a worker of another process has locked the inbox")).await;
    assert_eq!(second.get("/ready").await.0, "503");
    // What it stores is passed on by the first one.
    second.accepts(&EventPayload::sample(FileUploaded)).await;
    assert_eq!(within(requests.recv()).await.unwrap().0["ce-type"], "file_uploaded");
    first.terminate().await;
    second.accepts(&EventPayload::sample(FileOptimized)).await;
    assert_eq!(within(requests.recv()).await.unwrap().0["ce-type"], "file_optimized");
    second.wait_until_ready().await;
    second.terminate().await;
}

#[tokio::test]
async fn relay_serves_its_health_and_ends_cleanly() {
    let (home, (url, _requests)) = (Home::new(), endpoint().await);
    let mut program = command_to(&home, &url);
    program.arg("--json");
    let relay = Relay::start(program).await;
    relay.wait_until_ready().await;
    assert_eq!(relay.get("/health").await, ("200".to_owned(), "ok".to_owned()));
    assert_eq!(relay.get("/other").await.0, "404");
    relay.accepts(&EventPayload::sample(FileUploaded)).await;
    let page = relay.get("/metrics").await.1;
    assert!(page.contains("# TYPE smartshape_webhook_deliveries_total counter"), "{page}");
    assert!(page.contains("smartshape_inbox_store_seconds_bucket"), "{page}");
    for line in relay.terminate().await.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn relay_outlives_a_hangup_under_nohup() {
    let (home, (url, _requests)) = (Home::new(), endpoint().await);
    let program = crate::support::started_by(["env", "--ignore-signal=HUP"], &command_to(&home, &url));
    let relay = Relay::start(program).await;
    relay.program.signal("-HUP");
    for kind in EventKind::ALL {
        relay.accepts(&EventPayload::sample(kind)).await;
    }
    relay.terminate().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn relay_without_file_descriptors_warns_and_recovers() {
    let (home, (url, _requests)) = (Home::new(), endpoint().await);
    let program = crate::support::started_by(["prlimit", "--nofile=40"], &command_to(&home, &url));
    let relay = Relay::start(program).await;
    let address = relay.url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let mut connections = Vec::new();
    for _ in 0..60 {
        connections.push(TcpStream::connect(address).await.unwrap());
    }
    poll_until(async || relay.log().contains("no connection can be accepted")).await;
    drop(connections);
    relay.accepts(&EventPayload::sample(FileUploaded)).await;
    relay.terminate().await;
}

#[tokio::test]
async fn relay_registers_webhooks_and_takes_their_secrets() {
    let (home, fake, (url, mut requests)) =
        (Home::new(), FakeSmartShape::start().await.unwrap(), endpoint().await);
    let declared = r#"{"url": "http://127.0.0.1:1/callback", "webhooks": [
        {"event": "file_uploaded", "secret": {"env": "UPLOADS"}}, {"event": "file_optimized"}]}"#;
    let mut program = applying(&home, &url, declared);
    log_in(&mut program, &fake).env("UPLOADS", "another secret of mine");
    let relay = Relay::start(program).await;
    poll_until(async || fake.webhooks().len() >= 2).await;
    let registered: Vec<EventKind> = fake.webhooks().into_iter().map(|webhook| webhook.event).collect();
    assert_eq!(registered, [FileUploaded, FileOptimized]);

    relay.accepts(&EventPayload::sample(FileOptimized)).await;
    relay.accepts_with("another secret of mine", &EventPayload::sample(FileUploaded)).await;
    let rejected = send(&relay.url, &EventPayload::sample(FileUploaded)).await;
    assert!(!rejected.accepted(), "each secret is for its own event");
    for _ in 0..2 {
        within(requests.recv()).await.unwrap();
    }
}

/// While a secret is rotated, old and new webhook send the same event.
#[tokio::test]
async fn relay_accepts_further_secrets_beside_those_of_declared_webhooks() {
    let (home, fake, (url, mut requests)) =
        (Home::new(), FakeSmartShape::start().await.unwrap(), endpoint().await);
    let declared = r#"{"webhooks": [
        {"event": "file_uploaded", "url": "http://127.0.0.1:1/callback", "secret": {"env": "NEW"}},
        {"event": "file_uploaded", "url": "http://127.0.0.2:1/callback", "secret": {"env": "ELSEWHERE"}}]}"#;
    home.write("webhooks.json", declared);
    let settings = format!(
        "inbox = 'relay.db'\napply = 'webhooks.json'\n\
         [[route]]\nto = '{url}'\nallow_private_addresses = true\n\
         [[secret]]\nname = 'old'\nenv = 'OLD'\nwebhook = 'default'\nevents = ['file_uploaded']\n"
    );
    home.write("relay.toml", settings);
    let mut program = command(&home, &["--config", "relay.toml"]);
    let secrets = [
        ("OLD", "the old secret of mine"),
        ("NEW", "the new secret of mine"),
        ("ELSEWHERE", "a third secret of mine"),
    ];
    log_in(&mut program, &fake).envs(secrets);
    let relay = Relay::start(program).await;
    let event = EventPayload::sample(FileUploaded);
    for (_, secret) in secrets {
        relay.accepts_with(secret, &event).await;
    }
    let next = EventPayload::sample(FileUploaded);
    relay.accepts_with("the new secret of mine", &next).await;
    for expected in [event, next] {
        assert_eq!(within(requests.recv()).await.unwrap().1, expected.to_body(), "passed on once");
    }
}

#[tokio::test]
async fn relay_registers_with_a_token_from_standard_input() {
    let (home, fake, (url, _requests)) =
        (Home::new(), FakeSmartShape::start().await.unwrap(), endpoint().await);
    let declared = r#"{"url": "http://127.0.0.1:1/callback", "webhooks": [{"event": "file_uploaded"}]}"#;
    home.write("token", fake.bearer_token());
    let mut program = applying(&home, &url, declared);
    program.args(["--token", "-"]).env("SMARTSHAPE_API_URL", fake.base_url());
    program.stdin(std::fs::File::open(home.path().join("token")).unwrap());
    let relay = Relay::start(program).await;
    poll_until(async || fake.webhooks().len() == 1 || relay.log().contains("not registered")).await;
    assert_eq!(fake.webhooks().len(), 1, "{}", relay.log());
}

#[tokio::test]
async fn relay_serves_while_smartshape_is_down() {
    let (home, (url, mut requests)) = (Home::new(), endpoint().await);
    let (_socket, unused) = crate::support::unused_url();
    let declared = r#"{"url": "http://127.0.0.1:1/callback", "webhooks": [{"event": "file_uploaded"}]}"#;
    let mut program = applying(&home, &url, declared);
    program.env("SMARTSHAPE_API_URL", unused).env("SMARTSHAPE_TOKEN", "a.b.c");
    let relay = Relay::start(program).await;
    relay.accepts(&EventPayload::sample(FileUploaded)).await;
    within(requests.recv()).await.unwrap();
    let log = relay.terminate().await;
    assert!(log.contains("the webhooks are not registered"), "{log}");
}

#[tokio::test]
async fn relay_shows_its_inbox_to_whoever_knows_the_password() {
    const PASSWORD: &str = "correct horse battery";
    let (home, (url, _requests)) = (Home::new(), endpoint().await);
    let mut program = command_to(&home, &url);
    run(program.arg("--ui")).await.assert_fails(2, "the console of a relay needs a password");
    let mut relay = Program::spawn(program.env("SMARTSHAPE_UI_PASSWORD", PASSWORD));
    let shown = relay.read_until(" console ").await;
    let listening = relay.read_until("listening on ").await;
    let url = listening.rsplit(' ').next().unwrap();
    assert!(send(url, &EventPayload::sample(FileUploaded)).await.accepted());

    let console = Console::at(relay, shown.split('"').nth(1).unwrap());
    assert_eq!(console.send("GET", "?view=events", &[], "").await.status(), "401");
    let page = console.send("GET", "?view=events", &[&login(PASSWORD)], "").await;
    assert!(page.status() == "200" && page.body.contains("file_uploaded"), "{}", page.body);
    assert!(!console.stop().await.contains(PASSWORD));
}

#[tokio::test]
async fn relay_waits_for_private_target_only_if_permitted() {
    let home = Home::new();
    let rejected = run(&mut command(&home, &["--inbox", "relay.db", "--to", "http://10.0.0.1/events"])).await;
    rejected.assert_fails(2, "--to: the URL is not permitted: its address is not of the public internet; --allow-private-addresses permits it");
}
