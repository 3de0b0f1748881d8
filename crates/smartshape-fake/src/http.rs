//! One POST over one connection, by plain HTTP/1.1.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::response::Fault;

/// Maximum length of a response body, of which SmartShape expects a few bytes.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
}

/// A resolved URL.
pub(crate) struct Target {
    address: SocketAddr,
    authority: String,
    path: String,
}

impl Target {
    /// Resolves `url`, which must be `http://` and have a loopback address unless `allow_remote` is set.
    pub(crate) async fn resolve(url: &str, allow_remote: bool) -> Result<Self, Fault> {
        // The part before an @ may be a password.
        let shown = if url.contains('@') { "the URL" } else { url };
        let not_sent = |why: &str| Fault::NotSent(format!("{shown}: {why}"));
        let uri: Uri = url.parse().map_err(|_| not_sent("not a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(not_sent("only http:// is spoken here"));
        }
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return Err(not_sent("no host"));
        };
        if authority.as_str().contains('@') {
            return Err(not_sent("it must not hold a user name or password"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(80);
        let mut addresses = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| Fault::Connection(error.to_string()))?;
        let Some(address) = addresses.find(|address| allow_remote || address.ip().is_loopback()) else {
            return Err(not_sent(
                "not on this machine: allow it with SenderSettings::allow_remote (--allow-remote)",
            ));
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { address, authority: authority.to_string(), path })
    }
}

pub(crate) async fn post(target: &Target, token: &str, body: Bytes) -> Result<Response, Fault> {
    let failed = |error: &dyn std::fmt::Display| Fault::Connection(error.to_string());
    let stream = TcpStream::connect(target.address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => Fault::ConnectionRefused,
        _ => failed(&error),
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // Dropped at the end, which closes the connection.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::post(&target.path)
        .header(HOST, &target.authority)
        .header(CONTENT_TYPE, "application/json")
        .header("x-smartshape-token", token)
        .header("x-smartshape-fake", "1")
        .body(Full::new(body))
        .map_err(|error| Fault::NotSent(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { Fault::BodyTooLarge(MAX_RESPONSE_BYTES) } else { failed(&error) }
    })?;
    Ok(Response { status, content_type, body: body.to_bytes() })
}
