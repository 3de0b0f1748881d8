//! The pipeline of SmartShape's manual.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use smartshape_fake::EventPayload;
use smartshape_webhook::EventKind;
use tokio::process::Command;

use crate::listener::{builder, journals};
use crate::program::Program;
use crate::support::{Home, log_in, within};

/// The pipeline of SmartShape's manual, where there is a `jq`: the one that `JQ` names, or on the PATH.
/// `cargo xtask test` gets one, or says that this was skipped.
#[tokio::test]
async fn listen_works_in_the_manuals_pipeline() {
    let jq = std::env::var_os("JQ").map(PathBuf::from);
    if jq.is_none() && std::process::Command::new("jq").arg("--version").output().is_err() {
        return;
    }
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let script = r#"smartshape webhook listen --event attribute_updated |
        jq --unbuffered -rc '.file as $file | (.runTimestamp / 1000 | floor) as $time
            | .data.nodeIdToAttributes | keys[] | "\($file) \(.) \($time)"' |
        xargs -L1 sh -c 'smartshape attribute upsert "$0" "{\"mtime\": $2}" --query "id:$1" && echo done'"#;
    let programs = [Some(Path::new(env!("CARGO_BIN_EXE_smartshape"))), jq.as_deref()];
    let folders = programs.iter().flatten().map(|program| program.parent().unwrap().to_owned());
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(folders.chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]).env_clear().env("HOME", home.path()).env("PATH", path);
    command.current_dir(home.path()).stdin(Stdio::null()).process_group(0);
    let mut pipeline = Program::spawn(log_in(&mut command, &fake));
    let group = Group(format!("-{}", pipeline.child.id().unwrap()));
    pipeline.read_until("registered ").await;

    let event = EventPayload::sample(EventKind::AttributeUpdated).with_file("5c6f");
    let body: Value = serde_json::from_slice(&event.to_body()).unwrap();
    let nodes = body["data"]["nodeIdToAttributes"].as_object().unwrap().len();
    assert!(fake.send(&event).await[0].accepted());
    let mut out = pipeline.out.take().unwrap();
    let mut done = 0;
    while done < nodes {
        done += usize::from(within(out.next_line()).await.unwrap().expect("it goes on") == "done");
    }
    let set = fake.attributes();
    assert_eq!(set.len(), nodes);
    let time = body["runTimestamp"].as_i64().unwrap() / 1000;
    assert!(set.iter().all(|one| one.name == "mtime" && one.value == time), "{set:?}");
    assert!(set.iter().all(|one| one.file.as_deref() == Some("5c6f")), "{set:?}");
    assert_eq!(fake.webhooks().len(), 1);
    // ^C interrupts all processes of the pipeline.
    group.signal("-INT");
    pipeline.end().await;
    assert!(fake.webhooks().is_empty() && journals(&home).is_empty());
}

/// The processes of a pipeline, which end with the test.
struct Group(String);

impl Group {
    fn signal(&self, name: &str) {
        let _ = std::process::Command::new("kill").args([name, "--", &self.0]).status();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal("-KILL");
    }
}
