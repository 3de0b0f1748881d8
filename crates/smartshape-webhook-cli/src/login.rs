//! `smartshape login`.

use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::json;

use crate::escape;
use crate::failure::{CliResult, Failure};
use crate::input;
use crate::output;
use crate::settings::{Config, Settings, environment};

#[derive(Args)]
#[command(after_help = "\
The password comes from SMARTSHAPE_PASSWORD, or else from standard input; it is not kept. The login is kept in
smartshape/config.json in the configuration folder, which only you can read.

  smartshape login test@example.com
  smartshape --api-url https://smartshape.example.com login test@example.com < password.txt")]
pub(crate) struct Login {
    /// The user name; SMARTSHAPE_USERNAME by default
    username: Option<String>,
    /// Also opens a session, which takes a licence seat; newer installations require one
    #[arg(long)]
    open_session: bool,
}

impl Login {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        let (client, ca_cert) = settings.client()?;
        let username =
            self.username.map_or_else(|| environment("SMARTSHAPE_USERNAME"), |name| Ok(Some(name)))?;
        let Some(username) = username.filter(|name| !name.is_empty()) else {
            return Err(Failure::usage("who logs in? Name the user, or set SMARTSHAPE_USERNAME"));
        };
        Config::check_writable()?;
        let password = password(&username).await?;
        output::start_progress(format_args!("waiting for {}", client.base_url()));
        let token = client.login(&username, &password).await?;
        let logged_in = client.clone().with_auth_token(token.clone());
        let session = if self.open_session { Some(logged_in.open_session().await?) } else { None };
        let config = Config {
            api_url: Some(client.base_url()),
            username: Some(username.clone()),
            token: Some(token.expose().to_owned()),
            session: session.map(|session| session.expose().to_owned()),
            ca_cert,
        };
        let path = config.write()?.display().to_string();
        let url = client.base_url();
        output::done(
            &json!({"api_url": url, "username": username, "kept_in": path}),
            format_args!("logged in at {url} as {}; kept in {path}", escape::escape(&username)),
        )
    }
}

async fn password(username: &str) -> CliResult<String> {
    if let Some(password) = environment("SMARTSHAPE_PASSWORD")? {
        return Ok(password);
    }
    if !std::io::stdin().is_terminal() {
        let password = input::one_line("the password")?;
        if password.is_empty() {
            let text = "no password: give it on standard input, or set SMARTSHAPE_PASSWORD";
            return Err(Failure::usage(text));
        }
        return Ok(password);
    }
    let _ = write!(std::io::stderr(), "password of {}: ", escape::escape(username));
    let is_hidden = set_echo(false);
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line.trim_end_matches(['\n', '\r']).to_owned())
    });
    let line = tokio::select! {
        line = line => Some(line),
        _ = tokio::signal::ctrl_c() => None,
    };
    if is_hidden {
        set_echo(true);
        let _ = writeln!(std::io::stderr());
    }
    match line {
        Some(Ok(Ok(line))) => Ok(line),
        Some(_) => Err(Failure::failed("cannot read the password from the terminal")),
        None => Err(Failure::failed("not logged in")),
    }
}

/// Sets whether the terminal shows what is typed. Returns false if it cannot be set.
fn set_echo(shown: bool) -> bool {
    let mut stty = Command::new("stty");
    stty.arg(if shown { "echo" } else { "-echo" }).stdout(Stdio::null()).stderr(Stdio::null());
    stty.status().is_ok_and(|status| status.success())
}
