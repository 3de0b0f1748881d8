//! Plans by tables: desired, recorded, listed, and what is to be done.

use smartshape_webhook::EventKind::{FileOptimized, FileUploaded};

use super::*;
use crate::secret::WebhookSecret;

const URL: &str = "https://a/hook";
const CREATE: &str = "create file_uploaded at https://a/hook";
const KEEP: &str = "keep 1: file_uploaded at https://a/hook";

fn want(event: EventKind) -> DesiredWebhook {
    DesiredWebhook::new(event, URL, WebhookSecret::new("the secret").unwrap()).unwrap()
}

fn record(id: &str, event: EventKind) -> WebhookRecord {
    WebhookRecord::new(id, event, URL)
}

fn listed(id: &str, event: &str, url: &str) -> Registration {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Registration { id: id.to_owned(), event: text(event), url: text(url), owner: None }
}

fn uploads() -> Vec<DesiredWebhook> {
    vec![want(FileUploaded)]
}

fn renewed() -> Vec<DesiredWebhook> {
    vec![want(FileUploaded).renewed()]
}

fn recorded() -> Vec<WebhookRecord> {
    vec![record("1", FileUploaded)]
}

/// Desired, recorded, listed, and the plan's lines.
type Case = (Vec<DesiredWebhook>, Vec<WebhookRecord>, Vec<Registration>, &'static [&'static str]);

fn check(cases: Vec<Case>) {
    for (desired, records, listed, lines) in cases {
        let plan = Plan::new(&desired, &records, &listed).unwrap();
        assert_eq!(plan.to_string().lines().collect::<Vec<_>>(), lines, "{records:?} {listed:?}");
    }
}

#[test]
fn plan_with_listed_urls() {
    let (up, opt) = ("file_uploaded", "file_optimized");
    let other = "https://b/hook";
    check(vec![
        (vec![], vec![], vec![], &["nothing to do"]),
        (uploads(), vec![], vec![], &[CREATE]),
        // Recorded ones are trusted.
        (uploads(), recorded(), vec![listed("1", up, URL)], &[KEEP]),
        // The server may show the URL in another form.
        (uploads(), recorded(), vec![listed("1", up, "https://a/hook/")], &[KEEP]),
        // Others created them, whatever they point at.
        (
            uploads(),
            vec![],
            vec![listed("1", up, URL), listed("2", opt, URL)],
            &[CREATE, "leave 1: file_uploaded, not recorded", "leave 2: file_optimized, not recorded"],
        ),
        (
            renewed(),
            vec![record("2", FileUploaded)],
            vec![listed("1", up, URL), listed("2", up, URL)],
            &[CREATE, "delete 2: file_uploaded, replaced", "leave 1: file_uploaded, not recorded"],
        ),
        // Rotated meanwhile: the old secret is not put back.
        (
            uploads(),
            recorded(),
            vec![listed("2", up, URL), listed("3", opt, URL)],
            &[
                "adopt 2: file_uploaded at https://a/hook, which replaced a recorded one; its secret is \
                 assumed to be the desired one",
                "delete 1: file_uploaded, recorded, but not listed",
                "leave 3: file_optimized, not recorded",
            ],
        ),
        // Rotated meanwhile, and the old one is still there.
        (
            uploads(),
            recorded(),
            vec![listed("1", up, URL), listed("2", up, URL)],
            &[KEEP, "leave 2: file_uploaded, not recorded"],
        ),
        (
            renewed(),
            recorded(),
            vec![listed("2", up, URL)],
            &[
                CREATE,
                "delete 2: file_uploaded, replaced",
                "delete 1: file_uploaded, recorded, but not listed",
            ],
        ),
        // The one recorded last is kept.
        (
            uploads(),
            vec![record("2", FileUploaded), record("1", FileUploaded)],
            vec![listed("1", up, URL), listed("2", up, URL)],
            &[KEEP, "delete 2: file_uploaded, duplicate"],
        ),
        // A new secret.
        (renewed(), recorded(), vec![listed("1", up, URL)], &[CREATE, "delete 1: file_uploaded, replaced"]),
        // Recorded webhooks that are not desired are deleted, wherever they point.
        (
            uploads(),
            vec![record("1", FileUploaded), WebhookRecord::new("3", FileUploaded, other)],
            vec![
                listed("1", up, URL),
                listed("2", opt, URL),
                listed("3", up, other),
                listed("4", "new_event", URL),
                listed("5", "", URL),
            ],
            &[
                KEEP,
                "delete 3: file_uploaded, not desired",
                "leave 2: file_optimized, not recorded",
                "leave 4: new_event, not recorded",
                "leave 5: unknown event, not recorded",
            ],
        ),
        // Webhooks at other URLs, however similar, belong to somebody else.
        (
            uploads(),
            recorded(),
            vec![listed("1", up, URL), listed("2", up, other), listed("3", up, "https://a/hook/")],
            &[KEEP],
        ),
        (vec![], vec![], vec![listed("1", up, URL), listed("2", up, "")], &["nothing to do"]),
        // Nothing is desired any more.
        (
            vec![],
            recorded(),
            vec![listed("1", up, URL), listed("2", up, other)],
            &["delete 1: file_uploaded, not desired"],
        ),
        // Recorded, but gone.
        (
            uploads(),
            vec![record("1", FileUploaded), record("1", FileUploaded)],
            vec![],
            &[CREATE, "delete 1: file_uploaded, recorded, but not listed"],
        ),
        // A record that contradicts the list is not believed.
        (uploads(), recorded(), vec![listed("1", opt, other)], &[CREATE]),
        // A list that names one twice.
        (
            vec![],
            recorded(),
            vec![listed("1", up, URL), listed("1", up, URL)],
            &["delete 1: file_uploaded, not desired"],
        ),
    ]);
}

#[test]
fn plan_without_listed_urls_relies_on_records() {
    let (up, opt) = ("file_uploaded", "file_optimized");
    check(vec![
        (
            uploads(),
            vec![record("1", FileUploaded), record("3", FileOptimized)],
            vec![listed("1", up, ""), listed("2", up, ""), listed("3", opt, ""), listed("4", opt, "")],
            &[
                KEEP,
                "delete 3: file_optimized, not desired",
                "leave 2: file_uploaded, no URL is listed; delete it by its id if it is yours",
            ],
        ),
        (
            uploads(),
            recorded(),
            vec![listed("1", "", ""), listed("2", "", "")],
            &[KEEP, "leave 2: unknown event, no URL is listed; delete it by its id if it is yours"],
        ),
        (renewed(), recorded(), vec![listed("1", up, "")], &[CREATE, "delete 1: file_uploaded, replaced"]),
    ]);
}

#[test]
fn plan_keeps_thousands_of_webhooks() {
    let urls: Vec<String> = (0..2000).map(|number| format!("{URL}/{number}")).collect();
    let secret = WebhookSecret::new("the secret").unwrap();
    let desired: Vec<_> =
        urls.iter().map(|url| DesiredWebhook::new(FileUploaded, url, secret.clone()).unwrap()).collect();
    let records: Vec<_> = urls.iter().map(|url| WebhookRecord::new(url, FileUploaded, url)).collect();
    let listed: Vec<_> = urls.iter().map(|url| listed(url, "file_uploaded", url)).collect();
    let plan = Plan::new(&desired, &records, &listed).unwrap();
    assert_eq!((plan.kept(), plan.steps().len()), (&*records, 0));
}

#[test]
fn unrecorded_webhooks_are_deleted_only_by_prune() {
    let listed = [listed("1", "file_uploaded", URL), listed("2", "", URL), listed("3", "", "https://b/hook")];
    let plan = Plan::new(&[want(FileUploaded)], &[], &listed).unwrap();
    assert_eq!(plan.unrecorded(), &listed[..2]);
    assert_eq!(
        plan.prune().to_string(),
        "create file_uploaded at https://a/hook\n\
         delete 1: file_uploaded, not recorded\n\
         delete 2: unknown event, not recorded"
    );
}

#[test]
fn plan_shows_no_secret_and_escapes_ids() {
    let plan = Plan::new(&[want(FileUploaded)], &[], &[listed("1\u{1b}[31m", "a\nb", URL)]).unwrap();
    assert!(!format!("{plan:?}").contains("the secret"));
    for plan in [plan.clone(), plan.prune()] {
        assert!(plan.to_string().ends_with(" 1\\u{1b}[31m: a\\nb, not recorded"), "{plan}");
    }
}

#[test]
fn plan_redacts_urls() {
    let url = format!("{URL}?key=hunter2");
    let secret = || WebhookSecret::new("the secret").unwrap();
    let desired =
        [FileUploaded, FileOptimized].map(|event| DesiredWebhook::new(event, &url, secret()).unwrap());
    let records = [WebhookRecord::new("1", FileUploaded, &url)];
    let listed = [listed("1", "file_uploaded", &url), listed("2", "file_uploaded", "https://ada:hunter2@b/")];
    let plan = Plan::new(&desired, &records, &listed).unwrap();
    let shown = format!("{plan} {plan:?} {desired:?} {records:?} {listed:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(
        plan.to_string(),
        "keep 1: file_uploaded at https://a/hook?redacted\n\
         create file_optimized at https://a/hook?redacted"
    );
}
