//! Answers that come before the body has been sent.

use std::process::Stdio;

use conformance::bed::Bed;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/refused_upload.js");
const TRIES: u32 = 20;

pub(crate) async fn node_gets_the_refusal_while_it_uploads(bed: Bed) {
    let subject = bed.start().await;
    let port = subject.address.port().to_string();
    for bytes in ["100000", "1000000", "40000000"] {
        for framing in ["declared", "chunked"] {
            let mut node = tokio::process::Command::new("node");
            node.args([SCRIPT, &port, bytes, &TRIES.to_string(), framing]);
            let Ok(child) = node.stdout(Stdio::piped()).kill_on_drop(true).spawn() else {
                return; // No Node.js here.
            };
            let output = child.wait_with_output().await.unwrap();
            let answered: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            // All of them, but for a client that did not run for a second. Without lingering it is half of the largest.
            assert!(answered + 2 >= TRIES, "{bytes} {framing}: {answered} of {TRIES}");
        }
    }
}
