//! Which requests may change something: those of the console's own pages.

use http::HeaderMap;

/// Whether a request was sent by a page of the console. A browser says so in `Sec-Fetch-Site`; over plain HTTP to other
/// hosts than loopback it does not, and then `Origin` must be the host that the request was sent to, or
/// `public_origin`. A session token would be no defence where cookies know no ports, and a login without cookies has
/// nowhere to keep it.
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
