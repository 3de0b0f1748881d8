//! Sends one request over a connection of its own, by HTTP/1.1, and reads the answer whole.
//!
//! Connections are not kept: a server that closes an idle one just as a creation is sent would
//! leave it unclear whether there is a new webhook.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, LOCATION, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

use crate::answer::Answer;
use crate::error::{BoxError, Error};
use crate::request::Request;
use crate::url::BaseUrl;

/// More than this is no answer of SmartShape's.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

#[derive(Clone)]
pub(crate) struct Transport {
    connector: HttpsConnector<HttpConnector>,
    connect_limit: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection; nothing was sent.
    Connect(BoxError),
    /// No connection within this time; nothing was sent.
    ConnectTimedOut(Duration),
    /// TLS ended with the server's certificate; nothing was sent.
    Untrusted(BoxError),
    /// What the server sends is no TLS; nothing was sent.
    NoTls(BoxError),
    /// The connection broke.
    Broken(BoxError),
    /// The answer is longer than so many bytes.
    TooLong(usize),
}

impl Failure {
    fn connecting(error: BoxError) -> Self {
        match tls_error(&*error) {
            Some(rustls::Error::InvalidCertificate(_)) => Self::Untrusted(error),
            Some(rustls::Error::InvalidMessage(_)) => Self::NoTls(error),
            _ => Self::Connect(error),
        }
    }
}

/// What TLS says, wherever in the chain of causes.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    // Of what an io::Error holds, its source() skips the outermost.
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match inner {
        Some(inner) => tls_error(inner),
        None => error.source().and_then(tls_error),
    }
}

impl Transport {
    /// Reads the certificates that the system trusts, when the URL needs them.
    pub(crate) fn new(base: &BaseUrl, more_roots: &[u8], connect_limit: Duration) -> Result<Self, Error> {
        let roots = if base.is_https() { roots(more_roots)? } else { RootCertStore::empty() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::settings("TLS cannot be set up on this machine").with_source(error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        Ok(Self { connector: HttpsConnector::from((http, tls)), connect_limit })
    }

    pub(crate) async fn send(&self, base: &BaseUrl, request: &Request) -> Result<Answer, Failure> {
        let uri: Uri = base.origin.parse().map_err(|error| Failure::Connect(Box::new(error)))?;
        let message = message(base, request).map_err(|error| Failure::Connect(Box::new(error)))?;

        let mut connector = self.connector.clone();
        let connecting = async {
            poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(uri).await
        };
        let stream = tokio::time::timeout(self.connect_limit, connecting)
            .await
            .map_err(|_| Failure::ConnectTimedOut(self.connect_limit))?
            .map_err(Failure::connecting)?;
        let broken = |error: hyper::Error| Failure::Broken(Box::new(error));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(broken)?;

        let exchange = async move {
            let response = sender.send_request(message).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Failure::TooLong(MAX_ANSWER)
                } else {
                    Failure::Broken(error)
                }
            })?;
            let text = |name: HeaderName| text_of(&head.headers, &name);
            Ok(Answer {
                status: head.status.as_u16(),
                content_type: text(CONTENT_TYPE),
                location: text(LOCATION),
                server: text(SERVER),
                body: body.to_bytes(),
            })
        };
        // In one task, so that whoever drops the call closes the connection.
        let mut exchange = pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            // What it has read is still to be collected; an error of its own shows there too.
            _ = connection => exchange.await,
        }
    }
}

fn message(base: &BaseUrl, request: &Request) -> Result<http::Request<Full<bytes::Bytes>>, http::Error> {
    let mut message = http::Request::builder()
        .method(request.method)
        .uri(format!("{}{}", base.path, request.path))
        .header(HOST, &base.authority)
        .header(CONNECTION, "close");
    for (name, value) in &request.headers {
        let mut value = HeaderValue::try_from(value)?;
        value.set_sensitive(matches!(*name, "authorization" | "x-smartshape-session"));
        message = message.header(*name, value);
    }
    message.body(Full::new(request.body.clone()))
}

fn text_of(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn roots(more: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    // One that cannot be read is of no use, and no harm to the others.
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
