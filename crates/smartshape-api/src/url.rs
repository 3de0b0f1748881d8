//! URLs: the server's, and those that webhooks point at.

use http::Uri;

use crate::error::Error;

/// Where SmartShape is: scheme, host and port, and a path without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    /// Such as `https://smartshape.io`.
    pub(crate) origin: String,
    /// Such as `smartshape.io:8443`.
    pub(crate) authority: String,
    /// Empty, or such as `/smartshape`.
    pub(crate) path: String,
}

impl BaseUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let uri = checked(url, "base URL")?;
        if uri.query().is_some() {
            return Err(unusable("base URL", "holds a query: end it before the ?"));
        }
        // checked() saw that both are there.
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let scheme = uri.scheme_str().unwrap_or_default();
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { origin: format!("{scheme}://{authority}"), authority, path })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.origin.starts_with("https:")
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

/// Whether a webhook can point there.
pub(crate) fn check_webhook_url(url: &str) -> Result<(), Error> {
    checked(url, "webhook's URL").map(|_| ())
}

/// The URL as it may be shown: without what may let somebody in, that is user name, password, query
/// and fragment.
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

/// The query of a URL with its question mark, where there is one.
pub(crate) fn query_of(url: &str) -> Option<&str> {
    url.find('?').and_then(|mark| url.get(mark..)).filter(|query| query.len() > 1)
}

/// Scheme, host and port of a URL that a server named; its rest may hold tokens.
pub(crate) fn origin_of(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let port = uri.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{}://{}{port}", uri.scheme_str()?, uri.host()?))
}

/// One path segment: whatever could mean something else is escaped.
pub(crate) fn segment(text: &str, what: &str) -> Result<String, Error> {
    if matches!(text, "" | "." | "..") {
        return Err(Error::settings(format!("{text:?} is no {what}")));
    }
    Ok(text.bytes().fold(String::new(), |mut segment, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment += &format!("%{byte:02X}");
        }
        segment
    }))
}

fn checked(url: &str, what: &str) -> Result<Uri, Error> {
    if url.contains('#') {
        return Err(unusable(what, "holds a fragment: end it before the #"));
    }
    let not_a_url = "is not an absolute URL of visible ASCII, such as https://smartshape.io";
    let uri: Uri = url.parse().map_err(|_| unusable(what, not_a_url))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err(unusable(what, "is neither https:// nor http://")),
        None => return Err(unusable(what, not_a_url)),
    }
    // Told from a user name by its place: an @ may stand in a path.
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(unusable(what, "holds a user name or password: leave them out"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(unusable(what, not_a_url));
    }
    // Otherwise the default port would be taken.
    if uri.port_u16().is_none() && uri.authority().map(|authority| authority.as_str()) != uri.host() {
        return Err(unusable(what, "has a port that is none: it goes up to 65535"));
    }
    Ok(uri)
}

fn unusable(what: &str, why: &str) -> Error {
    Error::settings(format!("the {what} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        for (url, shown, path) in [
            ("https://smartshape.io", "https://smartshape.io", ""),
            ("https://smartshape.io/", "https://smartshape.io", ""),
            ("http://[::1]:8043/api//", "http://[::1]:8043/api", "/api"),
            ("http://[::1]", "http://[::1]", ""),
            ("HTTPS://smartshape.io/a@b", "https://smartshape.io/a@b", "/a@b"),
        ] {
            let base = BaseUrl::parse(url).unwrap();
            assert_eq!((base.to_string().as_str(), base.path.as_str()), (shown, path), "{url}");
            assert_eq!(base.is_https(), shown.starts_with("https"), "{url}");
        }
        for (url, why) in [
            ("", "absolute URL"),
            ("smartshape.io", "absolute URL"),
            ("/webhook", "absolute URL"),
            ("https://", "absolute URL"),
            ("https://a b", "absolute URL"),
            ("https://hé", "absolute URL"),
            ("ftp://smartshape.io", "neither https"),
            ("https://smartshape.io:99999", "port"),
            ("https://smartshape.io:", "port"),
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
    fn webhook_urls() {
        check_webhook_url("https://example.com/callback?key=1").unwrap();
        for wrong in ["example.com/callback", "https://ada:x@example.com/", "https://example.com/#a", ""] {
            assert!(check_webhook_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_may_let_somebody_in_is_redacted() {
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
    fn segments_stay_one_segment() {
        assert_eq!(segment("5c6f-9_~.x", "id").unwrap(), "5c6f-9_~.x");
        assert_eq!(segment("../a?b#c%é", "id").unwrap(), "..%2Fa%3Fb%23c%25%C3%A9");
        for wrong in ["", ".", ".."] {
            assert!(segment(wrong, "id").is_err());
        }
    }

    #[test]
    fn of_a_redirect_only_the_origin_is_shown() {
        assert_eq!(
            origin_of("https://ada:x@login.example:8443/a?token=b").as_deref(),
            Some("https://login.example:8443")
        );
        assert_eq!(origin_of("/login"), None);
    }
}
