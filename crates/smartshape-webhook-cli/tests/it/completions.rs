//! `smartshape completions`.

use std::process::Stdio;

use smartshape_fake::FakeSmartShape;
use smartshape_webhook::EventKind;
use tokio::process::Command;

use crate::support::{Home, unused_url};

#[tokio::test]
async fn completions_are_valid_for_each_shell() {
    let home = Home::new();
    for (shell, check) in [
        ("bash", Some(&["bash", "-n"])),
        ("zsh", Some(&["zsh", "-n"])),
        ("fish", Some(&["fish", "--no-execute"])),
        ("powershell", None),
        ("elvish", None),
    ] {
        let script = home.run(&["completions", shell]).await.assert_ok().out;
        assert!(script.contains("rotate") && script.contains("keep-old"), "{shell}: {script}");
        let Some([program, option]) = check else { continue };
        assert!(script.contains("file_uploaded"), "{shell}: the events are completed too");
        let file = home.path().join(shell);
        std::fs::write(&file, script).unwrap();
        let mut command = Command::new(program);
        match command.arg(option).arg(&file).stdin(Stdio::null()).output().await {
            Ok(output) => assert!(output.status.success() && output.stderr.is_empty(), "{output:?}"),
            Err(error) => println!("skipped: {program} cannot be run: {error}"),
        }
    }
}

#[tokio::test]
async fn help_lists_the_nine_events() {
    let home = Home::new();
    for command in [
        ["webhook", "create"].as_slice(),
        &["webhook", "apply"],
        &["webhook", "rotate"],
        &["webhook", "listen"],
        &["event", "trigger"],
        &["check"],
    ] {
        // Completions are made of the same list.
        let help = home.run(&[command, &["-h"]].concat()).await.assert_ok().out;
        let listed = EventKind::ALL.map(EventKind::as_str).join(", ");
        assert!(help.contains(&format!("[possible values: {listed}]")), "{command:?}: {help}");
    }
}

#[tokio::test]
async fn help_is_a_command() {
    let home = Home::new();
    for (command, flag) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "check"], &["check", "--help"]),
        (&["help", "webhook", "listen"], &["webhook", "listen", "--help"]),
        (&["webhook", "help", "listen"], &["webhook", "listen", "--help"]),
    ] {
        let asked = home.run(command).await.assert_ok();
        assert!(asked.out.contains("Usage: smartshape"), "{asked:?}");
        assert_eq!(asked.out, home.run(flag).await.assert_ok().out, "{command:?}");
    }
}

#[tokio::test]
async fn errors_with_json_are_one_line_of_json() {
    let home = Home::new();
    let (_socket, unused) = unused_url();
    for (command, code, says) in [
        (
            &["--json", "webhook", "list", "--api-url", &unused, "--token", "a.b.c"][..],
            1,
            "the connection was refused",
        ),
        (&["--json", "webhook", "list", "--api-url", "nonsense"], 2, "absolute URL"),
        (&["--json", "webhook", "delete"], 2, "required arguments"),
        (&["--json", "inbox", "list", "none.db"], 1, "there is no inbox"),
    ] {
        let failed = home.run(command).await;
        assert_eq!((failed.code, &*failed.out), (Some(code), ""), "{failed:?}");
        let error: serde_json::Value = serde_json::from_str(&failed.err).unwrap();
        assert_eq!(error["exit_code"], code);
        assert!(error["error"].as_str().unwrap().contains(says), "{failed:?}");
    }
    let fake = FakeSmartShape::start().await.unwrap();
    let noticed = home.run_at(&fake, &["--json", "webhook", "delete", "5c6f"]).await;
    let notice: serde_json::Value = serde_json::from_str(&noticed.err).unwrap();
    assert!(notice["message"].as_str().unwrap().contains("there is no webhook 5c6f"), "{noticed:?}");
}
