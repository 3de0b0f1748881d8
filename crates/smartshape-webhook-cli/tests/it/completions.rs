//! `smartshape completions`.

use std::process::Stdio;

use smartshape_webhook::EventKind;
use tokio::process::Command;

use crate::support::Home;

#[tokio::test]
async fn shells_can_read_them() {
    let home = Home::new();
    for (shell, check) in [
        ("bash", Some(&["bash", "-n"])),
        ("zsh", Some(&["zsh", "-n"])),
        ("fish", Some(&["fish", "--no-execute"])),
        ("powershell", None),
        ("elvish", None),
    ] {
        let script = home.run(&["completions", shell]).await.succeeds().out;
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
async fn wherever_an_event_is_named_the_nine_are_listed() {
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
        let help = home.run(&[command, &["-h"]].concat()).await.succeeds().out;
        let listed = EventKind::ALL.map(EventKind::as_str).join(", ");
        assert!(help.contains(&format!("[possible values: {listed}]")), "{command:?}: {help}");
    }
}
