//! Who may see the console, and what each visitor may do.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode, header};
use sha2::{Digest as _, Sha256};
use smartshape_webhook::ClientAddr;

use crate::deliveries::lock;
use crate::html;
use crate::response::{html_page, with_header};

/// Wrong passwords of a client within [`FAILURE_PERIOD`] after which its passwords are not checked any more.
const MAX_FAILURES: u32 = 5;
/// Wrong passwords of all clients together within [`FAILURE_PERIOD`] after which no password is checked.
const MAX_FAILURES_IN_ALL: u32 = 100;
const FAILURE_PERIOD: Duration = Duration::from_secs(60);
const KEY_COOKIE: &str = "smartshape_ui";
/// Another name: a console with a password beside one with a key, on one origin, would log its visitors out.
const PASSWORD_COOKIE: &str = "smartshape_ui_login";
const CHALLENGE: &str = "Basic realm=\"SmartShape inbox\", charset=\"UTF-8\"";

/// What a visitor may do. Each may do what those before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Nobody,
    Observer,
    Reader,
    Operator,
    Owner,
}

/// Somebody who asks for a page, with a name for the log and for others to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    pub(crate) role: Role,
    pub(crate) name: String,
}

impl Visitor {
    /// May see nothing.
    #[must_use]
    pub fn nobody() -> Self {
        Self { role: Role::Nobody, name: String::new() }
    }

    /// May see numbers, names of events, files and times: no body, owner or error.
    #[must_use]
    pub fn observer(name: &str) -> Self {
        Self { role: Role::Observer, name: name.to_owned() }
    }

    /// May see everything and change nothing.
    #[must_use]
    pub fn reader(name: &str) -> Self {
        Self { role: Role::Reader, name: name.to_owned() }
    }

    /// May also replay events, pause and resume.
    #[must_use]
    pub fn operator(name: &str) -> Self {
        Self { role: Role::Operator, name: name.to_owned() }
    }

    /// May also purge events.
    #[must_use]
    pub fn owner(name: &str) -> Self {
        Self { role: Role::Owner, name: name.to_owned() }
    }
}

/// Who may see the console. There is no default: an inbox holds personal data.
///
/// ```
/// use smartshape_webhook_ui::{Access, Visitor};
///
/// // The application's own login, which an earlier layer has put into the request's extensions.
/// #[derive(Clone)]
/// struct Staff { name: String, may_replay: bool }
/// let own_login = Access::decide(|request| match request.extensions.get::<Staff>() {
///     Some(staff) if staff.may_replay => Visitor::operator(&staff.name),
///     Some(staff) => Visitor::reader(&staff.name),
///     None => Visitor::nobody(),
/// });
/// let password = Access::password("ops", "a long password", Visitor::owner("ops"))?;
/// assert!(Access::password("ops", "short", Visitor::owner("ops")).is_err());
/// # let _ = (own_login, password);
/// # Ok::<(), smartshape_webhook_ui::AccessError>(())
/// ```
#[derive(Clone)]
pub struct Access(Arc<Method>);

enum Method {
    Key {
        key: [u8; 32],
        cookie: String,
        visitor: Visitor,
        is_used: AtomicBool,
    },
    /// `cookie` is what a browser has that has logged in before.
    Password {
        credentials: [u8; 32],
        cookie: String,
        visitor: Visitor,
        failures: Mutex<Failures>,
    },
    Decide(Box<dyn Fn(&Parts) -> Visitor + Send + Sync>),
    ExternalAuth(Visitor),
}

/// Wrong passwords in a period that starts with the first of them.
#[derive(Default)]
struct Failures {
    since: Option<Instant>,
    total: u32,
    by_client: HashMap<Option<ClientAddr>, u32>,
}

impl Failures {
    fn limit_reached(&mut self, client: Option<ClientAddr>) -> bool {
        if self.since.is_some_and(|since| since.elapsed() >= FAILURE_PERIOD) {
            *self = Self::default();
        }
        let of_client = self.by_client.get(&client).copied().unwrap_or(0);
        of_client >= MAX_FAILURES || self.total >= MAX_FAILURES_IN_ALL
    }

    fn add(&mut self, client: Option<ClientAddr>) {
        self.since.get_or_insert_with(Instant::now);
        self.total += 1;
        *self.by_client.entry(client).or_default() += 1;
    }
}

/// What a request's credentials lead to.
pub(crate) enum Admission {
    /// With the cookie of a browser's first visit.
    Visitor(Visitor, Option<String>),
    /// The key of the URL is replaced by a cookie, or nobody is admitted.
    Response(Response<Bytes>),
}

impl Access {
    /// Admits whoever opens the console with `?key=KEY` in its URL, once: the browser then has a cookie, and the URL
    /// works in no other browser. Suits a console on one's own machine. The key must have at least 16 characters and be
    /// random.
    ///
    /// # Errors
    ///
    /// [`AccessError`] when the key is too short, or the system has no random numbers.
    pub fn key(key: &str, visitor: Visitor) -> Result<Self, AccessError> {
        long_enough("key", key, 16)?;
        let cookie = random_cookie()?;
        Ok(Self(Arc::new(Method::Key { key: hash(key), cookie, visitor, is_used: AtomicBool::new(false) })))
    }

    /// Admits whoever knows the user and the password (HTTP's Basic authentication; use TLS). After 5 wrong passwords
    /// of a client within a minute, or 100 of all clients, all are rejected until the minute is over; a browser that
    /// has logged in before goes on. Clients are told apart by the [`ClientAddr`] in the request's extensions, and
    /// without one count as one client. The password must have at least 12 characters.
    ///
    /// # Errors
    ///
    /// [`AccessError`] when the password is too short, the user has a colon, or the system has no random numbers.
    pub fn password(user: &str, password: &str, visitor: Visitor) -> Result<Self, AccessError> {
        long_enough("password", password, 12)?;
        if user.contains(':') {
            return Err(AccessError("the user of the console must not have a colon".to_owned()));
        }
        let credentials = hash(&format!("{user}:{password}"));
        let (cookie, failures) = (random_cookie()?, Mutex::default());
        Ok(Self(Arc::new(Method::Password { credentials, cookie, visitor, failures })))
    }

    /// Decides for each request with your own function, such as by the application's own login.
    #[must_use]
    pub fn decide(decide: impl Fn(&Parts) -> Visitor + Send + Sync + 'static) -> Self {
        Self(Arc::new(Method::Decide(Box::new(decide))))
    }

    /// Admits everybody as `visitor`, because something in front of the console has checked them. `check` names it,
    /// such as "oauth2-proxy" or "VPN"; the log has the name. Where only the network is checked, as by a VPN, set
    /// [`Ui::hosts`](crate::Ui::hosts) too: otherwise a web page can point a name of its own to the console (DNS
    /// rebinding), and a visitor's browser lets that page read it.
    #[must_use]
    pub fn external_auth(check: &str, visitor: Visitor) -> Self {
        tracing::warn!(check, visitor = %visitor.name, "the console itself checks nobody: that is left to the named check");
        Self(Arc::new(Method::ExternalAuth(visitor)))
    }

    pub(crate) fn admit(&self, parts: &Parts, key: Option<&str>) -> Admission {
        match &*self.0 {
            Method::Key { key: expected, cookie, visitor, is_used } => {
                let name = cookie_name(KEY_COOKIE, &parts.headers);
                let has_cookie = has_cookie(&parts.headers, &name, cookie);
                match key {
                    None if has_cookie => Admission::Visitor(visitor.clone(), None),
                    Some(key)
                        if hash(key) == *expected
                            && (has_cookie || !is_used.swap(true, Ordering::SeqCst)) =>
                    {
                        let response = html_page(StatusCode::OK, html::entered());
                        let cookie = set_cookie(&name, cookie);
                        Admission::Response(with_header(response, header::SET_COOKIE, &cookie))
                    }
                    _ => Admission::Response(rejected(
                        "The link with the key opens this console, in the first browser that opens the link. For \
                         another browser, start the console again.",
                    )),
                }
            }
            Method::Password { credentials, cookie, visitor, failures } => {
                let rejected = || {
                    let response = rejected("Reload the page to enter user and password.");
                    Admission::Response(with_header(response, header::WWW_AUTHENTICATE, CHALLENGE))
                };
                let Some(given) = basic(&parts.headers) else { return rejected() };
                let name = cookie_name(PASSWORD_COOKIE, &parts.headers);
                let has_cookie = has_cookie(&parts.headers, &name, cookie);
                let client = parts.extensions.get::<ClientAddr>().copied();
                let mut failures = lock(failures);
                if !has_cookie && failures.limit_reached(client) {
                    let remedy = "There were too many wrong passwords. Wait a minute, and reload the page.";
                    let response = html_page(StatusCode::TOO_MANY_REQUESTS, html::rejected(remedy));
                    return Admission::Response(with_header(response, header::RETRY_AFTER, "60"));
                }
                // Both are hashes, so that the time of the comparison tells nothing of the password.
                if hash(&given) == *credentials {
                    let new_cookie = (!has_cookie).then(|| set_cookie(&name, cookie));
                    return Admission::Visitor(visitor.clone(), new_cookie);
                }
                failures.add(client);
                tracing::warn!("a wrong user or password was given to the console");
                rejected()
            }
            Method::Decide(decide) => match decide(parts) {
                visitor if visitor.role == Role::Nobody => Admission::Response(rejected(
                    "Log in to the application first, as somebody who may see this console.",
                )),
                visitor => Admission::Visitor(visitor, None),
            },
            Method::ExternalAuth(visitor) => Admission::Visitor(visitor.clone(), None),
        }
    }
}

/// Without keys and passwords.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0 {
            Method::Key { .. } => "Access::key",
            Method::Password { .. } => "Access::password",
            Method::Decide(_) => "Access::decide",
            Method::ExternalAuth(_) => "Access::external_auth",
        })
    }
}

/// A key or a password that cannot be used.
pub struct AccessError(String);

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Prints the same text as `Display`, because a `main` that returns an error shows it with `Debug`.
impl fmt::Debug for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for AccessError {}

fn rejected(remedy: &str) -> Response<Bytes> {
    html_page(StatusCode::UNAUTHORIZED, html::rejected(remedy))
}

fn long_enough(kind: &str, text: &str, characters: usize) -> Result<(), AccessError> {
    if text.chars().count() >= characters {
        return Ok(());
    }
    Err(AccessError(format!(
        "the console's {kind} has fewer than {characters} characters: choose a longer one"
    )))
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn random_cookie() -> Result<String, AccessError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| AccessError(format!("no random numbers: {error}")))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn set_cookie(name: &str, value: &str) -> String {
    format!("{name}={value}; HttpOnly; SameSite=Strict")
}

/// Cookies know no ports, so the name has the port: two consoles of a machine do not overwrite each other's cookie.
fn cookie_name(name: &str, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').map(|(_, port)| port).and_then(|port| port.parse::<u16>().ok());
    port.map_or_else(|| name.to_owned(), |port| format!("{name}_{port}"))
}

fn has_cookie(headers: &HeaderMap, own: &str, expected: &str) -> bool {
    let expected = hash(expected);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .any(|(name, value)| name == own && hash(value) == expected)
}

fn basic(headers: &HeaderMap) -> Option<String> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()
}
