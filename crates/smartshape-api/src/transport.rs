//! Sends a request over a new HTTP/1.1 connection and reads the whole response.
//!
//! Connections are not pooled: if the server closed an idle connection while a creation was being sent, nobody could tell
//! whether the webhook exists.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONNECTION;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{BoxError, Error};
use crate::request::Request;
use crate::response::Response;
use crate::url::BaseUrl;

/// SmartShape's responses are far shorter.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

#[derive(Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    connect_timeout: Duration,
}

/// Why no response was received.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection could not be established; nothing was sent. Holds the reason, if known.
    Connect(Option<&'static str>, BoxError),
    /// The connection was not established within this time; nothing was sent.
    ConnectTimedOut(Duration),
    /// The server's certificate is not trusted; nothing was sent.
    Untrusted(BoxError),
    /// The server does not speak TLS; nothing was sent.
    NoTls,
    /// The connection was lost.
    ConnectionLost(BoxError),
    /// The response exceeds this many bytes.
    TooLong(usize),
}

/// The first error of this type in the source chain.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // io::Error::source() skips the error that it wraps.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => cause(inner),
        None => error.source().and_then(cause),
    }
}

impl Transport {
    /// Reads the system's root certificates if the URL is https.
    pub(crate) fn new(
        base: &BaseUrl,
        root_certificates: &[u8],
        connect_timeout: Duration,
    ) -> Result<Self, Error> {
        let unusable = "TLS cannot be set up on this machine";
        let roots = if base.is_https() { roots(root_certificates)? } else { RootCertStore::empty() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::settings(unusable).with_source(error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // The retry policy depends on the call.
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .connect_timeout(connect_timeout);
        if base.is_local() {
            // No proxy leads back to a loopback address.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| {
            let text = "the connection cannot be set up: are HTTP_PROXY and HTTPS_PROXY URLs of proxies?";
            Error::settings(text).with_source(error)
        })?;
        Ok(Self { http, connect_timeout })
    }

    pub(crate) async fn send(&self, base: &BaseUrl, request: &Request) -> Result<Response, Failure> {
        let unsendable = |error: http::Error| Failure::Connect(None, Box::new(error));
        let mut message = self.http.request(request.call.method(), format!("{base}{}", request.path));
        message = message.header(CONNECTION, "close").body(request.body.clone());
        for (name, value) in &request.headers {
            let mut value = HeaderValue::try_from(value).map_err(|error| unsendable(error.into()))?;
            value.set_sensitive(matches!(*name, "authorization" | "x-smartshape-session"));
            message = message.header(*name, value);
        }

        let mut response = message.send().await.map_err(|error| self.failure(error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(error))? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(Failure::TooLong(MAX_RESPONSE_BYTES));
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status().as_u16();
        Ok(Response { status, headers: std::mem::take(response.headers_mut()), body: body.into() })
    }

    fn failure(&self, error: reqwest::Error) -> Failure {
        let (connecting, late, unknown) = (error.is_connect(), error.is_timeout(), error.is_dns());
        let error = error.without_url();
        let nobody_listens =
            cause::<io::Error>(&error).is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused);
        let tls = cause::<rustls::Error>(&error).cloned();
        let error: BoxError = error.into();
        match tls {
            _ if !connecting => Failure::ConnectionLost(error),
            Some(rustls::Error::InvalidCertificate(_)) => Failure::Untrusted(error),
            Some(rustls::Error::InvalidMessage(_)) => Failure::NoTls,
            _ if late => Failure::ConnectTimedOut(self.connect_timeout),
            _ if unknown => Failure::Connect(Some("the name of the host is not known"), error),
            _ if nobody_listens => {
                Failure::Connect(Some("the connection was refused, so nobody listens there"), error)
            }
            _ => Failure::Connect(None, error),
        }
    }
}

fn roots(more: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    // An unreadable certificate does not affect the others.
    roots.add_parsable_certificates(system.certs);
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(more) {
        let unusable = "a root certificate to be trusted cannot be read: give it in PEM form";
        let certificate = certificate.map_err(|error| Error::settings(unusable).with_source(error))?;
        roots.add(certificate).map_err(|error| Error::settings(unusable).with_source(error))?;
        added += 1;
    }
    if added == 0 && !more.is_empty() {
        return Err(Error::settings("the root certificates to be trusted hold none in PEM form"));
    }
    if roots.is_empty() {
        let error = Error::settings(
            "this system has no root certificates, without which no https server can be trusted: install the \
             package ca-certificates, or name a file of them with SSL_CERT_FILE",
        );
        return Err(match system.errors.into_iter().next() {
            Some(source) => error.with_source(source),
            None => error,
        });
    }
    Ok(roots)
}
