//! `reconcile` against the fake, including interrupted runs.

use smartshape_api::{
    Client, CompletedStep, DesiredWebhook, ErrorKind, EventKind, Plan, WebhookRecord, WebhookSecret,
};
use smartshape_fake::{Account, ErrorFormat, FakeSmartShape, FaultInjection};

use crate::server::Server;
use crate::{SECRET, desired, fake, settings};

const OURS: &str = "http://127.0.0.1:1/ours";
const OTHERS: &str = "http://127.0.0.1:1/others";

/// Event and URL of all webhooks, sorted.
fn registered(fake: &FakeSmartShape) -> Vec<(EventKind, String)> {
    let mut all: Vec<_> = fake.webhooks().into_iter().map(|webhook| (webhook.event, webhook.url)).collect();
    all.sort();
    all
}

fn pairs(pairs: &[(EventKind, &str)]) -> Vec<(EventKind, String)> {
    let mut all: Vec<_> = pairs.iter().map(|(event, url)| (*event, (*url).to_owned())).collect();
    all.sort();
    all
}

fn ids_at(fake: &FakeSmartShape, url: &str) -> Vec<String> {
    fake.webhooks().into_iter().filter(|webhook| webhook.url == url).map(|webhook| webhook.id).collect()
}

async fn reconcile(client: &Client, desired: &[DesiredWebhook], records: &mut Vec<WebhookRecord>) -> Plan {
    client.reconcile(desired, records, |_| Ok(())).await.unwrap()
}

#[tokio::test]
async fn reconcile_creates_changes_and_deletes() {
    use EventKind::{AttributeUpdated, FileOptimized, FileUploaded};
    for shows_url in [true, false] {
        let fake = fake().list_shows_url(shows_url).start().await.unwrap();
        fake.register(FileUploaded, OTHERS, "another secret");
        let client = settings(&fake).build().unwrap();
        let mut records = Vec::new();

        let first = [desired(FileUploaded, OURS), desired(FileOptimized, OURS)];
        let plan = client.plan(&first, &records).await.unwrap();
        assert_eq!((plan.steps().len(), fake.webhooks().len()), (2, 1), "a dry run does nothing");
        reconcile(&client, &first, &mut records).await;
        let expected = [(FileUploaded, OTHERS), (FileUploaded, OURS), (FileOptimized, OURS)];
        assert_eq!(registered(&fake), pairs(&expected));
        assert!(
            fake.webhooks()
                .iter()
                .filter(|webhook| webhook.url == OURS)
                .all(|webhook| webhook.secret() == SECRET)
        );

        let ids = ids_at(&fake, OURS);
        let plan = reconcile(&client, &first, &mut records).await;
        assert!(plan.is_empty() && plan.kept().len() == 2, "{plan}");
        assert_eq!(ids_at(&fake, OURS), ids);

        // What a caller stores and reads again is as good.
        let mut records: Vec<WebhookRecord> =
            serde_json::from_str(&serde_json::to_string(&records).unwrap()).unwrap();
        let second = [desired(FileUploaded, OURS), desired(AttributeUpdated, OURS)];
        reconcile(&client, &second, &mut records).await;
        let expected = [(FileUploaded, OTHERS), (FileUploaded, OURS), (AttributeUpdated, OURS)];
        assert_eq!(registered(&fake), pairs(&expected));
        assert!(ids_at(&fake, OURS).contains(&ids[0]), "what was there already is left");

        reconcile(&client, &[], &mut records).await;
        assert_eq!(registered(&fake), pairs(&[(FileUploaded, OTHERS)]));
        assert_eq!(records, []);
    }
}

#[tokio::test]
async fn renewed_webhook_overlaps_the_old_one() {
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).build().unwrap();
    let mut records = Vec::new();
    reconcile(&client, &[desired(EventKind::FileUploaded, OURS)], &mut records).await;
    let secret = WebhookSecret::new("another random string").unwrap();
    let new = [DesiredWebhook::new(EventKind::FileUploaded, OURS, secret).unwrap().renewed()];
    let plan = client.plan(&new, &records).await.unwrap();
    let mut secrets = Vec::new();
    let save = |_: &[WebhookRecord], _: Option<&CompletedStep>| {
        secrets.push(fake.webhooks().iter().map(|webhook| webhook.secret().to_owned()).collect::<Vec<_>>());
        Ok(())
    };
    client.apply(plan, &mut records, save).await.unwrap();
    let other = "another random string";
    assert_eq!(secrets, [vec![SECRET], vec![SECRET, other], vec![other]]);
    assert_eq!(records.len(), 1);
}

#[tokio::test]
async fn webhook_changed_in_place_is_not_deleted() {
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).build().unwrap();
    let mut records = Vec::new();
    reconcile(&client, &[desired(EventKind::FileUploaded, OURS)], &mut records).await;
    let plan = client.plan(&[desired(EventKind::FileUploaded, OURS).renewed()], &records).await.unwrap();
    assert_eq!(plan.steps().len(), 2, "{plan}");

    let body = format!(r#"{{"data":{{"id":"{}"}}}}"#, records[0].id);
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let server = Server::responding_with(response.leak()).await;
    let client = settings(&fake).base_url(&server.url).build().unwrap();
    let known = records.clone();
    client.apply(plan, &mut records, |_, _| Ok(())).await.unwrap();
    assert_eq!(records, known);
    let requests = server.requests();
    assert!(requests.len() == 1 && requests[0].starts_with("PUT "), "{requests:?}");
}

#[tokio::test]
async fn interrupted_runs_are_completed_by_another_run() {
    use EventKind::{AttributeUpdated, FileOptimized, FileUploaded};
    let goal = [desired(FileUploaded, OURS), desired(AttributeUpdated, OURS)];
    let lost = || FaultInjection::drop_connection();
    let failed = || FaultInjection::error(500, ErrorFormat::Wrapped);
    let faults = [lost(), lost().after_effect(), failed(), failed().after_effect()];
    for shows_url in [true, false] {
        // A list, two creations, two deletions.
        for (step, fault) in (0..5).flat_map(|step| faults.iter().map(move |fault| (step, fault))) {
            let fake = fake().list_shows_url(shows_url).account(Account::new("zoe", "pass"));
            let fake = fake.account(Account::new("ada", "pass")).start().await.unwrap();
            let others: Vec<_> =
                [FileUploaded, FileOptimized].map(|event| fake.register(event, OTHERS, "s")).into();
            let zoe = Client::builder().base_url(fake.base_url()).build().unwrap();
            let zoe = zoe.clone().with_auth_token(zoe.login("zoe", "pass").await.unwrap());
            let of_zoe = zoe.create_webhook(&desired(FileUploaded, OURS)).await.unwrap().id;
            // Two former runs left a webhook that is to be replaced, and one that is not desired any more.
            let old = [FileUploaded, FileOptimized].map(|event| (event, fake.register(event, OURS, "old")));
            let mut saved: Vec<WebhookRecord> =
                old.iter().map(|(event, id)| WebhookRecord::new(id, *event, OURS)).collect();
            let renewed = [goal[0].clone().renewed(), goal[1].clone()];

            let client = settings(&fake).max_retries(0).build().unwrap();
            fake.inject(fault.clone().after(step));
            let mut lent = saved.clone();
            let save = |records: &[WebhookRecord]| {
                saved = records.to_vec();
                Ok(())
            };
            let context = format!("urls listed: {shows_url}, step {step}, {fault:?}");
            client.reconcile(&renewed, &mut lent, save).await.expect_err(&context);
            assert_eq!(saved, lent, "{context}");
            let covered = fake.webhooks().iter().any(|webhook| {
                webhook.owner == "ada" && webhook.event == FileUploaded && webhook.url == OURS
            });
            assert!(covered, "no event may be missed: {context}");

            // The goal is reconciled once more, with the records that were stored.
            let last = reconcile(&client, &renewed, &mut saved).await;
            let mut expected = pairs(&[
                (FileUploaded, OTHERS),
                (FileOptimized, OTHERS),
                (FileUploaded, OURS),
                (AttributeUpdated, OURS),
                (FileUploaded, OURS), // zoe's
            ]);
            // A creation that nobody knows of is left, and shown.
            if (1..=2).contains(&step) && format!("{fault:?}").contains("after_effect: true") {
                let event = if step == 1 { FileUploaded } else { AttributeUpdated };
                expected.push((event, OURS.to_owned()));
                expected.sort();
                let shown = if shows_url { last.unrecorded() } else { last.unclear() };
                assert!(
                    shown.iter().any(|registration| registration.kind() == Some(event)),
                    "{context}: {last}"
                );
            }
            assert_eq!(registered(&fake), expected, "{context}");
            for id in others.iter().chain([&of_zoe]) {
                assert!(fake.webhooks().iter().any(|webhook| webhook.id == *id), "of others: {context}");
            }
            let ours = |event| {
                fake.webhooks().into_iter().any(|webhook| {
                    webhook.event == event
                        && webhook.secret() == SECRET
                        && saved.iter().any(|record| record.id == webhook.id)
                })
            };
            assert!(ours(FileUploaded) && ours(AttributeUpdated), "{context}");
            assert!(reconcile(&client, &goal, &mut saved).await.is_empty(), "{context}");
        }
    }
}

#[tokio::test]
async fn unsaved_creation_is_named_and_completed_later() {
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).build().unwrap();
    let goal = [desired(EventKind::FileUploaded, OURS), desired(EventKind::FileOptimized, OURS)];
    let full = |records: &[WebhookRecord]| if records.is_empty() { Ok(()) } else { Err("disk full".into()) };
    let error = client.reconcile(&goal, &mut Vec::new(), full).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRecorded);
    let id = &fake.webhooks()[0].id;
    assert!(error.to_string().contains(id.as_str()), "{error}");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "disk full");
    assert_eq!(fake.webhooks().len(), 1, "it stops there");

    // No record has the created webhook: pruning deletes it.
    let mut records = Vec::new();
    let plan = client.plan(&goal, &records).await.unwrap().prune();
    client.apply(plan, &mut records, |_, _| Ok(())).await.unwrap();
    assert_eq!(
        registered(&fake),
        pairs(&[(EventKind::FileUploaded, OURS), (EventKind::FileOptimized, OURS)])
    );
}

#[tokio::test]
async fn nothing_is_done_if_records_cannot_be_saved() {
    let fake = fake().start().await.unwrap();
    fake.register(EventKind::FileOptimized, OURS, "old");
    let client = settings(&fake).build().unwrap();
    let goal = [desired(EventKind::FileUploaded, OURS)];
    let error = client.reconcile(&goal, &mut Vec::new(), |_| Err("read-only".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRecorded);
    assert!(error.to_string().contains("nothing was done"), "{error}");
    assert_eq!(registered(&fake), pairs(&[(EventKind::FileOptimized, OURS)]));
}

#[tokio::test]
async fn duplicate_desired_webhooks_are_rejected_before_sending() {
    let client = Client::builder().base_url("http://127.0.0.1:1").build().unwrap();
    let twice = [desired(EventKind::FileUploaded, OURS), desired(EventKind::FileUploaded, OURS)];
    let error = client.plan(&twice, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert!(error.to_string().contains("desired twice"), "{error}");
}
