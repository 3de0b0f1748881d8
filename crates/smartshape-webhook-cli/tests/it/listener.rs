//! A `smartshape webhook listen` that runs, and what it keeps.

use smartshape_fake::{FakeBuilder, FakeSmartShape, SenderSettings};
use tokio::process::Command;

use crate::program::Program;
use crate::support::Home;

/// A fake for a machine that may be busy.
pub(crate) fn builder() -> FakeBuilder {
    let timeout = std::time::Duration::from_secs(60);
    let sender = SenderSettings { max_attempts: 3, timeout, ..SenderSettings::quick() };
    FakeSmartShape::builder().sender(sender)
}

/// Runs `smartshape webhook listen` with these arguments until it has registered.
pub(crate) async fn at(home: &Home, fake: &FakeSmartShape, arguments: &[&str]) -> Program {
    start(home.logged_in(fake, &[&["webhook", "listen"], arguments].concat())).await
}

/// Runs it until it has registered, and kills it.
pub(crate) async fn killed(home: &Home, fake: &FakeSmartShape, arguments: &[&str]) {
    at(home, fake, arguments).await.child.kill().await.unwrap();
}

/// Runs it until it has registered.
pub(crate) async fn start(mut command: Command) -> Program {
    let mut listener = Program::spawn(&mut command);
    listener.read_until("registered ").await;
    listener
}

/// The files that listeners keep.
pub(crate) fn journals(home: &Home) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(home.path().join(".local/state/smartshape/listeners")) else {
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).collect()
}
