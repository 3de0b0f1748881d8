//! Format, lints, documentation and dependencies.

use crate::cargo::PUBLISHED;
use crate::{Result, api, cargo, words};

/// Each published crate and each set of features that builds differently.
const FEATURE_SETS: [&[&str]; 18] = [
    &["--package", "smartshape-webhook", "--no-default-features"],
    &["--package", "smartshape-webhook"],
    &["--package", "smartshape-webhook-tower"],
    &["--package", "smartshape-webhook-tower", "--features", "axum"],
    &["--package", "smartshape-webhook-actix"],
    &["--package", "smartshape-webhook-warp"],
    &["--package", "smartshape-webhook-inbox", "--no-default-features"],
    &["--package", "smartshape-webhook-inbox"],
    &["--package", "smartshape-webhook-inbox", "--no-default-features", "--features", "postgres-tls"],
    &["--package", "smartshape-webhook-inbox", "--features", "postgres", "--all-targets"],
    &["--package", "smartshape-webhook-outlet", "--no-default-features"],
    &["--package", "smartshape-webhook-outlet"],
    &["--package", "smartshape-webhook-outlet", "--no-default-features", "--features", "nats"],
    &["--package", "smartshape-webhook-ui"],
    &["--package", "smartshape-webhook-ui", "--features", "actix,warp"],
    &["--package", "smartshape-api"],
    &["--package", "smartshape-fake"],
    &["--package", "smartshape-webhook-cli"],
];

pub(crate) fn run() -> Result {
    words::run()?;
    cargo::run(&["fmt", "--all", "--check"], &[])?;
    cargo::run(&["fmt", "--check", "--manifest-path", "tests/fuzz/Cargo.toml"], &[])?;
    for set in FEATURE_SETS {
        let mut arguments = vec!["clippy", "--quiet", "--locked"];
        arguments.extend(set);
        arguments.extend(["--", "--deny", "warnings"]);
        cargo::run(&arguments, &[])?;
    }
    let everything =
        ["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    cargo::run(&everything, &[])?;
    let docs = ["doc", "--quiet", "--locked", "--workspace", "--no-deps", "--all-features"];
    cargo::run(&docs, &[("RUSTDOCFLAGS", "--deny warnings")])?;
    api::run(false)?;
    package()?;
    if cargo::has("deny") {
        return deny();
    }
    // It takes minutes to build, and dependencies seldom change.
    println!(
        "\nskipped: `cargo xtask deny`, because there is no cargo-deny: `cargo install --locked cargo-deny`"
    );
    Ok(())
}

/// Packages what is published, without building it anew from the packages, which takes as long as a build of
/// everything.
fn package() -> Result {
    let mut arguments = vec!["package", "--quiet", "--locked", "--no-verify", "--allow-dirty"];
    arguments.extend(PUBLISHED.iter().flat_map(|name| ["--package", name]));
    cargo::run(&arguments, &[])
}

/// Checks licences, sources and banned dependencies against `deny.toml`.
pub(crate) fn deny() -> Result {
    cargo::run(&["deny", "check", "licenses", "bans", "sources"], &[])
}
