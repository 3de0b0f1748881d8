//! The relay's settings: flags, then the file.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use smartshape_webhook::{EventKind, NamedSecret, Secret};
use smartshape_webhook_outlet::{HttpOutlet, JetStreamOutlet, OutletErrorKind};

use super::Relay;
use super::route::{Route, Target};
use super::settings_file::{self, Location, Table, Value};
use crate::console;
use crate::escape::escape;
use crate::failure::{CliResult, Failure, chain};
use crate::input::{self, SecretSource};
use crate::webhook::apply::{Apply, EventSecret};

const DEFAULT_LISTEN: &str = "127.0.0.1:8042";
const DEFAULT_PATH: &str = "/callback";
const SIGNING_SECRET_VARIABLE: &str = "SMARTSHAPE_RELAY_SIGNING_SECRET";
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
const SECRET_KEYS: [&str; 5] = ["name", "env", "file", "events", "webhook"];

pub(super) struct Config {
    pub(super) listen: SocketAddr,
    pub(super) path: String,
    pub(super) inbox: String,
    pub(super) secrets: Vec<NamedSecret>,
    pub(super) routes: Vec<Route>,
    pub(super) apply: Option<Apply>,
    /// Address and password of the console.
    pub(super) ui: Option<(SocketAddr, String)>,
    pub(super) retries: Retries,
}

/// How events are passed on.
pub(super) struct Retries {
    pub(super) concurrency: u32,
    /// With the default of `max_backoff`, the default is about a day.
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
            Some(path) => settings_file::read(path, FileSettings::read)?,
            None => FileSettings::read(Table::from_flags(None))?,
        };
        let inbox = match (&flags.inbox, file.inbox) {
            (Some(url), _) => input::hidden(url, "the URL of the inbox")?,
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
                let target = target(to, &Location::flag("to"), &mut Table::from_flags(switch))?;
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
            Some(path) => checked_path(path).map_err(|what| Failure::usage(format!("--path: {what}")))?,
            None => file.path.unwrap_or_else(|| DEFAULT_PATH.to_owned()),
        };
        let listen = match flags.listen.or(file.listen) {
            Some(address) => address,
            None => address(DEFAULT_LISTEN).map_err(Failure::usage)?,
        };
        let ui = console(flags, file.ui, file.ui_password)?;
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
            // Further ones are those of webhooks that are not declared any more, or declared elsewhere.
            (Some(apply), listed) => declared_secrets(apply)?.chain(listed).collect(),
            (None, listed) if listed.is_empty() => vec![NamedSecret::new("default", flags.secret.get()?)],
            (None, listed) => listed,
        };
        Ok(Self { listen, path, inbox, secrets, routes, apply, ui, retries: file.retries })
    }
}

/// Address and password of the console. A key in its address, as `smartshape ui` has it, would stand in the log.
fn console(
    flags: &Relay,
    ui: Option<(SocketAddr, Location)>,
    password: Option<(String, Location)>,
) -> CliResult<Option<(SocketAddr, String)>> {
    let (bind, ui_location) = match (flags.ui, ui) {
        (Some(bind), _) => (bind, None),
        (None, Some((bind, location))) => (bind, Some(location)),
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
    Ok(Some((bind, password)))
}

/// Secrets of the declared webhooks, each scoped to its events.
fn declared_secrets(apply: &Apply) -> CliResult<impl Iterator<Item = NamedSecret>> {
    let mut scopes: Vec<(Secret, Vec<EventKind>)> = Vec::new();
    for EventSecret { event, secret, .. } in apply.declared()? {
        match scopes.iter_mut().find(|(one, _)| one.expose() == secret.expose()) {
            Some((_, events)) => events.push(event),
            None => scopes.push((secret, vec![event])),
        }
    }
    let mut names: HashMap<String, u32> = HashMap::new();
    Ok(scopes.into_iter().map(move |(secret, events)| {
        let mut name = events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join("+");
        // An event may have webhooks at two URLs.
        let count = names.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
        if *count > 1 {
            name = format!("{name}-{count}");
        }
        // Which events share a secret is no part of a delivery's identity: a repetition after a change is a duplicate.
        NamedSecret::new(name, secret).for_webhook("default").scoped_to(events)
    }))
}

const KINDS: &str = "this must begin with https://, http://, nats:// or exec:";

fn is_http(to: &str) -> bool {
    to.starts_with("https://") || to.starts_with("http://")
}

fn is_nats(to: &str) -> bool {
    to.starts_with("nats://") || to.starts_with("tls://")
}

/// The servers and, after the last slash, the stream.
fn servers_and_stream(to: &str) -> Result<(&str, &str), &'static str> {
    let parts = to.rsplit_once('/').filter(|(urls, stream)| urls.contains("://") && !stream.is_empty());
    parts.ok_or("name the stream at the end, as in nats://host:4222/STREAM")
}

/// The signing secret of the environment, and the variable that it is from.
fn signing_secret() -> Result<(String, String), String> {
    let file = format!("{SIGNING_SECRET_VARIABLE}_FILE");
    let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let (variable, source) = match (value(SIGNING_SECRET_VARIABLE), value(&file)) {
        (Some(_), Some(_)) => {
            return Err(format!("both {SIGNING_SECRET_VARIABLE} and {file} are set: unset one of them"));
        }
        (None, Some(path)) => (file, SecretSource::File(path.into())),
        (Some(_), None) => {
            (SIGNING_SECRET_VARIABLE.to_owned(), SecretSource::Env(SIGNING_SECRET_VARIABLE.to_owned()))
        }
        (None, None) => {
            return Err(format!(
                "no secret to sign with: set {SIGNING_SECRET_VARIABLE} or {file} to whsec_ and 24 to 64 random bytes in base64"
            ));
        }
    };
    let secret = source.text().map_err(|what| format!("{variable}: {what}"))?;
    Ok((secret, variable))
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
        secrets.iter().try_for_each(|secret| secret.reject_unknown_keys(&SECRET_KEYS))?;
        let routes = table.take("route").map(Value::tables).transpose()?.unwrap_or_default();
        routes.iter().try_for_each(|route| route.reject_unknown_keys(&route_keys(route.peek_text("to"))))?;
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
            inbox: table.take("inbox").map(text_or_source).transpose()?.map(without_location),
            ui: parsed(table.take("ui"), address)?,
            ui_password: table.take("ui_password").map(secret_text).transpose()?,
            apply: table.take("apply").map(Value::text).transpose()?.map(without_location),
            secrets: parse_secrets(secrets)?,
            routes: parse_routes(routes)?,
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

/// A text, or where it is, since it may hold a password.
fn text_or_source(value: Value<'_>) -> CliResult<(String, Location)> {
    if value.is_table() { secret_text(value) } else { value.text() }
}

fn secret_text(value: Value<'_>) -> CliResult<(String, Location)> {
    let (source, location) = value.secret_source()?;
    let text = source.text().map_err(|what| location.error(&what))?;
    Ok((text, location))
}

fn parse_secrets(tables: Vec<Table<'_>>) -> CliResult<Vec<NamedSecret>> {
    let mut names = Vec::new();
    let secret = |mut table: Table<'_>| {
        let (name, location) = table.required("name")?.text()?;
        if names.contains(&name) {
            return Err(location.error("another secret has this name"));
        }
        names.push(name.clone());
        let source = table.secret_source()?;
        let source = source.ok_or_else(|| table.error_at("env", "this key or file is missing"))?;
        let secret = source.secret().map_err(|error| table.error_at("env", &error.to_string()))?;
        let mut named = NamedSecret::new(name, secret);
        if let Some(value) = table.take("events") {
            named = named.scoped_to(events(value)?.into_iter().map(|(event, _)| event));
        }
        if let Some(value) = table.take("webhook") {
            named = named.for_webhook(value.text()?.0);
        }
        Ok(named)
    };
    tables.into_iter().map(secret).collect()
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

/// The keys of a route to this target; those of all kinds while it is not known.
fn route_keys(to: Option<&str>) -> Vec<&'static str> {
    let of_kind: &[&str] = match to {
        Some(to) if to.starts_with("exec:") => &["args"],
        Some(to) if is_nats(to) => &["min_replicas", "object_store", "credentials_file", "ca_cert"],
        Some(to) if is_http(to) => &["allow_private_addresses", "signing_secret", "ca_cert"],
        _ => &[
            "allow_private_addresses",
            "signing_secret",
            "min_replicas",
            "object_store",
            "credentials_file",
            "ca_cert",
            "args",
        ],
    };
    [&["events", "to", "timeout_seconds"], of_kind].concat()
}

fn parse_routes(tables: Vec<Table<'_>>) -> CliResult<Vec<Route>> {
    let mut routes: Vec<Route> = Vec::new();
    for mut table in tables {
        let named = table.take("events").map(events).transpose()?;
        let (to, location) = text_or_source(table.required("to")?)?;
        table.reject_unknown_keys(&route_keys(Some(&to)))?;
        let target = target(&to, &location, &mut table)?;
        for (event, location) in named.iter().flatten() {
            if routes.iter().any(|route| route.events.as_ref().is_some_and(|events| events.contains(event))) {
                return Err(
                    location.error(&format!("another route has {event}: an event goes to one target"))
                );
            }
        }
        if named.is_none() && routes.iter().any(|route| route.events.is_none()) {
            return Err(table.error_at("events", "another route without this key has all other events"));
        }
        let events = named.map(|named| named.into_iter().map(|(event, _)| event).collect());
        routes.push(Route { events, target });
    }
    Ok(routes)
}

/// The content of the file `ca_cert`, and the location of that key.
fn certificates(table: &mut Table<'_>) -> CliResult<(Vec<u8>, Option<Location>)> {
    let Some(value) = table.take("ca_cert") else { return Ok((Vec::new(), None)) };
    let (path, location) = value.text()?;
    let pem =
        std::fs::read(path).map_err(|error| location.error(&format!("cannot read this file: {error}")))?;
    Ok((pem, Some(location)))
}

/// Takes the keys that belong to this kind of target.
fn target(to: &str, to_location: &Location, table: &mut Table<'_>) -> CliResult<Target> {
    let timeout = table.take("timeout_seconds").map(|value| value.number(1..=DAY_SECONDS)).transpose()?;
    let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
    if let Some(program) = to.strip_prefix("exec:") {
        let args = table.take("args").map(Value::texts).transpose()?.unwrap_or_default();
        let args = args.into_iter().map(|(arg, _)| arg).collect();
        return Target::exec(program, args, timeout).map_err(|what| to_location.error(&what));
    }
    if is_nats(to) {
        let (urls, stream) = servers_and_stream(to).map_err(|what| to_location.error(what))?;
        let mut outlet = JetStreamOutlet::builder(urls, stream);
        if let Some(timeout) = timeout {
            outlet = outlet.timeout(timeout);
        }
        if let Some(value) = table.take("min_replicas") {
            outlet = outlet.min_replicas(value.number(1..=5)? as usize);
        }
        if let Some(value) = table.take("object_store") {
            outlet = outlet.object_store(&value.text()?.0);
        }
        let mut credentials_location = None;
        if let Some(value) = table.take("credentials_file") {
            let (path, location) = value.text()?;
            outlet = outlet.credentials_file(path);
            credentials_location = Some(location);
        }
        let (pem, certificates_location) = certificates(table)?;
        return Target::stream(stream, outlet.root_certificates(pem)).map_err(|error| {
            let location = match error.kind() {
                OutletErrorKind::CredentialsFile => credentials_location,
                OutletErrorKind::RootCertificates => certificates_location,
                _ => None,
            };
            location.as_ref().unwrap_or(to_location).error(&chain(&error))
        });
    }
    if !is_http(to) {
        return Err(to_location.error(KINDS));
    }
    let allow = table.take("allow_private_addresses").map(Value::boolean).transpose()?.unwrap_or(false);
    let (secret, secret_location, variable) = match table.take("signing_secret") {
        Some(value) => {
            let (secret, location) = secret_text(value)?;
            (secret, location, None)
        }
        None => {
            let location = table.location_of_missing("signing_secret");
            let (secret, variable) = signing_secret().map_err(|what| location.error(&what))?;
            (secret, location, Some(variable))
        }
    };
    let (pem, certificates_location) = certificates(table)?;
    let mut outlet = HttpOutlet::builder(to, &secret).root_certificates(pem);
    if let Some(timeout) = timeout {
        outlet = outlet.timeout(timeout);
    }
    if allow {
        outlet = outlet.allow_private_addresses();
    }
    Target::http(to, outlet).map_err(|error| {
        let text = match error.kind() {
            OutletErrorKind::PrivateAddress => {
                let setting = table.how_to_set("allow_private_addresses");
                format!("the URL is not permitted: its address is not of the public internet; {setting} permits it")
            }
            _ => chain(&error),
        };
        match (error.kind(), variable, certificates_location) {
            (OutletErrorKind::SigningSecret, Some(variable), _) => {
                secret_location.error(&format!("{variable}: {text}"))
            }
            (OutletErrorKind::SigningSecret, None, _) => secret_location.error(&text),
            (OutletErrorKind::RootCertificates, _, Some(location)) => location.error(&text),
            _ => to_location.error(&text),
        }
    })
}
