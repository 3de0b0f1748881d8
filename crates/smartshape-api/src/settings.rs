//! The settings of a client.

use std::fmt;
use std::time::Duration;

use crate::client::Client;
use crate::error::Error;
use crate::hidden::{AuthToken, SessionToken};
use crate::request::Authority;
use crate::retry::RetryPolicy;
use crate::transport::Transport;
use crate::url::BaseUrl;

const LONGEST_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of a [`Client`].
///
/// ```
/// use std::time::Duration;
/// use smartshape_api::{AuthToken, Client};
///
/// let client = Client::builder()
///     .base_url("http://127.0.0.1:8043")
///     .auth_token(AuthToken::new("eyJhbGciOiJIUzI1NiJ9.e30.c2ln")?)
///     .time_limit(Duration::from_secs(10))
///     .build()?;
/// assert_eq!(client.base_url(), "http://127.0.0.1:8043");
/// # Ok::<(), smartshape_api::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientBuilder {
    base_url: String,
    authority: Authority,
    connect_limit: Duration,
    time_limit: Duration,
    retry: RetryPolicy,
    more_roots: Vec<u8>,
    plain_http: bool,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            base_url: "https://smartshape.io".to_owned(),
            authority: Authority::default(),
            connect_limit: Duration::from_secs(10),
            time_limit: Duration::from_secs(30),
            retry: RetryPolicy {
                retries: 2,
                first_wait: Duration::from_millis(250),
                longest_wait: Duration::from_secs(5),
            },
            more_roots: Vec::new(),
            plain_http: false,
        }
    }
}

impl ClientBuilder {
    /// Where SmartShape's web API is; it differs from installation to installation. A path is
    /// allowed, user names, queries and fragments are not. Default `https://smartshape.io`.
    ///
    /// `http://` is for this machine (see [`is_loopback_url`](crate::is_loopback_url)), unless
    /// [`allow_plain_http`](Self::allow_plain_http) allows it for others.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// What authorises calls. Default: none, with which only [`Client::login`] works.
    #[must_use]
    pub fn auth_token(mut self, token: AuthToken) -> Self {
        self.authority.auth = Some(token);
        self
    }

    /// What newer installations want beside it, sent as `X-SmartShape-Session`. Default: none, and
    /// the header is not sent.
    #[must_use]
    pub fn session_token(mut self, token: SessionToken) -> Self {
        self.authority.session = Some(token);
        self
    }

    /// How long a connection may take, names and TLS included. Default 10 s, up to a day.
    #[must_use]
    pub fn connect_time_limit(mut self, limit: Duration) -> Self {
        self.connect_limit = limit;
        self
    }

    /// How long a call may take, all its attempts included. Default 30 s, up to a day.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// How often a call is tried again. Default 2. Calls that do no more when sent twice (list, delete) are when the
    /// connection fails or the response is 500, 502 or 504, or a 503 with `Retry-After`; every call is when the
    /// response is 429, which says that nothing was done. `Retry-After` is obeyed as long as it ends within
    /// [`time_limit`](Self::time_limit).
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retry.retries = retries;
        self
    }

    /// The wait before the first retry, doubled before each further one, and the longest one. Each
    /// is spread over its upper half. Default 250 ms and 5 s.
    #[must_use]
    pub fn retry_waits(mut self, first: Duration, longest: Duration) -> Self {
        self.retry.first_wait = first;
        self.retry.longest_wait = longest;
        self
    }

    /// Trusts these root certificates (PEM, one or several) beside the system's: for an installation
    /// of a company that has its own. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others in the
    /// system's place.
    #[must_use]
    pub fn trust_pem(mut self, certificates: impl AsRef<[u8]>) -> Self {
        self.more_roots.extend_from_slice(certificates.as_ref());
        self.more_roots.push(b'\n');
        self
    }

    /// Allows an `http://` base URL of another machine. Everybody on the way can then read the password, the tokens
    /// and the secrets of webhooks: for a network that you trust, such as that of two containers. Default: not
    /// allowed.
    #[must_use]
    pub fn allow_plain_http(mut self, allow: bool) -> Self {
        self.plain_http = allow;
        self
    }

    /// Makes the client. Reads the certificates that the system trusts, and sends nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when the base URL or a certificate cannot be used, when the
    /// base URL is `http://` and of another machine (see [`allow_plain_http`](Self::allow_plain_http)), when a time limit is zero or longer than a day, or when the system has no root certificates.
    pub fn build(self) -> Result<Client, Error> {
        let base = BaseUrl::parse(&self.base_url)?;
        for (name, limit) in [("connect_time_limit", self.connect_limit), ("time_limit", self.time_limit)] {
            if limit.is_zero() || limit > LONGEST_LIMIT {
                let text = format!("{name} is {limit:?}: set it above zero, and to a day at most");
                return Err(Error::settings(text));
            }
        }
        if !self.plain_http && !base.is_https() && !base.is_local() {
            return Err(Error::settings(format!(
                "{base} is no https:// URL, so everybody on the way could read passwords, tokens and secrets: set an \
                 https:// base URL, or allow it by `allow_plain_http`"
            )));
        }
        let transport = Transport::new(&base, &self.more_roots, self.connect_limit)?;
        Ok(Client::new(base, transport, self.retry, self.time_limit, self.authority))
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL is not checked yet, and may hold a password.
        f.debug_struct("ClientBuilder")
            .field("authority", &self.authority)
            .field("connect_time_limit", &self.connect_limit)
            .field("time_limit", &self.time_limit)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
