//! `smartshape ui`.

use base64::Engine as _;
use serde_json::json;

use crate::inbox::{Schema, fill, filled};
use crate::program::Program;
use crate::support::{Home, Response, poll_until, request, within};

/// A console that runs.
pub(crate) struct Console {
    pub(crate) program: Program,
    /// The host of its address, and the port on 127.0.0.1.
    host: String,
    key: String,
}

impl Console {
    /// Runs it until it has printed its address.
    pub(crate) async fn start(mut command: tokio::process::Command) -> Self {
        let mut program = Program::spawn(&mut command);
        let line = within(program.out.as_mut().unwrap().next_line()).await.unwrap();
        match line {
            Some(url) => Self::at(program, &url),
            None => panic!("{:?}", program.end().await),
        }
    }

    pub(crate) fn at(program: Program, url: &str) -> Self {
        let (host, query) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let key = query.strip_prefix("?key=").unwrap_or_default().to_owned();
        Self { program, host: host.to_owned(), key }
    }

    pub(crate) async fn send(&self, method: &str, query: &str, headers: &[&str], body: &str) -> Response {
        request(method, &format!("http://{}/{query}", self.host), headers, body.as_bytes()).await
    }

    /// The cookie that the key is exchanged for.
    pub(crate) async fn cookie(&self) -> String {
        let entered = self.send("GET", &format!("?key={}", self.key), &[], "").await;
        let cookie = entered.header("set-cookie").split(';').next().unwrap();
        assert!(!entered.head.contains(&self.key) && !entered.body.contains(&self.key), "{}", entered.head);
        format!("cookie: {cookie}")
    }

    /// Ends the console; returns what it wrote to standard error.
    pub(crate) async fn stop(self) -> String {
        let (out, err) = self.program.stop("-TERM").await;
        assert_eq!(out, "", "{err}");
        err
    }
}

/// The header of a console's user who knows this password.
pub(crate) fn login(password: &str) -> String {
    let login = base64::engine::general_purpose::STANDARD.encode(format!("smartshape:{password}"));
    format!("authorization: Basic {login}")
}

#[tokio::test]
async fn ui_shows_an_inbox_to_whoever_has_the_link() {
    let home = Home::new();
    let url = filled(&home).await;
    let console = Console::start(home.program(&["ui", &url])).await;
    assert_eq!(console.send("GET", "?view=events", &[], "").await.status(), "401");
    let cookie = console.cookie().await;
    let page = console.send("GET", "?view=events&state=dead-letter", &[&cookie], "").await;
    assert!(page.body.contains("not to my liking") && page.body.contains("inbox.db"), "{}", page.body);
    // A site whose name leads here has no cookie, and its name is not ours.
    let rebound = console.send("GET", "", &["host: evil.example", &cookie], "").await;
    assert_eq!(rebound.status(), "421");

    for (site, status, dead_letters) in [("same-site", "403", 1), ("same-origin", "303", 0)] {
        let headers = [cookie.as_str(), &format!("sec-fetch-site: {site}")];
        let replayed = console.send("POST", "", &headers, "do=replay&up_to=1&back=?").await;
        let stats = home.run_json(&["inbox", "stats", &url]).await;
        assert_eq!((replayed.status(), &stats["dead_letters"]), (status, &json!(dead_letters)));
    }
    console.stop().await;
}

#[tokio::test]
async fn ui_logs_each_change_with_who_made_it() {
    let home = Home::new();
    let url = filled(&home).await;
    for (arguments, fields) in [
        (&["ui"][..], r#"action="purge" actor=ada role=Owner client=ClientAddr(127.0.0.1) events=1"#),
        (
            &["--json", "ui"],
            r#""action":"purge" "actor":"ada" "role":"Owner" "client":"ClientAddr(127.0.0.1)" "events":0"#,
        ),
    ] {
        let mut command = home.program(arguments);
        command.arg(&url).env("USER", "ada");
        let mut program = Program::spawn(&mut command);
        let printed = within(program.out.as_mut().unwrap().next_line()).await.unwrap().unwrap();
        let url =
            printed.strip_prefix("{\"url\":\"").map_or(printed.as_str(), |url| url.trim_end_matches("\"}"));
        let console = Console::at(program, url);
        let cookie = console.cookie().await;
        let own = [&*cookie, "sec-fetch-site: same-origin"];
        assert_eq!(console.send("POST", "", &own, "do=purge&up_to=1").await.status(), "303");
        let key = console.key.clone();
        let err = console.stop().await;
        let lines: Vec<_> = err.lines().filter(|line| line.contains("changed by the console")).collect();
        assert_eq!(lines.len(), 1, "{err}");
        assert!(fields.split(' ').all(|field| lines[0].contains(field)), "{err}");
        let cookie = cookie.split_once('=').unwrap().1;
        assert!(!lines[0].contains(&key) && !err.contains(cookie), "{err}");
    }
}

#[tokio::test]
async fn ui_shows_an_inbox_on_postgresql_without_its_password() {
    let Some(schema) = Schema::create("ui").await else { return };
    let home = Home::new();
    fill(&schema.url).await;
    let server: http::Uri = schema.url.parse().unwrap();
    let own = "sec-fetch-site: same-origin";
    for (arguments, status, dead_letters) in [(&["--read-only"][..], "403", 1), (&[], "303", 0)] {
        let console = Console::start(home.program(&[&["ui", &schema.url], arguments].concat())).await;
        let cookie = console.cookie().await;
        let page = console.send("GET", "?view=events&state=dead-letter", &[&cookie], "").await;
        let label = format!("{}{}", server.host().unwrap(), server.path());
        assert!(page.body.contains("not to my liking") && page.body.contains(&label), "{}", page.body);
        assert!(!page.body.contains("search_path"), "{}", page.body);
        if let Some((credentials, _)) = server.authority().unwrap().as_str().split_once('@') {
            assert!(!page.body.contains(credentials), "{}", page.body);
        }
        let overview = console.send("GET", "?view=overview", &[&cookie], "").await;
        assert!(overview.body.contains("1 event waits"), "{}", overview.body);
        let replay = "do=replay&up_to=1&back=?";
        assert_eq!(console.send("POST", "", &[&cookie, own], replay).await.status(), status);
        let stats = home.run_json(&["inbox", "stats", &schema.url]).await;
        assert_eq!(stats["dead_letters"], dead_letters);
        console.stop().await;
    }
    schema.drop().await;
}

#[tokio::test]
async fn ui_that_is_read_only_changes_nothing() {
    let home = Home::new();
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/../smartshape-webhook-inbox/tests/data/inbox-0.1.0.db");
    std::fs::copy(old, home.path().join("old.db")).unwrap();
    let console = Console::start(home.program(&["ui", "old.db", "--read-only"])).await;
    let cookie = console.cookie().await;
    let page = console.send("GET", "?view=events&state=dead-letter", &[&cookie], "").await;
    assert!(page.body.contains("Read only") && !page.body.contains("<form method=\"post\""));
    let own = [cookie.as_str(), "sec-fetch-site: same-origin"];
    assert_eq!(console.send("POST", "", &own, "do=purge&up_to=9").await.status(), "403");
    console.stop().await;
    assert!(std::fs::read(home.path().join("old.db")).unwrap() == std::fs::read(old).unwrap());
}

#[tokio::test]
async fn ui_needs_a_password_where_other_machines_reach_it() {
    const PASSWORD: &str = "correct horse battery";
    let home = Home::new();
    filled(&home).await;
    home.write("password", format!("{PASSWORD}\n"));
    home.write("short", "horse");
    let elsewhere = ["ui", "inbox.db", "--bind", "0.0.0.0:0"];
    home.run(&elsewhere).await.assert_fails(2, "--password-file");
    home.run(&["ui", "inbox.db", "--password-file", "short"]).await.assert_fails(2, "12 characters");
    home.run(&["ui", "inbox.db", "--password-file", "none"]).await.assert_fails(2, "none");

    let mut by_file = home.program(&elsewhere);
    by_file.args(["--password-file", "password"]);
    let mut by_variable = home.program(&["ui", "inbox.db"]);
    by_variable.env("SMARTSHAPE_UI_PASSWORD", PASSWORD);
    for command in [by_file, by_variable] {
        let console = Console::start(command).await;
        assert!(console.key.is_empty());
        assert_eq!(console.send("GET", "", &[], "").await.status(), "401");
        assert_eq!(console.send("GET", "", &[&login("another password")], "").await.status(), "401");
        assert_eq!(console.send("GET", "", &[&login(PASSWORD)], "").await.status(), "200");
        let (_, err) = console.program.stop("-INT").await;
        assert!(!err.contains(PASSWORD) && err.contains("user is smartshape"), "{err}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn ui_opens_a_browser_without_telling_the_key_to_others() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::new();
    filled(&home).await;
    let folder = home.path().join("bin");
    std::fs::create_dir(&folder).unwrap();
    let browser = folder.join("xdg-open");
    std::fs::write(&browser, "#!/bin/sh\necho \"$@\" > opened.new && mv opened.new opened\n").unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = home.program(&["ui", "inbox.db", "--open"]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", folder.display()));
    let console = Console::start(command).await;
    let opened = home.path().join("opened");
    poll_until(async || opened.exists()).await;
    let page = std::fs::read_to_string(opened).unwrap();
    let page = page.trim();
    assert!(!page.contains(&console.key));
    assert_eq!(std::fs::metadata(page).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(page).unwrap().contains(&console.key));
    let page = std::path::PathBuf::from(page);
    console.stop().await;
    assert!(!page.exists());
}

#[tokio::test]
async fn ui_says_why_it_cannot_be_shown() {
    let home = Home::new();
    home.run(&["ui", "none.db"]).await.assert_fails(1, "there is no inbox at none.db");
    assert!(!home.path().join("none.db").exists());
    let failed = home.run(&["ui", "postgres://ada:hunter2@127.0.0.1:1/app"]).await;
    failed.assert_fails(1, "Connection refused");
    assert!(!failed.err.contains("hunter2"));
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    filled(&home).await;
    let address = taken.local_addr().unwrap().to_string();
    home.run(&["ui", "inbox.db", "--listen", &address]).await.assert_fails(2, &address);
    let mut program = Program::spawn(&mut home.program(&["--json", "ui", "inbox.db"]));
    let printed = program.line().await;
    assert_eq!(printed, json!({"url": printed["url"].as_str().unwrap()}));
}
