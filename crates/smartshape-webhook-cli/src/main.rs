//! `smartshape`: the command line for SmartShape webhooks (unofficial).
#![allow(clippy::doc_markdown, reason = "many are help texts, in which backticks would show")]

mod attribute;
mod check;
mod completions;
mod console;
mod escape;
mod event;
mod failure;
mod files;
mod http_client;
mod http_server;
mod inbox;
mod input;
mod login;
mod output;
mod recording;
mod relay;
mod settings;
mod signals;
mod token;
mod ui;
mod webhook;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::{CliResult, Failure};
use crate::settings::Settings;

/// SmartShape webhooks from the command line. Unofficial: not made or endorsed by SmartShape.
#[derive(Parser)]
#[command(name = "smartshape", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 rejected or failed; 2 wrong usage or settings.

Settings: flags come before the environment (SMARTSHAPE_API_URL, SMARTSHAPE_TOKEN, SMARTSHAPE_SESSION,
SMARTSHAPE_CA_CERT), and that before smartshape/config.json in the configuration folder (XDG_CONFIG_HOME, usually
~/.config), which `smartshape login` writes. The secret of a webhook: --secret, or else
SMARTSHAPE_WEBHOOK_SECRET, or the file that SMARTSHAPE_WEBHOOK_SECRET_FILE names. Wherever a secret, token or JSON is
an argument, - reads it from standard input, where no list of processes shows it.";

#[derive(Subcommand)]
enum Command {
    /// Sends events to an endpoint
    #[command(subcommand)]
    Event(event::Command),
    /// Checks an endpoint against everything that SmartShape, or an attacker, may send
    Check(check::Check),
    /// Makes and verifies tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Logs in and stores the tokens in the configuration folder
    Login(login::Login),
    /// Registers, lists, rotates and deletes webhooks
    #[command(subcommand)]
    Webhook(webhook::Command),
    /// Sets attributes of a file's nodes
    #[command(subcommand)]
    Attribute(attribute::Command),
    /// Looks into an inbox, replays and purges
    #[command(subcommand)]
    Inbox(inbox::Command),
    /// Shows an inbox or a recording in the browser
    Ui(ui::Ui),
    /// Receives events, stores them and passes them on to a URL, a stream of NATS or a program
    Relay(Box<relay::Relay>),
    /// Prints a shell completion script
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error),
    };
    if cli.settings.json {
        output::use_json();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::print_notice(format_args!("no threads: {error}"));
            return ExitCode::from(1);
        }
    };
    let outcome = runtime.block_on(output::with_progress(run(cli)));
    // A read from a terminal, or a write to a full pipe, cannot be called off.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::print_failure(&failure);
            ExitCode::from(failure.code)
        }
    }
}

/// Tells what is wrong with the arguments; or the help that was asked for.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        output::use_json();
        let text = error.to_string();
        let text = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        output::print_failure(&Failure::usage(text.split_whitespace().collect::<Vec<_>>().join(" ")));
    } else {
        // Standard output or error may be closed.
        let _ = error.print();
    }
    ExitCode::from(code)
}

async fn run(cli: Cli) -> CliResult {
    let settings = &cli.settings;
    match cli.command {
        Command::Event(event::Command::Trigger(trigger)) => trigger.run(settings).await,
        Command::Check(check) => check.run(settings).await,
        Command::Token(command) => command.run(),
        Command::Login(login) => login.run(settings).await,
        Command::Webhook(command) => command.run(settings).await,
        Command::Attribute(attribute::Command::Upsert(upsert)) => upsert.run(settings).await,
        Command::Inbox(command) => command.run(settings).await,
        Command::Ui(ui) => ui.run(settings).await,
        Command::Relay(relay) => relay.run(settings).await,
        Command::Completions(completions) => completions.run::<Cli>(),
    }
}
