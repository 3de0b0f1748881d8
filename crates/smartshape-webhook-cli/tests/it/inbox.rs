//! `smartshape inbox`.

use smartshape_webhook::{Delivery, Handler, HandlerError};
use smartshape_webhook_inbox::Inbox;
use sqlx::{Connection, PgConnection};

use crate::support::{Home, run_with_stdin, unused_url};

fn body(uuid: &str) -> String {
    format!(
        r#"{{"file": "5c6f", "event": "file_uploaded", "data": {{"name": "engine"}}, "owner": "ada",
            "runTimestamp": 1550824748604, "uuid": "{uuid}"}}"#
    )
}

/// An inbox with a dead letter and a waiting event.
pub(crate) async fn filled(home: &Home) -> String {
    let path = home.path().join("inbox.db").to_str().unwrap().to_owned();
    fill(&path).await;
    path
}

pub(crate) async fn fill(url: &str) {
    let inbox = Inbox::open(url).await.unwrap();
    inbox.handle(Delivery::for_test(body("one")).unwrap()).await.unwrap();
    let (tried, mut seen) = tokio::sync::mpsc::unbounded_channel::<()>();
    let worker = inbox.worker(move |_: Delivery| {
        let tried = tried.clone();
        async move {
            let _ = tried.send(());
            Err(HandlerError::permanent("not to my liking"))
        }
    });
    worker.run(async move { seen.recv().await.unwrap_or(()) }).await.unwrap();
    inbox.handle(Delivery::for_test(body("two")).unwrap()).await.unwrap();
}

/// A schema of its own on the server of the tests.
pub(crate) struct Schema {
    base: String,
    name: String,
    pub(crate) url: String,
}

impl Schema {
    /// `None` without a server.
    #[allow(clippy::print_stdout, reason = "says why a test does nothing")]
    pub(crate) async fn create(test: &str) -> Option<Self> {
        let Ok(base) = std::env::var("DATABASE_URL") else {
            println!("skipped: DATABASE_URL names no PostgreSQL server; `cargo xtask test` provides one");
            return None;
        };
        let name = format!("cli_{test}_{}", std::process::id());
        let sign = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{sign}options=-csearch_path%3D{name}");
        let schema = Self { base, name, url };
        let name = &schema.name;
        schema.execute(format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")).await;
        Some(schema)
    }

    async fn execute(&self, sql: String) {
        let mut connection = PgConnection::connect(&self.base).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }

    pub(crate) async fn drop(self) {
        self.execute(format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

#[tokio::test]
async fn inbox_lists_shows_replays_and_purges_events() {
    let home = Home::new();
    let url = filled(&home).await;
    let listed = home.run(&["inbox", "list", &url]).await.assert_ok().out;
    assert!(
        ["dead letter", "waiting", "not to my liking"].iter().all(|part| listed.contains(part)),
        "{listed}"
    );
    let list = async |state: &str| home.run_json(&["inbox", "list", &url, "--state", state]).await;
    let dead = list("dead-letter").await;
    let key = dead["key"].as_str().unwrap().to_owned();
    assert_eq!(list(dead["state"].as_str().unwrap()).await, dead, "a state is taken as it is printed");

    let shown = home.run_json(&["inbox", "show", &url, &key]).await;
    assert_eq!((&shown["uuid"], shown["body"].as_str().unwrap()), (&"one".into(), body("one").as_str()));
    assert!(shown["next_attempt_at"].is_null(), "{shown}");
    let waiting = list("waiting").await;
    let waiting = home.run(&["inbox", "show", &url, waiting["key"].as_str().unwrap()]).await.assert_ok().out;
    let today = jiff::Timestamp::now().to_string();
    assert!(waiting.contains("next_attempt_at") && waiting.contains(&today[..4]), "{waiting}");
    let exact = home.run(&["inbox", "show", &url, &key, "--body"]).await.assert_ok().out;
    assert_eq!(exact, body("one"));
    assert!(home.run(&["inbox", "show", &url, &key]).await.assert_ok().out.contains("engine"));

    let counts = async || {
        let stats = home.run_json(&["inbox", "stats", &url]).await;
        ["waiting", "dead_letters", "completed"].map(|state| stats[state].as_u64().unwrap())
    };
    assert_eq!(counts().await, [1, 1, 0]);
    home.run(&["inbox", "replay", &url]).await.assert_fails(2, "--all");
    // A key that the inbox does not have is named; the others are replayed.
    let unknown = "0".repeat(32);
    let replayed = home.run(&["inbox", "replay", &url, &unknown, &key, &key]).await;
    assert_eq!((replayed.code, replayed.out.as_str()), (Some(1), "replayed 1 event(s)\n"));
    assert!(replayed.err.contains(&unknown) && !replayed.err.contains(&key), "{replayed:?}");
    assert_eq!(counts().await, [2, 0, 0]);
    home.run(&["inbox", "purge", &url]).await.assert_fails(2, "--all");
    assert_eq!(home.run_json(&["inbox", "purge", &url, &key]).await["purged"], 1);
    assert_eq!(counts().await, [1, 0, 1]);
    assert_eq!(home.run_json(&["inbox", "purge", &url, "--all"]).await["purged"], 1);
    assert_eq!(counts().await, [0, 0, 2]);
}

#[tokio::test]
async fn inbox_list_tells_that_there_are_more() {
    let home = Home::new();
    let url = filled(&home).await;
    for flags in [&["--limit", "1"][..], &["--limit", "1", "--json"]] {
        let cut = home.run(&[&["inbox", "list", &url], flags].concat()).await;
        let cut = cut.assert_exits(0, "there are more: --after 1 ");
        assert_eq!(cut.out.lines().filter(|line| line.contains("file_uploaded")).count(), 1, "{cut:?}");
    }
    home.run(&["inbox", "list", &url, "--limit", "0"]).await.assert_fails(2, "--limit");
    for flags in [["--limit", "2"], ["--after", "1"]] {
        let all = home.run(&[&["inbox", "list", &url], &flags[..]].concat()).await.assert_ok();
        assert_eq!(all.err, "");
    }
}

/// Not even an inbox of an earlier version is migrated by a look at it.
#[tokio::test]
async fn inbox_reads_change_nothing() {
    let home = Home::new();
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/../smartshape-webhook-inbox/tests/data/inbox-0.1.0.db");
    std::fs::copy(old, home.path().join("old.db")).unwrap();
    let listed = home.run_json(&["inbox", "list", "old.db", "--state", "dead-letter"]).await;
    let key = listed["key"].as_str().unwrap().to_owned();
    home.run(&["inbox", "show", "old.db", &key]).await.assert_ok();
    assert_eq!(home.run_json(&["inbox", "stats", "old.db"]).await["dead_letters"], 1);
    assert!(std::fs::read(home.path().join("old.db")).unwrap() == std::fs::read(old).unwrap());
    for beside in ["old.db-wal", "old.db-shm", "old.db-ballast"] {
        assert!(!home.path().join(beside).exists(), "{beside}");
    }
    for (option, value, count) in [
        ("--since", "2020-01-01T00:00:00Z", 3),
        ("--until", "2020-01-01T00:00:00Z", 0),
        ("--secret-name", "nobody's", 0),
    ] {
        let listed = home.run(&["--json", "inbox", "list", "old.db", option, value]).await.assert_ok();
        assert_eq!(listed.lines().len(), count, "{option}");
    }
    home.run(&["inbox", "list", "old.db", "--since", "noon"]).await.assert_fails(2, "--since");
}

#[tokio::test]
async fn inbox_list_tells_that_nothing_matches() {
    let home = Home::new();
    let inbox = Inbox::open(home.path().join("inbox.db").to_str().unwrap()).await.unwrap();
    let list =
        async |more: &[&str]| home.run(&[&["inbox", "list", "inbox.db"], more].concat()).await.assert_ok();
    let none = list(&[]).await;
    assert!(none.out.starts_with("SEQ") && none.err.contains("the inbox is empty"), "{none:?}");
    inbox.handle(Delivery::for_test(body("one")).unwrap()).await.unwrap();
    assert_eq!(list(&[]).await.err, "");
    let none = list(&["--state", "dead-letter"]).await;
    assert!(none.out.lines().count() == 1 && none.err.contains("no event is like this"), "{none:?}");
    assert_eq!(list(&["--state", "dead-letter", "--json"]).await.out, "");
}

#[tokio::test]
async fn inbox_rejects_other_files_unchanged() {
    let home = Home::new();
    home.run(&["inbox", "stats", "none.db"]).await.assert_fails(1, "there is no inbox at none.db");
    assert!(!home.path().join("none.db").exists());
    for content in ["", "a text of somebody's, and a longer one"] {
        home.write("notes", content);
        home.run(&["inbox", "list", "notes"]).await.assert_fails(1, "there is no inbox at notes");
        assert_eq!(home.read("notes"), content);
    }
    std::fs::create_dir(home.path().join("folder")).unwrap();
    for command in [&["list", "folder"][..], &["purge", "folder", "--all"]] {
        let failed = home.run(&[&["inbox"], command].concat()).await;
        failed.assert_fails(1, "there is no inbox at folder: it is no file");
    }
    #[cfg(unix)]
    {
        let pipe = home.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
        home.run(&["inbox", "list", "pipe"])
            .await
            .assert_fails(1, "there is no inbox at pipe: it is no file");
    }
    home.run(&["inbox", "list", "mysql://somewhere"]).await.assert_fails(2, "postgres://");
    let mistyped = home.run(&["inbox", "list", "postgres:/ada:hunter2@h/x"]).await;
    assert!(!mistyped.err.contains("hunter2"), "{mistyped:?}");
    mistyped.assert_fails(2, "an inbox is a path or a postgres:// URL");
    let url = filled(&home).await;
    home.run(&["inbox", "show", &url, "1"])
        .await
        .assert_fails(2, "use the KEY column of `smartshape inbox list`");
    home.run(&["inbox", "show", &url, &"0".repeat(32)]).await.assert_fails(1, "no event 000");
}

#[tokio::test]
async fn inbox_on_postgresql_works() {
    let Some(schema) = Schema::create("inbox").await else { return };
    let url = schema.url.clone();
    let home = Home::new();
    for _ in 0..2 {
        // The second time too: the first one created nothing.
        home.run(&["inbox", "stats", &url]).await.assert_fails(1, "there is no inbox in this database");
    }
    let inbox = Inbox::open(&url).await.unwrap();
    inbox.handle(Delivery::for_test(body("one")).unwrap()).await.unwrap();
    let mut list = home.program(&["--json", "inbox", "list", "-"]);
    assert_eq!(run_with_stdin(&mut list, &url).await.assert_ok().json()["uuid"], "one");
    home.run(&["inbox", "purge", &url, "--event", "file_uploaded"]).await.assert_ok();
    assert_eq!(home.run_json(&["inbox", "stats", &url]).await["waiting"], 0);
    drop(inbox);
    schema.drop().await;
}

#[tokio::test]
async fn inbox_reports_unavailable_server() {
    let (home, (_socket, unused)) = (Home::new(), unused_url());
    let url = unused.replace("http://", "postgres://ada:hunter2@") + "/events";
    for command in ["list", "stats"] {
        let failed = home.run(&["inbox", command, &url]).await;
        failed.assert_fails(1, "Connection refused");
        assert!(!failed.err.contains("hunter2"), "{failed:?}");
    }
}
