//! The README's test command.

use crate::{Outcome, cargo, conformance};

pub(crate) fn run() -> Outcome {
    cargo::run(&["test", "--locked", "--workspace"], &[])?;
    conformance::run()?;
    println!("\nAll of it passed. Nothing was skipped.");
    Ok(())
}
