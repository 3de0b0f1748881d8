//! Requests to the caller, `cargo xtask torture`: each is a line on standard output that begins with `!`. The
//! response is a line on standard input.

use std::io::BufRead as _;

use crate::{Error, print_line};

/// Kills the database server with all its processes, and starts it again on its data.
pub(crate) async fn restart_database() -> Result<(), Error> {
    ask("!restart-database").await.map(drop)
}

/// The database server's processes.
pub(crate) async fn database_processes() -> Result<Vec<u32>, Error> {
    let response = ask("!database-processes").await?;
    Ok(response.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

async fn ask(request: &'static str) -> Result<String, Error> {
    let response = tokio::task::spawn_blocking(move || {
        print_line(request)?;
        let mut response = String::new();
        std::io::stdin().lock().read_line(&mut response)?;
        Ok::<_, Error>(response)
    });
    let response = response.await??;
    match response.trim().split_once(' ').unwrap_or((response.trim(), "")) {
        ("ok", response) => Ok(response.to_owned()),
        ("", _) => Err("nobody responds on standard input: start this by `cargo xtask torture`".into()),
        _ => Err(response.trim().to_owned().into()),
    }
}
