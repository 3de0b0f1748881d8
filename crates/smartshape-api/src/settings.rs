//! The settings of a client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;

use crate::client::{Client, Shared};
use crate::error::{Error, Hint};
use crate::request::Credentials;
use crate::secret::{AuthToken, SessionToken};
use crate::transport::Transport;
use crate::url::BaseUrl;

const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of a [`Client`].
///
/// ```
/// use std::time::Duration;
/// use smartshape_api::{AuthToken, Client};
///
/// let client = Client::builder()
///     .base_url("http://127.0.0.1:8043")
///     .auth_token(AuthToken::new("eyJhbGciOiJIUzI1NiJ9.e30.c2ln")?)
///     .timeout(Duration::from_secs(10))
///     .build()?;
/// assert_eq!(client.base_url(), "http://127.0.0.1:8043");
/// # Ok::<(), smartshape_api::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientBuilder {
    base_url: String,
    credentials: Credentials,
    connect_timeout: Duration,
    timeout: Duration,
    backoff: ExponentialBuilder,
    root_certificates: Vec<u8>,
    plain_http: bool,
}

impl Client {
    /// A builder with the default settings.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            base_url: "https://smartshape.io".to_owned(),
            credentials: Credentials::default(),
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            backoff: ExponentialBuilder::new()
                .with_max_times(2)
                .with_min_delay(Duration::from_millis(250))
                .with_max_delay(Duration::from_secs(5))
                .with_jitter(),
            root_certificates: Vec::new(),
            plain_http: false,
        }
    }
}

impl ClientBuilder {
    /// URL of the installation's web API. May have a path, but no user name, query or fragment. Defaults to
    /// `https://smartshape.io`.
    ///
    /// `http://` is accepted for loopback hosts only (see [`is_loopback_url`](crate::is_loopback_url)), unless
    /// [`allow_plain_http`](Self::allow_plain_http) is set.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Bearer token of the calls, as returned by [`Client::login`]. Defaults to none; only `login` works without it.
    #[must_use]
    pub fn auth_token(mut self, token: AuthToken) -> Self {
        self.credentials.auth = Some(token);
        self
    }

    /// Session token, sent as `X-SmartShape-Session`; newer installations require one. Defaults to none, which omits
    /// the header.
    #[must_use]
    pub fn session_token(mut self, token: SessionToken) -> Self {
        self.credentials.session = Some(token);
        self
    }

    /// Maximum time to connect, including DNS lookup and TLS handshake. Defaults to 10 seconds; at most a day.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Maximum time for a call, including all its attempts. Defaults to 30 seconds; at most a day.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Maximum number of retries of a call. Defaults to 2. Idempotent calls (list, delete) are retried when the
    /// connection fails, on 500, 502 and 504, and on a 503 with `Retry-After`. Every call is retried on 429, which
    /// means that the server did nothing. `Retry-After` is honored if it ends within [`timeout`](Self::timeout).
    #[must_use]
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.backoff = self.backoff.with_max_times(usize::try_from(max_retries).unwrap_or(usize::MAX));
        self
    }

    /// Exponential backoff between attempts: the first delay, doubled for each further retry up to `max`. Jitter adds
    /// up to as much again. Defaults to 250 milliseconds and 5 seconds.
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = self.backoff.with_min_delay(min.min(max)).with_max_delay(max);
        self
    }

    /// Trusts root certificates (PEM, one or several) in addition to the system's, for installations with a private
    /// certificate authority. `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's.
    #[must_use]
    pub fn add_root_certificate(mut self, certificates: impl AsRef<[u8]>) -> Self {
        self.root_certificates.extend_from_slice(certificates.as_ref());
        self.root_certificates.push(b'\n');
        self
    }

    /// Allows an `http://` base URL of another host. Everybody on the network path can then read the password, the
    /// tokens and the webhook secrets, so use it in trusted networks only, such as between two containers. Defaults to
    /// `false`.
    #[must_use]
    pub fn allow_plain_http(mut self, allow: bool) -> Self {
        self.plain_http = allow;
        self
    }

    /// Builds the client. Reads the system's root certificates; sends nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when the base URL or a certificate is invalid, the base URL
    /// is `http://` for another host (see [`allow_plain_http`](Self::allow_plain_http)), a timeout is zero or longer
    /// than a day, or the system has no root certificates.
    pub fn build(self) -> Result<Client, Error> {
        let base = BaseUrl::parse(&self.base_url)?;
        for (name, limit) in [("connect_timeout", self.connect_timeout), ("timeout", self.timeout)] {
            if limit.is_zero() || limit > MAX_TIMEOUT {
                let text = format!("{name} is {limit:?}: set it above zero, and to a day at most");
                return Err(Error::settings(text));
            }
        }
        if !self.plain_http && !base.is_https() && !base.is_local() {
            let text = format!(
                "{base} is not an https:// URL, so everybody on the network path could read passwords, tokens and secrets"
            );
            return Err(Error::settings(text).with_hint(Hint::AllowPlainHttp));
        }
        let transport = Transport::new(&base, &self.root_certificates, self.connect_timeout)?;
        let shared = Shared { base, transport, backoff: self.backoff, timeout: self.timeout };
        Ok(Client { shared: Arc::new(shared), credentials: self.credentials })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL is not checked yet, and may hold a password.
        f.debug_struct("ClientBuilder")
            .field("credentials", &self.credentials)
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}
