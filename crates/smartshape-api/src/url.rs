//! The base URL, and the URLs of webhooks.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, ParseError, Url};

use crate::error::Error;

/// All but the unreserved characters of RFC 3986.
const ESCAPED_IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The base URL: scheme, host, port and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseUrl(Url);

impl BaseUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let url = checked(url, "API URL")?;
        if url.query().is_some() {
            return Err(unusable("API URL", "holds a query: end it before the ?"));
        }
        Ok(Self(url))
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    pub(crate) fn is_local(&self) -> bool {
        is_loopback(&self.0)
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

/// Whether the URL's host is `localhost` or a loopback address.
///
/// ```
/// use smartshape_api::is_loopback_url;
///
/// assert!(is_loopback_url("http://localhost:8043/") && is_loopback_url("http://[::1]:8043"));
/// assert!(!is_loopback_url("http://localhost.example.com/") && !is_loopback_url("localhost"));
/// ```
#[must_use]
pub fn is_loopback_url(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| is_loopback(&url))
}

/// Rejects URLs that a webhook cannot have.
pub(crate) fn check_webhook_url(url: &str) -> Result<(), Error> {
    checked(url, "webhook's URL").map(|_| ())
}

/// Redacts the parts of a URL that may hold credentials: user name, password, query and fragment.
///
/// ```
/// let url = "https://ada:pass@example.com/callback?key=1";
/// assert_eq!(smartshape_api::redact_url(url), "https://redacted@example.com/callback?redacted");
/// assert_eq!(smartshape_api::redact_url("https://example.com/callback"), "https://example.com/callback");
/// ```
#[must_use]
pub fn redact_url(url: &str) -> String {
    let (shown, hidden) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let scheme = shown.find("://").map_or(0, |colon| colon + 1);
    let authority = scheme + if shown[scheme..].starts_with("//") { 2 } else { 0 };
    let (scheme, rest) = shown.split_at(authority);
    let (authority, path) = rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len()));
    let host =
        authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("redacted@{host}"));
    let sign = hidden.chars().next().map_or(String::new(), |sign| format!("{sign}redacted"));
    format!("{scheme}{host}{path}{sign}")
}

/// The query of a URL including the question mark, if there is one.
pub(crate) fn query_with_mark(url: &str) -> Option<&str> {
    url.find('?').and_then(|mark| url.get(mark..)).filter(|query| query.len() > 1)
}

/// Scheme, host and port of a URL from the server; the rest may hold tokens.
pub(crate) fn origin(url: &str) -> Option<String> {
    let origin = Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// Percent-encodes a path segment.
pub(crate) fn path_segment(text: &str, what: &str) -> Result<String, Error> {
    if matches!(text, "" | "." | "..") {
        return Err(Error::settings(format!("{text:?} is no {what}")));
    }
    Ok(utf8_percent_encode(text, ESCAPED_IN_SEGMENT).to_string())
}

fn checked(url: &str, what: &str) -> Result<Url, Error> {
    let not_a_url = "is not an absolute URL of visible ASCII, such as https://smartshape.io";
    // Other parsers would not repair the URL the same way.
    let is_written_out =
        url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') && url.contains("://");
    let parsed = match Url::parse(url) {
        Err(ParseError::InvalidPort) => {
            return Err(unusable(what, "has an invalid port: ports go up to 65535"));
        }
        Ok(parsed) if is_written_out => parsed,
        _ => return Err(unusable(what, not_a_url)),
    };
    if parsed.fragment().is_some() {
        return Err(unusable(what, "holds a fragment: end it before the #"));
    }
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(unusable(what, "is neither https:// nor http://"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(unusable(what, "holds a user name or password: leave them out"));
    }
    Ok(parsed)
}

fn unusable(what: &str, why: &str) -> Error {
    Error::settings(format!("the {what} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        for (url, shown) in [
            ("https://smartshape.io", "https://smartshape.io"),
            ("https://smartshape.io/", "https://smartshape.io"),
            ("https://smartshape.io:", "https://smartshape.io"),
            ("http://[::1]:8043/api//", "http://[::1]:8043/api"),
            ("http://[::1]", "http://[::1]"),
            ("HTTPS://smartshape.io/a@b", "https://smartshape.io/a@b"),
        ] {
            let base = BaseUrl::parse(url).unwrap();
            assert_eq!(base.to_string(), shown, "{url}");
            assert_eq!(base.is_https(), shown.starts_with("https"), "{url}");
        }
        for (url, why) in [
            ("", "absolute URL"),
            ("smartshape.io", "absolute URL"),
            ("/webhook", "absolute URL"),
            ("https://", "absolute URL"),
            ("https://a b", "absolute URL"),
            ("https:smartshape.io", "absolute URL"),
            (" https://smartshape.io", "absolute URL"),
            ("https:\\\\smartshape.io", "absolute URL"),
            ("https://hé", "absolute URL"),
            ("ftp://smartshape.io", "neither https"),
            ("https://smartshape.io:99999", "port"),
            ("https://smartshape.io:a", "port"),
            ("https://[::1", "absolute URL"),
            ("https://ada:hunter2@smartshape.io", "leave them out"),
            ("https://hunter2@smartshape.io", "leave them out"),
            ("https://smartshape.io/?token=hunter2", "query"),
            ("https://smartshape.io/#hunter2", "fragment"),
        ] {
            let error = BaseUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{url:?}: {error}");
        }
    }

    #[test]
    fn loopback_urls() {
        for url in
            ["http://localhost", "http://localhost:1/a", "http://127.8.0.1/a", "http://[::ffff:127.0.0.1]/"]
        {
            assert!(is_loopback_url(url), "{url}");
        }
        for url in [
            "http://127.0.0.1.example.com",
            "http://notlocalhost",
            // Its address is asked of the network.
            "http://api.localhost:1/",
            "http://10.0.0.1",
            "http://127.0.0.1@example.com",
        ] {
            assert!(!is_loopback_url(url), "{url}");
        }
    }

    #[test]
    fn webhook_urls() {
        check_webhook_url("https://example.com/callback?key=1").unwrap();
        for wrong in ["example.com/callback", "https://ada:x@example.com/", "https://example.com/#a", ""] {
            assert!(check_webhook_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn credentials_in_urls_are_redacted() {
        for (url, shown) in [
            ("https://a/b@c", "https://a/b@c"),
            ("https://ada:x@y@a:1/b?c#d", "https://redacted@a:1/b?redacted"),
            ("https://a/#b?c", "https://a/#redacted"),
            ("https://ada@a", "https://redacted@a"),
            ("https://a?b=/@", "https://a?redacted"),
            ("//ada:x@a/", "//redacted@a/"),
            ("ada:x@a/b", "redacted@a/b"),
            ("?é", "?redacted"),
            ("", ""),
        ] {
            assert_eq!(redact_url(url), shown, "{url}");
        }
    }

    #[test]
    fn path_segments_are_percent_encoded() {
        assert_eq!(path_segment("5c6f-9_~.x", "id").unwrap(), "5c6f-9_~.x");
        assert_eq!(path_segment("../a?b#c%é", "id").unwrap(), "..%2Fa%3Fb%23c%25%C3%A9");
        for wrong in ["", ".", ".."] {
            assert!(path_segment(wrong, "id").is_err());
        }
    }

    #[test]
    fn origin_of_a_redirect_hides_the_rest() {
        assert_eq!(
            origin("https://ada:x@login.example:8443/a?token=b").as_deref(),
            Some("https://login.example:8443")
        );
        assert_eq!(origin("/login"), None);
    }
}
