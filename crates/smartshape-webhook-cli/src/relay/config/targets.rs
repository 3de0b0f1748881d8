//! Routes and their targets: `[[route]]`, and `--to`.

use std::time::Duration;

use smartshape_webhook_outlet::{HttpOutlet, JetStreamOutlet, OutletErrorKind};

use super::file::{Location, Table, Value};
use super::{DAY_SECONDS, events};
use crate::failure::{CliResult, chain};
use crate::input::SecretSource;
use crate::relay::route::{Route, Target};

const SIGNING_SECRET_VARIABLE: &str = "SMARTSHAPE_RELAY_SIGNING_SECRET";

fn is_http(to: &str) -> bool {
    to.starts_with("https://") || to.starts_with("http://")
}

fn is_nats(to: &str) -> bool {
    to.starts_with("nats://") || to.starts_with("tls://")
}

/// The keys of a route to this target; those of all kinds while it is not known.
pub(super) fn route_keys(to: Option<&str>) -> Vec<&'static str> {
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

pub(super) fn parse_routes(tables: Vec<Table<'_>>) -> CliResult<Vec<Route>> {
    let mut routes: Vec<Route> = Vec::new();
    for mut table in tables {
        let named = table.take("events").map(events).transpose()?;
        let (to, location) = table.required("to")?.text_or_secret()?;
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

/// Takes the keys that belong to this kind of target.
pub(super) fn target(to: &str, to_location: &Location, table: &mut Table<'_>) -> CliResult<Target> {
    let timeout = table.take("timeout_seconds").map(|value| value.number(1..=DAY_SECONDS)).transpose()?;
    let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
    if let Some(program) = to.strip_prefix("exec:") {
        let args = table.take("args").map(Value::texts).transpose()?.unwrap_or_default();
        let args = args.into_iter().map(|(arg, _)| arg).collect();
        Target::exec(program, args, timeout).map_err(|what| to_location.error(&what))
    } else if is_nats(to) {
        stream(to, to_location, table, timeout)
    } else if is_http(to) {
        http(to, to_location, table, timeout)
    } else {
        Err(to_location.error("this must begin with https://, http://, nats:// or exec:"))
    }
}

fn stream(
    to: &str,
    to_location: &Location,
    table: &mut Table<'_>,
    timeout: Option<Duration>,
) -> CliResult<Target> {
    let parts = to.rsplit_once('/').filter(|(urls, stream)| urls.contains("://") && !stream.is_empty());
    let how = "name the stream at the end, as in nats://host:4222/STREAM";
    let (urls, stream) = parts.ok_or_else(|| to_location.error(how))?;
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
    let mut certificates_location = None;
    if let Some((pem, location)) = certificates(table)? {
        outlet = outlet.root_certificates(pem);
        certificates_location = Some(location);
    }
    Target::stream(stream, outlet).map_err(|error| {
        let location = match error.kind() {
            OutletErrorKind::CredentialsFile => credentials_location,
            OutletErrorKind::RootCertificates => certificates_location,
            _ => None,
        };
        location.as_ref().unwrap_or(to_location).error(&chain(&error))
    })
}

fn http(
    to: &str,
    to_location: &Location,
    table: &mut Table<'_>,
    timeout: Option<Duration>,
) -> CliResult<Target> {
    let allow = table.take("allow_private_addresses").map(Value::boolean).transpose()?.unwrap_or(false);
    let (secret, secret_location, secret_name) = match table.take("signing_secret") {
        Some(value) => {
            let (secret, location) = value.secret_text()?;
            (secret, location, String::new())
        }
        None => {
            let location = table.location_of_missing("signing_secret");
            let (secret, variable) = signing_secret().map_err(|what| location.error(&what))?;
            (secret, location, format!("{variable}: "))
        }
    };
    let mut outlet = HttpOutlet::builder(to, &secret);
    let mut certificates_location = None;
    if let Some((pem, location)) = certificates(table)? {
        outlet = outlet.root_certificates(pem);
        certificates_location = Some(location);
    }
    if let Some(timeout) = timeout {
        outlet = outlet.timeout(timeout);
    }
    if allow {
        outlet = outlet.allow_private_addresses();
    }
    Target::http(to, outlet).map_err(|error| match error.kind() {
        OutletErrorKind::PrivateAddress => {
            let setting = table.how_to_set("allow_private_addresses");
            to_location.error(&format!(
                "the URL is not permitted: its address is not of the public internet; {setting} permits it"
            ))
        }
        OutletErrorKind::SigningSecret => secret_location.error(&format!("{secret_name}{}", chain(&error))),
        OutletErrorKind::RootCertificates => {
            certificates_location.as_ref().unwrap_or(to_location).error(&chain(&error))
        }
        _ => to_location.error(&chain(&error)),
    })
}

/// The content of the file `ca_cert`, and the location of that key.
fn certificates(table: &mut Table<'_>) -> CliResult<Option<(Vec<u8>, Location)>> {
    let Some(value) = table.take("ca_cert") else { return Ok(None) };
    let (path, location) = value.text()?;
    let pem =
        std::fs::read(path).map_err(|error| location.error(&format!("cannot read this file: {error}")))?;
    Ok(Some((pem, location)))
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
