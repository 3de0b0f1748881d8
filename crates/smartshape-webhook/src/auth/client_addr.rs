//! The client's address, by which token verification is shared fairly.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address of a client. While many unknown tokens wait to be verified, each address gets an equal share of the
/// workers: forgeries from one address do not keep out a sender at another.
///
/// Only the first 64 bits of an IPv6 address count, since the holder of one address usually has all that share them.
/// The adapters take a `ClientAddr` from the request's extensions; their documentation says how it gets there. Behind a
/// proxy it must come from the proxy's header, or all clients share one address. Trust only your own proxy: a client
/// that can choose its address gets as many shares as it makes addresses.
///
/// ```
/// use std::net::IpAddr;
/// use smartshape_webhook::{RequestHead, ClientAddr};
///
/// let client = |address: &str| address.parse::<IpAddr>().map(ClientAddr::from);
/// assert_ne!(client("192.0.2.1")?, client("192.0.2.2")?);
/// assert_eq!(client("2001:db8::1")?, client("2001:db8::2")?);
/// assert_eq!(client("::ffff:192.0.2.1")?, client("192.0.2.1")?);
///
/// let headers: [(&str, &[u8]); 1] = [("content-length", b"12")];
/// let head = RequestHead::from_parts("POST", headers).with_client_addr(client("192.0.2.1")?);
/// assert_eq!(head.declared_length(), Some(12));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientAddr(IpAddr);

impl From<IpAddr> for ClientAddr {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        })
    }
}

impl From<SocketAddr> for ClientAddr {
    fn from(address: SocketAddr) -> Self {
        address.ip().into()
    }
}
