//! `smartshape webhook listen` and `prune`.

use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use smartshape_fake::{Disturbance, ErrorForm, EventPayload, FakeBuilder, FakeSmartShape, SenderSettings};
use smartshape_webhook::EventKind;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::support::{Home, SECRET, ran};

/// A fake for a machine that may be busy.
fn builder() -> FakeBuilder {
    let time_limit = std::time::Duration::from_secs(60);
    let sender = SenderSettings { max_attempts: 3, time_limit, ..SenderSettings::quick() };
    FakeSmartShape::builder().sender(sender)
}

struct Listener {
    child: Child,
    out: Option<Lines<BufReader<ChildStdout>>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Listener {
    /// Runs it until it has registered.
    async fn start(mut command: Command) -> Self {
        let mut listener = Self::spawn(&mut command);
        listener.until("registered ").await;
        listener
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Some(BufReader::new(child.stdout.take().unwrap()).lines());
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, err }
    }

    /// Reads standard error up to a line that says so.
    async fn until(&mut self, says: &str) -> String {
        let mut read = Vec::new();
        while let Some(line) = self.err.next_line().await.unwrap() {
            if line.contains(says) {
                return line;
            }
            read.push(line);
        }
        panic!("it ended without {says:?}: {read:?}")
    }

    async fn line(&mut self) -> Value {
        let line = self.out.as_mut().unwrap().next_line().await.unwrap().expect("a line");
        serde_json::from_str(&line).unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Waits for its end; what it still wrote to standard output and error.
    async fn end(mut self) -> (ExitStatus, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        if let Some(lines) = self.out {
            lines.into_inner().read_to_string(&mut out).await.unwrap();
        }
        self.err.into_inner().read_to_string(&mut err).await.unwrap();
        (self.child.wait().await.unwrap(), out, err)
    }
}

/// The files that listeners keep.
fn journals(home: &Home) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(home.path().join(".local/state/smartshape/listeners")) else {
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn payloads_are_lines_and_what_was_created_is_deleted_at_a_signal() {
    for signal in ["-INT", "-TERM"] {
        let (home, fake) = (Home::new(), builder().start().await.unwrap());
        let other = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
        let command = home.logged_in(&fake, &["webhook", "listen", "--event", "annotation_created"]);
        let mut listener = Listener::start(command).await;
        let registered = fake.webhooks();
        assert_eq!((registered.len(), registered[1].event), (2, EventKind::AnnotationCreated));

        let event = EventPayload::sample(EventKind::AnnotationCreated);
        let outcomes = fake.send(&event).await;
        assert!(outcomes[0].accepted(), "{}", outcomes[0]);
        assert_eq!(listener.line().await["uuid"], event.uuid());
        // Sent again, it is acknowledged again, and not shown.
        assert!(fake.send(&event).await[0].accepted());

        listener.signal(signal);
        let (status, out, err) = listener.end().await;
        assert_eq!((status.code(), out.as_str()), (Some(0), ""), "{err}");
        assert!(!err.contains(registered[1].secret()));
        assert_eq!(fake.webhooks().into_iter().map(|webhook| webhook.id).collect::<Vec<_>>(), [other]);
        assert!(journals(&home).is_empty());
    }
}

#[tokio::test]
async fn all_nine_events_under_one_fresh_secret() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let mut listener = Listener::start(home.logged_in(&fake, &["webhook", "listen"])).await;
    let webhooks = fake.webhooks();
    assert_eq!(webhooks.iter().map(|webhook| webhook.event).collect::<Vec<_>>(), EventKind::ALL);
    assert!(webhooks[0].secret().len() >= 32);
    for kind in [EventKind::FileUploaded, EventKind::ConfigurationRemoved] {
        assert!(fake.trigger(kind).await[0].accepted());
        assert_eq!(listener.line().await["event"], kind.as_str());
    }
    listener.signal("-INT");
    assert_eq!(listener.end().await.0.code(), Some(0));
    assert!(fake.webhooks().is_empty());
}

#[tokio::test]
async fn a_closed_pipe_ends_it_though_no_event_comes() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let command = home.logged_in(&fake, &["webhook", "listen", "--event", "file_uploaded"]);
    let mut listener = Listener::start(command).await;
    drop(listener.out.take());
    let (status, _, err) = listener.end().await;
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(fake.webhooks().is_empty() && journals(&home).is_empty(), "{err}");
}

#[tokio::test]
async fn what_a_crash_leaves_is_pruned_and_nobody_elses() {
    for shows_url in [true, false] {
        let (home, fake) = (Home::new(), builder().list_shows_url(shows_url).start().await.unwrap());
        let before = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
        let arguments = ["webhook", "listen", "--event", "file_uploaded", "--event", "file_optimized"];
        let mut crashed = Listener::start(home.logged_in(&fake, &arguments)).await;
        let secret = fake.webhooks()[1].secret().to_owned();
        crashed.child.kill().await.unwrap();
        let after = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
        let running =
            Listener::start(home.logged_in(&fake, &["webhook", "listen", "--event", "annotation_created"]))
                .await;
        let here: Vec<_> = fake.webhooks().into_iter().map(|webhook| (webhook.id, webhook.event)).collect();
        // The next listener has done it.
        assert_eq!(here.len(), 3, "{here:?}");
        assert_eq!((&here[0].0, &here[1].0, here[2].1), (&before, &after, EventKind::AnnotationCreated));

        let file = journals(&home);
        assert_eq!(file.len(), 1, "of the one that runs: {file:?}");
        assert!(!std::fs::read_to_string(&file[0]).unwrap().contains(&secret));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&file[0]).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let nothing = ran(&mut home.logged_in(&fake, &["webhook", "prune"])).await.succeeds();
        assert!(nothing.out.contains("nothing is left behind"), "one that runs is left alone: {nothing:?}");

        let mut running = running;
        running.child.kill().await.unwrap();
        let pruned = ran(&mut home.logged_in(&fake, &["webhook", "prune"])).await.succeeds();
        assert!(pruned.out.contains(&here[2].0), "{pruned:?}");
        assert_eq!(
            fake.webhooks().into_iter().map(|webhook| webhook.id).collect::<Vec<_>>(),
            [before, after]
        );
        assert!(journals(&home).is_empty());
    }
}

#[tokio::test]
async fn what_was_not_noted_any_more_is_known_by_its_url() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let command = home.logged_in(&fake, &["webhook", "listen", "--event", "file_uploaded"]);
    let mut crashed = Listener::start(command).await;
    crashed.child.kill().await.unwrap();
    let other = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
    // As when the power fails in the middle of the second line.
    let path = &journals(&home)[0];
    let text = std::fs::read_to_string(path).unwrap();
    let intent = text.find('\n').unwrap();
    std::fs::write(path, &text[..intent + 12]).unwrap();
    ran(&mut home.logged_in(&fake, &["webhook", "prune"])).await.succeeds();
    assert_eq!(fake.webhooks().into_iter().map(|webhook| webhook.id).collect::<Vec<_>>(), [other]);
    assert!(journals(&home).is_empty());

    std::fs::write(path, "of another program\n").unwrap();
    let pruned = ran(&mut home.logged_in(&fake, &["webhook", "prune"])).await;
    assert!(pruned.code == Some(1) && pruned.err.contains("look at it") && path.exists(), "{pruned:?}");
}

#[tokio::test]
async fn what_cannot_be_pruned_is_told_until_it_is_forgotten() {
    let (home, fake, other) =
        (Home::new(), builder().start().await.unwrap(), builder().start().await.unwrap());
    let command = home.logged_in(&fake, &["webhook", "listen", "--event", "file_uploaded"]);
    Listener::start(command).await.child.kill().await.unwrap();
    let pruned = ran(&mut home.logged_in(&other, &["webhook", "prune"])).await;
    assert!(pruned.code == Some(1) && pruned.err.contains(&fake.base_url()), "{pruned:?}");
    ran(&mut home.logged_in(&other, &["webhook", "prune", "--forget"])).await.succeeds();
    assert_eq!((fake.webhooks().len(), journals(&home).len()), (1, 0));
}

#[tokio::test]
async fn an_expired_token_at_the_end_keeps_the_note() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let command = home.logged_in(&fake, &["webhook", "listen", "--event", "file_uploaded"]);
    let listener = Listener::start(command).await;
    fake.expire_tokens();
    listener.signal("-TERM");
    let (status, _, err) = listener.end().await;
    assert!(status.code() == Some(1) && err.contains("smartshape webhook prune"), "{err}");
    assert_eq!((fake.webhooks().len(), journals(&home).len()), (1, 1));
    ran(&mut home.logged_in(&fake, &["webhook", "prune"])).await.succeeds();
    assert_eq!((fake.webhooks().len(), journals(&home).len()), (0, 0));
}

#[tokio::test]
async fn a_registration_whose_answer_is_lost_is_found_by_its_url() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let other = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
    // After the list, the first creation.
    fake.disturb(Disturbance::error(500, ErrorForm::Plain).after(1).carried_out());
    let arguments = ["webhook", "listen", "--event", "file_uploaded", "--event", "file_optimized"];
    let ran_ = ran(&mut home.logged_in(&fake, &arguments)).await;
    assert!(ran_.code == Some(1) && ran_.err.contains("create a webhook"), "{ran_:?}");
    assert_eq!(fake.webhooks().into_iter().map(|webhook| webhook.id).collect::<Vec<_>>(), [other]);
    assert!(journals(&home).is_empty(), "{ran_:?}");
}

#[tokio::test]
async fn where_no_urls_are_shown_what_is_unclear_is_left_and_told() {
    let (home, fake) = (Home::new(), builder().list_shows_url(false).start().await.unwrap());
    let before = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
    fake.disturb(Disturbance::error(500, ErrorForm::Plain).after(1).carried_out());
    let ran_ = ran(&mut home.logged_in(&fake, &["webhook", "listen", "--event", "file_uploaded"])).await;
    let id = fake.webhooks()[1].id.clone();
    assert!(!ran_.err.contains(&before), "{ran_:?}");
    let says = format!("smartshape webhook delete {id}");
    assert!(ran_.code == Some(1) && ran_.err.contains(&says), "{ran_:?}");
    let pruned = ran(&mut home.logged_in(&fake, &["webhook", "prune"])).await;
    assert!(pruned.code == Some(1) && pruned.err.contains(&says), "{pruned:?}");
    ran(&mut home.logged_in(&fake, &["webhook", "delete", &id])).await.succeeds();
    ran(&mut home.logged_in(&fake, &["webhook", "prune"])).await.succeeds();
    assert!(journals(&home).is_empty());
}

#[tokio::test]
async fn events_are_recorded_and_forwarded() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let target = builder().start().await.unwrap();
    // Somebody who answers, though not as a webhook's endpoint does.
    let url = format!("{}/nowhere", target.base_url());
    let arguments = [
        "webhook",
        "listen",
        "--event",
        "file_uploaded",
        "--record",
        "events.jsonl",
        "--forward-to",
        &url,
        "--cost",
        "4",
    ];
    let mut command = home.logged_in(&fake, &arguments);
    command.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET);
    let mut listener = Listener::start(command).await;
    assert!(fake.trigger(EventKind::FileUploaded).await[0].accepted());
    let line = listener.line().await;
    listener.until("the status is 404").await;
    listener.signal("-INT");
    assert_eq!(listener.end().await.0.code(), Some(0));
    let recorded = std::fs::read_to_string(home.path().join("events.jsonl")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(recorded.trim_end()).unwrap(), line);
}

#[tokio::test]
async fn nothing_is_registered_where_it_could_not_work() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let listen = async |more: &[&str]| {
        let arguments = [&["webhook", "listen", "--event", "file_uploaded"], more].concat();
        ran(&mut home.logged_in(&fake, &arguments)).await
    };
    // Somebody else's server.
    let elsewhere = listen(&["--public-url", &fake.base_url()]).await;
    assert!(elsewhere.code == Some(1) && elsewhere.err.contains("does not lead here"), "{elsewhere:?}");
    listen(&["--event", "file_deleted"]).await.fails(2, "annotation_created");
    listen(&["--public-url", "nonsense"]).await.fails(2, "absolute URL");
    listen(&["--bind", "192.0.2.1:0"]).await.fails(2, "another --bind");
    listen(&["--bind", "0.0.0.0:0"]).await.fails(2, "--public-url");
    listen(&["--forward-to", "http://127.0.0.1:1/"]).await.fails(2, "SMARTSHAPE_WEBHOOK_SECRET");
    let mut command = home.program(&["webhook", "listen", "--token", "abc"]);
    ran(&mut command).await.fails(2, "--public-url");
    assert!(fake.webhooks().is_empty() && journals(&home).is_empty());
}

/// The pipeline of SmartShape's manual, where there is a `jq`.
#[tokio::test]
async fn the_manuals_pipeline() {
    if std::process::Command::new("jq").arg("--version").output().is_err() {
        return;
    }
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let script = r#"smartshape webhook listen --event attribute_updated |
        jq --unbuffered -rc '.file as $file | (.runTimestamp / 1000 | floor) as $time
            | .data.nodeIdToAttributes | keys[] | "\($file) \(.) \($time)"' |
        xargs -L1 sh -c 'smartshape attribute upsert "$0" "{\"mtime\": $2}" --query "id:$1" && echo done'"#;
    let mut command = home.logged_in(&fake, &[]);
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_smartshape")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let environment: Vec<_> = command
        .as_std()
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command = Command::new("sh");
    command.args(["-c", script]).env_clear().envs(environment).env("PATH", path).current_dir(home.path());
    command.stdin(Stdio::null()).process_group(0);
    let mut pipeline = Listener::spawn(&mut command);
    let group = Group(format!("-{}", pipeline.child.id().unwrap()));
    pipeline.until("registered ").await;

    let event = EventPayload::sample(EventKind::AttributeUpdated).with_file("5c6f");
    let body: Value = serde_json::from_slice(&event.to_body()).unwrap();
    let nodes = body["data"]["nodeIdToAttributes"].as_object().unwrap().len();
    assert!(fake.send(&event).await[0].accepted());
    let mut out = pipeline.out.take().unwrap();
    let mut done = 0;
    while done < nodes {
        done += usize::from(out.next_line().await.unwrap().expect("it goes on") == "done");
    }
    let set = fake.attributes();
    assert_eq!(set.len(), nodes);
    let time = body["runTimestamp"].as_i64().unwrap() / 1000;
    assert!(set.iter().all(|one| one.file.as_deref() == Some("5c6f") && one.value == time), "{set:?}");
    assert_eq!(fake.webhooks().len(), 1);
    // As ^C does, to all of them.
    group.signal("-INT");
    pipeline.end().await;
    assert!(fake.webhooks().is_empty() && journals(&home).is_empty());
}

/// The processes of a pipeline, which end with the test.
struct Group(String);

impl Group {
    fn signal(&self, name: &str) {
        let _ = std::process::Command::new("kill").args([name, "--", &self.0]).status();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal("-KILL");
    }
}
