//! The relay's settings: flags, then the file.

mod file;
mod secrets;
mod targets;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use smartshape_webhook::{EventKind, NamedSecret};

use self::file::{Location, Table, Value};
use super::Relay;
use super::route::Route;
use crate::console;
use crate::escape::escape;
use crate::failure::{CliResult, Failure, usage};
use crate::input;
use crate::webhook::apply::Apply;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8042);
const DEFAULT_PATH: &str = "/callback";
const NO_PASSWORD: &str = "the console of a relay needs a password: give one by SMARTSHAPE_UI_PASSWORD, --password-file or the key ui_password";
const DAY_SECONDS: u32 = 24 * 60 * 60;

const KEYS: [&str; 13] = [
    "listen",
    "path",
    "inbox",
    "ui",
    "ui_password",
    "apply",
    "concurrency",
    "max_attempts",
    "max_backoff_seconds",
    "ordered_by_file",
    "shutdown_timeout_seconds",
    "secret",
    "route",
];

pub(super) struct Config {
    pub(super) listen: SocketAddr,
    pub(super) path: String,
    pub(super) inbox: String,
    pub(super) secrets: Vec<NamedSecret>,
    pub(super) routes: Vec<Route>,
    pub(super) apply: Option<Apply>,
    pub(super) console: Option<ConsoleConfig>,
    pub(super) retries: Retries,
}

/// Address and password of the console. Without a password its address would hold a key, as that of `smartshape ui`
/// does, and the log shows the address.
pub(super) struct ConsoleConfig {
    pub(super) listen: SocketAddr,
    pub(super) password: String,
}

/// How events are passed on.
pub(super) struct Retries {
    pub(super) concurrency: u32,
    /// Maximum number of attempts. The default of 400 is about a day with the default of `max_backoff`.
    pub(super) max_attempts: u32,
    pub(super) max_backoff: Duration,
    pub(super) ordered_by_file: bool,
    /// Maximum time at shutdown for attempts in flight.
    pub(super) shutdown_timeout: Duration,
}

/// What the file says.
struct FileSettings {
    listen: Option<SocketAddr>,
    path: Option<String>,
    inbox: Option<String>,
    ui: Option<(SocketAddr, Location)>,
    ui_password: Option<(String, Location)>,
    apply: Option<String>,
    secrets: Vec<NamedSecret>,
    routes: Vec<Route>,
    retries: Retries,
}

impl Config {
    pub(super) fn from_flags(flags: &Relay) -> CliResult<Self> {
        let file = match &flags.config {
            Some(path) => file::read(path, FileSettings::read)?,
            None => FileSettings::read(Table::from_flags(None))?,
        };
        let inbox = match (&flags.inbox, file.inbox) {
            (Some(url), _) => input::argument_or_stdin(url, "the URL of the inbox")?,
            (None, Some(url)) => url,
            (None, None) => {
                let text = "there is no inbox: name a file or a postgres:// URL by --inbox, or by the key inbox of --config";
                return Err(Failure::usage(text));
            }
        };
        let routes = match (&flags.to, file.routes) {
            (Some(_), routes) if !routes.is_empty() => {
                return Err(Failure::usage("--to and [[route]] in the file: leave one of them out"));
            }
            (Some(to), _) => {
                let switch = flags.allow_private_addresses.then_some("allow_private_addresses");
                let target = targets::target(to, &Location::flag("to"), &mut Table::from_flags(switch))?;
                vec![Route { events: None, target }]
            }
            (None, routes) if routes.is_empty() => {
                return Err(Failure::usage(
                    "where do the events go? Say so by --to, or by [[route]] in a file for --config",
                ));
            }
            (None, routes) => routes,
        };
        let path = match &flags.path {
            Some(path) => checked_path(path).map_err(|what| usage!("--path: {what}"))?,
            None => file.path.unwrap_or_else(|| DEFAULT_PATH.to_owned()),
        };
        let listen = flags.listen.or(file.listen).unwrap_or(DEFAULT_LISTEN);
        let console = console(flags, file.ui, file.ui_password)?;
        let apply = flags.apply.as_deref().or(file.apply.as_deref().map(Path::new)).map(Apply::from_path);
        let secrets = match (&apply, file.secrets) {
            (_, listed) if flags.secret.is_argument() && !listed.is_empty() => {
                return Err(Failure::usage("--secret and [[secret]] in the file: leave one of them out"));
            }
            (Some(_), _) if flags.secret.is_argument() => {
                return Err(Failure::usage(
                    "--secret and declared webhooks, which have secrets: leave it out, or add it as [[secret]] in a file for --config",
                ));
            }
            // The listed secrets are those of further webhooks, which are declared no more or elsewhere.
            (Some(apply), listed) => secrets::declared(apply)?.chain(listed).collect(),
            (None, listed) if listed.is_empty() => vec![NamedSecret::new("default", flags.secret.get()?)],
            (None, listed) => listed,
        };
        Ok(Self { listen, path, inbox, secrets, routes, apply, console, retries: file.retries })
    }
}

fn console(
    flags: &Relay,
    ui: Option<(SocketAddr, Location)>,
    password: Option<(String, Location)>,
) -> CliResult<Option<ConsoleConfig>> {
    let (listen, ui_location) = match (flags.ui, ui) {
        (Some(listen), _) => (listen, None),
        (None, Some((listen, location))) => (listen, Some(location)),
        (None, None) if flags.password_file.is_some() => {
            return Err(Failure::usage(
                "--password-file is the console's: add --ui, or the key ui, which serves one",
            ));
        }
        (None, None) => return Ok(None),
    };
    let (password, password_location) = match (password, flags.password_file.as_deref()) {
        (Some((password, location)), None) => (Some(password), Some(location)),
        (_, path) => (console::password(path)?, None),
    };
    let error_at = |location: Option<Location>, what: &str| match location {
        Some(location) => location.error(what),
        None => Failure::usage(what),
    };
    let password = password.ok_or_else(|| error_at(ui_location, NO_PASSWORD))?;
    console::check_password(&password).map_err(|error| error_at(password_location, &error.to_string()))?;
    Ok(Some(ConsoleConfig { listen, password }))
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "this must be an IP address and a port, such as 0.0.0.0:8042")
}

/// A path without a word that the router would take for a pattern.
fn checked_path(path: &str) -> Result<String, &'static str> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/-._~".contains(character);
    if !path.starts_with('/') || !path.chars().all(is_plain) {
        return Err("this must begin with / and may have letters, digits, and - . _ ~");
    }
    if ["/health", "/ready", "/metrics"].contains(&path) {
        return Err("the relay responds there itself: choose another path");
    }
    Ok(path.to_owned())
}

impl FileSettings {
    fn read(mut table: Table<'_>) -> CliResult<Self> {
        table.reject_unknown_keys(&KEYS)?;
        let secrets = table.take("secret").map(Value::tables).transpose()?.unwrap_or_default();
        secrets.iter().try_for_each(|secret| secret.reject_unknown_keys(&secrets::KEYS))?;
        let routes = table.take("route").map(Value::tables).transpose()?.unwrap_or_default();
        routes
            .iter()
            .try_for_each(|route| route.reject_unknown_keys(&targets::route_keys(route.peek_text("to"))))?;
        let mut number = |key, max, default: u32| match table.take(key) {
            Some(value) => value.number(1..=max),
            None => Ok(default),
        };
        let retries = Retries {
            concurrency: number("concurrency", 256, 16)?,
            max_attempts: number("max_attempts", 1_000_000, 400)?,
            max_backoff: Duration::from_secs(number("max_backoff_seconds", DAY_SECONDS, 300)?.into()),
            shutdown_timeout: Duration::from_secs(
                number("shutdown_timeout_seconds", DAY_SECONDS, 25)?.into(),
            ),
            ordered_by_file: table.take("ordered_by_file").map(Value::boolean).transpose()?.unwrap_or(false),
        };
        Ok(Self {
            listen: parsed(table.take("listen"), address)?.map(without_location),
            path: parsed(table.take("path"), checked_path)?.map(without_location),
            inbox: table.take("inbox").map(Value::text_or_secret).transpose()?.map(without_location),
            ui: parsed(table.take("ui"), address)?,
            ui_password: table.take("ui_password").map(Value::secret_text).transpose()?,
            apply: table.take("apply").map(Value::text).transpose()?.map(without_location),
            secrets: secrets::parse(secrets)?,
            routes: targets::parse_routes(routes)?,
            retries,
        })
    }
}

fn without_location<T>((value, _): (T, Location)) -> T {
    value
}

fn parsed<T>(
    value: Option<Value<'_>>,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> CliResult<Option<(T, Location)>> {
    let Some(value) = value else { return Ok(None) };
    let (text, location) = value.text()?;
    match parse(&text) {
        Ok(parsed) => Ok(Some((parsed, location))),
        Err(what) => Err(location.error(what)),
    }
}

fn events(value: Value<'_>) -> CliResult<Vec<(EventKind, Location)>> {
    let event = |(name, location): (String, Location)| match name.parse() {
        Ok(event) => Ok((event, location)),
        Err(_) => {
            let known = EventKind::ALL.map(EventKind::as_str).join(", ");
            Err(location.error(&format!("there is no event {}; there are {known}", escape(&name))))
        }
    };
    value.texts()?.into_iter().map(event).collect()
}
