//! The outlet to a URL.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Url, redirect};
use smartshape_api::parse_retry_after;
use smartshape_webhook::{Delivery, Handler, HandlerError};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use url::Host;

use crate::public_address::{PublicResolver, is_public};
use crate::tls::client_config;
use crate::{CloudEvent, OutletError, OutletErrorKind};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const SECRET_PREFIX: &str = "whsec_";
/// What Standard Webhooks demands.
const SECRET_BYTES: RangeInclusive<usize> = 24..=64;
/// The connection of a longer response is closed.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// Maximum `Retry-After` that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// Posts each delivery to a URL, signed as [Standard Webhooks](https://www.standardwebhooks.com) describe.
///
/// The request has the body as it was received and the headers of [`CloudEvent::headers`]; `webhook-id` is
/// [`CloudEvent::id`], `webhook-timestamp` the time of the attempt, and `webhook-signature` covers both and the body.
///
/// A status of 2xx is success. Anything else is an error after which the delivery is retried, not before the time that
/// `Retry-After` says (one hour at most): no error is [permanent](HandlerError::permanent), since that would
/// acknowledge an event that the endpoint does not have. Redirects are not followed. Connections are reused, and are
/// made directly, whatever `HTTP_PROXY` and `HTTPS_PROXY` say. Cheap to clone.
///
/// ```
/// use smartshape_webhook_outlet::HttpOutlet;
///
/// let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"; // 24 random bytes in base64
/// let outlet = HttpOutlet::builder("https://app.example.com/events", secret).build()?;
/// assert_eq!(format!("{outlet:?}"), r#"HttpOutlet { host: Some("app.example.com"), .. }"#);
/// # Ok::<(), smartshape_webhook_outlet::OutletError>(())
/// ```
#[derive(Clone)]
pub struct HttpOutlet {
    http: Client,
    url: Url,
    signer: Arc<Webhook>,
}

impl HttpOutlet {
    /// Starts to build an outlet to `url`, which signs with `secret`: `whsec_` and 24 to 64 random bytes in base64.
    /// Standard Webhooks writes secrets so. Without the prefix a secret is rejected: a password or hexadecimal digits
    /// are often valid base64, too, and would sign with another key than the other side has.
    pub fn builder(url: &str, secret: &str) -> HttpOutletBuilder {
        HttpOutletBuilder {
            url: url.to_owned(),
            secret: secret.to_owned(),
            timeout: DEFAULT_TIMEOUT,
            allows_private_addresses: false,
            root_certificates: None,
        }
    }
}

impl Handler for HttpOutlet {
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let event = CloudEvent::from(&delivery);
        let timestamp = Timestamp::now().as_second();
        let signature = self.signer.sign(&event.id, timestamp, &event.data)?;
        let mut request = self.http.post(self.url.clone());
        for (name, value) in event.headers() {
            request = request.header(name, value);
        }
        let request = request
            .header(HEADER_WEBHOOK_ID, event.id)
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp)
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .body(event.data);
        // The URL may contain a credential.
        let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(parse_retry_after);
        // A connection is reused only if the response has been read. What it says does not matter.
        let mut remaining = MAX_RESPONSE_BYTES;
        while let Ok(Some(chunk)) = response.chunk().await {
            match remaining.checked_sub(chunk.len()) {
                Some(rest) => remaining = rest,
                None => break,
            }
        }
        if status.is_success() {
            return Ok(());
        }
        let remedy = match status.is_redirection() {
            true => ": redirects are not followed, configure the final URL",
            false => "",
        };
        let error = format!("the endpoint responded with {status}{remedy}");
        Err(match retry_after {
            Some(wait) => HandlerError::retry_after(wait.min(MAX_RETRY_AFTER), error),
            None => HandlerError::retry(error),
        })
    }
}

impl fmt::Debug for HttpOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOutlet").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// Builds an [`HttpOutlet`]; [`HttpOutlet::builder`] starts it.
#[must_use]
pub struct HttpOutletBuilder {
    url: String,
    secret: String,
    timeout: Duration,
    allows_private_addresses: bool,
    root_certificates: Option<Vec<u8>>,
}

impl HttpOutletBuilder {
    /// Maximum time for an attempt, from connecting to the response. Defaults to 30 seconds.
    ///
    /// Keep it below the lease of the inbox's worker, or below the time that SmartShape waits for an endpoint.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Permits addresses that are not of the public internet, such as `10.0.0.1`, `localhost` and `fd00::1`. Not
    /// permitted by default, so that a URL that somebody else chose reaches no internal service.
    pub fn allow_private_addresses(mut self) -> Self {
        self.allows_private_addresses = true;
        self
    }

    /// Trusts these certificates too, in PEM form, beside those of the system. For endpoints with a certificate of an
    /// own authority.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    /// Builds the outlet. Does not connect.
    ///
    /// # Errors
    ///
    /// [`OutletError`] if the URL, the secret or the certificates cannot be used.
    pub fn build(self) -> Result<HttpOutlet, OutletError> {
        let invalid = |why: &str| OutletError::new(OutletErrorKind::Url, "the URL is invalid", why);
        let url = Url::parse(&self.url).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("it begins with neither https:// nor http://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let why = "it contains a user name or password; the endpoint verifies the signature instead";
            return Err(invalid(why));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        };
        if !self.allows_private_addresses && literal.is_some_and(|address| !is_public(address)) {
            let why = "its address is not of the public internet; allow_private_addresses permits it";
            return Err(OutletError::new(OutletErrorKind::PrivateAddress, "the URL is not permitted", why));
        }
        let mut builder = Client::builder()
            .tls_backend_preconfigured(client_config(self.root_certificates.as_deref())?)
            .redirect(redirect::Policy::none())
            .referer(false)
            // It would resolve the name by itself, and its response would pass for the endpoint's.
            .no_proxy()
            .retry(reqwest::retry::never())
            .timeout(self.timeout);
        if !self.allows_private_addresses {
            builder = builder.dns_resolver(Arc::new(PublicResolver));
        }
        let http = builder.build().map_err(|error| {
            OutletError::new(OutletErrorKind::Client, "the HTTP client cannot be set up", error)
        })?;
        Ok(HttpOutlet { http, url, signer: Arc::new(signer(&self.secret)?) })
    }
}

impl fmt::Debug for HttpOutletBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOutletBuilder").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

fn signer(secret: &str) -> Result<Webhook, OutletError> {
    let invalid =
        |why: &str| OutletError::new(OutletErrorKind::SigningSecret, "the signing secret is invalid", why);
    let encoded = secret.strip_prefix(SECRET_PREFIX).ok_or_else(|| {
        invalid("it does not begin with whsec_: write whsec_ and 24 to 64 random bytes in base64")
    })?;
    // The error of base64 would show a character of the secret.
    let signer = Webhook::new(secret).map_err(|_| invalid("what follows whsec_ is not padded base64"))?;
    let bytes = encoded.trim_end_matches('=').len() * 3 / 4;
    if !SECRET_BYTES.contains(&bytes) {
        return Err(invalid(&format!("it has {bytes} bytes; Standard Webhooks demands 24 to 64")));
    }
    Ok(signer)
}
