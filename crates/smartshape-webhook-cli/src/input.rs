//! Arguments that may come from elsewhere: standard input, a file, the environment.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Deserialize;
use smartshape_webhook::{EventKind, Secret, SecretError};

use crate::failure::{CliResult, failed, usage};

pub(crate) const SECRET_VARIABLE: &str = "SMARTSHAPE_WEBHOOK_SECRET";

/// The secret of a webhook.
#[derive(Args)]
pub(crate) struct SecretArgument {
    /// The webhook's secret; - reads it from standard input
    #[arg(long = "secret", value_name = "SECRET")]
    secret: Option<String>,
    /// Takes a secret of fewer than 16 bytes, which can be guessed
    #[arg(long, requires = "secret")]
    allow_short_secret: bool,
}

impl SecretArgument {
    pub(crate) fn get(&self) -> CliResult<Secret> {
        match self.secret.as_deref() {
            Some(argument) if self.allow_short_secret => {
                Ok(Secret::danger_new_short(argument_or_stdin(argument, "the secret")?)?)
            }
            argument => {
                secret_from(argument, SECRET_VARIABLE, "give it by --secret (- reads it from standard input)")
            }
        }
    }

    pub(crate) fn is_argument(&self) -> bool {
        self.secret.is_some()
    }

    /// `None` when neither the argument nor the environment has one.
    pub(crate) fn get_if_set(&self) -> CliResult<Option<Secret>> {
        if self.secret.is_some() {
            return self.get().map(Some);
        }
        match Secret::from_env(SECRET_VARIABLE) {
            Err(SecretError::NoVariable(_)) => Ok(None),
            found => Ok(Some(found?)),
        }
    }
}

/// The argument, standard input when it is `-`, and otherwise the variable. Where there is none, it
/// says `how` to give one.
pub(crate) fn secret_from(argument: Option<&str>, variable: &str, how: &str) -> CliResult<Secret> {
    match argument {
        None => Secret::from_env(variable).map_err(|error| match error {
            SecretError::NoVariable(_) => usage!("{error}, or {how}"),
            error => error.into(),
        }),
        Some(argument) => Ok(Secret::new(argument_or_stdin(argument, "the secret")?)?),
    }
}

/// Where a file of settings says that a secret is.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum SecretSource {
    Env(String),
    File(PathBuf),
}

/// The environment variables that secrets were read from.
static VARIABLES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Whether the variable may hold a secret, so that no other program is to get it.
pub(crate) fn is_secret_variable(name: &str) -> bool {
    let variables = VARIABLES.lock().unwrap_or_else(PoisonError::into_inner);
    // The password of the inbox may be there, too.
    name.starts_with("SMARTSHAPE_") || name == "PGPASSWORD" || variables.iter().any(|one| one == name)
}

fn record_variable(name: &str) {
    VARIABLES.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
}

impl SecretSource {
    /// The secret of a webhook.
    pub(crate) fn secret(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Env(name) => {
                record_variable(name);
                Secret::from_env(name)
            }
            Self::File(path) => Secret::from_file(path),
        }
    }

    /// Any text that is not to be seen; one newline at its end is stripped.
    pub(crate) fn text(&self) -> Result<String, String> {
        let text = match self {
            Self::Env(name) => {
                record_variable(name);
                let value = std::env::var_os(name).filter(|value| !value.is_empty());
                value
                    .ok_or_else(|| format!("the environment variable {name} is not set"))?
                    .into_encoded_bytes()
            }
            Self::File(path) => {
                std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?
            }
        };
        let text = String::from_utf8(text).map_err(|_| "the value is not UTF-8".to_owned())?;
        Ok(without_newline(&text).to_owned())
    }
}

/// One of the nine events; help, errors and completions list them.
pub(crate) fn event() -> impl TypedValueParser<Value = EventKind> {
    PossibleValuesParser::new(EventKind::ALL.map(EventKind::as_str)).try_map(|name| name.parse::<EventKind>())
}

/// Parses an id. An impossible one is rejected before anything is sent.
pub(crate) fn id(text: &str) -> Result<String, &'static str> {
    if matches!(text, "" | "." | "..") { Err("this is no id") } else { Ok(text.to_owned()) }
}

/// A secret argument; `-` is a line of standard input.
pub(crate) fn argument_or_stdin(argument: &str, what: &str) -> CliResult<String> {
    if argument == "-" { one_line(what) } else { Ok(argument.to_owned()) }
}

/// Standard input without one newline at its end.
pub(crate) fn one_line(what: &str) -> CliResult<String> {
    let text = String::from_utf8(all_of_stdin(what)?)
        .map_err(|_| usage!("{what} on standard input is not UTF-8"))?;
    Ok(without_newline(&text).to_owned())
}

fn without_newline(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or(text);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The bytes of a file; `-` is standard input.
pub(crate) fn file(path: &str, what: &str) -> CliResult<Vec<u8>> {
    if path == "-" {
        return all_of_stdin(what);
    }
    std::fs::read(path).map_err(|error| usage!("cannot read {what} from {path}: {error}"))
}

/// The lines of a file that may be long; `-` is standard input.
pub(crate) fn lines(path: &str, what: &str) -> CliResult<Box<dyn BufRead>> {
    if path == "-" {
        return Ok(Box::new(Cursor::new(all_of_stdin(what)?)));
    }
    let file = File::open(path);
    let file = file.map_err(|error| usage!("cannot read {what} from {path}: {error}"))?;
    Ok(Box::new(BufReader::new(file)))
}

fn all_of_stdin(what: &str) -> CliResult<Vec<u8>> {
    static USED: AtomicBool = AtomicBool::new(false);
    if USED.swap(true, Ordering::Relaxed) {
        return Err(usage!("standard input cannot be {what} too: give one of them by another way"));
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| failed!("cannot read {what} from standard input: {error}"))?;
    Ok(bytes)
}

/// A JSON document, or a failure that says where it is broken.
pub(crate) fn json(bytes: &[u8], what: &str) -> CliResult<serde_json::Value> {
    serde_json::from_slice(bytes)
        .map_err(|error| usage!("{what}: not JSON ({error}); in a shell, JSON stands between single quotes"))
}
