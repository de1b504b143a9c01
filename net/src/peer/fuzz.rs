//! Bodies of the fuzz target `peer_link`; the property tests run them too.

use std::time::{Duration, Instant};

use super::frame::{self, Frames, Kind};
use super::hello::{HELLO_BYTES, Hello};
use super::{
    Class, ConnId, Endpoint, Gone, PeerId, Peers, PeersConfig, Received, Release, Roster, Verdict,
};
use crate::limits::{PEER_STRANGERS_MAX, PEER_UNLISTED_MAX};

/// Arbitrary bytes as hellos and frames, and an arbitrary life of links with hostile other ends: no panic, bounded connections,
/// no message before a hello, a hello that is understood is one that is written the same.
pub fn peer_link(data: &[u8]) {
    hello(data);
    frames(data);
    life(data);
}

fn hello(data: &[u8]) {
    if let Some(bytes) = data.first_chunk::<HELLO_BYTES>()
        && let Ok(hello) = Hello::read(bytes)
    {
        assert_eq!(Hello::read(&hello.encode()), Ok(hello));
    }
}

fn frames(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else {
        return;
    };
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    let a = Frames::new(512).recv(bytes, |kind, body| whole.push((kind, body.to_vec())));
    let mut pieces = Frames::new(512);
    let b = bytes
        .chunks(usize::from(size) + 1)
        .try_for_each(|piece| pieces.recv(piece, |kind, body| cut.push((kind, body.to_vec()))));
    assert_eq!((whole, a), (cut, b));
}

fn life(data: &[u8]) {
    let mut now = Instant::now();
    let config = PeersConfig {
        cluster: 1,
        me: PeerId(1),
        session: 5,
        release: Release([0, 1, 0]),
        message_bytes_max: 512,
        silence_max: Duration::from_millis(200),
    };
    let mut peers = Peers::new(config);
    let mut open: Vec<ConnId> = Vec::new();
    let mut rest = data;
    while let Some((&op, tail)) = rest.split_first() {
        rest = tail;
        let (argument, tail) = rest.split_first().unwrap_or((&0, &[]));
        let id = open
            .get(usize::from(*argument) % open.len().max(1))
            .copied();
        match op % 9 {
            0 => open.extend(peers.accept(now)),
            1 => {
                while let Some((id, _)) = peers.poll_dial(now) {
                    open.push(id);
                }
            }
            2 => {
                let roster = Roster {
                    members: (1..=u64::from(argument % 5)).map(member).collect(),
                    removed: vec![PeerId(u64::from(argument / 64))],
                };
                peers.set_roster(roster, now);
            }
            3 => now += Duration::from_millis(u64::from(*argument)),
            4 => {
                let Some(id) = id else { continue };
                let hello = Hello {
                    cluster: 1,
                    from: PeerId(u64::from(argument % 32) + 2),
                    to: PeerId(1),
                    session: u64::from(argument / 32),
                    release: Release([0; 3]),
                    verdict: Verdict::Welcome,
                };
                give(&mut peers, &mut open, id, &hello.encode(), now);
            }
            5 => {
                let Some(id) = id else { continue };
                let (bytes, tail) = tail.split_at(tail.len().min(40));
                rest = tail;
                give(&mut peers, &mut open, id, bytes, now);
            }
            6 => {
                let Some(id) = id else { continue };
                let mut framed = Vec::new();
                let kind =
                    [Kind::Urgent, Kind::Bulk, Kind::Ping, Kind::Pong][usize::from(argument / 64)];
                frame::append(&mut framed, kind, |out| {
                    out.resize(out.len() + usize::from(argument % 17), 7);
                });
                give(&mut peers, &mut open, id, &framed, now);
            }
            7 => {
                let Some(id) = id else { continue };
                let (slices, count) = peers.gather(id);
                let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
                peers.advance(id, offered / (usize::from(argument % 3) + 1));
                if peers.is_over(id) {
                    end(&mut peers, &mut open, id, now);
                }
            }
            _ => {
                let to = PeerId(u64::from(argument % 5));
                peers.send(to, Class::Bulk, |out| out.extend_from_slice(b"entry"));
                peers.on_turn(now);
                while let Some(id) = peers.take_closing() {
                    end(&mut peers, &mut open, id, now);
                }
                while peers.take_dirty().is_some() {}
            }
        }
        peers.take_messages(|from, message| {
            assert!(from != PeerId(0) && message.len() <= 512);
        });
        while peers.poll_event().is_some() {}
        assert!(open.len() <= PEER_STRANGERS_MAX + 2 * (PEER_UNLISTED_MAX + 40));
    }
}

fn member(id: u64) -> (PeerId, Vec<Endpoint>) {
    (PeerId(id), vec![Endpoint::Unix("peer".into())])
}

fn give(peers: &mut Peers, open: &mut Vec<ConnId>, id: ConnId, bytes: &[u8], now: Instant) {
    if peers.recv(id, bytes, now) == Received::Close {
        end(peers, open, id, now);
    }
}

fn end(peers: &mut Peers, open: &mut Vec<ConnId>, id: ConnId, now: Instant) {
    peers.closed(id, Gone::Ended, now);
    open.retain(|it| *it != id);
}
