//! `login`, `webhook create|list|delete`, `attribute upsert`, and where settings come from.

use serde_json::json;
use smartshape_fake::{ErrorFormat, FakeSmartShape, FaultInjection};
use smartshape_webhook::EventKind;

use crate::support::{Home, SECRET, assert_private, run, run_unread, run_with_stdin};

#[tokio::test]
async fn login_is_stored_and_used_for_its_server_only() {
    let (home, fake, other) =
        (Home::new(), FakeSmartShape::start().await.unwrap(), FakeSmartShape::start().await.unwrap());
    let (url, account) = (fake.base_url(), fake.account());
    let login = ["--api-url", &url, "login", account.username()];
    let wrong = run_with_stdin(&mut home.program(&login), "hunter2").await;
    wrong.assert_fails(1, "user name or password are wrong");
    assert!(!wrong.err.contains("`smartshape login`"), "the server's words stay its own: {wrong:?}");
    run_with_stdin(&mut home.program(&login), "\n").await.assert_fails(2, "SMARTSHAPE_PASSWORD");
    assert!(!home.path().join(".config").exists());

    // An empty variable counts as not set.
    let mut program = home.program(&login);
    let ran = run_with_stdin(program.env("SMARTSHAPE_PASSWORD", ""), account.password()).await.assert_ok();
    let kept = home.path().join(".config/smartshape/config.json");
    let text = std::fs::read_to_string(&kept).unwrap();
    assert!(!text.contains(account.password()) && !ran.out.contains("jwt"));
    assert_private(&kept);
    home.run(&["webhook", "list"]).await.assert_ok();

    let mut elsewhere = home.program(&["webhook", "list"]);
    run(elsewhere.env("SMARTSHAPE_API_URL", other.base_url())).await.assert_exits(2, "not sent to");

    std::fs::write(&kept, "{\"token\": \"hunter2\", nonsense").unwrap();
    let broken = home.run(&["webhook", "list"]).await.assert_exits(2, "config.json");
    assert!(!broken.err.contains("hunter2"), "{broken:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn login_rejects_variables_that_are_not_utf8() {
    let (home, (_socket, unused)) = (Home::new(), crate::support::unused_url());
    let strange: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"p\xe9ss");
    for variable in ["SMARTSHAPE_USERNAME", "SMARTSHAPE_PASSWORD"] {
        let mut program = home.program(&["--api-url", &unused, "login"]);
        program.env("SMARTSHAPE_USERNAME", "ada").env(variable, strange);
        let failed = run_with_stdin(&mut program, "of another account").await;
        failed.assert_fails(2, &format!("{variable} is not UTF-8"));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn login_fails_early_if_it_cannot_be_stored() {
    let home = Home::new();
    // Nobody is there, who would be told the password.
    let (_socket, unused) = crate::support::unused_url();
    let mut program = home.program(&["--api-url", &unused, "login", "ada"]);
    // Nothing can be created there, not even by root.
    program.env("XDG_CONFIG_HOME", "/proc/none");
    let failed = run_with_stdin(&mut program, "her password").await;
    failed.assert_fails(1, "make their folder writable, or set XDG_CONFIG_HOME");
    assert!(failed.err.contains("/proc/none/smartshape/config.json"), "{failed:?}");
}

#[tokio::test]
async fn login_opens_a_session_on_request() {
    let home = Home::new();
    let fake = FakeSmartShape::builder().session_required(true).start().await.unwrap();
    let (url, account) = (fake.base_url(), fake.account());
    let mut program = home.program(&["--api-url", &url, "login", account.username(), "--open-session"]);
    run(program.env("SMARTSHAPE_PASSWORD", account.password())).await.assert_ok();
    home.run(&["webhook", "list"]).await.assert_ok();
    home.run_at(&fake, &["webhook", "list"]).await.assert_fails(1, "unauthorized");
}

#[tokio::test]
async fn settings_flags_override_the_environment() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    let (url, token) = (fake.base_url(), fake.bearer_token());
    let mut program = home.program(&["webhook", "list", "--api-url", &url, "--token", "-", "--json"]);
    program.env("SMARTSHAPE_API_URL", "http://127.0.0.1:1").env("SMARTSHAPE_TOKEN", "another");
    assert_eq!(run_with_stdin(&mut program, &token).await.assert_ok().out, "");
    let mut program = home.program(&["webhook", "list", "--api-url", &url, "--token", &token]);
    let none = run(&mut program).await.assert_exits(0, "there are no webhooks");
    assert!(none.out.starts_with("ID"), "{none:?}");
    home.run(&["webhook", "list", "--api-url", &url]).await.assert_fails(2, "smartshape login");
}

#[tokio::test]
async fn settings_environment_overrides_the_file() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    let folder = home.path().join(".config/smartshape");
    std::fs::create_dir_all(&folder).unwrap();
    let kept = r#"{"api_url": "http://127.0.0.1:1", "token": "another", "session": "another", "ca_cert": "none.pem"}"#;
    std::fs::write(folder.join("config.json"), kept).unwrap();
    home.write("empty.pem", "");
    let mut program = home.logged_in(&fake, &["--json", "webhook", "list"]);
    assert_eq!(run(program.env("SMARTSHAPE_CA_CERT", "empty.pem")).await.assert_ok().out, "");
}

#[tokio::test]
async fn urls_need_not_be_listed() {
    let home = Home::new();
    let fake = FakeSmartShape::builder().list_shows_url(false).start().await.unwrap();
    let id = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
    let listed = home.run_at(&fake, &["webhook", "list"]).await.assert_ok().out;
    let row: Vec<_> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, [&id, "file_uploaded", "-", "-"]);
    home.run_at(&fake, &["webhook", "delete", &id]).await.assert_ok();
    assert!(fake.webhooks().is_empty());
}

#[tokio::test]
async fn webhooks_are_created_listed_and_deleted() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    let create = ["--json", "webhook", "create", "http://127.0.0.1:1/a?key=hunter2", "file_uploaded"];
    let mut program = home.logged_in(&fake, &create);
    let created = run(program.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)).await.assert_ok().json();
    let stored = fake.webhooks();
    assert_eq!((stored.len(), stored[0].secret()), (1, SECRET));
    assert_eq!(created["created"]["id"], stored[0].id);

    let create = ["webhook", "create", "http://127.0.0.1:1/b", "file_optimized", "-"];
    let ran =
        run_with_stdin(&mut home.logged_in(&fake, &create), "another secret of mine\n").await.assert_ok();
    assert!(!ran.out.contains("another secret") && fake.webhooks()[1].secret() == "another secret of mine");

    // An equal one is created, and named.
    let create = ["webhook", "create", "http://127.0.0.1:1/b", "file_optimized", "yet another secret"];
    let twice = home.run_at(&fake, &create).await;
    let (id, third) = (fake.webhooks()[1].id.clone(), fake.webhooks()[2].id.clone());
    twice.assert_exits(0, &format!("warning: {id} is for the same event and URL"));
    home.run_at(&fake, &["webhook", "delete", &third]).await.assert_ok();

    let listed = home.run_at(&fake, &["webhook", "list"]).await.assert_ok().out;
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("ID"), "{listed}");
    assert!(lines[1].contains("file_uploaded  ") && lines[1].contains("http://127.0.0.1:1/a?"), "{listed}");
    assert!(!listed.contains("hunter2"), "tables end up in logs: {listed}");
    let listed = home.run_at(&fake, &["--json", "webhook", "list"]).await.assert_ok().lines();
    assert_eq!((listed.len(), listed[0]["url"].as_str()), (2, Some("http://127.0.0.1:1/a?key=hunter2")));

    let ids: Vec<_> = fake.webhooks().into_iter().map(|webhook| webhook.id).collect();
    let delete = ["webhook", "delete", &ids[0], "nothing", &ids[1]];
    home.run_at(&fake, &delete).await.assert_exits(1, "no webhook nothing");
    assert!(fake.webhooks().is_empty());
}

#[tokio::test]
async fn delete_continues_after_a_closed_pipe() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    let one = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
    let two = fake.register(EventKind::FileOptimized, "http://127.0.0.1:1/", SECRET);
    let delete = ["webhook", "delete", &one, &two];
    assert_eq!(run_unread(&mut home.logged_in(&fake, &delete)).await, Some(0));
    assert!(fake.webhooks().is_empty());
}

#[tokio::test]
async fn invalid_usage_is_one_clear_line() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    let run = async |arguments: &[&str]| home.run_at(&fake, arguments).await;
    let create = async |arguments: &[&str]| run(&[&["webhook", "create"], arguments].concat()).await;
    create(&["nonsense", "file_uploaded", SECRET]).await.assert_fails(2, "absolute URL");
    create(&["http://127.0.0.1:1/", "file_deleted", SECRET]).await.assert_fails(2, "annotation_created");
    create(&["http://127.0.0.1:1/", "file_uploaded"]).await.assert_fails(2, "SMARTSHAPE_WEBHOOK_SECRET");
    run(&["attribute", "upsert", "f", "{", "--query", "id:n"]).await.assert_fails(2, "not JSON");
    run(&["attribute", "upsert", "f", "[1]", "--query", "id:n"]).await.assert_fails(2, "no JSON object");
    run(&["attribute", "upsert", "f", "{\"a\": 1}", "--query", "name:n"]).await.assert_fails(2, "id:NODE");
    run(&["--api-url", "ftp://x", "webhook", "list"]).await.assert_fails(2, "https://");

    fake.inject(FaultInjection::error(500, ErrorFormat::List).after_effect());
    create(&["http://127.0.0.1:1/", "file_uploaded", SECRET]).await.assert_fails(1, "may exist all the same");
}

#[tokio::test]
async fn attributes_are_set() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
    let upsert =
        ["attribute", "upsert", "5c6f", r#"{"mtime": 1550824906, "color": "red"}"#, "--query", "id:5b33"];
    home.run_at(&fake, &upsert).await.assert_ok();
    let stored = fake.attributes().into_iter().map(|one| json!([one.file, one.node, one.name, one.value]));
    let expected = json!([["5c6f", "5b33", "color", "red"], ["5c6f", "5b33", "mtime", 1_550_824_906]]);
    assert_eq!(stored.collect::<serde_json::Value>(), expected);
}

#[tokio::test]
async fn server_text_is_escaped_for_the_terminal() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    let url = "http://127.0.0.1:1/\u{9b}31m\u{202e}\u{200b}";
    fake.register(EventKind::FileUploaded, url, SECRET);
    let listed = home.run_at(&fake, &["--json", "webhook", "list"]).await.assert_ok();
    assert!(listed.out.contains(r"/\u009b31m\u202e\u200b"), "{listed:?}");
    assert_eq!(listed.json()["url"], url);
    let table = home.run_at(&fake, &["webhook", "list"]).await.assert_ok().out;
    assert!(table.contains(r"/\u{9b}31m\u{202e}\u{200b}"), "{table}");
}
