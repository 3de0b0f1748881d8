//! Parses the URL. sqlx logs unknown parameters with their values, so they are rejected here.

use std::net::IpAddr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::error::{InboxError, InboxErrorKind};

/// The known parameters of a URL, in each spelling.
const PARAMETERS: [&str; 19] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "target_session_attrs",
];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The options of each host of a URL that may have several, as libpq's:
/// `postgres://user:password@one,two:5433/database`.
///
/// No error repeats any part of the URL: when a password is not percent-encoded, every part may belong to it.
pub(super) fn hosts(url: &str) -> Result<Vec<PgConnectOptions>, InboxError> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    if !hosts.contains(',') {
        return Ok(vec![options(url)?]);
    }
    let one = |host: &str| {
        if host.is_empty() {
            return Err(unreadable("one of its hosts is empty"));
        }
        options(&format!("{scheme}://{user}{host}{rest}"))
    };
    hosts.split(',').map(one).collect()
}

fn options(url: &str) -> Result<PgConnectOptions, InboxError> {
    if url.contains('#') {
        return Err(unreadable("it has a `#`, which must be written `%23`, in a password too"));
    }
    let mut ssl_mode_is_given = std::env::var_os("PGSSLMODE").is_some();
    for parameter in url.split_once('?').into_iter().flat_map(|(_, query)| query.split('&')) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let is_option = name.starts_with("options[") && name.ends_with(']');
        if !is_option && !PARAMETERS.contains(&name) {
            return Err(unreadable(format_args!(
                "it has a parameter that is not known, or a `?` in its password, which must be written `%3F`; known are {}",
                PARAMETERS.join(", ")
            )));
        }
        if ["sslmode", "ssl-mode"].contains(&name) {
            if !SSL_MODES.contains(&&*value.to_ascii_lowercase()) {
                return Err(unreadable(format_args!("its {name} must be one of {}", SSL_MODES.join(", "))));
            }
            ssl_mode_is_given = true;
        }
        if ["host", "hostaddr", "port"].contains(&name) && (value.contains(',') || value.contains("%2C")) {
            return Err(unreadable("several hosts are written before its database: one,two:5433/DATABASE"));
        }
        if name == "target_session_attrs" && !["read-write", "primary"].contains(&value) {
            return Err(unreadable(
                "its target_session_attrs must be read-write, as it always is: the inbox finds the server to write to",
            ));
        }
        if name == "statement-cache-capacity" && value == "0" {
            return Err(unreadable(
                "statement-cache-capacity=0 does not make it work behind a pooler in transaction mode: \
                 let the pooler use session mode",
            ));
        }
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    // Unknown to the parser, which would log it.
    let known = query.split('&').filter(|parameter| !parameter.starts_with("target_session_attrs="));
    let known = format!("{base}?{}", known.collect::<Vec<_>>().join("&"));
    // The parser's errors that remain name the kind of the mistake, and no part of the URL.
    let options: PgConnectOptions =
        known.parse().map_err(|error: sqlx::Error| unreadable(format_args!("{}", reason(&error))))?;
    if cfg!(feature = "postgres-tls") && !ssl_mode_is_given && !is_local(&options) {
        return Ok(options.ssl_mode(PgSslMode::VerifyFull));
    }
    Ok(options)
}

fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(reason) => reason.to_string(),
        _ => "it is no URL".to_owned(),
    }
}

/// Whether the connection does not leave the machine.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_matches(['[', ']']);
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    options.get_socket().is_some() || host.starts_with('/') || host == "localhost" || is_loopback
}

fn unreadable(reason: impl std::fmt::Display) -> InboxError {
    let text = format!(
        "the inbox's postgres:// URL cannot be read: {reason} (it is postgres://USER:PASSWORD@HOST:PORT/DATABASE, \
         with special characters percent-encoded, and several hosts separated by commas)"
    );
    InboxError::new(InboxErrorKind::InvalidSettings, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the feature; without it there is no TLS to require.
    #[cfg(feature = "postgres-tls")]
    #[test]
    fn url_requires_tls_unless_local_or_given() {
        let mode = |url| format!("{:?}", hosts(url).unwrap()[0].get_ssl_mode());
        for remote in [
            "postgres://u:p@db.example/x",
            "postgres://u:p@10.0.0.1/x",
            "postgres://u@localhost/x?host=db.example",
        ] {
            assert_eq!(mode(remote), "VerifyFull", "{remote}");
        }
        for local in [
            "postgres://u@localhost/x",
            "postgres://u@127.0.0.1:5/x",
            "postgres://u@[::1]/x",
            "postgres://u@%2Frun%2Fpostgresql/x",
            "postgres://u@db.example/x?host=/run/postgresql",
        ] {
            assert_eq!(mode(local), "Prefer", "{local}");
        }
        assert_eq!(mode("postgres://u@db.example/x?sslmode=require"), "Require");
        assert_eq!(mode("postgres://u@db.example/x?ssl-mode=disable"), "Disable");
        let several = hosts("postgres://u@localhost,db.example/x").unwrap();
        let modes: Vec<_> = several.iter().map(|host| format!("{:?}", host.get_ssl_mode())).collect();
        assert_eq!(modes, ["Prefer", "VerifyFull"]);
    }

    #[test]
    fn url_names_several_hosts_of_one_database() {
        let hosts =
            hosts("postgres://a,b:p%40,s&s@one,two:5433,[::1]:1/x?target_session_attrs=read-write&user=ada")
                .unwrap();
        let found: Vec<_> = hosts.iter().map(|host| (host.get_host(), host.get_port())).collect();
        assert_eq!(found, [("one", 5432), ("two", 5433), ("[::1]", 1)]);
        assert!(hosts.iter().all(|host| (host.get_username(), host.get_database()) == ("ada", Some("x"))));
    }

    #[test]
    fn url_errors_repeat_no_part_of_it() {
        for (url, advice) in [
            ("postgres://app:2024?hunter2@host/db", "%3F"),
            ("postgres://app:20#hunter2@host/db", "%23"),
            ("postgres://app@host/db?sslpassword=hunter2", "not known"),
            ("postgres://app@host/db?hunter2", "not known"),
            ("postgres://app:hunter2@host/db?sslmode=no-verify", "verify-full"),
            ("postgres://app:hunter2@host/db?sslmode=hunter2", "verify-full"),
            ("postgres://app:hunter2@host/db?statement-cache-capacity=0", "session mode"),
            ("postgres://app:hunter2@one,two:x/db", "port"),
            ("postgres://app:hunter2@one,,two/db", "empty"),
            ("postgres://app:hunter2@one/db?host=one,hunter2", "before its database"),
            ("postgres://app@one,two/db?target_session_attrs=hunter2", "must be read-write"),
            ("postgres://app:hunter2@host/db?port=hunter2", "invalid digit"),
            ("postgres://app:hunter2@host/db?hostaddr=hunter2", "invalid IP"),
        ] {
            let error = hosts(url).unwrap_err().to_string();
            assert!(error.contains(advice), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
