use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// A listen or advertise URL. Printing gives back what ids are hashed over (etcd-facts 2): blanks trimmed, else as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    /// What was written, trimmed. First, so that URLs sort as their texts do.
    text: String,
    scheme: Scheme,
    address: Address,
}

/// The four schemes that etcd knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// Plain Unix socket.
    Unix,
    /// TLS over a Unix socket.
    Unixs,
}

/// Where a URL points.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// Host (no brackets around an IPv6 address) and port.
    Tcp {
        /// May be empty (all addresses), a name or an address.
        host: String,
        /// 0 asks the system for a free one.
        port: u16,
    },
    /// A path in the file system.
    Unix(String),
}

impl Url {
    /// Reads one URL; the errors are those of etcd's own parser.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => {
                return Err(format!(
                    "URL scheme must be http, https, unix, or unixs: {text}"
                ));
            }
        };
        let address = match scheme {
            Scheme::Unix | Scheme::Unixs if rest.is_empty() => {
                return Err(format!("URL has no path to a socket: {text}"));
            }
            Scheme::Unix | Scheme::Unixs => Address::Unix(rest.to_owned()),
            Scheme::Http | Scheme::Https => {
                if rest.contains('/') {
                    return Err(format!("URL must not contain a path: {text}"));
                }
                tcp(rest).ok_or_else(|| {
                    format!("URL address does not have the form \"host:port\": {text}")
                })?
            }
        };
        Ok(Url {
            text: text.to_owned(),
            scheme,
            address,
        })
    }

    /// Its scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where it points.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether TLS is asked for.
    pub fn is_secure(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// `host:port` or the socket's path: what log lines call "address".
    pub fn host_port(&self) -> &str {
        let rest = self.text.split_once(':').map_or("", |(_, rest)| rest);
        rest.strip_prefix("//").unwrap_or(rest)
    }

    /// Whether a listener can bind it without asking a name server: an address, `localhost`, or nothing.
    pub fn is_bindable(&self) -> bool {
        match &self.address {
            Address::Unix(_) => true,
            Address::Tcp { host, .. } => {
                host.is_empty() || host == "localhost" || host.parse::<IpAddr>().is_ok()
            }
        }
    }

    /// Whether it names a host that others could reach.
    pub fn has_host(&self) -> bool {
        match &self.address {
            Address::Unix(_) => true,
            Address::Tcp { host, .. } => !host.is_empty(),
        }
    }

    /// The addresses that the host stands for, the first to be tried first; asks the system's resolver. No host is every address of this
    /// machine. Empty where the resolver knows none, and for Unix sockets.
    pub fn resolve(&self) -> Vec<SocketAddr> {
        match &self.address {
            Address::Unix(_) => Vec::new(),
            Address::Tcp { host, port } if host.is_empty() => {
                vec![
                    (Ipv6Addr::UNSPECIFIED, *port).into(),
                    (Ipv4Addr::UNSPECIFIED, *port).into(),
                ]
            }
            Address::Tcp { host, port } => {
                let mut found: Vec<SocketAddr> = (host.as_str(), *port)
                    .to_socket_addrs()
                    .map(Iterator::collect)
                    .unwrap_or_default();
                found.sort();
                found.dedup();
                found
            }
        }
    }
}

/// The first of the host's addresses with which `open` succeeds, or why the last one did not.
pub(crate) fn open_first<T>(
    addresses: Vec<SocketAddr>,
    open: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let nowhere = || {
        let kind = io::ErrorKind::AddrNotAvailable;
        Err(io::Error::new(kind, "the host name has no address"))
    };
    let mut tries = addresses.into_iter().map(open);
    let mut last = tries.next().unwrap_or_else(nowhere);
    while last.is_err()
        && let Some(next) = tries.next()
    {
        last = next;
    }
    last
}

fn tcp(rest: &str) -> Option<Address> {
    let (host, port) = rest.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port = if port.is_empty() {
        0
    } else {
        port.parse().ok()?
    };
    Some(Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_urls_are_refused_with_etcds_words() {
        let refused = |text: &str| Url::parse(text).unwrap_err();
        assert_eq!(
            refused("foo"),
            "URL scheme must be http, https, unix, or unixs: foo"
        );
        assert_eq!(
            refused("http://a"),
            "URL address does not have the form \"host:port\": http://a"
        );
        assert_eq!(
            refused("http://a:1/x"),
            "URL must not contain a path: http://a:1/x"
        );
    }

    #[test]
    fn blanks_are_trimmed_and_the_rest_is_printed_back() {
        assert_eq!(
            Url::parse(" http://127.0.0.1:2380 ").unwrap().to_string(),
            "http://127.0.0.1:2380"
        );
    }

    #[test]
    fn hosts_ports_and_sockets_are_taken_apart() {
        let address = |text: &str| Url::parse(text).unwrap().address().clone();
        assert_eq!(
            address("https://[::1]:2379"),
            Address::Tcp {
                host: "::1".into(),
                port: 2379
            }
        );
        assert_eq!(
            address("http://:2379"),
            Address::Tcp {
                host: String::new(),
                port: 2379
            }
        );
        assert_eq!(
            address("unix:///run/a.sock"),
            Address::Unix("/run/a.sock".into())
        );
        assert_eq!(
            address("unix://localhost:1"),
            Address::Unix("localhost:1".into())
        );
        assert_eq!(
            Url::parse("http://127.0.0.1:1").unwrap().host_port(),
            "127.0.0.1:1"
        );
    }

    #[test]
    fn names_other_than_localhost_cannot_be_bound() {
        assert!(Url::parse("http://localhost:1").unwrap().is_bindable());
        assert!(Url::parse("http://[::]:1").unwrap().is_bindable());
        assert!(!Url::parse("http://foo.bar:1").unwrap().is_bindable());
    }
}
