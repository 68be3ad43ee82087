//! Address of the server: a host and a port.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

/// The server's TCP port when nobody names one.
pub const PORT_DEFAULT: u16 = 13_000;

/// Most addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// A host name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// A name or an address, an IPv6 one without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Not an address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a server (HOST or HOST:PORT, such as muster.example.org or [2001:db8::7]:13000)")]
pub struct AddressError(String);

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = || AddressError(text.to_owned());
        let port = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(refused);
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(refused)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| refused())?;
            match rest.strip_prefix(':') {
                Some(number) => (host, port(number)?),
                None if rest.is_empty() => (host, PORT_DEFAULT),
                None => return Err(refused()),
            }
        } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
            (text, PORT_DEFAULT)
        } else {
            match text.split_once(':') {
                Some((host, number)) => (host, port(number)?),
                None => (text, PORT_DEFAULT),
            }
        };
        let is_allowed = |character: char| character.is_ascii_alphanumeric() || "-_.:%".contains(character);
        if host.is_empty() || host.len() > 255 || !host.chars().all(is_allowed) {
            return Err(refused());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl ServerAddress {
    /// Asks the system's resolver. Blocks for as long as that takes: not for the loop's thread.
    ///
    /// # Errors
    /// In words, when the name has no address or the resolver fails.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let found = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("the name '{}' could not be resolved: {error}", self.host))?;
        let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
        if found.is_empty() {
            return Err(format!("the name '{}' has no address", self.host));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_address_and_what_is_not() {
        let cases = [
            ("muster.example.org", "muster.example.org:13000"),
            ("10.0.0.1:99", "10.0.0.1:99"),
            ("[2001:db8::7]", "[2001:db8::7]:13000"),
            ("[::1]:13", "[::1]:13"),
            ("::1", "[::1]:13000"),
        ];
        for (text, expected) in cases {
            let address: ServerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), expected);
            assert_eq!(expected.parse::<ServerAddress>().unwrap(), address);
        }
        for text in ["", ":13000", "a:", "a:0", "a:70000", "[::1", "[::1]x", "a b", "a:1:2", "https://a"] {
            let error = text.parse::<ServerAddress>().unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn an_address_needs_no_resolver() {
        let address: ServerAddress = "127.0.0.1:13".parse().unwrap();
        assert_eq!(address.resolve().unwrap(), ["127.0.0.1:13".parse().unwrap()]);
    }
}
