//! `smartshape token`.

use std::collections::HashSet;

use crate::support::{Home, SECRET, run, run_with_stdin};

#[tokio::test]
async fn signed_tokens_verify() {
    let home = Home::new();
    let sign = ["token", "sign", "--secret", "-", "--cost", "5", "--prefix", "2a"];
    let token = run_with_stdin(&mut home.program(&sign), SECRET).await.assert_ok().out;
    let token = token.trim_end();
    assert!(token.starts_with("$2a$05$"), "{token}");
    home.run(&["token", "verify", token, "--secret", SECRET]).await.assert_ok();
    let other = home.run(&["token", "verify", token, "--secret", "another secret of mine"]).await;
    assert_eq!((other.code, other.out.contains("does not belong")), (Some(1), true));
    let inspected = home.run_json(&["token", "inspect", token]).await;
    assert_eq!((&inspected["prefix"], &inspected["cost"]), (&"2a".into(), &5.into()));
    assert!(!inspected.to_string().contains(&token[7..]));
}

#[tokio::test]
async fn sign_makes_tokens_with_fresh_or_fixed_salts() {
    let home = Home::new();
    for (salt, different) in [("fresh", 3), ("fixed", 1)] {
        let sign = ["token", "sign", "--secret", SECRET, "--cost", "4", "--count", "3", "--salt", salt];
        let out = home.run(&sign).await.assert_ok().out;
        assert_eq!(out.lines().count(), 3);
        assert_eq!(out.lines().collect::<HashSet<_>>().len(), different);
    }
}

#[tokio::test]
async fn verify_rejects_malformed_and_too_costly_tokens() {
    let home = Home::new();
    home.run(&["token", "inspect", "letmein"]).await.assert_fails(1, "60 bytes");
    home.run(&["token", "sign", "--secret", SECRET, "--cost", "32"]).await.assert_fails(2, "32");
    home.run(&["token", "sign", "--secret", ""]).await.assert_fails(2, "empty");
    let costly = "$2b$31$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG";
    home.run(&["token", "verify", costly, "--secret", SECRET]).await.assert_fails(1, "--max-cost");
}

#[tokio::test]
async fn secrets_are_read_verbatim_or_rejected() {
    let home = Home::new();
    let file = home.path().join("secret.txt");
    let sign = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut program = home.program(&["token", "sign", "--cost", "4"]);
        // An orchestrator sets a variable that has no value to nothing.
        program.env("SMARTSHAPE_WEBHOOK_SECRET", "").env("SMARTSHAPE_WEBHOOK_SECRET_FILE", &file);
        run(&mut program).await
    };
    let signed = sign(&format!("{SECRET}\n")).await.assert_ok();
    home.run(&["token", "verify", signed.out.trim_end(), "--secret", SECRET]).await.assert_ok();
    sign(&format!("\u{feff}{SECRET}\n")).await.assert_fails(2, "U+FEFF");
    sign("swordfish").await.assert_fails(2, "SMARTSHAPE_WEBHOOK_SECRET_FILE: the webhook secret has 9 bytes");
    let mut padded = home.program(&["token", "sign"]);
    padded.env("SMARTSHAPE_WEBHOOK_SECRET", format!("{SECRET} "));
    run(&mut padded).await.assert_fails(2, "SMARTSHAPE_WEBHOOK_SECRET: the webhook secret begins or ends");
    let short = ["token", "sign", "--cost", "4", "--secret", "swordfish"];
    home.run(&short).await.assert_fails(2, "under 16");
    home.run(&[&short[..], &["--allow-short-secret"]].concat()).await.assert_ok();
    home.run(&["token", "sign", "--secret", &format!("{SECRET}\u{200b}")]).await.assert_fails(2, "U+200B");
}
