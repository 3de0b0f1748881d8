//! `smartshape webhook rotate`.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Path as UrlPath;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, delete, put};
use smartshape_fake::{ErrorFormat, FakeSmartShape, FaultInjection, SenderSettings};
use smartshape_webhook::EventKind::{FileOptimized, FileUploaded};
use smartshape_webhook_tower::{Delivery, NamedSecret, Receiver, Secret, endpoint};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, mpsc};

use crate::event::serve;
use crate::support::{Home, RunResult, SECRET, assert_private, run, within};

const URL: &str = "http://127.0.0.1:1/a?key=hunter2";
const NEW_SECRET: &str = "another random string";

async fn fake(shows_url: bool) -> FakeSmartShape {
    let fake = FakeSmartShape::builder().list_shows_url(shows_url).start().await.unwrap();
    fake.register(FileOptimized, URL, SECRET);
    fake.register(FileUploaded, "http://127.0.0.1:1/b", SECRET);
    fake
}

async fn rotate(home: &Home, fake: &FakeSmartShape, arguments: &[&str]) -> RunResult {
    let arguments = [&["webhook", "rotate"], arguments].concat();
    let mut program = home.logged_in(fake, &arguments);
    let ran = run(program.env("SMARTSHAPE_NEW_WEBHOOK_SECRET", NEW_SECRET)).await;
    assert!(![NEW_SECRET, "hunter2"].iter().any(|secret| ran.err.contains(secret)), "{ran:?}");
    assert!(!ran.out.contains(NEW_SECRET), "{ran:?}");
    ran
}

/// Ids and secrets of the webhooks that point at the URL.
fn at_url(fake: &FakeSmartShape) -> Vec<(String, String)> {
    let ours = fake.webhooks().into_iter().filter(|one| one.url == URL && one.event == FileUploaded);
    ours.map(|one| (one.id.clone(), one.secret().to_owned())).collect()
}

#[tokio::test]
async fn rotate_deletes_the_old_webhook_after_the_new_one_exists() {
    let home = Home::new();
    for (shows_url, by_id) in [(true, true), (true, false), (false, true)] {
        let fake = fake(shows_url).await;
        let old = fake.register(FileUploaded, URL, SECRET);
        let named = match (shows_url, by_id) {
            (true, true) => vec![old.as_str()],
            (true, false) => vec!["--url", URL, "--event", "file_uploaded"],
            (false, _) => vec![old.as_str(), "--url", URL],
        };
        let dry = rotate(&home, &fake, &[named.as_slice(), &["--dry-run"]].concat()).await.assert_ok();
        let expected =
            format!("would create file_uploaded at http://127.0.0.1:1/a?redacted\nwould delete {old}\n");
        assert_eq!((dry.out, fake.webhooks().len()), (expected, 3));

        let done = rotate(&home, &fake, &named).await.assert_exits(0, "accept the old secret as long as");
        let ours = at_url(&fake);
        assert_eq!((ours.len(), ours[0].1.as_str(), fake.webhooks().len()), (1, NEW_SECRET, 3));
        let expected =
            format!("created {}: file_uploaded at http://127.0.0.1:1/a?redacted\ndeleted {old}\n", ours[0].0);
        assert_eq!(done.out, expected);
    }
}

#[tokio::test]
async fn rotate_writes_a_generated_secret_and_keeps_the_old_webhook() {
    let (home, fake) = (Home::new(), fake(true).await);
    let old = fake.register(FileUploaded, URL, SECRET);
    let arguments = [old.as_str(), "--generate", "new.txt"];
    rotate(&home, &fake, &arguments).await.assert_fails(2, "--keep-old");
    let arguments = [arguments.as_slice(), &["--keep-old"]].concat();

    // Rejected: nothing is left of it.
    fake.inject(FaultInjection::error(400, ErrorFormat::Plain).after(1));
    rotate(&home, &fake, &arguments).await.assert_fails(1, "nothing was changed");
    assert!(!home.path().join("new.txt").exists());

    let done = rotate(&home, &fake, &[&["--json"], arguments.as_slice()].concat()).await.assert_ok();
    let secret = home.read("new.txt");
    let ours = at_url(&fake);
    assert_eq!((ours.len(), &ours[0].0, ours[1].1.as_str()), (2, &old, secret.trim_end()));
    assert!(!done.out.contains(secret.trim_end()) && !done.err.contains(secret.trim_end()));
    let lines = done.lines();
    let created = &lines[0]["created"];
    assert!(created["id"] == ours[1].0 && created["url"] == URL && lines[1]["kept"] == old, "{lines:?}");
    assert_private(&home.path().join("new.txt"));

    // A file that is there is somebody's.
    rotate(&home, &fake, &arguments).await.assert_fails(1, "new.txt");
    assert_eq!((home.read("new.txt"), at_url(&fake)), (secret, ours));
}

#[tokio::test]
async fn rotate_names_the_webhooks_left_by_an_interruption() {
    let home = Home::new();
    // Whether the call that fails takes effect; how many of ours there are then.
    for (step, takes_effect, count, says) in [
        (0, false, 1, "Injected"),
        (1, false, 1, "is as it was"),
        (1, true, 2, "if `smartshape webhook list` shows a new webhook beside it, delete one of the two"),
        (2, false, 2, "half done"),
        (2, true, 1, "half done"),
    ] {
        let fake = fake(true).await;
        let old = fake.register(FileUploaded, URL, SECRET);
        // Deletions and lists are tried three times.
        for attempt in 0..if step == 1 { 1 } else { 3 } {
            let failed =
                FaultInjection::error(500, ErrorFormat::Wrapped).after(if attempt == 0 { step } else { 0 });
            fake.inject(if takes_effect { failed.after_effect() } else { failed });
        }
        let stopped = rotate(&home, &fake, &[&old]).await;
        let stopped = stopped.assert_exits(1, says);
        assert!(step == 0 || stopped.err.contains(&old), "{stopped:?}");
        assert_eq!(stopped.out.contains("created"), step == 2, "{stopped:?}");
        let ours = at_url(&fake);
        assert_eq!(ours.len(), count, "{step} {takes_effect}");
        let is_old = |(id, secret): &(String, String)| *id == old && secret == SECRET;
        assert_eq!(ours.iter().any(is_old), (step, takes_effect) != (2, true));
    }
}

#[tokio::test]
async fn rotate_with_an_ambiguous_choice_changes_nothing() {
    let (home, shown, hidden) = (Home::new(), fake(true).await, fake(false).await);
    let one = shown.register(FileUploaded, URL, SECRET);
    let unlisted = hidden.register(FileUploaded, URL, SECRET);
    let by_url = ["--url", URL, "--event", "file_uploaded"];
    for (fake, arguments, code, says) in [
        (&shown, vec![], 2, "which webhook"),
        (&shown, vec!["--url", URL], 2, "which webhook"),
        (&shown, vec!["5c6f"], 1, "there is no webhook 5c6f"),
        (&shown, vec![&one, "--url", "http://127.0.0.1:1/b"], 1, "does not point at"),
        (&shown, vec![&one, "--event", "file_optimized"], 1, "is for file_uploaded"),
        (&shown, vec!["--url", "http://127.0.0.1:1/c", "--event", "file_uploaded"], 1, "points at this URL"),
        (&shown, vec![&one, "--new-secret", " padded"], 2, "white space"),
        (&hidden, vec![&unlisted], 1, "--url"),
        (&hidden, by_url.to_vec(), 1, "by its ID"),
    ] {
        rotate(&home, fake, &arguments).await.assert_fails(code, says);
        assert_eq!((at_url(fake).len(), fake.webhooks().len()), (1, 3), "{arguments:?}");
    }

    shown.register(FileUploaded, URL, SECRET);
    rotate(&home, &shown, &by_url).await.assert_fails(1, &one);
    let mut program = home.logged_in(&shown, &["webhook", "rotate", &one]);
    run(&mut program).await.assert_fails(2, "SMARTSHAPE_NEW_WEBHOOK_SECRET");
    let same = program.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET).env("SMARTSHAPE_NEW_WEBHOOK_SECRET", SECRET);
    run(same).await.assert_fails(2, "choose another");
    assert_eq!(at_url(&shown).len(), 2);
}

#[tokio::test]
async fn rotate_misses_no_event_while_both_webhooks_send() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&names);
    let handler = move |delivery: Delivery| {
        sink.lock().unwrap().push(delivery.secret_name().unwrap_or_default().to_owned());
        async { Ok(()) }
    };
    let secret = |name: &str, secret: &str| NamedSecret::new(name, Secret::new(secret).unwrap());
    let receiver = Receiver::builder().verify_timeout(Duration::from_secs(60));
    let receiver = receiver.named_secret(secret("old", SECRET)).build().unwrap();
    let url = serve(Router::new().route_service("/callback", endpoint(receiver.clone(), handler))).await;

    let once = SenderSettings { max_attempts: 1, ..SenderSettings::quick() };
    let (home, fake) = (Home::new(), FakeSmartShape::builder().sender(once).start().await.unwrap());
    let old = fake.register(FileUploaded, &url, SECRET);
    // How many webhooks sent, and how many of them were accepted.
    let sent = async || {
        let outcomes = fake.trigger(FileUploaded).await;
        (outcomes.len(), outcomes.iter().filter(|outcome| outcome.accepted()).count())
    };
    assert_eq!(sent().await, (1, 1));
    rotate(&home, &fake, &[&old, "--generate", "new.txt", "--keep-old"]).await.assert_ok();
    assert_eq!(sent().await, (2, 1), "the receiver does not know the new secret yet");
    let new = home.read("new.txt");
    receiver.replace_secrets(vec![secret("old", SECRET), secret("new", new.trim_end())]).unwrap();
    assert_eq!(sent().await, (2, 2));
    home.run_at(&fake, &["webhook", "delete", &old]).await.assert_ok();
    receiver.replace_secrets(vec![secret("new", new.trim_end())]).unwrap();
    assert_eq!(sent().await, (1, 1));

    let names = names.lock().unwrap();
    assert_eq!((names[0].as_str(), names.last().unwrap().as_str()), ("old", "new"));
}

fn json(body: impl IntoResponse) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], body)
}

fn created() -> impl IntoResponse {
    json(r#"{"data": {"type": "webhook", "attributes": {"__v": 0, "_id": "new1"}}}"#)
}

/// A server with one webhook, and its responses to a creation and a deletion.
async fn server(id: &str, create: MethodRouter, delete: MethodRouter) -> String {
    let list = format!(
        r#"{{"data": [{{"type": "webhook", "id": "{id}",
            "attributes": {{"event": "file_uploaded", "url": "http://127.0.0.1:1/"}}}}]}}"#
    );
    let webhooks = create.get(async move || json(list));
    let url = serve(Router::new().route("/webhook/", webhooks).route("/webhook/{id}", delete)).await;
    url.trim_end_matches("/callback").to_owned()
}

/// A server with the webhook `old1` that responds to a creation once it may.
pub(crate) struct SlowServer {
    url: String,
    pub(crate) creation: mpsc::UnboundedReceiver<()>,
    gate: Arc<Semaphore>,
    deleted: Arc<Mutex<Vec<String>>>,
}

impl SlowServer {
    pub(crate) async fn start() -> Self {
        let (asked, creation) = mpsc::unbounded_channel();
        let (gate, deleted) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (opened, noted) = (Arc::clone(&gate), Arc::clone(&deleted));
        let create = put(async move || {
            asked.send(()).unwrap();
            let _ = opened.acquire().await;
            created()
        });
        let remove = delete(async move |UrlPath(id): UrlPath<String>| {
            noted.lock().unwrap().push(id);
            json(r#"{"success": true}"#)
        });
        Self { url: server("old1", create, remove).await, creation, gate, deleted }
    }

    pub(crate) fn respond(&self) {
        self.gate.add_permits(1);
    }

    /// Starts `smartshape webhook` with these arguments, and waits for its creation.
    pub(crate) async fn start_creation(&mut self, home: &Home, arguments: &[&str]) -> Child {
        let mut program = self.program(home, arguments);
        let child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        within(self.creation.recv()).await.unwrap();
        child
    }

    pub(crate) fn program(&self, home: &Home, arguments: &[&str]) -> Command {
        program_at(home, &self.url, arguments)
    }
}

fn program_at(home: &Home, server: &str, arguments: &[&str]) -> Command {
    let mut program = home.program(&[&["webhook"], arguments].concat());
    program
        .env("SMARTSHAPE_API_URL", server)
        .env("SMARTSHAPE_TOKEN", "any")
        .env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)
        .env("SMARTSHAPE_NEW_WEBHOOK_SECRET", NEW_SECRET);
    program
}

#[cfg(unix)]
#[tokio::test]
async fn creation_is_not_interrupted_by_a_signal() {
    for (arguments, deleted) in [
        (&["rotate", "old1"][..], &["old1"][..]),
        (&["create", "http://127.0.0.1:1/", "file_uploaded"], &[]),
        (&["apply", "webhooks.json"], &[]),
    ] {
        let (home, mut server) = (Home::new(), SlowServer::start().await);
        let declared = r#"{"url": "http://127.0.0.1:1/", "webhooks": [{"event": "file_optimized"}]}"#;
        home.write("webhooks.json", declared);
        let child = server.start_creation(&home, arguments).await;
        let id = child.id().unwrap().to_string();
        for signal in ["-INT", "-TERM"] {
            assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
        }
        server.respond();
        let ran = RunResult::from(within(child.wait_with_output()).await.unwrap()).assert_ok();
        assert!(ran.out.contains("created new1"), "{ran:?}");
        assert_eq!(*server.deleted.lock().unwrap(), deleted);
        assert!(arguments[0] != "apply" || home.read("webhooks.json.records.json").contains("new1"));
    }
}

#[tokio::test]
async fn rotate_deletes_no_webhook_that_was_changed_in_place() {
    let home = Home::new();
    let server =
        server("new1", put(async || created()), delete(async || http::StatusCode::IM_A_TEAPOT)).await;
    let ran = run(&mut program_at(&home, &server, &["rotate", "new1"])).await.assert_exits(0, "in place");
    assert!(ran.out.contains("created new1"), "{ran:?}");
}

/// As after another rotation that ran at the same time, and created a webhook too.
#[tokio::test]
async fn rotate_tells_that_the_old_webhook_was_gone() {
    let gone = delete(async || http::StatusCode::NOT_FOUND);
    let (home, server) = (Home::new(), server("old1", put(async || created()), gone).await);
    let rotated = run(&mut program_at(&home, &server, &["rotate", "old1"])).await;
    let rotated = rotated.assert_exits(0, "old1 was gone already");
    assert!(!rotated.out.contains("deleted"), "{rotated:?}");
}

#[tokio::test]
async fn rotate_quotes_ids_for_the_shell() {
    const ID: &str = "5c6f$(touch PWNED)";
    let reject = delete(async || http::StatusCode::BAD_REQUEST);
    let (home, server) = (Home::new(), server(ID, put(async || created()), reject).await);
    for (more, code, says) in [
        (&["--keep-old"][..], 0, "both send until `smartshape webhook delete '5c6f$(touch PWNED)'`"),
        (&[], 1, "half done"),
    ] {
        let rotated = run(&mut program_at(&home, &server, &[&["rotate", ID], more].concat())).await;
        let rotated = rotated.assert_exits(code, says);
        assert!(rotated.err.contains("`smartshape webhook delete '5c6f$(touch PWNED)'`"), "{rotated:?}");
    }
}
