//! What each command makes of a server that rejects, has ended the login, or is not there.

use smartshape_fake::{ErrorFormat, FakeSmartShape, FaultInjection};
use smartshape_webhook::EventKind::FileUploaded;

use crate::support::{Home, Ran, SECRET, nobody, ran};

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

struct Bed {
    home: Home,
    fake: FakeSmartShape,
    id: String,
}

impl Bed {
    async fn new() -> Self {
        let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
        let declared = format!(r#"{{"url": "{URL}", "webhooks": [{{"event": "file_optimized"}}]}}"#);
        std::fs::write(home.path().join("webhooks.json"), declared).unwrap();
        let id = fake.register(FileUploaded, URL, SECRET);
        Self { home, fake, id }
    }

    async fn run(&self, command: &[&str], url: &str, token: &str) -> Ran {
        let arguments: Vec<_> =
            command.iter().map(|&word| if word == "ID" { &*self.id } else { word }).collect();
        let mut program = self.home.program(&arguments);
        program.env("SMARTSHAPE_API_URL", url).env("SMARTSHAPE_TOKEN", token);
        program
            .env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)
            .env("SMARTSHAPE_NEW_WEBHOOK_SECRET", "another secret of mine");
        let ran = ran(program.env("SMARTSHAPE_PASSWORD", "her password")).await;
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

/// Those whose first call the server sees; prune has nothing to ask for.
fn calling() -> impl Iterator<Item = &'static [&'static str]> {
    COMMANDS.into_iter().filter(|command| command[1] != "prune")
}

#[tokio::test]
async fn every_form_of_error_is_one_clear_line() {
    let bed = Bed::new().await;
    let token = bed.fake.bearer_token();
    for command in calling() {
        for (form, status) in [
            (ErrorFormat::Plain, 400),
            (ErrorFormat::Wrapped, 402),
            (ErrorFormat::List, 503),
            (ErrorFormat::Empty, 400),
            (ErrorFormat::Plain, 404),
        ] {
            bed.fake.inject(FaultInjection::error(status, form));
            let failed = bed.run(command, &bed.fake.base_url(), &token).await;
            let says = match (form, status, command[1]) {
                // The other webhooks may be there all the same.
                (_, 404, "delete") => "there is no webhook",
                (ErrorFormat::Empty, ..) => "400",
                _ => "Injected: requested by the test",
            };
            failed.fails(1, says);
            bed.unchanged();
        }
    }
}

#[tokio::test]
async fn a_login_that_ended_is_told() {
    let bed = Bed::new().await;
    let token = bed.fake.bearer_token();
    bed.fake.expire_tokens();
    for command in calling().filter(|command| command[0] != "login") {
        let failed = bed.run(command, &bed.fake.base_url(), &token).await;
        failed.fails(1, "log in again with `smartshape login`");
        bed.unchanged();
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let bed = Bed::new().await;
    let (_kept, nobody) = nobody();
    for command in calling() {
        let failed = bed.run(command, &nobody, "the.auth.token").await;
        failed.fails(1, &format!("no connection to {nobody}: the connection was refused, so nobody listens there: check the API URL"));
        bed.unchanged();
    }
    // Nothing is noted of a listener, so there is nothing to call for.
    let pruned = bed.run(&["webhook", "prune"], &nobody, "the.auth.token").await.succeeds();
    assert_eq!(pruned.out, "nothing is left behind\n");
}

#[tokio::test]
async fn nothing_secret_goes_to_another_machine_by_plain_http() {
    let bed = Bed::new().await;
    // For documentation: nobody is there.
    const ELSEWHERE: &str = "http://192.0.2.1/callback";
    for command in calling() {
        bed.run(command, ELSEWHERE, "the.auth.token").await.fails(2, "by --insecure");
    }
    for command in [
        &["event", "trigger", "file_uploaded", "--to", ELSEWHERE][..],
        &["check", ELSEWHERE],
        &["webhook", "listen", "--forward-to", ELSEWHERE],
    ] {
        bed.run(command, &bed.fake.base_url(), "the.auth.token").await.fails(2, "by --insecure");
    }
    bed.unchanged();
}

#[tokio::test]
async fn without_a_login_nothing_is_sent() {
    let bed = Bed::new().await;
    for command in calling().filter(|command| command[0] != "login") {
        let failed = bed.run(command, &bed.fake.base_url(), "").await;
        failed.fails(2, "log in first, with `smartshape login`");
    }
}

#[tokio::test]
async fn a_deletion_that_stops_says_what_is_left() {
    let bed = Bed::new().await;
    let two = bed.fake.register(FileUploaded, URL, SECRET);
    let three = bed.fake.register(FileUploaded, URL, SECRET);
    bed.fake.inject(FaultInjection::error(400, ErrorFormat::Plain).after(1));
    let token = bed.fake.bearer_token();
    let stopped = bed.run(&["webhook", "delete", "ID", &two, &three], &bed.fake.base_url(), &token).await;
    assert_eq!((stopped.code, stopped.out.as_str()), (Some(1), &*format!("deleted {}\n", bed.id)));
    assert!(stopped.err.contains(&format!("{two}: cannot delete")), "{stopped:?}");
    assert!(stopped.err.contains(&format!("not tried any more: {three}")), "{stopped:?}");
    assert_eq!(bed.fake.webhooks().len(), 2);

    bed.run(&["webhook", "delete", &two, ".."], &bed.fake.base_url(), &token).await.fails(2, "no id");
    assert_eq!(bed.fake.webhooks().len(), 2, "no id is found before anything is deleted");
}
