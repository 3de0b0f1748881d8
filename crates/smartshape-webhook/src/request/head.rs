//! The request's head, reduced to what the receiver needs.

use crate::auth::client_addr::ClientAddr;
use crate::auth::token::{TOKEN_HEADER, Token, TokenError};

/// Method and headers of a request, reduced to what the receiver needs.
///
/// With `http` 1.x, convert it from the request's `Parts`; with other types, use [`from_parts`](Self::from_parts).
/// Header names are compared without regard to case.
///
/// ```
/// use smartshape_webhook::RequestHead;
///
/// let headers: [(&str, &[u8]); 1] = [("Content-Length", b"12")];
/// let head = RequestHead::from_parts("POST", headers);
/// assert_eq!(head.declared_length(), Some(12));
/// ```
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub(crate) is_post: bool,
    pub(crate) length: Length,
    pub(crate) token: TokenField,
    pub(crate) client_addr: Option<ClientAddr>,
    /// A content coding other than `identity`. Middleware may have decoded the body already.
    pub(crate) content_coding: Option<Box<str>>,
    /// A charset in the `Content-Type` other than UTF-8.
    pub(crate) foreign_charset: Option<Box<str>>,
    traceparent: Option<Box<str>>,
    has_body: bool,
    expects_continue: bool,
    is_http2: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Absent,
    Declared(u64),
    Invalid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenField {
    Missing,
    Repeated,
    Malformed(TokenError),
    One(Token),
}

impl RequestHead {
    /// Reads method and headers. Add [`with_http2`](Self::with_http2) and [`with_client_addr`](Self::with_client_addr).
    pub fn from_parts<'h>(method: &str, headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) -> Self {
        let mut token: Option<&[u8]> = None;
        let mut repeated = false;
        let mut length = Length::Absent;
        let (mut transfer_encoding, mut expects_continue) = (false, false);
        let (mut content_coding, mut foreign_charset, mut traceparent) = (None, None, None);
        for (name, value) in headers {
            if is(name, TOKEN_HEADER) {
                // A proxy may merge repeated fields into one, `t, t`. No token contains a comma.
                for value in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    repeated |= token.is_some_and(|first| first != value);
                    token = Some(value);
                }
            } else if is(name, "content-length") {
                let read = read_length(value);
                length = if length == Length::Absent || length == read { read } else { Length::Invalid };
            } else if is(name, "transfer-encoding") {
                transfer_encoding = true;
            } else if is(name, "expect") {
                expects_continue = true;
            } else if is(name, "content-encoding") {
                content_coding = content_coding.or(read_coding(value));
            } else if is(name, "content-type") {
                foreign_charset = read_foreign_charset(value);
            } else if is(name, "traceparent") {
                traceparent = read_traceparent(value);
            }
        }
        let token = match token {
            _ if repeated => TokenField::Repeated,
            None => TokenField::Missing,
            Some(value) => Token::parse(value).map_or_else(TokenField::Malformed, TokenField::One),
        };
        Self {
            is_post: method == "POST",
            length,
            token,
            client_addr: None,
            content_coding,
            foreign_charset,
            traceparent,
            has_body: transfer_encoding || !matches!(length, Length::Absent | Length::Declared(0)),
            expects_continue,
            is_http2: false,
        }
    }

    /// Sets whether the request came over HTTP/2 or later. Defaults to false: a response that leaves part of the body
    /// unread then says `Connection: close`, which HTTP/2 forbids and does not need.
    #[must_use]
    pub fn with_http2(self, is_http2: bool) -> Self {
        Self { is_http2, ..self }
    }

    /// Whether the request came over HTTP/2 or later.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// Sets the client's address, for fair queueing of token verification. Requests without one share a queue.
    #[must_use]
    pub fn with_client_addr(self, client_addr: impl Into<Option<ClientAddr>>) -> Self {
        Self { client_addr: client_addr.into(), ..self }
    }

    /// The declared length of the body in bytes.
    #[must_use]
    pub fn declared_length(&self) -> Option<u64> {
        match self.length {
            Length::Declared(bytes) => Some(bytes),
            Length::Absent | Length::Invalid => None,
        }
    }

    /// Whether the connection must close if the body is left unread: the next bytes on it belong to the body.
    pub(crate) fn needs_body_read(&self) -> bool {
        self.has_body && !self.is_http2
    }

    /// Whether a rejected body may be discarded to keep the connection. Polling a body whose client waits for
    /// `100 Continue` would ask the client to send it.
    pub(crate) fn may_discard_body(&self) -> bool {
        !self.expects_continue
    }

    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }
}

/// Takes the client's address from an extension of type [`ClientAddr`].
impl From<&http::request::Parts> for RequestHead {
    fn from(parts: &http::request::Parts) -> Self {
        let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        Self::from_parts(parts.method.as_str(), headers)
            .with_http2(parts.version >= http::Version::HTTP_2)
            .with_client_addr(parts.extensions.get::<ClientAddr>().copied())
    }
}

/// Whether a header has this name, which is in lower case. Most frameworks hand names over in lower case, and comparing
/// them exactly is faster.
fn is(name: &str, lower: &str) -> bool {
    name == lower || name.eq_ignore_ascii_case(lower)
}

fn read_length(value: &[u8]) -> Length {
    let digits = value.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        number.checked_mul(10)?.checked_add(digit.into())
    });
    digits.filter(|_| !value.is_empty()).map_or(Length::Invalid, Length::Declared)
}

fn read_coding(value: &[u8]) -> Option<Box<str>> {
    let value = value.trim_ascii();
    let coded = !value.is_empty() && !value.eq_ignore_ascii_case(b"identity");
    coded.then(|| shorten(&String::from_utf8_lossy(value)))
}

fn read_foreign_charset(content_type: &[u8]) -> Option<Box<str>> {
    let parameters = content_type.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii);
    let charset = parameters.into_iter().find_map(|parameter| {
        let (name, value) = parameter.split_at_checked("charset=".len())?;
        name.eq_ignore_ascii_case(b"charset=").then(|| String::from_utf8_lossy(value))
    })?;
    let charset = charset.trim_matches('"');
    let utf8 = ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known));
    (!utf8).then(|| shorten(charset))
}

/// Maximum length of text that a sender chooses and a log or `Debug` may show. The usual codings and charsets fit. A
/// token has a salt of 22 characters before its digest: where a sender repeats it in another header, no digest is shown
/// by which guesses of the secret could be verified.
const MAX_CHOSEN: usize = 22;

fn shorten(name: &str) -> Box<str> {
    name.chars().take(MAX_CHOSEN).collect()
}

/// W3C trace context: in version 00, four hexadecimal numbers of 2, 32, 16 and 2 digits, with hyphens between them.
/// Later versions may append a hyphen and more, of which [`MAX_CHOSEN`] characters are accepted.
fn read_traceparent(value: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(value).ok()?;
    let plain = (55..=56 + MAX_CHOSEN).contains(&text.len())
        && text.bytes().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 | 55 => byte == b'-',
            0..55 => byte.is_ascii_hexdigit(),
            _ => byte.is_ascii_hexdigit() || byte == b'-',
        });
    plain.then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &[u8] = b"$2b$10$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG";
    const OTHER: &[u8] = b"$2a$10$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG";

    fn token(headers: &[(&str, &[u8])]) -> TokenField {
        RequestHead::from_parts("POST", headers.iter().copied()).token
    }

    #[test]
    fn repeated_token_must_be_equal() {
        let one = TokenField::One(Token::parse(TOKEN).unwrap());
        assert_eq!(token(&[("x-smartshape-token", TOKEN)]), one);
        assert_eq!(token(&[("X-SMARTSHAPE-Token", TOKEN), ("x-smartshape-token", TOKEN)]), one);
        assert_eq!(
            token(&[("x-smartshape-token", TOKEN), ("x-smartshape-token", OTHER)]),
            TokenField::Repeated
        );
        assert_eq!(
            token(&[("x-smartshape-token", b"\xff"), ("x-smartshape-token", TOKEN)]),
            TokenField::Repeated
        );
        assert_eq!(token(&[("x-smartshape-token", b"")]), TokenField::Malformed(TokenError::Length));
        assert_eq!(token(&[("authorization", TOKEN)]), TokenField::Missing);
    }

    #[test]
    fn equal_tokens_that_a_proxy_merged_are_one() {
        let one = TokenField::One(Token::parse(TOKEN).unwrap());
        let merged = |parts: &[&[u8]], comma: &[u8]| token(&[("x-smartshape-token", &parts.join(comma))]);
        for comma in [&b","[..], b", ", b" ,\t"] {
            assert_eq!(merged(&[TOKEN, TOKEN], comma), one);
            assert_eq!(merged(&[TOKEN, TOKEN, TOKEN], comma), one);
            assert_eq!(merged(&[TOKEN, OTHER], comma), TokenField::Repeated);
            assert_eq!(merged(&[TOKEN, b""], comma), TokenField::Repeated);
        }
    }

    #[test]
    fn only_a_foreign_charset_is_named() {
        let charset = |value: &'static str| {
            RequestHead::from_parts("POST", [("content-type", value.as_bytes())]).foreign_charset
        };
        for known in [
            "application/json",
            "application/json; charset=utf-8",
            "application/json;Charset=\"UTF8\"",
            "a/b;c",
        ] {
            assert_eq!(charset(known), None, "{known}");
        }
        assert_eq!(charset("application/json; a=b; charset=UTF-16LE").as_deref(), Some("UTF-16LE"));
        assert_eq!(charset("application/json;charset=\"latin1\"").as_deref(), Some("latin1"));
    }

    #[test]
    fn content_length_must_be_one_number() {
        let length =
            |headers: &[(&str, &[u8])]| RequestHead::from_parts("POST", headers.iter().copied()).length;
        assert_eq!(length(&[]), Length::Absent);
        assert_eq!(length(&[("content-length", b"7"), ("Content-Length", b"7")]), Length::Declared(7));
        for bad in [&b""[..], b"-1", b"+1", b"1 ", b"0x1", b"99999999999999999999", b"\xff"] {
            assert_eq!(length(&[("content-length", bad)]), Length::Invalid, "{bad:?}");
        }
        assert_eq!(length(&[("content-length", b"7"), ("content-length", b"8")]), Length::Invalid);
    }

    #[test]
    fn trace_context_must_be_plain() {
        let good = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = |value: &[u8]| {
            RequestHead::from_parts("POST", [("traceparent", value)]).traceparent().map(str::to_owned)
        };
        assert_eq!(read(good).as_deref(), std::str::from_utf8(good).ok());
        assert_eq!(read(b"00-\x1b[31m"), None);
        assert_eq!(read(&[b'a'; 500]), None);
        assert_eq!(read(&[b'a'; 55]), None);
        let later = [&good[..], b"-0a"].concat();
        assert_eq!(read(&later).as_deref(), std::str::from_utf8(&later).ok());
        assert_eq!(read(&[&good[..], b"0a"].concat()), None);
    }

    #[test]
    fn token_repeated_in_another_header_is_not_shown() {
        let hexadecimal = [&b"$2b$10$"[..], &[b'e'; 53]].concat();
        let traceparent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-";
        for (name, before) in [
            ("content-encoding", &b""[..]),
            ("content-encoding", b"$2b$10$"),
            ("content-type", b"application/json; charset="),
            ("traceparent", b"00-"),
            ("traceparent", traceparent),
        ] {
            let (salt_and_digest, salt_and_more) = (&hexadecimal[7..], &hexadecimal[7..30]);
            let value = [before, salt_and_digest].concat();
            let head =
                RequestHead::from_parts("POST", [("x-smartshape-token", &*hexadecimal), (name, &value)]);
            assert!(matches!(head.token, TokenField::One(_)));
            let shown = format!("{head:?}");
            assert!(!shown.contains(std::str::from_utf8(salt_and_more).unwrap()), "{name}: {shown}");
        }
    }
}
