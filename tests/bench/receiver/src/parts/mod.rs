//! What is measured, question by question.

mod adopt;
mod alone;
mod busy;
mod flood;
mod fresh;
mod growth;
mod known;
mod memory;
mod peers;
mod sizes;

use bench_report::{Part, Start};
use smartshape_fake::{Prefix, token};

use crate::Outcome;
use crate::cores::Cores;
use crate::process::Peer;
use crate::server::{LOG_LEVEL, SECRET};

/// Each part by the word that asks for it.
pub(crate) const PARTS: [&str; 9] =
    ["known", "sizes", "fresh", "peers", "flood", "busy", "memory", "growth", "adopt"];

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) cores: Cores,
    pub(crate) quick: bool,
    pub(crate) peers: &'a [Peer],
}

pub(crate) async fn measure(name: &str, run: Run<'_>) -> Outcome<Part> {
    run.cores.send()?;
    let start = Start::now();
    let mut part = match name {
        "known" => known::measure(run).await?,
        "sizes" => sizes::measure(run).await?,
        "fresh" => fresh::measure(run).await?,
        "peers" => peers::measure(run).await?,
        "flood" => flood::measure(run).await?,
        "busy" => busy::measure(run).await?,
        "memory" => memory::measure(run).await?,
        "growth" => growth::measure(run).await?,
        "adopt" => adopt::measure(run)?,
        _ => return Err(format!("there is no part {name:?}").into()),
    };
    let mut of_the_run = [start.facts(run.quick), versions()].concat();
    // That part builds by itself, for debugging.
    if name != "adopt" {
        of_the_run.push(("profile", profile()?));
    }
    if !matches!(name, "memory" | "adopt") {
        of_the_run.push(("sender", "never sleeps".to_owned()));
    }
    part.facts.splice(0..0, of_the_run);
    Ok(part)
}

fn versions() -> Vec<(&'static str, String)> {
    let frameworks = ["axum", "actix-web", "warp"].map(|name| (name, locked(name)));
    let ours =
        [("smartshape-webhook", env!("CARGO_PKG_VERSION").to_owned()), ("log level", LOG_LEVEL.to_string())];
    frameworks.into_iter().chain(ours).collect()
}

/// The version of a package that this was built with.
fn locked(package: &str) -> String {
    let lock = include_str!("../../../../../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{package}\"\n")));
    let version = entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next());
    version.unwrap_or("unknown").to_owned()
}

/// How all of this was compiled, by the folder in which cargo put it.
fn profile() -> Outcome<String> {
    let program = std::env::current_exe()?;
    let folder = program.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
    if folder != "fast" {
        return Ok(folder.to_string_lossy().into_owned());
    }
    let manifest = include_str!("../../../../../Cargo.toml");
    let (_, settings) = manifest.split_once("\n[profile.fast]\n").ok_or("there is no profile `fast`")?;
    Ok(settings.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(", "))
}

/// A token of the servers' secret, of the cost that is likely.
fn known_token() -> Outcome<String> {
    Ok(token(SECRET, 10, Prefix::TwoB)?)
}
