//! Addresses of the server: hosts and ports, in the order in which they are tried.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::thread::{Builder, scope};

/// The server's TCP port when nobody names one.
pub const PORT_DEFAULT: u16 = 13_000;

/// Most hosts of a list.
pub const HOSTS_MAX: usize = 8;

/// Most addresses of one name that are tried.
const ADDRESSES_OF_HOST_MAX: usize = 8;

/// Most addresses that are tried, of all hosts.
pub const ADDRESSES_MAX: usize = 16;

/// Stack of a thread that asks the resolver.
const STACK_BYTES: usize = 256 * 1024;

/// A host name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHost {
    /// A name or an address, an IPv6 one without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// The server's hosts, at least one: the machine that serves, and those that stand by for it. They all have
/// the server's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress(Vec<ServerHost>);

/// Not an address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// This is no host.
    #[error(
        "'{0}' is not a server (HOST or HOST:PORT, such as muster.example.org or [2001:db8::7]:13000; several with commas between them)"
    )]
    Host(String),
    /// More hosts than [`HOSTS_MAX`].
    #[error("{0} servers are too many: {HOSTS_MAX} at most")]
    TooMany(usize),
}

impl FromStr for ServerHost {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = || AddressError::Host(text.to_owned());
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

impl fmt::Display for ServerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl ServerHost {
    /// Whether there is nothing to resolve.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let found = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("the name '{}' could not be resolved: {error}", self.host))?;
        let found: Vec<SocketAddr> = found.take(ADDRESSES_OF_HOST_MAX).collect();
        if found.is_empty() {
            return Err(format!("the name '{}' has no address", self.host));
        }
        Ok(found)
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    /// `HOST[:PORT][,HOST[:PORT]…]`. One that is named twice counts where it is named first.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let hosts: Vec<ServerHost> =
            text.split(',').map(|host| host.trim().parse()).collect::<Result<_, _>>()?;
        match hosts.len() {
            1..=HOSTS_MAX => Ok(Self(Vec::new()).followed_by(&Self(hosts))),
            count => Err(AddressError::TooMany(count)),
        }
    }
}

impl From<SocketAddr> for ServerAddress {
    fn from(address: SocketAddr) -> Self {
        Self(vec![ServerHost { host: address.ip().to_string(), port: address.port() }])
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, host) in self.0.iter().enumerate() {
            write!(f, "{}{host}", if place == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl ServerAddress {
    /// The hosts, in the order in which they are tried.
    #[must_use]
    pub fn hosts(&self) -> &[ServerHost] {
        &self.0
    }

    /// The ports, for people: `13000`, `13000 and 443`.
    #[must_use]
    pub fn ports(&self) -> String {
        let mut ports: Vec<u16> = self.0.iter().map(|host| host.port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    }

    /// These hosts, and behind them those of `other` that are not among them.
    #[must_use]
    pub fn followed_by(mut self, other: &Self) -> Self {
        for host in &other.0 {
            if !self.0.contains(host) {
                self.0.push(host.clone());
            }
        }
        self
    }

    /// Asks the system's resolver for each host, all at a time. Blocks for as long as the slowest answer
    /// takes: not for the loop's thread.
    #[must_use]
    pub fn resolve_each(&self) -> Vec<Result<Vec<SocketAddr>, String>> {
        if let [host] = self.hosts() {
            return vec![host.resolve()];
        }
        scope(|scope| {
            let ask = |host: &'_ ServerHost| {
                let (host, thread) =
                    (host.clone(), Builder::new().name("resolve".into()).stack_size(STACK_BYTES));
                thread.spawn_scoped(scope, move || host.resolve())
            };
            let asked: Vec<_> = self.0.iter().map(|host| (!host.is_address()).then(|| ask(host))).collect();
            let answer = |(host, asked): (&ServerHost, Option<_>)| match asked {
                None => host.resolve(),
                Some(Err(error)) => Err(format!("no thread to resolve '{}': {error}", host.host)),
                Some(Ok(thread)) => std::thread::ScopedJoinHandle::join(thread)
                    .unwrap_or_else(|_| Err(format!("the resolver has panicked at '{}'", host.host))),
            };
            self.0.iter().zip(asked).map(answer).collect()
        })
    }

    /// The addresses of all hosts, in their order, from [`resolve_each`](Self::resolve_each). A host that has
    /// none keeps the others from nothing, and the log says why.
    ///
    /// # Errors
    /// In words, when no host has an address.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let of_host_max = (ADDRESSES_MAX / self.0.len().max(1)).max(1);
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for answer in self.resolve_each() {
            match answer {
                Ok(addresses) => found.extend(addresses.into_iter().take(of_host_max)),
                Err(why) => failures.push(why),
            }
        }
        if found.is_empty() {
            return Err(failures.join(", "));
        }
        failures.iter().for_each(|why| log::warn!("{why}"));
        let mut seen = std::collections::HashSet::new();
        found.retain(|address| seen.insert(*address));
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
        let refused = [
            "",
            ":13000",
            "a:",
            "a:0",
            "a:70000",
            "[::1",
            "[::1]x",
            "a b",
            "a:1:2",
            "https://a",
            "a,",
            "a,,b",
        ];
        for text in refused {
            let error = text.parse::<ServerAddress>().unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn an_address_needs_no_resolver() {
        let address: ServerAddress = "127.0.0.1:13".parse().unwrap();
        assert_eq!(address.resolve().unwrap(), ["127.0.0.1:13".parse().unwrap()]);
    }

    #[test]
    fn a_list_has_an_order_each_host_once_and_an_end() {
        let list: ServerAddress = "b.example.org, 10.0.0.1:99,b.example.org:13000,[::1]".parse().unwrap();
        assert_eq!(list.to_string(), "b.example.org:13000,10.0.0.1:99,[::1]:13000");
        assert_eq!(list.to_string().parse::<ServerAddress>().unwrap(), list);
        assert_eq!(list.ports(), "99 and 13000");
        let home: ServerAddress = "c,10.0.0.1:99".parse().unwrap();
        assert_eq!(
            list.followed_by(&home).to_string(),
            "b.example.org:13000,10.0.0.1:99,[::1]:13000,c:13000"
        );
        let many = |count: usize| vec!["a"; count].join(",").parse::<ServerAddress>();
        assert!(many(HOSTS_MAX).is_ok());
        assert!(many(HOSTS_MAX + 1).unwrap_err().to_string().contains("9 servers are too many"));
        let bad = "a.example.org,b b".parse::<ServerAddress>().unwrap_err().to_string();
        assert!(bad.starts_with("'b b' is not a server"), "{bad}");
    }

    #[test]
    fn a_name_that_leads_nowhere_keeps_the_others_from_nothing() {
        let list: ServerAddress =
            "no-such-host.invalid,127.0.0.1:13,127.0.0.2:14,127.0.0.1:13".parse().unwrap();
        let expected: Vec<SocketAddr> =
            ["127.0.0.1:13", "127.0.0.2:14"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(list.resolve().unwrap(), expected);
        let none: ServerAddress = "no-such-host.invalid,nor-this.invalid".parse().unwrap();
        let why = none.resolve().unwrap_err();
        assert!(why.contains("'no-such-host.invalid'") && why.contains("'nor-this.invalid'"), "{why}");
    }
}
