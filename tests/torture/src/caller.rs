//! What only the caller, `cargo xtask torture`, can do. Asked for by a line on standard output that
//! begins with `!`, and answered by a line on standard input.

use std::io::BufRead as _;

use crate::{Fault, say};

/// Kills the database server with all its processes, and starts it again on its data.
pub(crate) async fn restart_database() -> Result<(), Fault> {
    ask("!restart-database").await.map(drop)
}

/// The database server's processes.
pub(crate) async fn database_processes() -> Result<Vec<u32>, Fault> {
    let answer = ask("!database-processes").await?;
    Ok(answer.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

async fn ask(request: &'static str) -> Result<String, Fault> {
    let answer = tokio::task::spawn_blocking(move || {
        say(request)?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok::<_, Fault>(answer)
    });
    let answer = answer.await??;
    match answer.trim().split_once(' ').unwrap_or((answer.trim(), "")) {
        ("ok", answer) => Ok(answer.to_owned()),
        ("", _) => Err("nobody answers on standard input: start this by `cargo xtask torture`".into()),
        _ => Err(answer.trim().to_owned().into()),
    }
}
