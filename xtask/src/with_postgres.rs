//! Any command, with `DATABASE_URL` set to a PostgreSQL server.

use std::error::Error;
use std::process::{Command, ExitCode};

use crate::postgres;

/// Runs the command where we were called, and ends with its exit code.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<ExitCode, Box<dyn Error>> {
    let server = postgres::provide().map_err(|reason| format!("no PostgreSQL: {reason}"))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(server.environment());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let mut command = tokio::task::spawn_blocking(move || command.status());
        loop {
            tokio::select! {
                status = &mut command => return status,
                // An interrupt is for the command, as in psql; we stay for as long as it does.
                _ = tokio::signal::ctrl_c() => {}
            }
        }
    })?;
    let status = status.map_err(|error| format!("cannot run {program}: {error}"))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
