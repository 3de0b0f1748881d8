//! How `smartshape webhook listen` ends, and what is left at SmartShape then: nothing of its own, and
//! all that is not.

use smartshape_fake::{Disturbance, ErrorForm};
use smartshape_webhook::EventKind;

use crate::listener::{Listener, builder, journals};
use crate::support::{Home, SECRET, ran};

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
