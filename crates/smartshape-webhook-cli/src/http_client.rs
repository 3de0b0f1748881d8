//! One request to any endpoint, and its response; over HTTP/1.1, with TLS if the URL is https.
//!
//! On hyper rather than on reqwest: `check` has to choose the connection of each request, the case of header names, and
//! how much of a body it withholds, so its connections, certificates and faults would stand here beside reqwest's
//! anyway.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use smartshape_api::{is_loopback_url, parse_retry_after};
use smartshape_fake::{Fault, check_response};
use smartshape_webhook::TOKEN_HEADER;

use crate::escape::escape;
use crate::failure::{CliResult, root, usage};
use crate::settings::Settings;

/// Maximum length of a response's body.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

pub(crate) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
    pub(crate) took: Duration,
    /// How long the endpoint asks to wait before the next attempt.
    pub(crate) retry_after: Option<Duration>,
}

impl Response {
    /// Why SmartShape would not accept it.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        check_response(self.status, self.content_type.as_deref(), &self.body)
    }
}

/// An absolute http or https URL without a password in it.
pub(crate) fn parse_url(url: &str, what: &str) -> CliResult<Uri> {
    let wrong = |why: &str| usage!("{what} {why}");
    let form = "is not an absolute URL of visible ASCII, such as https://example.com/callback";
    if url.contains('#') {
        return Err(wrong("holds a fragment: end it before the #"));
    }
    let uri: Uri = url.parse().map_err(|_| wrong(form))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong(form));
    }
    let Some(authority) = uri.authority() else { return Err(wrong(form)) };
    if authority.as_str().contains('@') {
        return Err(wrong("holds a user name or password: leave them out"));
    }
    if authority.host().is_empty() || (uri.port_u16().is_none() && authority.as_str() != authority.host()) {
        return Err(wrong(form));
    }
    Ok(uri)
}

/// Like [`parse_url`], and requires https unless the settings allow `--insecure` or the URL is a loopback one: the
/// endpoint gets tokens of the secret, which are as good as the secret to whoever reads them.
pub(crate) fn parse_endpoint(url: &str, what: &str, settings: &Settings) -> CliResult<Uri> {
    let uri = parse_url(url, what)?;
    if uri.scheme_str() == Some("https") || settings.insecure || is_loopback_url(url) {
        return Ok(uri);
    }
    Err(usage!(
        "{what} is no https:// URL, so everybody on the way could read the token, which stays valid: use https://, \
         or allow it by --insecure"
    ))
}

/// Posts a delivery.
pub(crate) async fn post(url: &Uri, token: &str, body: Bytes, timeout: Duration) -> Result<Response, Fault> {
    let request = Request::builder()
        .method(Method::POST)
        .header(CONTENT_TYPE, "application/json")
        // No event of SmartShape's own: whoever looks into a log can tell.
        .header("x-smartshape-fake", "1")
        .header(TOKEN_HEADER, token);
    send(url, request, body, timeout).await
}

pub(crate) async fn get(url: &Uri, timeout: Duration) -> Result<Response, Fault> {
    send(url, Request::builder().method(Method::GET), Bytes::new(), timeout).await
}

async fn send(
    url: &Uri,
    request: http::request::Builder,
    body: Bytes,
    timeout: Duration,
) -> Result<Response, Fault> {
    let not_sent = |error: http::Error| Fault::NotSent(error.to_string());
    let request = request.uri(url).header(CONNECTION, "close").body(Full::new(body)).map_err(not_sent)?;
    exchange(&client(url)?, request, timeout).await
}

/// A client for this URL only: an `http://` URL loads no certificates.
pub(crate) fn client(url: &Uri) -> Result<HttpClient, Fault> {
    Ok(Client::builder(TokioExecutor::new()).build(connector(url)?))
}

/// Sends one request as it is, and reads the response.
pub(crate) async fn exchange(
    client: &HttpClient,
    request: Request<Full<Bytes>>,
    timeout: Duration,
) -> Result<Response, Fault> {
    let started_at = Instant::now();
    let exchange = async {
        let response = client.request(request).await.map_err(|error| connection_fault(&error))?;
        read_response(response, started_at).await
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(Fault::TimedOut(timeout)))
}

/// The whole response to a request that began at this time.
pub(crate) async fn read_response(
    response: http::Response<Incoming>,
    started_at: Instant,
) -> Result<Response, Fault> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Fault::BodyTooLarge(MAX_RESPONSE_BYTES)
        } else {
            connection_fault(&*error)
        }
    })?;
    let content_type = head.headers.get(CONTENT_TYPE);
    Ok(Response {
        status: head.status.as_u16(),
        content_type: content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        body: body.to_bytes(),
        took: started_at.elapsed(),
        retry_after: head.headers.get(RETRY_AFTER).and_then(|value| parse_retry_after(value.to_str().ok()?)),
    })
}

/// The fault of a request without a response.
pub(crate) fn connection_fault(error: &(dyn Error + 'static)) -> Fault {
    let is_connection_refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    match cause::<rustls::Error>(error) {
        Some(rustls::Error::InvalidMessage(_)) => {
            Fault::NotSent("the endpoint does not speak TLS: its URL begins with http://".to_owned())
        }
        Some(error @ rustls::Error::InvalidCertificate(_)) => Fault::NotSent(format!(
            "{error}: if its root certificate is one of your own, name a file that holds it by SSL_CERT_FILE"
        )),
        _ if cause::<io::Error>(error).is_some_and(is_connection_refused) => Fault::ConnectionRefused,
        _ => Fault::Connection(escape(&root(error))),
    }
}

/// The first error of this type in the source chain.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref().or_else(|| match inner {
        Some(inner) => cause(inner),
        None => error.source().and_then(cause),
    })
}

pub(crate) fn connector(url: &Uri) -> Result<HttpsConnector<HttpConnector>, Fault> {
    let mut roots = RootCertStore::empty();
    if url.scheme_str() == Some("https") {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let text = "this system has no root certificates: install the package ca-certificates, or name a \
                        file of them with SSL_CERT_FILE";
            return Err(Fault::NotSent(text.to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::NotSent(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    Ok(HttpsConnector::from((http, tls)))
}
