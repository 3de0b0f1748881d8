//! Sends a request over a new HTTP/1.1 connection and reads the whole response.
//!
//! Connections are not pooled: if the server closed an idle connection while a creation was being sent, nobody could
//! tell whether the webhook exists.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONNECTION;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{BoxError, Error, ErrorKind, Hint};
use crate::request::Request;
use crate::response::Response;
use crate::retry::RetryReason;
use crate::url::BaseUrl;

/// SmartShape's responses are far shorter.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

#[derive(Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    connect_timeout: Duration,
}

/// Why no response was received.
type Failure = (Error, RetryReason);

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
        let unsendable = |error: http::Error| no_connection(base, request, "", error.into());
        let failure = |error| self.failure(base, request, error);
        let mut message = self.http.request(request.call.method(), format!("{base}{}", request.path));
        message = message.header(CONNECTION, "close").body(request.body.clone());
        for (name, value) in &request.headers {
            let mut value = HeaderValue::try_from(value).map_err(|error| unsendable(error.into()))?;
            value.set_sensitive(matches!(*name, "authorization" | "x-smartshape-session"));
            message = message.header(*name, value);
        }

        let mut response = message.send().await.map_err(failure)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err((too_long(base, request), RetryReason::Permanent));
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status().as_u16();
        Ok(Response { status, headers: std::mem::take(response.headers_mut()), body: body.into() })
    }

    fn failure(&self, base: &BaseUrl, request: &Request, error: reqwest::Error) -> Failure {
        let (connecting, late, unknown) = (error.is_connect(), error.is_timeout(), error.is_dns());
        let error = error.without_url();
        let nobody_listens =
            cause::<io::Error>(&error).is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused);
        let tls = cause::<rustls::Error>(&error).cloned();
        let error: BoxError = error.into();
        match tls {
            _ if !connecting => {
                let note = request.call.ambiguity_note();
                let advice = if note.is_empty() { ": try again" } else { note };
                let text = format!("the connection to {base} was lost{advice}");
                let error = unreachable(request, &text).with_source(error);
                (error.with_ambiguous(request.call.has_effect()), RetryReason::ConnectionLost)
            }
            Some(rustls::Error::InvalidCertificate(_)) => {
                let text = format!(
                    "the certificate of {base} is not trusted: check the API URL and this machine's clock"
                );
                let error = unreachable(request, &text).with_source(error);
                (error.with_hint(Hint::AddRootCertificate), RetryReason::Permanent)
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                let text = format!(
                    "{base} does not speak TLS: if it is right, it begins with http:// and not with https://"
                );
                (unreachable(request, &text), RetryReason::Permanent)
            }
            _ if late => {
                (request.timed_out(self.connect_timeout, Hint::RaiseConnectTimeout), RetryReason::NotSent)
            }
            _ if unknown => no_connection(base, request, ": the name of the host is not known", error),
            _ if nobody_listens => {
                let why = ": the connection was refused, so nobody listens there";
                no_connection(base, request, why, error)
            }
            _ => no_connection(base, request, "", error),
        }
    }
}

fn unreachable(request: &Request, text: &str) -> Error {
    Error::new(ErrorKind::Unreachable, format!("cannot {}: {text}", request.call.purpose()))
}

/// Nothing was sent.
fn no_connection(base: &BaseUrl, request: &Request, why: &str, source: BoxError) -> Failure {
    let text = format!(
        "no connection to {base}{why}: check the API URL, the network, and a proxy that HTTPS_PROXY or HTTP_PROXY \
         names"
    );
    (unreachable(request, &text).with_source(source), RetryReason::NotSent)
}

fn too_long(base: &BaseUrl, request: &Request) -> Error {
    let text = format!(
        "cannot {}: the response is longer than {} MiB: check that the API URL {base} is SmartShape's web API{}",
        request.call.purpose(),
        MAX_RESPONSE_BYTES / 1024 / 1024,
        request.call.ambiguity_note()
    );
    Error::new(ErrorKind::UnexpectedResponse, text).with_ambiguous(request.call.has_effect())
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
