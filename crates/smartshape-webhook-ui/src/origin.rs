//! Which requests may change something: those of the console's own pages.

use http::HeaderMap;

/// Whether a request was sent by a page of the console. A browser says so in `Sec-Fetch-Site`; over plain HTTP to other
/// hosts than loopback it does not, and then `Origin` must be the host that the request was sent to, or `public_origin`.
/// A session token would be no defence where cookies know no ports, and a login without cookies has nowhere to keep it.
pub(crate) fn is_own(headers: &HeaderMap, public_origin: Option<&str>) -> bool {
    let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = get("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = get("origin") else { return false };
    if let Some(public) = public_origin {
        return origin == public;
    }
    let host = get("host");
    origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_own_only_if_browser_says_so_or_origin_is_host() {
        for (headers, public, own) in [
            (&[("sec-fetch-site", "same-origin")][..], None, true),
            (&[("sec-fetch-site", "same-site"), ("origin", "http://a:1"), ("host", "a:1")], None, false),
            (&[("sec-fetch-site", "cross-site")], None, false),
            (&[("sec-fetch-site", "none")], None, false),
            (&[("origin", "http://10.0.0.1:80"), ("host", "10.0.0.1:80")], None, true),
            (&[("origin", "http://10.0.0.1:81"), ("host", "10.0.0.1:80")], None, false),
            (&[("origin", "null"), ("host", "10.0.0.1")], None, false),
            (&[("host", "10.0.0.1")], None, false),
            (&[("origin", "https://ops.example"), ("host", "backend")], Some("https://ops.example"), true),
            (&[("origin", "http://backend"), ("host", "backend")], Some("https://ops.example"), false),
            (&[], None, false),
        ] {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            assert_eq!(is_own(&headers, public), own, "{headers:?}");
        }
    }
}
