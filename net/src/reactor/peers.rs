use std::io;
use std::time::Instant;

use super::conn::{Conn, Flushed};
use super::stats::Stats;
use super::stream::Stream;
use super::token;
use super::turn::Turn;
use crate::grpc::Service;
use crate::peer::{ConnId, Endpoint, Gone};

impl Turn {
    /// After the service's turn: opens and closes what its links ask for, and has written what waits.
    pub(super) fn drive_peers<S: Service>(&mut self, service: &mut S, now: Instant) {
        let Some(peers) = service.peers() else {
            return;
        };
        self.peers_wake_up = peers.on_turn(now);
        while let Some(id) = service.peers().and_then(|peers| peers.take_closing()) {
            if let Some(&key) = self.table.peers.get(&id) {
                self.close(service, key, now);
            }
        }
        while let Some((id, endpoint)) = service.peers().and_then(|peers| peers.poll_dial(now)) {
            if let Err(error) = self.dial(id, &endpoint, now) {
                failed(service, id, &error, now);
            }
        }
        while let Some(id) = service.peers().and_then(|peers| peers.take_dirty()) {
            if let Some(&key) = self.table.peers.get(&id) {
                self.table.mark_dirty(key);
            }
        }
    }

    fn dial(&mut self, id: ConnId, endpoint: &Endpoint, now: Instant) -> io::Result<()> {
        let stream = Stream::connect(endpoint)?;
        let conn = Conn::dialed(stream, id, &self.config, now);
        let key = self.table.conns.insert(conn);
        let Some(conn) = self.table.conns.get_mut(key) else {
            return Ok(());
        };
        if let Err(error) = conn.register(&self.registry, token(key)) {
            self.table.conns.remove(key);
            return Err(error);
        }
        self.stats.opened.add(1);
        self.table.peers.insert(id, key);
        Ok(())
    }
}

impl Conn {
    /// The one write of this turn to another member.
    pub(super) fn write_peer<S: Service>(
        &mut self,
        id: ConnId,
        service: &mut S,
        turn: u64,
        stats: &Stats,
        now: Instant,
    ) -> Flushed {
        let peers = match service.peers() {
            Some(peers) if !self.ending => peers,
            _ => return Flushed::Gone,
        };
        if self.blocked_since.is_some() {
            return Flushed::Done;
        }
        let (slices, count) = peers.gather(id);
        if count > 0 {
            assert!(
                self.wrote_in_turn < turn,
                "a connection is written once a turn"
            );
            self.wrote_in_turn = turn;
            stats.writes.add(1);
            let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            let written = match self.stream.write_vectored(&slices[..count]) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                // Interrupted before anything was taken: the next turn tries again.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Flushed::More,
                Err(error) => {
                    failed(service, id, &error, now);
                    return Flushed::Gone;
                }
            };
            stats.sent_bytes.add(written as u64);
            let has_more = peers.advance(id, written);
            if written < offered {
                // The socket is full; taking less than was offered arms the edge that says when it is not.
                self.blocked_since = Some(now);
                return Flushed::Done;
            }
            if has_more {
                return Flushed::More;
            }
        }
        // A refusal is read before anything else was sent, so no reset overtakes it.
        if peers.is_over(id) {
            Flushed::Gone
        } else {
            Flushed::Done
        }
    }
}

/// A socket that failed by itself; its closing follows.
pub(super) fn failed<S: Service>(service: &mut S, id: ConnId, error: &io::Error, now: Instant) {
    let gone = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Gone::Refused,
        _ => Gone::Ended,
    };
    if let Some(peers) = service.peers() {
        peers.closed(id, gone, now);
    }
}
