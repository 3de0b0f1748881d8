//! The `smartshape-fake` program.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use smartshape_fake::{FakeBuilder, FakeSmartShape, SenderSettings};

const USAGE: &str = "\
A fake SmartShape, for tests without an account.

Usage: smartshape-fake [OPTIONS]

  --listen ADDRESS    where to listen (default 127.0.0.1:8043; port 0 picks a free one)
  --cost N            bcrypt cost of the tokens, from 4 to 31 (default 10)
  --fresh-salt        a new token for each delivery
  --attempts N        maximum attempts per event (default 5)
  --hide-url          omit URLs from the list of webhooks
  --need-session      require X-SmartShape-Session
  --allow-remote      listen for, and send to, other machines
  --help              this text";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return print(&mut io::stdout(), USAGE, 0);
    }
    let fake = match builder(arguments) {
        Ok(builder) => builder.start().await.map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error}; --help lists the options")),
    };
    match fake {
        Ok(fake) => match stop_signal() {
            Ok(stop) => run(fake, stop).await,
            Err(error) => print(&mut io::stderr(), &format!("smartshape-fake: no signals: {error}"), 2),
        },
        Err(error) => print(&mut io::stderr(), &format!("smartshape-fake: {error}"), 2),
    }
}

async fn run(fake: FakeSmartShape, stop: impl Future<Output = ()>) -> ExitCode {
    let account = fake.account();
    let url = fake.base_url();
    let text = format!(
        "fake SmartShape on {url}\n\
         account {} password {}\n\
         bearer token {}\n\
         send an event: curl -X POST {url}/fake/events/file_uploaded",
        account.username(),
        account.password(),
        fake.bearer_token(),
    );
    print(&mut io::stdout(), &text, 0);
    stop.await;
    fake.shutdown().await;
    ExitCode::SUCCESS
}

fn builder(arguments: Vec<OsString>) -> Result<FakeBuilder, String> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 8043));
    let mut sender = SenderSettings::default();
    let mut builder = FakeSmartShape::builder();
    let arguments: Result<Vec<String>, _> = arguments.into_iter().map(OsString::into_string).collect();
    let mut arguments = arguments.map_err(|argument| format!("{argument:?} is not UTF-8"))?.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--listen" => address = parse(&argument, &value()?)?,
            "--cost" => sender.cost = parse(&argument, &value()?)?,
            "--attempts" => sender.max_attempts = parse(&argument, &value()?)?,
            "--fresh-salt" => sender.fresh_salt = true,
            "--allow-remote" => sender.allow_remote = true,
            "--hide-url" => builder = builder.list_shows_url(false),
            "--need-session" => builder = builder.session_required(true),
            _ => return Err(format!("{argument} is not an option")),
        }
    }
    if !(4..=31).contains(&sender.cost) {
        return Err(format!("--cost {} is not from 4 to 31", sender.cost));
    }
    Ok(builder.listen(address).sender(sender))
}

fn parse<T: std::str::FromStr>(option: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{option} cannot be {value:?}"))
}

fn print(output: &mut dyn Write, text: &str, code: u8) -> ExitCode {
    // Standard output may be closed.
    let _ = writeln!(output, "{text}").and_then(|()| output.flush());
    ExitCode::from(code)
}

/// Registers the signal handlers; the future resolves at the first signal.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
