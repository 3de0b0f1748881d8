//! How each command reports a server that rejects, an expired login, and an unreachable server; and what it does when
//! nobody reads its results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use smartshape_fake::{ErrorFormat, FakeSmartShape, FaultInjection, Prefix, token};
use smartshape_webhook::EventKind::FileUploaded;

use crate::event::serve;
use crate::listener;
use crate::support::{Home, RunResult, SECRET, run, run_unread, unused_url};

const URL: &str = "http://127.0.0.1:1/a";

/// Each command that calls the web API.
const COMMANDS: [&[&str]; 8] = [
    &["webhook", "list"],
    &["webhook", "create", URL, "file_uploaded"],
    &["webhook", "delete", "ID"],
    &["webhook", "apply", "webhooks.json"],
    &["webhook", "rotate", "ID"],
    &["webhook", "prune"],
    &["attribute", "upsert", "5c6f", "{\"mtime\": 1}", "--query", "id:5b33"],
    &["login", "ada"],
];

struct Fixture {
    home: Home,
    fake: FakeSmartShape,
    id: String,
    token: String,
}

impl Fixture {
    async fn new() -> Self {
        let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
        let declared = format!(r#"{{"url": "{URL}", "webhooks": [{{"event": "file_optimized"}}]}}"#);
        home.write("webhooks.json", declared);
        let id = fake.register(FileUploaded, URL, SECRET);
        let token = fake.bearer_token();
        Self { home, fake, id, token }
    }

    async fn run(&self, command: &[&str]) -> RunResult {
        self.run_at(&self.fake.base_url(), &self.token, command).await
    }

    async fn run_at(&self, url: &str, token: &str, command: &[&str]) -> RunResult {
        let arguments: Vec<_> =
            command.iter().map(|&word| if word == "ID" { &*self.id } else { word }).collect();
        let mut program = self.home.program(&arguments);
        program.env("SMARTSHAPE_API_URL", url).env("SMARTSHAPE_TOKEN", token);
        program
            .env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)
            .env("SMARTSHAPE_NEW_WEBHOOK_SECRET", "another secret of mine");
        let ran = run(program.env("SMARTSHAPE_PASSWORD", "her password")).await;
        let hidden = [token, SECRET, "another secret of mine", "her password"];
        assert!(
            !hidden.iter().any(|secret| !secret.is_empty() && format!("{ran:?}").contains(secret)),
            "{ran:?}"
        );
        ran
    }

    /// Nothing is other than before.
    fn unchanged(&self) {
        let webhooks = self.fake.webhooks();
        assert_eq!((webhooks.len(), &webhooks[0].id, webhooks[0].secret()), (1, &self.id, SECRET));
        assert!(self.fake.attributes().is_empty());
        assert!(!self.home.path().join(".config").exists(), "no login is kept");
    }
}

/// The commands that call the server. `prune` does not, since there is no journal.
fn calling() -> impl Iterator<Item = &'static [&'static str]> {
    COMMANDS.into_iter().filter(|command| command[1] != "prune")
}

#[tokio::test]
async fn api_errors_of_every_format_are_one_clear_line() {
    let fixture = Fixture::new().await;
    for command in calling() {
        for (form, status) in [
            (ErrorFormat::Plain, 400),
            (ErrorFormat::Wrapped, 402),
            (ErrorFormat::List, 503),
            (ErrorFormat::Empty, 400),
            (ErrorFormat::Plain, 404),
        ] {
            fixture.fake.inject(FaultInjection::error(status, form));
            let failed = fixture.run(command).await;
            let says = match (form, status, command[1]) {
                // The other webhooks may be there all the same.
                (_, 404, "delete") => "there is no webhook",
                (ErrorFormat::Empty, ..) => "400",
                _ => "Injected: requested by the test",
            };
            failed.assert_fails(1, says);
            fixture.unchanged();
        }
    }
}

#[tokio::test]
async fn expired_login_names_the_login_command() {
    let fixture = Fixture::new().await;
    fixture.fake.expire_tokens();
    for command in calling().filter(|command| command[0] != "login") {
        fixture.run(command).await.assert_fails(1, "log in again with `smartshape login`");
        fixture.unchanged();
    }
}

#[tokio::test]
async fn unreachable_server_is_named() {
    let fixture = Fixture::new().await;
    let (_socket, unused) = unused_url();
    for command in calling() {
        let failed = fixture.run_at(&unused, "the.auth.token", command).await;
        failed.assert_fails(1, &format!("no connection to {unused}: the connection was refused, so nobody listens there: check the API URL"));
        fixture.unchanged();
    }
    // Nothing is noted of a listener, so there is nothing to call for.
    let pruned = fixture.run_at(&unused, "the.auth.token", &["webhook", "prune"]).await.assert_ok();
    assert_eq!(pruned.out, "nothing is left behind\n");
}

#[tokio::test]
async fn plain_http_to_other_hosts_is_rejected() {
    let fixture = Fixture::new().await;
    // For documentation: nobody is there.
    const ELSEWHERE: &str = "http://192.0.2.1/callback";
    for command in calling() {
        fixture.run_at(ELSEWHERE, "the.auth.token", command).await.assert_fails(2, "by --insecure");
    }
    for command in [
        &["event", "trigger", "file_uploaded", "--to", ELSEWHERE][..],
        &["check", ELSEWHERE],
        &["webhook", "listen", "--forward-to", ELSEWHERE],
    ] {
        fixture.run(command).await.assert_fails(2, "by --insecure");
    }
    fixture.unchanged();
}

#[tokio::test]
async fn missing_login_sends_nothing() {
    let fixture = Fixture::new().await;
    for command in calling().filter(|command| command[0] != "login") {
        let failed = fixture.run_at(&fixture.fake.base_url(), "", command).await;
        failed.assert_fails(2, "log in first, with `smartshape login`");
    }
}

#[tokio::test]
async fn interrupted_deletion_lists_the_remaining_ids() {
    let fixture = Fixture::new().await;
    let two = fixture.fake.register(FileUploaded, URL, SECRET);
    let three = fixture.fake.register(FileUploaded, URL, SECRET);
    fixture.fake.inject(FaultInjection::error(400, ErrorFormat::Plain).after(1));
    let stopped = fixture.run(&["webhook", "delete", "ID", &two, &three]).await;
    assert_eq!((stopped.code, stopped.out.as_str()), (Some(1), &*format!("deleted {}\n", fixture.id)));
    assert!(stopped.err.contains(&format!("{two}: cannot delete")), "{stopped:?}");
    assert!(stopped.err.contains(&format!("not tried any more: {three}")), "{stopped:?}");
    assert_eq!(fixture.fake.webhooks().len(), 2);

    fixture.run(&["webhook", "delete", &two, ".."]).await.assert_fails(2, "no id");
    assert_eq!(fixture.fake.webhooks().len(), 2, "no id is found before anything is deleted");
}

#[tokio::test]
async fn closed_pipe_keeps_the_exit_code() {
    let (home, requests) = (Home::new(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&requests);
    let rejects = async move || {
        counted.fetch_add(1, Ordering::Relaxed);
        http::StatusCode::NO_CONTENT
    };
    let url = serve(Router::new().fallback(rejects)).await;
    let trigger = ["event", "trigger", "file_uploaded", "--to", &url, "--cost", "4", "--secret", SECRET];
    let trigger = [&trigger[..], &["--repeat", "3"]].concat();
    assert_eq!(run_unread(&mut home.program(&trigger)).await, Some(1));
    assert_eq!(requests.load(Ordering::Relaxed), 3);
    let check = ["check", &url, "--cost", "4", "--secret", SECRET, "--only", "file_"];
    assert_eq!(run_unread(&mut home.program(&check)).await, Some(1));
    let foreign = token("another secret of mine", 4, Prefix::TwoB).unwrap();
    let verify = ["token", "verify", &foreign, "--secret", SECRET];
    assert_eq!(run_unread(&mut home.program(&verify)).await, Some(1));

    // One listener's webhook can be deleted here, the other's cannot.
    let (here, there) = (FakeSmartShape::start().await.unwrap(), FakeSmartShape::start().await.unwrap());
    for fake in [&here, &there] {
        listener::killed(&home, fake, &["--event", "file_uploaded"]).await;
    }
    assert_eq!(run_unread(&mut home.logged_in(&here, &["webhook", "prune"])).await, Some(1));
    assert_eq!((here.webhooks().len(), there.webhooks().len()), (0, 1));

    // Nobody waits for the rest of these: all would take an hour.
    let sign = ["token", "sign", "--secret", SECRET, "--cost", "12", "--count", "10000"];
    assert_eq!(run_unread(&mut home.program(&sign)).await, Some(0));
}

/// A disk that is full where the results are written to.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn unprintable_success_says_what_was_done() {
    let full = async |program: &mut tokio::process::Command| {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = program.stdout(full).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let ran = RunResult::from(crate::support::within(child.wait_with_output()).await.unwrap());
        ran.assert_exits(1, "cannot write to standard output").err
    };
    let fixture = Fixture::new().await;
    let Fixture { home, fake, id, .. } = &fixture;
    let there = async |arguments: &[&str]| {
        let mut program = home.logged_in(fake, &[&["webhook"], arguments].concat());
        program.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET);
        full(program.env("SMARTSHAPE_NEW_WEBHOOK_SECRET", "another secret of mine")).await
    };
    let last = || fake.webhooks().pop().unwrap().id;

    let err = there(&["create", "http://127.0.0.1:1/b", "file_uploaded"]).await;
    assert!(err.contains(&format!("; created {}: file_uploaded at http://127.0.0.1:1/b", last())), "{err}");
    let err = there(&["rotate", id, "--keep-old"]).await;
    assert!(err.contains(&format!("; created {}: ", last())) && err.contains("both send until"), "{err}");
    let err = there(&["rotate", id]).await;
    assert!(err.contains(&format!("; created {}: ", last())), "{err}");
    assert!(err.contains(&format!("; deleted {id}")) && err.contains("accept the old secret"), "{err}");
    let err = there(&["apply", "webhooks.json"]).await;
    assert!(err.contains("; all was done, and is recorded in webhooks.json.records.json"), "{err}");

    let inbox = crate::inbox::filled(home).await;
    let err = full(&mut home.program(&["inbox", "purge", &inbox, "--all"])).await;
    assert!(err.contains("; purged 2 event(s)"), "{err}");
}
