//! Files that are links, another user's, or readable by others.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use smartshape_fake::FakeSmartShape;
use smartshape_webhook::EventKind;

use crate::listener;
use crate::support::{Home, SECRET, run, unused_url};

/// Makes a file another user's, which only root can.
fn give_away(path: &Path) -> bool {
    chown(path, Some(65534), None).is_ok()
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn recordings_are_private_to_the_user() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    let at = |name: &str| home.path().join(name);
    write_private(&at("mine"), "mine\n");
    symlink("mine", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    write_private(&at("open"), "");
    fs::set_permissions(at("open"), Permissions::from_mode(0o640)).unwrap();
    write_private(&at("foreign"), "");
    let mut rejected = vec![("link", "symbolic link"), ("dangling", "No such file"), ("open", "chmod 600")];
    if give_away(&at("foreign")) {
        rejected.push(("foreign", "another user"));
    }
    for (file, says) in rejected {
        let listen = ["webhook", "listen", "--event", "file_uploaded", "--record", file];
        let failed = home.run_at(&fake, &listen).await;
        failed.assert_fails(2, says);
        assert!(failed.err.contains(&format!("cannot write --record {file}: ")), "{failed:?}");
    }
    assert!(fs::read(at("mine")).unwrap() == b"mine\n" && !at("nowhere").exists());
    for taken in ["mine", "/dev/null", "new"] {
        let listen = ["webhook", "listen", "--event", "file_uploaded", "--record", taken];
        let listener = listener::start(home.logged_in(&fake, &listen)).await;
        listener.stop("-INT").await;
    }
    assert!(fs::read(at("mine")).unwrap().starts_with(b"mine\n{"));
    assert_eq!(fs::metadata(at("new")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn settings_symlink_is_kept() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    let (url, account) = (fake.base_url(), fake.account());
    let folder = home.path().join(".config/smartshape");
    let (link, file) = (folder.join("config.json"), home.path().join("dotfiles.json"));
    fs::create_dir_all(&folder).unwrap();
    symlink("../../dotfiles.json", &link).unwrap();
    // It is not created where a link leads to, which is found before the password is sent.
    let (_socket, unused) = unused_url();
    let mut login = home.program(&["--api-url", &unused, "login", "ada"]);
    run(login.env("SMARTSHAPE_PASSWORD", "her password"))
        .await
        .assert_fails(1, "a link to a file that is not there");

    write_private(&file, "{}");
    let mut login = home.program(&["--api-url", &url, "login", account.username()]);
    run(login.env("SMARTSHAPE_PASSWORD", account.password())).await.assert_ok();
    assert!(link.is_symlink() && fs::read_to_string(&file).unwrap().contains(&url));
    let list = async || home.run(&["webhook", "list"]).await;
    let quiet = list().await.assert_ok();
    assert!(!quiet.err.contains("others"), "{quiet:?}");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    list().await.assert_exits(0, "dotfiles.json: others can read it");
    if give_away(&file) {
        list().await.assert_exits(0, "dotfiles.json: it belongs to another user");
    }
}

#[tokio::test]
async fn journals_of_other_users_delete_nothing() {
    let (home, fake) = (Home::new(), FakeSmartShape::start().await.unwrap());
    listener::killed(&home, &fake, &["--event", "file_uploaded"]).await;
    let note = listener::journals(&home).remove(0);
    let elsewhere = home.path().join("elsewhere.jsonl");
    fs::rename(&note, &elsewhere).unwrap();
    symlink(&elsewhere, &note).unwrap();
    let id = fake.webhooks()[0].id.clone();
    let other = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
    let prune = async || home.run_at(&fake, &["webhook", "prune"]).await;
    prune().await.assert_exits(1, "symbolic link");
    fs::remove_file(&note).unwrap();
    fs::rename(&elsewhere, &note).unwrap();
    if give_away(&note) {
        prune().await.assert_exits(1, "another user");
        chown(&note, Some(0), None).unwrap();
    }
    assert_eq!(fake.webhooks().len(), 2);
    assert_eq!(prune().await.assert_ok().out, format!("deleted {id}\n"));
    assert_eq!(fake.webhooks()[0].id, other);
}
