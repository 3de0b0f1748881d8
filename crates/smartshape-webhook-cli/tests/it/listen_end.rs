//! How `smartshape webhook listen` ends, and what is left at SmartShape then: nothing of its own, and
//! all that is not.

use smartshape_fake::{ErrorFormat, FakeSmartShape, FaultInjection};
use smartshape_webhook::EventKind;

use crate::listener::{self, builder, journals};
use crate::program::Program;
use crate::rotate::SlowServer;
use crate::support::{Home, SECRET, assert_private, run};

/// A fake with or without URLs in its list, and somebody else's webhook there.
async fn fake(shows_url: bool) -> (FakeSmartShape, String) {
    let fake = builder().list_shows_url(shows_url).start().await.unwrap();
    let other = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
    (fake, other)
}

fn ids(fake: &FakeSmartShape) -> Vec<String> {
    fake.webhooks().into_iter().map(|webhook| webhook.id).collect()
}

#[tokio::test]
async fn concurrent_listeners_do_not_interfere() {
    for shows_url in [true, false] {
        let (home, (fake, other)) = (Home::new(), fake(shows_url).await);
        let arguments = ["webhook", "listen", "--event", "file_uploaded", "--event", "file_optimized"];
        let mut one = Program::spawn(&mut home.logged_in(&fake, &arguments));
        let mut two = Program::spawn(&mut home.logged_in(&fake, &arguments));
        one.read_until("registered ").await;
        two.read_until("registered ").await;
        assert_eq!(fake.webhooks().len(), 5);
        one.stop("-INT").await;
        assert_eq!(fake.webhooks().len(), 3);

        let outcomes = fake.trigger(EventKind::FileOptimized).await;
        assert!(outcomes.len() == 1 && outcomes[0].accepted(), "the other one goes on");
        assert_eq!(two.line().await["event"], "file_optimized");
        two.child.kill().await.unwrap();
        home.run_at(&fake, &["webhook", "prune"]).await.assert_ok();
        assert_eq!(ids(&fake), [other]);
        assert!(journals(&home).is_empty());
    }
}

/// A kill at any time leaves a webhook that is in the journal, by its id or its URL.
#[tokio::test]
async fn listen_writes_its_journal_before_it_registers() {
    let (home, mut server) = (Home::new(), SlowServer::start().await);
    let arguments = ["listen", "--event", "file_uploaded"];
    server.start_creation(&home, &arguments).await.kill().await.unwrap();
    assert_eq!(journals(&home).len(), 1);
}

/// Leaves the journal that a kill before the response to the first creation leaves, or a power failure in the middle of
/// the line of that webhook.
fn cut_journal(home: &Home, bytes_of_second_line: usize) {
    let path = journals(home).remove(0);
    let text = std::fs::read_to_string(&path).unwrap();
    let second_line = text.find('\n').unwrap() + 1;
    std::fs::write(path, &text[..second_line + bytes_of_second_line]).unwrap();
}

#[tokio::test]
async fn prune_finds_a_webhook_that_was_not_noted() {
    for (shows_url, bytes) in [(true, 0), (true, 11), (false, 0), (false, 11)] {
        let (home, (fake, other)) = (Home::new(), fake(shows_url).await);
        listener::killed(&home, &fake, &["--event", "file_optimized"]).await;
        cut_journal(&home, bytes);
        let orphan = fake.webhooks()[1].id.clone();
        let later = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);

        let pruned = home.run_at(&fake, &["webhook", "prune"]).await;
        if !shows_url {
            // Nothing tells whose it is: only a person can know.
            let pruned = pruned.assert_exits(1, &format!("smartshape webhook delete {orphan}"));
            assert!(!pruned.err.contains(&later) && journals(&home).len() == 1, "{pruned:?}");
            home.run_at(&fake, &["webhook", "delete", &orphan]).await.assert_ok();
            home.run_at(&fake, &["webhook", "prune"]).await.assert_ok();
        }
        assert_eq!(ids(&fake), [other, later]);
        assert!(journals(&home).is_empty());
    }
}

#[tokio::test]
async fn prune_completes_an_interrupted_clean_up() {
    for shows_url in [true, false] {
        let (home, (fake, other)) = (Home::new(), fake(shows_url).await);
        let arguments = ["--event", "file_optimized", "--event", "file_uploaded"];
        let listener = listener::at(&home, &fake, &arguments).await;
        fake.inject(FaultInjection::error(503, ErrorFormat::Plain).after(1));
        listener.signal("-TERM");
        let (status, _, err) = listener.end().await;
        assert!(status.code() == Some(1) && err.contains("smartshape webhook prune"), "{err}");
        assert_eq!((fake.webhooks().len(), journals(&home).len()), (2, 1));
        home.run_at(&fake, &["webhook", "prune"]).await.assert_ok();
        assert_eq!((ids(&fake), journals(&home).len()), (vec![other], 0));
    }
}

#[tokio::test]
async fn rejected_creation_leaves_no_journal() {
    for shows_url in [true, false] {
        let (home, (fake, other)) = (Home::new(), fake(shows_url).await);
        // A redirect is not followed, so no webhook was created.
        fake.inject(FaultInjection::error(302, ErrorFormat::Empty).after(1));
        let listen = ["webhook", "listen", "--event", "file_optimized"];
        let ended = home.run_at(&fake, &listen).await.assert_exits(1, "redirects (status 302)");
        assert!(!ended.err.contains("may appear"), "{ended:?}");
        assert_eq!((ids(&fake), journals(&home).len()), (vec![other], 0), "{ended:?}");
    }
}

#[tokio::test]
async fn listen_ends_when_its_pipe_closes_without_events() {
    for shows_url in [true, false] {
        let (home, (fake, other)) = (Home::new(), fake(shows_url).await);
        let mut listener = listener::at(&home, &fake, &["--event", "file_uploaded"]).await;
        drop(listener.out.take());
        let (status, _, err) = listener.end().await;
        assert_eq!(status.code(), Some(0), "{err}");
        assert_eq!((ids(&fake), journals(&home).len()), (vec![other], 0), "{err}");
    }
}

#[tokio::test]
async fn listen_ends_at_a_signal() {
    for (shows_url, signal) in [(true, "-INT"), (true, "-TERM"), (false, "-INT"), (false, "-TERM")] {
        let (home, (fake, other)) = (Home::new(), fake(shows_url).await);
        let listener = listener::at(&home, &fake, &[]).await;
        assert_eq!(fake.webhooks().len(), 10);
        let (out, err) = listener.stop(signal).await;
        assert_eq!(out, "");
        assert_eq!((ids(&fake), journals(&home).len()), (vec![other], 0), "{err}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn listen_ends_at_a_hangup_unless_it_is_ignored() {
    for (option, is_ignored) in [("--default-signal=HUP", false), ("--ignore-signal=HUP", true)] {
        let (home, (fake, other)) = (Home::new(), fake(true).await);
        let command = home.logged_in(&fake, &["webhook", "listen", "--event", "file_optimized"]);
        let listener = listener::start(crate::support::started_by(["env", option], &command)).await;
        listener.signal("-HUP");
        if is_ignored {
            for _ in 0..10 {
                let outcomes = fake.trigger(EventKind::FileOptimized).await;
                assert!(outcomes.len() == 1 && outcomes[0].accepted(), "{outcomes:?}");
            }
            listener.signal("-TERM");
        }
        let (status, _, err) = listener.end().await;
        assert_eq!((status.code(), ids(&fake), journals(&home).len()), (Some(0), vec![other], 0), "{err}");
    }
}

#[tokio::test]
async fn prune_deletes_only_webhooks_of_crashed_listeners() {
    for shows_url in [true, false] {
        let (home, (fake, before)) = (Home::new(), fake(shows_url).await);
        listener::killed(&home, &fake, &["--event", "file_uploaded", "--event", "file_optimized"]).await;
        let secret = fake.webhooks()[1].secret().to_owned();
        let after = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
        let mut running = listener::at(&home, &fake, &["--event", "annotation_created"]).await;
        let here: Vec<_> = fake.webhooks().into_iter().map(|webhook| (webhook.id, webhook.event)).collect();
        // The next listener has done it.
        assert_eq!(here.len(), 3, "{here:?}");
        assert_eq!((&here[0].0, &here[1].0, here[2].1), (&before, &after, EventKind::AnnotationCreated));

        let file = journals(&home);
        assert_eq!(file.len(), 1, "of the one that runs: {file:?}");
        assert!(!std::fs::read_to_string(&file[0]).unwrap().contains(&secret));
        assert_private(&file[0]);
        let nothing = home.run_at(&fake, &["webhook", "prune"]).await.assert_ok();
        assert!(nothing.out.contains("nothing is left behind"), "one that runs is left alone: {nothing:?}");

        running.child.kill().await.unwrap();
        let pruned = home.run_at(&fake, &["webhook", "prune"]).await.assert_ok();
        assert!(pruned.out.contains(&here[2].0), "{pruned:?}");
        assert_eq!(ids(&fake), [before, after]);
        assert!(journals(&home).is_empty());
    }
}

#[tokio::test]
async fn prune_keeps_a_file_of_another_program() {
    let (home, (fake, _)) = (Home::new(), fake(true).await);
    listener::killed(&home, &fake, &["--event", "file_uploaded"]).await;
    let path = journals(&home).remove(0);
    std::fs::write(&path, "of another program\n").unwrap();
    home.run_at(&fake, &["webhook", "prune"]).await.assert_exits(1, "look at it");
    assert!(path.exists());
}

#[tokio::test]
async fn prune_reports_undeletable_webhooks_until_forgotten() {
    let (home, fake, other) =
        (Home::new(), builder().start().await.unwrap(), builder().start().await.unwrap());
    listener::killed(&home, &fake, &["--event", "file_uploaded"]).await;
    home.run_at(&other, &["webhook", "prune"]).await.assert_exits(1, &fake.base_url());
    let forgot = home.run_at(&other, &["webhook", "prune", "--forget"]).await.assert_ok();
    assert_eq!(forgot.out, "forgot 1 listener(s)\n");
    assert_eq!((fake.webhooks().len(), journals(&home).len()), (1, 0));
}

#[tokio::test]
async fn listen_keeps_its_journal_if_the_token_expired() {
    for shows_url in [true, false] {
        let (home, (fake, other)) = (Home::new(), fake(shows_url).await);
        let listener = listener::at(&home, &fake, &["--event", "file_uploaded"]).await;
        fake.expire_tokens();
        listener.signal("-TERM");
        let (status, _, err) = listener.end().await;
        assert!(status.code() == Some(1) && err.contains("smartshape webhook prune"), "{err}");
        let note = journals(&home).remove(0);
        assert!(err.contains(&*note.to_string_lossy()), "it says where it is noted: {err}");
        assert_eq!(fake.webhooks().len(), 2);
        home.run_at(&fake, &["webhook", "prune"]).await.assert_ok();
        assert_eq!((ids(&fake), journals(&home).len()), (vec![other], 0));
    }
}

#[tokio::test]
async fn listen_finds_a_webhook_with_a_lost_response_by_its_url() {
    let (home, (fake, other)) = (Home::new(), fake(true).await);
    // After the list, the first creation.
    fake.inject(FaultInjection::error(500, ErrorFormat::Plain).after(1).after_effect());
    let arguments = ["webhook", "listen", "--event", "file_uploaded", "--event", "file_optimized"];
    home.run_at(&fake, &arguments).await.assert_exits(1, "create a webhook");
    assert_eq!((ids(&fake), journals(&home).len()), (vec![other], 0));
}

#[tokio::test]
async fn listen_leaves_and_names_unclear_webhooks_without_urls() {
    let (home, (fake, before)) = (Home::new(), fake(false).await);
    fake.inject(FaultInjection::error(500, ErrorFormat::Plain).after(1).after_effect());
    let listened = home.run_at(&fake, &["webhook", "listen", "--event", "file_uploaded"]).await;
    let id = fake.webhooks()[1].id.clone();
    let says = format!("smartshape webhook delete {id}");
    let err = listened.assert_exits(1, &says).err;
    assert!(!err.contains(&before) && !err.lines().any(|line| line.trim_end() == "smartshape:"), "{err}");
    home.run_at(&fake, &["webhook", "prune"]).await.assert_exits(1, &says);
    home.run_at(&fake, &["webhook", "delete", &id]).await.assert_ok();
    home.run_at(&fake, &["webhook", "prune"]).await.assert_ok();
    assert!(journals(&home).is_empty());
}

#[tokio::test]
async fn prune_keeps_journals_of_other_accounts() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let (url, account) = (fake.base_url(), fake.account());
    let mut login = home.program(&["--api-url", &url, "login", account.username()]);
    run(login.env("SMARTSHAPE_PASSWORD", account.password())).await.assert_ok();
    let command = home.program(&["webhook", "listen", "--event", "file_uploaded"]);
    listener::start(command).await.child.kill().await.unwrap();
    // To the user of a token that is set, the webhooks of a login may be unknown.
    let id = ids(&fake).remove(0);
    home.run_at(&fake, &["webhook", "delete", &id]).await.assert_ok();
    let says = format!("the login of {}", account.username());
    home.run_at(&fake, &["webhook", "prune"]).await.assert_exits(1, &says);
    assert_eq!(journals(&home).len(), 1);
    home.run(&["webhook", "prune"]).await.assert_ok();
    assert!(journals(&home).is_empty());
}
