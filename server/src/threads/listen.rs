use std::io;

use basalt_net::reactor::{Endpoint, ListenOptions, Listener, Protocols};

use super::ServeError;
use crate::config::{Address, Config, Url, open_first};
use crate::http::tag;

/// What was bound.
pub(super) struct Bound {
    pub(super) clients: Vec<Listener>,
    pub(super) peers: Vec<Listener>,
    /// Of the client listeners, for the log.
    pub(super) client_addresses: Vec<String>,
}

/// Binds every URL that clients and other members come by.
pub(super) fn bind_all(config: &Config) -> Result<Bound, ServeError> {
    let mut listeners = Vec::new();
    let mut peers = Vec::new();
    let mut client_addresses = Vec::new();
    let is_split = !config.listen_client_http.is_empty();
    let client = if is_split {
        Protocols::Http2
    } else {
        Protocols::Any
    };
    for (urls, tag, protocols) in [
        (&config.listen_client, tag::CLIENT, client),
        (&config.listen_client_http, tag::CLIENT, Protocols::Http1),
        (&config.listen_metrics, tag::METRICS, Protocols::Http1),
        (&config.listen_peer, tag::PEER, Protocols::Peer),
    ] {
        let options = ListenOptions {
            reuse_port: config.sockets.reuse_port,
            protocols,
            tag,
        };
        for url in urls {
            let refused = |source| ServeError::Listen {
                url: url.to_string(),
                source,
            };
            let listener = bind(url, options).map_err(refused)?;
            let bound = listener.local_address().map(|address| address.to_string());
            let address = bound.unwrap_or_else(|| url.host_port().to_owned());
            match tag {
                tag::CLIENT => client_addresses.push(address),
                tag::PEER => {
                    tracing::info!(address, "serving peer traffic");
                    peers.push(listener);
                    continue;
                }
                _ => {}
            }
            listeners.push(listener);
        }
    }
    Ok(Bound {
        clients: listeners,
        peers,
        client_addresses,
    })
}

/// Binds the first of the host's addresses that can be.
fn bind(url: &Url, options: ListenOptions) -> io::Result<Listener> {
    if let Address::Unix(path) = url.address() {
        return Listener::bind(&Endpoint::Unix(path.into()), options);
    }
    open_first(url.resolve(), |address| {
        Listener::bind(&Endpoint::Tcp(address), options)
    })
}
