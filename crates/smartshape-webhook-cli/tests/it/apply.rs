//! `smartshape webhook apply`.

use smartshape_fake::{Account, ErrorFormat, FakeSmartShape, FaultInjection};
use smartshape_webhook::EventKind::{self, AnnotationCreated, FileOptimized, FileUploaded};

use crate::rotate::SlowServer;
use crate::support::{Home, RunResult, SECRET, run, within};

const ONE: &str = r#"{"url": "http://127.0.0.1:1/a", "webhooks": [{"event": "file_uploaded"}]}"#;
const TWO: &str = r#"{"url": "http://127.0.0.1:1/a", "webhooks": [{"event": "file_uploaded"},
    {"event": "file_optimized", "url": "http://127.0.0.1:1/b", "secret": {"env": "ANOTHER"}}]}"#;

async fn apply(home: &Home, fake: &FakeSmartShape, declared: &str, more: &[&str]) -> RunResult {
    home.write("webhooks.json", declared);
    let arguments = [&["webhook", "apply", "webhooks.json"], more].concat();
    let mut program = home.logged_in(fake, &arguments);
    run(program.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET).env("ANOTHER", "another secret of mine")).await
}

fn events(fake: &FakeSmartShape) -> Vec<EventKind> {
    fake.webhooks().into_iter().map(|webhook| webhook.event).collect()
}

#[tokio::test]
async fn apply_reconciles_webhooks_with_the_file() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    fake.register(AnnotationCreated, "http://127.0.0.1:1/others", SECRET);
    let dry = apply(&home, &fake, TWO, &["--dry-run"]).await.assert_ok();
    assert!(dry.out.contains("would create file_optimized at http://127.0.0.1:1/b"), "{dry:?}");
    assert_eq!(events(&fake), [AnnotationCreated]);

    let applied = apply(&home, &fake, TWO, &[]).await.assert_ok();
    assert_eq!(events(&fake), [AnnotationCreated, FileUploaded, FileOptimized]);
    let ids: Vec<_> = fake.webhooks().into_iter().skip(1).map(|webhook| webhook.id).collect();
    let expected = format!(
        "created {}: file_uploaded at http://127.0.0.1:1/a\ncreated {}: file_optimized at http://127.0.0.1:1/b\n",
        ids[0], ids[1]
    );
    assert_eq!(applied.out, expected);
    assert_eq!(fake.webhooks()[2].secret(), "another secret of mine");
    let records = home.read("webhooks.json.records.json");
    assert!(!records.contains(SECRET) && records.contains(&fake.webhooks()[2].id));

    let again = apply(&home, &fake, TWO, &["--json"]).await.assert_ok().lines();
    assert_eq!((again.len(), again[0]["kept"]["id"].as_str()), (2, Some(&*ids[0])));

    let first = fake.webhooks()[1].id.clone();
    apply(&home, &fake, ONE, &["--renew", "file_uploaded"]).await.assert_ok();
    assert_eq!(events(&fake), [AnnotationCreated, FileUploaded]);
    assert_ne!(fake.webhooks()[1].id, first);
}

#[tokio::test]
async fn apply_deletes_unrecorded_webhooks_only_with_prune() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    let by_hand = fake.register(FileUploaded, "http://127.0.0.1:1/a", SECRET);
    let unwanted = fake.register(FileOptimized, "http://127.0.0.1:1/a", SECRET);
    let applied = apply(&home, &fake, ONE, &[]).await.assert_ok();
    assert_eq!(events(&fake), [FileUploaded, FileOptimized, FileUploaded]);
    let names =
        |out: &str, what| [&by_hand, &unwanted].iter().all(|id| out.contains(&format!("{what} {id}: ")));
    assert!(names(&applied.out, "left"), "{applied:?}");
    let dry = apply(&home, &fake, ONE, &["--prune", "--dry-run", "--json"]).await.assert_ok().lines();
    assert_eq!((dry.len(), dry[2]["would_delete"]["id"].as_str()), (3, Some(&*unwanted)));
    assert_eq!(fake.webhooks().len(), 3);
    let pruned = apply(&home, &fake, ONE, &["--prune"]).await.assert_ok();
    assert_eq!(events(&fake), [FileUploaded]);
    assert!(names(&pruned.out, "deleted"), "{pruned:?}");
}

#[tokio::test]
async fn apply_adopts_rotated_webhooks() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    apply(&home, &fake, ONE, &[]).await.assert_ok();
    let rotate = ["webhook", "rotate", "--url", "http://127.0.0.1:1/a", "--event", "file_uploaded"];
    let mut program = home.logged_in(&fake, &rotate);
    run(program.env("SMARTSHAPE_NEW_WEBHOOK_SECRET", "another random string")).await.assert_ok();
    let rotated = fake.webhooks()[0].id.clone();

    let dry = apply(&home, &fake, ONE, &["--dry-run"]).await.assert_ok();
    assert!(dry.out.starts_with(&format!("would adopt {rotated}: file_uploaded at ")), "{dry:?}");
    let applied = apply(&home, &fake, ONE, &[]).await.assert_ok();
    assert!(applied.out.starts_with(&format!("adopted {rotated}: file_uploaded at ")), "{applied:?}");
    let again = apply(&home, &fake, ONE, &[]).await.assert_ok();
    assert!(again.out.starts_with(&format!("kept {rotated}: ")), "{again:?}");
    assert_eq!((fake.webhooks().len(), fake.webhooks()[0].secret()), (1, "another random string"));
}

#[tokio::test]
async fn apply_completes_an_interrupted_run() {
    let home = Home::new();
    let fake = FakeSmartShape::builder().list_shows_url(false).start().await.unwrap();
    // The list and one creation pass.
    fake.inject(FaultInjection::error(500, ErrorFormat::List).after(2));
    apply(&home, &fake, TWO, &[]).await.assert_exits(1, "another run completes it");
    assert_eq!(events(&fake), [FileUploaded]);
    apply(&home, &fake, TWO, &[]).await.assert_ok();
    assert_eq!(events(&fake), [FileUploaded, FileOptimized]);
}

#[tokio::test]
async fn apply_runs_once_at_a_time() {
    let (home, mut server) = (Home::new(), SlowServer::start().await);
    home.write("webhooks.json", ONE.replace("127.0.0.1:1/a", "127.0.0.1:1/b"));
    let arguments = ["apply", "webhooks.json"];
    let first = server.start_creation(&home, &arguments).await;
    run(&mut server.program(&home, &arguments))
        .await
        .assert_fails(1, "another run is applying webhooks.json");
    run(&mut server.program(&home, &[&arguments[..], &["--dry-run"]].concat())).await.assert_ok();
    server.respond();
    RunResult::from(within(first.wait_with_output()).await.unwrap()).assert_ok();
    assert!(server.creation.try_recv().is_err(), "it creates one webhook");
}

#[cfg(unix)]
#[tokio::test]
async fn apply_creates_nothing_if_records_cannot_be_saved() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    // They are not created where a link leads to.
    std::os::unix::fs::symlink("nowhere", home.path().join("webhooks.json.records.json")).unwrap();
    let failed = apply(&home, &fake, ONE, &[]).await;
    failed.assert_fails(1, "nothing was done");
    assert!(failed.err.contains("cannot write webhooks.json.records.json: "), "{failed:?}");
    assert!(fake.webhooks().is_empty() && !home.path().join("nowhere").exists());
}

#[tokio::test]
async fn apply_with_an_invalid_file_changes_nothing() {
    let (home, fake, other) =
        (Home::new(), FakeSmartShape::start().await.unwrap(), FakeSmartShape::start().await.unwrap());
    for (declared, says) in [
        ("{", "line 1, column 1"),
        (r#"{"webhooks": [{"event": "file_uploaded", "secret": "hunter2"}]}"#, "--help"),
        (r#"{"webhooks": [{"event": "file_deleted"}]}"#, "configuration_removed"),
        (r#"{"webhooks": [{"event": "file_uploaded"}]}"#, "no url"),
        (r#"{"url": "nonsense", "webhooks": [{"event": "file_uploaded"}]}"#, "absolute URL"),
        (
            r#"{"url": "http://a/", "webhooks": [{"event": "file_uploaded", "secret": {"env": "NONE"}}]}"#,
            "NONE",
        ),
    ] {
        let failed = apply(&home, &fake, declared, &[]).await;
        failed.assert_fails(2, says);
        assert!(!failed.err.contains("hunter2"));
    }
    apply(&home, &fake, ONE, &["--renew", "file_optimized"]).await.assert_fails(2, "no such webhook");
    assert!(fake.webhooks().is_empty());

    apply(&home, &fake, ONE, &[]).await.assert_ok();
    apply(&home, &other, ONE, &[]).await.assert_fails(2, "another file for another server");
    assert!(other.webhooks().is_empty());
}

/// The server lists a user's own webhooks only, so those of another user would look deleted.
#[tokio::test]
async fn apply_rejects_records_of_another_account() {
    let fake =
        FakeSmartShape::builder().account(Account::new("zoe", "pass")).account(Account::new("ada", "pass"));
    let (home, fake) = (Home::new(), fake.start().await.unwrap());
    home.write("webhooks.json", ONE);
    let apply_as = async |user: &str| {
        let mut login = home.program(&["--api-url", &fake.base_url(), "login", user]);
        run(login.env("SMARTSHAPE_PASSWORD", "pass")).await.assert_ok();
        let mut program = home.program(&["webhook", "apply", "webhooks.json"]);
        run(program.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)).await
    };
    apply_as("ada").await.assert_ok();
    let id = fake.webhooks()[0].id.clone();
    apply_as("zoe").await.assert_fails(2, "is of the account ada, and not of zoe");
    let again = apply_as("ada").await.assert_ok();
    assert!(again.out.starts_with(&format!("kept {id}: ")) && fake.webhooks().len() == 1, "{again:?}");
}
