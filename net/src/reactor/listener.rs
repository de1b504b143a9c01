use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Instant;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::stream::Stream;
use crate::peer::Endpoint;

/// Options of `Listener::bind`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListenOptions {
    /// SO_REUSEPORT: several processes may listen on one port.
    pub reuse_port: bool,
    /// Which protocols connections of this listener may speak.
    pub protocols: Protocols,
    /// Shown to the service with each HTTP/1.1 request: what the number means is the service's matter.
    pub tag: u32,
}

/// Which protocols a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocols {
    /// HTTP/2 or HTTP/1.1, told apart by the first bytes.
    #[default]
    Any,
    /// HTTP/2 only; anything else is refused as a bad preface.
    Http2,
    /// HTTP/1.1 only.
    Http1,
    /// Other members, or HTTP/1.1; taken from the start, whatever the owner waits for.
    Peer,
}

/// A bound socket that takes connections.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    pub(super) options: ListenOptions,
    /// May have connections waiting.
    pub(super) ready: bool,
    /// Out of descriptors: no accepting before this time.
    pub(super) paused_until: Option<Instant>,
}

#[derive(Debug)]
enum Socket {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener, PathBuf),
}

impl Listener {
    /// Binds and listens. Errors are the system's; the caller knows which address it asked for.
    pub fn bind(endpoint: &Endpoint, options: ListenOptions) -> io::Result<Listener> {
        let socket = match endpoint {
            Endpoint::Tcp(address) => Socket::Tcp(bind_tcp(*address, options.reuse_port)?),
            Endpoint::Unix(path) => {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                Socket::Unix(mio::net::UnixListener::bind(path)?, path.clone())
            }
        };
        Ok(Listener {
            socket,
            options,
            ready: false,
            paused_until: None,
        })
    }

    /// The address of a TCP listener, with the port that the system chose if 0 was asked.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    pub(super) fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // A peer that is gone already shows at the first read.
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
            Socket::Unix(listener, _) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let descriptor = self.as_fd().as_raw_fd();
        SourceFd(&descriptor).register(registry, token, Interest::READABLE)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            // Nobody can act on a socket file that stays; the next start removes it.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind_tcp(address: SocketAddr, reuse_port: bool) -> io::Result<mio::net::TcpListener> {
    if let SocketAddr::V4(v4) = address
        && v4.ip().is_unspecified()
        && let Ok(listener) = listen(
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, v4.port())),
            reuse_port,
        )
    {
        return Ok(listener);
    }
    listen(address, reuse_port)
}

fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<mio::net::TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        None,
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // As Go: a restart must not wait for the connections of the process before.
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

/// The kernel cuts it to `net.core.somaxconn`.
const LISTEN_BACKLOG: i32 = 4096;
