//! The README's test command.

use crate::{Outcome, cargo, conformance};

pub(crate) fn run() -> Outcome {
    cargo::run(&["test", "--locked", "--workspace"], &[])?;
    cargo::run(&["test", "--locked", "--package", "smartshape-webhook", "--no-default-features"], &[])?;
    conformance::run()?;
    println!("\nAll of it passed. Nothing was skipped.");
    Ok(())
}
