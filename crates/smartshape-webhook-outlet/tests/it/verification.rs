//! Public libraries verify the signature.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::http::{SECRET, request};

/// The request as the verifying programs read it: a line of JSON with the headers, then the body.
async fn signed(tampered: bool) -> Vec<u8> {
    let (headers, body) = request().await;
    let value = |name: &str| headers[name].to_str().unwrap().to_owned();
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":\"{}\"", value(name))).collect();
    let mut text = format!("{{{}}}\n", members.join(",")).into_bytes();
    text.extend_from_slice(&body);
    if tampered {
        text.push(b' ');
    }
    text
}

#[tokio::test]
async fn standardwebhooks_verifies_in_rust() {
    let (headers, body) = request().await;
    let verifier = standardwebhooks::Webhook::new(SECRET).unwrap();
    verifier.verify(&body, &headers).unwrap();
    assert!(verifier.verify(&[&body, &b" "[..]].concat(), &headers).is_err());
}

/// Runs the program of this environment variable, its words separated by tabs, which `cargo xtask test` sets.
async fn verifies(variable: &str) {
    let Ok(command) = std::env::var(variable) else { return };
    for tampered in [false, true] {
        let mut words = command.split('\t');
        let mut program = Command::new(words.next().unwrap());
        let mut child = program.args(words).env("SECRET", SECRET).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&signed(tampered).await).unwrap();
        let code = child.wait().unwrap().code();
        // 3 is the program's word for a signature that does not fit.
        assert_eq!(code, Some(if tampered { 3 } else { 0 }), "{variable}, tampered: {tampered}");
    }
}

#[tokio::test]
async fn standardwebhooks_verifies_in_node() {
    verifies("VERIFY_IN_NODE").await;
}

#[tokio::test]
async fn standardwebhooks_verifies_in_python() {
    verifies("VERIFY_IN_PYTHON").await;
}
