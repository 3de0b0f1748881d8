//! Serves the console on an address of this machine, for `smartshape ui` and for commands with `--ui`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::Router;
use smartshape_webhook::Secret;
use smartshape_webhook_ui::{Access, AccessError, Ui, Visitor};

use crate::failure::{CliResult, Failure, usage};
use crate::http_server::{self, Server};
use crate::output::print_notice;
use crate::{files, input, settings};

const PASSWORD_VARIABLE: &str = "SMARTSHAPE_UI_PASSWORD";
/// Maximum time to receive a request's head, and maximum time that a connection is idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for requests in flight to complete at the end.
const GRACE: Duration = Duration::from_secs(10);
/// The user of a console with a password.
const USER: &str = "smartshape";

/// A console that is served until [`stop`](Self::stop).
pub(crate) struct Console {
    /// The address to open. Without a password it holds the key.
    pub(crate) url: String,
    /// The page that `open` gave to the browser.
    opened: Option<PathBuf>,
    server: Server,
}

impl Console {
    /// Serves the console built by `ui`; visitors need the link with the key, or the password.
    pub(crate) async fn start(
        listen: SocketAddr,
        password: Option<String>,
        ui: impl FnOnce(Access) -> Ui,
    ) -> CliResult<Self> {
        if password.is_none() && !listen.ip().is_loopback() {
            return Err(usage!(
                "other machines can reach {listen}, so the console wants a password there: give one by \
                 --password-file or {PASSWORD_VARIABLE}, or let it listen on 127.0.0.1"
            ));
        }
        let user = ["USER", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
        let visitor = Visitor::owner(user.as_deref().unwrap_or(USER));
        let key = Secret::generate()?.expose().to_owned();
        let access = match &password {
            Some(password) => Access::password(USER, password, visitor),
            None => Access::key(&key, visitor),
        };
        let ui = ui(access.map_err(|error| Failure::usage(error.to_string()))?);
        let (listener, address) =
            http_server::bind(listen, "the console cannot listen on", "choose another address").await?;
        let (ui, url) = if password.is_some() {
            if !address.ip().is_loopback() {
                print_notice(
                    "warning: without TLS in front of it, everybody on the way reads the console's password",
                );
            }
            print_notice(format_args!("the console's user is {USER}"));
            (ui, format!("http://{address}/"))
        } else {
            // Cookies know no ports: a name of its own keeps this console's from other servers on the loopback address.
            let own = Secret::generate()?;
            let own = format!("smartshape-{}.localhost", own.expose().get(..8).unwrap_or_default());
            let shown = format!("http://{address}/?key={key}");
            let ui = ui.hosts([own.as_str(), "localhost", &host(address.ip())]);
            if [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&address.ip()) {
                print_notice(format_args!("for a browser that does not find the name below: {shown}"));
                (ui, format!("http://{own}:{}/?key={key}", address.port()))
            } else {
                (ui, shown)
            }
        };
        let app = Router::new().route_service("/", ui);
        Ok(Self { url, opened: None, server: Server::start(listener, app, IDLE_TIMEOUT, GRACE) })
    }

    /// Opens the console in a browser, or prints a notice why it cannot.
    pub(crate) fn open(&mut self) {
        match self.page() {
            Ok(path) => {
                let mut browser = browser(&path);
                // The system's command may last as long as the browser.
                std::thread::spawn(move || match browser.status() {
                    Ok(status) if status.success() => {}
                    Ok(status) => no_browser(status),
                    Err(error) => no_browser(error),
                });
                self.opened = Some(path);
            }
            Err(error) => no_browser(error),
        }
    }

    /// Writes a page that leads to the console: with it as the argument, a list of processes shows no key.
    fn page(&self) -> std::io::Result<PathBuf> {
        let folder = settings::folder("XDG_STATE_HOME", ".local/state");
        let folder = folder.map_err(|failure| std::io::Error::other(failure.text))?;
        files::make_folder(&folder)?;
        let path = folder.join(format!("console-{}.html", std::process::id()));
        let page = format!(
            "<!doctype html><title>SmartShape</title><meta http-equiv=\"refresh\" content=\"0; url={}\">",
            self.url
        );
        files::replace(&path, page.as_bytes())?;
        Ok(path)
    }

    /// Stops the server, for whose requests in flight it waits, and deletes the page that `open` wrote.
    pub(crate) async fn stop(self) {
        if let Some(path) = self.opened {
            let _ = std::fs::remove_file(path);
        }
        self.server.stop().await;
    }
}

fn no_browser(why: impl std::fmt::Display) {
    print_notice(format_args!("no browser was opened ({why}): open the address yourself"));
}

/// The password of a file, or else of the environment.
pub(crate) fn password(file: Option<&str>) -> CliResult<Option<String>> {
    let Some(path) = file else { return settings::environment(PASSWORD_VARIABLE) };
    let text = String::from_utf8(input::file(path, "the console's password")?);
    let text = text.map_err(|_| Failure::usage("the console's password is not UTF-8"))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Fails if [`Console::start`] would reject this password.
pub(crate) fn check_password(password: &str) -> Result<(), AccessError> {
    Access::password(USER, password, Visitor::owner(USER)).map(drop)
}

/// An IP address as it stands in a URL.
fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The system's command that opens a file.
fn browser(path: &Path) -> Command {
    let (program, arguments): (&str, &[&str]) = match std::env::consts::OS {
        "macos" => ("open", &[]),
        "windows" => ("cmd", &["/C", "start", ""]),
        _ => ("xdg-open", &[]),
    };
    let mut command = Command::new(program);
    command.args(arguments).arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
