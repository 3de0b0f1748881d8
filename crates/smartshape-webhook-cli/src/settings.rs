//! Where SmartShape is and what authorises calls: flags, then the environment, then the file that
//! `login` writes.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use serde::{Deserialize, Serialize};
use smartshape_api::{AuthToken, Client, SessionToken};

use crate::failure::{CliResult, Failure, chain, failed, usage};
use crate::files;
use crate::input;
use crate::output::{print_notice, start_progress};

const DEFAULT_URL: &str = "https://smartshape.io";

#[derive(Args)]
#[command(next_help_heading = "Settings of all commands")]
pub(crate) struct Settings {
    /// Where SmartShape's web API is; by default that of smartshape.io
    #[arg(long, global = true, value_name = "URL")]
    api_url: Option<String>,
    /// The auth token; - reads it from standard input
    #[arg(long = "token", global = true, value_name = "TOKEN")]
    auth_token: Option<String>,
    /// The session token, which newer installations also require; - reads it from standard input
    #[arg(long = "session", global = true, value_name = "TOKEN")]
    session_token: Option<String>,
    /// Trusts these root certificates (PEM) for the web API too, beside the system's
    #[arg(long, global = true, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// Sends logins, tokens and secrets by plain http:// to other machines too, where everybody on the way can read
    /// them
    #[arg(long, global = true)]
    pub(crate) insecure: bool,
    /// Results as JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What standard input gave, and for what: it is read once, and a relay that tries again needs its token again.
    #[arg(skip)]
    from_stdin: OnceLock<(&'static str, String)>,
}

/// The settings that `login` stores.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) api_url: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) ca_cert: Option<PathBuf>,
}

/// A client, and the account that it is logged in as, if known.
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) account: Option<String>,
}

impl Settings {
    /// A client with the stored login, or with the one that flags or environment give.
    pub(crate) fn api(&self) -> CliResult<Api> {
        let config = Config::read()?;
        let mut client = self.client_at(&config)?;
        let given = |flag: &Option<String>, variable: &str, what| match flag.as_deref() {
            Some("-") => self.token_from_stdin(what).map(Some),
            Some(token) => Ok(Some(token.to_owned())),
            None => environment(variable),
        };
        let token = given(&self.auth_token, "SMARTSHAPE_TOKEN", "the auth token")?;
        let session = given(&self.session_token, "SMARTSHAPE_SESSION", "the session token")?;

        // A login goes to the server that gave it, and to no other.
        let of_this_server = config.is_of(&client.base_url());
        if token.is_none() && config.token.is_some() && !of_this_server {
            print_notice(format_args!(
                "the stored login is that of another server, and is not sent to {}",
                client.base_url()
            ));
        }
        let is_kept = token.is_none() && of_this_server;
        let account = config.username.filter(|_| is_kept);
        let token = token.or_else(|| config.token.filter(|_| is_kept));
        let session = session.or_else(|| config.session.filter(|_| is_kept));

        start_progress(format_args!("waiting for {}", client.base_url()));
        if let Some(token) = token {
            client = client.with_auth_token(AuthToken::new(token)?);
        }
        if let Some(session) = session {
            client = client.with_session_token(SessionToken::new(session)?);
        }
        Ok(Api { client, account })
    }

    fn token_from_stdin(&self, what: &'static str) -> CliResult<String> {
        if let Some((_, token)) = self.from_stdin.get().filter(|(read, _)| *read == what) {
            return Ok(token.clone());
        }
        let token = input::one_line(what)?;
        Ok(self.from_stdin.get_or_init(|| (what, token)).1.clone())
    }

    /// A client without a login, and the root certificates that it trusts beside the system's.
    pub(crate) fn client(&self) -> CliResult<(Client, Option<PathBuf>)> {
        let config = Config::read()?;
        Ok((self.client_at(&config)?, self.ca_cert(&config)?))
    }

    /// The URL of the web API, as it was given.
    fn url(&self, config: &Config) -> CliResult<String> {
        let url =
            self.api_url.clone().map_or_else(|| environment("SMARTSHAPE_API_URL"), |url| Ok(Some(url)))?;
        Ok(url.unwrap_or_else(|| config.url().to_owned()))
    }

    fn client_at(&self, config: &Config) -> CliResult<Client> {
        let mut builder = Client::builder().base_url(self.url(config)?).allow_plain_http(self.insecure);
        if let Some(path) = self.ca_cert(config)? {
            let certificates = fs::read(&path)
                .map_err(|error| usage!("cannot read the root certificates {}: {error}", path.display()))?;
            builder = builder.add_root_certificate(certificates);
        }
        Ok(builder.build()?)
    }

    /// An absolute path, since it is stored.
    fn ca_cert(&self, config: &Config) -> CliResult<Option<PathBuf>> {
        let named = match &self.ca_cert {
            Some(path) => Some(path.clone()),
            None => environment("SMARTSHAPE_CA_CERT")?.map(PathBuf::from),
        };
        let path = match named {
            Some(path) => Some(path),
            // Whoever can sign for the server of the stored login is not trusted for others.
            None if config.is_of(&self.url(config)?) => config.ca_cert.clone(),
            None => None,
        };
        let absolute = path.map(std::path::absolute).transpose();
        absolute.map_err(|error| usage!("--ca-cert: {error}: name a file"))
    }
}

pub(crate) fn environment(name: &str) -> CliResult<Option<String>> {
    match std::env::var_os(name).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => {
            let text = value.into_string();
            text.map(Some).map_err(|_| usage!("{name} is not UTF-8: set it anew"))
        }
    }
}

impl Config {
    fn url(&self) -> &str {
        self.api_url.as_deref().unwrap_or(DEFAULT_URL)
    }

    /// Whether these are the settings of the server at this URL.
    fn is_of(&self, url: &str) -> bool {
        let normal = |url: &str| url::Url::parse(url).map_or_else(|_| url.to_owned(), String::from);
        normal(url).trim_end_matches('/') == normal(self.url()).trim_end_matches('/')
    }

    fn read() -> CliResult<Self> {
        let Ok(path) = config_path() else { return Ok(Self::default()) };
        let read = || {
            // The file may be a link, which `write` keeps too.
            let path = files::target(&path)?;
            let mut file = File::open(&path)?;
            for doubt in [files::check_ours(&path, &file), files::check_private(&file)] {
                if let Err(why) = doubt {
                    print_notice(format_args!("warning: {}: {why}", path.display()));
                }
            }
            let mut text = Vec::new();
            file.read_to_end(&mut text).map(|_| text)
        };
        let text = match read() {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(usage!("cannot read the settings {}: {error}", path.display()));
            }
        };
        // serde's own text may quote a token, so it is left out.
        serde_json::from_slice(&text).map_err(|error| {
            let (path, line, column) = (path.display(), error.line(), error.column());
            usage!(
                "the settings {path} are broken at line {line}, column {column}: repair or delete that file"
            )
        })
    }

    /// Fails where `write` would, before there is a login that could not be stored.
    pub(crate) fn check_writable() -> CliResult {
        let path = config_path()?;
        let written = files::target(&path).and_then(|target| {
            let is_there = target.ancestors().skip(1).find(|folder| folder.exists());
            let probe = is_there.unwrap_or(Path::new(".")).join(format!("{}.probe", std::process::id()));
            files::private_file(&probe).and_then(|_| fs::remove_file(&probe))
        });
        written.map_err(|error| cannot_write(&path, &error))
    }

    /// Writes the file atomically, readable by this user only.
    pub(crate) fn write(&self) -> CliResult<PathBuf> {
        let path = config_path()?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let text = serde_json::to_vec_pretty(self).map_err(|error| Failure::failed(chain(&error)))?;
        let written = files::make_folder(folder).and_then(|()| files::replace(&path, &text));
        written.map_err(|error| cannot_write(&path, &error))?;
        Ok(path)
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    failed!("cannot write the settings {path}: {error}: make their folder writable, or set XDG_CONFIG_HOME")
}

fn config_path() -> CliResult<PathBuf> {
    Ok(folder("XDG_CONFIG_HOME", ".config")?.join("config.json"))
}

/// This program's folder for a purpose, by the XDG base directory specification.
pub(crate) fn folder(variable: &str, below_home: &str) -> CliResult<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(variable)
        .or_else(|| {
            absolute(if cfg!(windows) { "APPDATA" } else { "HOME" })
                .map(|home| if cfg!(windows) { home } else { home.join(below_home) })
        })
        .ok_or_else(|| usage!("no place for settings: set HOME or {variable}"))?;
    Ok(base.join("smartshape"))
}
