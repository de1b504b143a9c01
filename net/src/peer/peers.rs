use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::time::{Duration, Instant};

use super::connection::{Connection, Heard, Side, Stage};
use super::frame::Kind;
use super::hello::{BadHello, Hello};
use super::{Class, Endpoint, PeerId, Release, Verdict};
use crate::limits::{
    PEER_BACKOFF_MAX, PEER_BACKOFF_MIN, PEER_EVENTS_MAX, PEER_INBOX_BYTES_KEPT, PEER_REFUSED_PAUSE,
    PEER_SLICES_MAX, PEER_STRANGERS_MAX, PEER_UNLISTED_MAX,
};

/// All links of one member.
///
/// A member dials whoever it has no connection with, and answers over any connection that there is; so each pair has one, or two
/// for a while after both have dialed at once.
#[derive(Debug)]
pub struct Peers {
    config: PeersConfig,
    links: BTreeMap<PeerId, Link>,
    removed: BTreeSet<PeerId>,
    connections: BTreeMap<ConnId, Connection>,
    pub(super) next_id: u64,
    /// Connections with something to write that the reactor has not heard of.
    dirty: Vec<ConnId>,
    /// Connections that the reactor shall close.
    closing: Vec<ConnId>,
    inbox: Inbox,
    events: VecDeque<Event>,
    /// State of the jitter's generator, never 0.
    random: u64,
}

/// Who this member is and how patient.
#[derive(Debug, Clone, Copy)]
pub struct PeersConfig {
    /// The cluster's id.
    pub cluster: u64,
    /// This member.
    pub me: PeerId,
    /// This process; another one after each start.
    pub session: u64,
    /// This release.
    pub release: Release,
    /// Bytes of the longest message that may come.
    pub message_bytes_max: usize,
    /// Silence after which a connection is given up; an eighth of it passes between two pings.
    pub silence_max: Duration,
}

/// Who the members are, as far as this one knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// Each with its addresses, in the order to be tried. This member may be among them.
    pub members: Vec<(PeerId, Vec<Endpoint>)>,
    /// Ids that never come back.
    pub removed: Vec<PeerId>,
}

/// Names one connection; no other one ever has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

/// What became of bytes that were given to `recv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Go on.
    Fine,
    /// Close the connection.
    Close,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Nobody listens there.
    Refused,
    /// Any other way.
    Ended,
}

/// What the owner may want to act on or to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The first connection to it is open.
    Up {
        /// To whom.
        peer: PeerId,
        /// What it runs.
        release: Release,
    },
    /// The last connection to it is gone.
    Down(PeerId),
    /// It has answered a ping.
    RoundTrip {
        /// Who.
        peer: PeerId,
        /// Since the ping was made.
        took: Duration,
    },
    /// It could not be reached. `refused`: its host answered that nobody listens, so its process is not there.
    Unreachable {
        /// Who.
        peer: PeerId,
        /// Whether that is certain.
        refused: bool,
    },
    /// It answered and does not want this member.
    RefusedBy {
        /// Who.
        peer: PeerId,
        /// Why.
        verdict: Verdict,
    },
    /// A caller was refused here.
    Refused {
        /// Who it says to be.
        peer: PeerId,
        /// Why.
        verdict: Verdict,
    },
    /// A connection ended because of what came over it; the text says what.
    Garbled(Option<PeerId>),
}

#[derive(Debug)]
struct Link {
    /// Whether the roster names it.
    is_listed: bool,
    addresses: Vec<Endpoint>,
    /// Counts dials, so that each address has its turn.
    dials: usize,
    dial_at: Instant,
    backoff: Duration,
    /// On its way.
    dialing: Option<ConnId>,
    /// Over the first one messages are sent.
    open: Vec<ConnId>,
    /// Whether the owner has heard that it is there.
    is_up: bool,
}

/// Messages that came since they were last taken. What one turn may read bounds them.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    messages: Vec<(PeerId, usize, usize)>,
}

impl Peers {
    /// A member that knows nobody yet.
    pub fn new(config: PeersConfig) -> Peers {
        Peers {
            random: (config.session ^ config.me.0) | 1,
            config,
            links: BTreeMap::new(),
            removed: BTreeSet::new(),
            connections: BTreeMap::new(),
            next_id: 0,
            dirty: Vec::new(),
            closing: Vec::new(),
            inbox: Inbox::default(),
            events: VecDeque::new(),
        }
    }

    /// Who the members are from now on. Open connections stay, but for those of members that are gone.
    pub fn set_roster(&mut self, roster: Roster, now: Instant) {
        self.removed = roster.removed.into_iter().collect();
        self.links
            .values_mut()
            .for_each(|link| link.is_listed = false);
        for (peer, addresses) in roster.members {
            if peer == self.config.me || self.removed.contains(&peer) {
                continue;
            }
            let link = self.links.entry(peer).or_insert_with(|| Link::new(now));
            link.is_listed = true;
            if link.addresses != addresses {
                link.addresses = addresses;
                link.backoff = Duration::ZERO;
                link.dial_at = now;
            }
        }
        let gone = self.links.iter().filter(|(_, link)| !link.is_listed);
        let gone: Vec<PeerId> = gone.map(|(peer, _)| *peer).collect();
        for peer in gone {
            self.drop_connections(peer, |_| true);
            self.forget_if_unlisted(peer);
        }
    }

    /// Sends what `write` appends; false if there is no connection or too much waits for it: then it is lost, as it might be
    /// on the way.
    pub fn send(&mut self, to: PeerId, class: Class, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(&id) = self.links.get(&to).and_then(|link| link.open.first()) else {
            return false;
        };
        let kind = match class {
            Class::Urgent => Kind::Urgent,
            Class::Bulk => Kind::Bulk,
        };
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let is_taken = connection.out.push(kind, write);
        self.mark_dirty(id);
        is_taken
    }

    /// Shows every message that has come since the last time, in order.
    pub fn take_messages(&mut self, mut each: impl FnMut(PeerId, &[u8])) {
        for (from, start, end) in self.inbox.messages.drain(..) {
            each(from, &self.inbox.bytes[start..end]);
        }
        self.inbox.bytes.clear();
        if self.inbox.bytes.capacity() > PEER_INBOX_BYTES_KEPT {
            self.inbox.bytes = Vec::new();
        }
    }

    /// What happened since the last time. Call until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    #[cfg(test)]
    pub(super) fn is_up(&self, peer: PeerId) -> bool {
        self.links.get(&peer).is_some_and(|link| link.is_up)
    }

    // What follows is the reactor's side.

    /// A connection has come in; `None` if there are too many strangers already.
    pub fn accept(&mut self, now: Instant) -> Option<ConnId> {
        let strangers = self.connections.values().filter(|it| it.peer.is_none());
        if strangers.count() >= PEER_STRANGERS_MAX {
            return None;
        }
        Some(self.insert(Side::Accepted, None, now))
    }

    /// The next connection to open, if one is due. Call until `None`; tell `closed` if it cannot be opened.
    pub fn poll_dial(&mut self, now: Instant) -> Option<(ConnId, Endpoint)> {
        let due = self.links.iter().find(|(_, link)| link.wants_dial(now));
        let peer = *due?.0;
        let id = self.insert(Side::Dialed, Some(peer), now);
        let hello = self.hello(peer, Verdict::Welcome).encode();
        self.connection(id).out.push_raw(&hello);
        let link = self.links.get_mut(&peer)?;
        link.dialing = Some(id);
        let endpoint = link.addresses[link.dials % link.addresses.len()].clone();
        link.dials = link.dials.wrapping_add(1);
        Some((id, endpoint))
    }

    /// Bytes have come.
    pub fn recv(&mut self, id: ConnId, mut bytes: &[u8], now: Instant) -> Received {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Received::Close;
        };
        match connection.stage {
            Stage::Closing => return Received::Close,
            Stage::Refusing => return Received::Fine,
            Stage::Hello => match connection.hear_hello(bytes, now) {
                Heard::Nothing => return Received::Fine,
                Heard::Hello(hello, rest) => {
                    if self.on_hello(id, &hello, now) == Received::Close {
                        return Received::Close;
                    }
                    bytes = rest;
                }
            },
            Stage::Open => {}
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return Received::Close;
        };
        let (Stage::Open, Some(peer)) = (connection.stage, connection.peer) else {
            return Received::Fine;
        };
        let inbox = &mut self.inbox;
        let heard = connection.hear_frames(bytes, now, |message| inbox.push(peer, message));
        match heard {
            Ok(None) => {}
            Ok(Some(took)) => self.event(Event::RoundTrip { peer, took }),
            Err(_) => {
                self.event(Event::Garbled(Some(peer)));
                return Received::Close;
            }
        }
        if !self.connection(id).out.is_empty() {
            self.mark_dirty(id);
        }
        Received::Fine
    }

    /// What the next write of this connection takes: slices and how many of them.
    pub fn gather(&mut self, id: ConnId) -> ([IoSlice<'_>; PEER_SLICES_MAX], usize) {
        match self.connections.get_mut(&id) {
            Some(connection) => {
                connection.is_dirty = false;
                connection.out.gather()
            }
            None => ([IoSlice::new(&[]); PEER_SLICES_MAX], 0),
        }
    }

    /// So many of these bytes are at the kernel. Whether there are more to write.
    pub fn advance(&mut self, id: ConnId, count: usize) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        connection.out.advance(count);
        !connection.out.is_empty()
    }

    /// Whether everything is said and written, so that the connection can end.
    pub fn is_over(&self, id: ConnId) -> bool {
        self.connections
            .get(&id)
            .is_none_or(|it| it.stage == Stage::Refusing && it.out.is_empty())
    }

    /// The socket is gone.
    pub fn closed(&mut self, id: ConnId, gone: Gone, now: Instant) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        let Some(peer) = connection.peer else {
            return;
        };
        let random = self.draw();
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        link.open.retain(|it| *it != id);
        let mut event = None;
        if link.dialing == Some(id) {
            link.dialing = None;
            link.back_off(now, random);
            event = Some(Event::Unreachable {
                peer,
                refused: gone == Gone::Refused,
            });
        } else if link.is_up && link.open.is_empty() {
            link.is_up = false;
            // Its process may be gone, or only this connection: dialing tells.
            link.backoff = Duration::ZERO;
            link.dial_at = link.dial_at.min(now);
            event = Some(Event::Down(peer));
        }
        if let Some(event) = event {
            self.event(event);
        }
        self.forget_if_unlisted(peer);
    }

    /// Once a turn, after the owner's work: pings and time-outs. Returns when it wants to be called at the latest.
    pub fn on_turn(&mut self, now: Instant) -> Option<Instant> {
        let silence_max = self.config.silence_max;
        for (id, connection) in &mut self.connections {
            if connection.stage == Stage::Closing {
                continue;
            }
            if !connection.keep_alive(now, silence_max) {
                connection.stage = Stage::Closing;
                self.closing.push(*id);
            } else if !connection.out.is_empty() && !connection.is_dirty {
                connection.is_dirty = true;
                self.dirty.push(*id);
            }
        }
        let connections = self.connections.values();
        let deadlines = connections.map(|it| it.deadline(silence_max));
        let dials = self.links.values().filter_map(Link::dials_at);
        deadlines.chain(dials).min()
    }

    /// A connection that has something to write. Call until `None`.
    pub fn take_dirty(&mut self) -> Option<ConnId> {
        self.dirty.pop()
    }

    /// A connection to be closed. Call until `None`.
    pub fn take_closing(&mut self) -> Option<ConnId> {
        self.closing.pop()
    }

    fn on_hello(&mut self, id: ConnId, bytes: &[u8; 64], now: Instant) -> Received {
        let side = self.connection(id).side;
        let hello = match Hello::read(bytes) {
            Ok(hello) => hello,
            Err(BadHello::Format(_)) if side == Side::Accepted => {
                return self.refuse(id, PeerId(0), Verdict::OtherFormat);
            }
            Err(bad) => {
                let peer = self.connection(id).peer;
                match (bad, peer) {
                    (BadHello::Format(_), Some(peer)) => {
                        self.refused_by(peer, Verdict::OtherFormat, now);
                    }
                    _ => self.event(Event::Garbled(peer)),
                }
                return Received::Close;
            }
        };
        match side {
            Side::Accepted => self.on_caller(id, &hello, now),
            Side::Dialed => self.on_answer(id, &hello, now),
        }
    }

    fn on_caller(&mut self, id: ConnId, hello: &Hello, now: Instant) -> Received {
        let peer = hello.from;
        let is_unlisted = |link: &&Link| !link.is_listed;
        let is_listed = self.links.get(&peer).is_some_and(|link| link.is_listed);
        let verdict = if hello.cluster != self.config.cluster {
            Verdict::OtherCluster
        } else if hello.to != self.config.me || peer == self.config.me {
            Verdict::OtherMember
        } else if self.removed.contains(&peer) {
            Verdict::Removed
        } else if !is_listed && self.links.values().filter(is_unlisted).count() >= PEER_UNLISTED_MAX
        {
            Verdict::Full
        } else {
            Verdict::Welcome
        };
        if verdict != Verdict::Welcome {
            return self.refuse(id, peer, verdict);
        }
        // Of an earlier process everything is gone, and an earlier call of this one was given up by it.
        self.drop_connections(peer, |it| {
            it.session != hello.session && it.stage == Stage::Open || it.side == Side::Accepted
        });
        let welcome = self.hello(peer, Verdict::Welcome).encode();
        let connection = self.connection(id);
        connection.peer = Some(peer);
        connection.out.push_raw(&welcome);
        self.links.entry(peer).or_insert_with(|| Link::new(now));
        self.open(id, hello);
        Received::Fine
    }

    fn on_answer(&mut self, id: ConnId, hello: &Hello, now: Instant) -> Received {
        let meant = self
            .connection(id)
            .peer
            .expect("whoever dials means somebody");
        let verdict = if hello.verdict != Verdict::Welcome {
            hello.verdict
        } else if hello.cluster != self.config.cluster {
            Verdict::OtherCluster
        } else if hello.from != meant {
            Verdict::OtherMember
        } else {
            Verdict::Welcome
        };
        if verdict != Verdict::Welcome {
            self.refused_by(meant, verdict, now);
            return Received::Close;
        }
        self.open(id, hello);
        Received::Fine
    }

    fn open(&mut self, id: ConnId, hello: &Hello) {
        let peer = hello.from;
        let connection = self.connection(id);
        connection.stage = Stage::Open;
        connection.session = hello.session;
        self.mark_dirty(id);
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        if link.dialing == Some(id) {
            link.dialing = None;
        }
        link.backoff = Duration::ZERO;
        link.open.push(id);
        if !link.is_up {
            link.is_up = true;
            self.event(Event::Up {
                peer,
                release: hello.release,
            });
        }
    }

    /// Answers a caller why it may not stay. What it is told says who this member is, so that a wrong address shows.
    fn refuse(&mut self, id: ConnId, peer: PeerId, verdict: Verdict) -> Received {
        let refusal = self.hello(peer, verdict).encode();
        let connection = self.connection(id);
        connection.out.push_raw(&refusal);
        connection.stage = Stage::Refusing;
        self.mark_dirty(id);
        self.event(Event::Refused { peer, verdict });
        Received::Fine
    }

    fn refused_by(&mut self, peer: PeerId, verdict: Verdict, now: Instant) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.dialing = None;
            link.dial_at = now + PEER_REFUSED_PAUSE;
        }
        self.event(Event::RefusedBy { peer, verdict });
    }

    /// Ends those of its connections that `is_meant` names. Nothing is sent over them any more.
    fn drop_connections(&mut self, peer: PeerId, is_meant: impl Fn(&Connection) -> bool) {
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        for (id, connection) in &mut self.connections {
            if connection.peer == Some(peer)
                && connection.stage != Stage::Closing
                && is_meant(connection)
            {
                connection.stage = Stage::Closing;
                link.open.retain(|it| it != id);
                self.closing.push(*id);
            }
        }
    }

    /// One that the roster does not name is kept only while it has a connection.
    fn forget_if_unlisted(&mut self, peer: PeerId) {
        let is_idle =
            |link: &Link| !link.is_listed && link.open.is_empty() && link.dialing.is_none();
        if self.links.get(&peer).is_some_and(is_idle)
            && let Some(gone) = self.links.remove(&peer)
            && gone.is_up
        {
            self.event(Event::Down(peer));
        }
    }

    fn insert(&mut self, side: Side, peer: Option<PeerId>, now: Instant) -> ConnId {
        self.next_id += 1;
        let id = ConnId(self.next_id);
        let frame_bytes_max = self.config.message_bytes_max;
        let connection = Connection::new(side, peer, frame_bytes_max, now);
        self.connections.insert(id, connection);
        id
    }

    fn connection(&mut self, id: ConnId) -> &mut Connection {
        self.connections
            .get_mut(&id)
            .expect("the caller has just used it")
    }

    fn mark_dirty(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.dirty.push(id);
        }
    }

    pub(super) fn hello(&self, to: PeerId, verdict: Verdict) -> Hello {
        Hello {
            cluster: self.config.cluster,
            from: self.config.me,
            to,
            session: self.config.session,
            release: self.config.release,
            verdict,
        }
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < PEER_EVENTS_MAX {
            self.events.push_back(event);
        }
    }

    /// xorshift64: jitter needs no more.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl Link {
    fn new(now: Instant) -> Link {
        Link {
            is_listed: false,
            addresses: Vec::new(),
            dials: 0,
            dial_at: now,
            backoff: Duration::ZERO,
            dialing: None,
            open: Vec::new(),
            is_up: false,
        }
    }

    fn dials_at(&self) -> Option<Instant> {
        let wants = self.is_listed
            && self.open.is_empty()
            && self.dialing.is_none()
            && !self.addresses.is_empty();
        wants.then_some(self.dial_at)
    }

    fn wants_dial(&self, now: Instant) -> bool {
        self.dials_at().is_some_and(|at| at <= now)
    }

    /// Between half and the whole of the pause, so that members that lost each other do not come back in step.
    fn back_off(&mut self, now: Instant, random: u64) {
        self.backoff = (self.backoff * 2).clamp(PEER_BACKOFF_MIN, PEER_BACKOFF_MAX);
        let half = self.backoff / 2;
        let jitter = half.mul_f64((random % 1024) as f64 / 1024.0);
        self.dial_at = self.dial_at.max(now + half + jitter);
    }
}

impl Inbox {
    fn push(&mut self, from: PeerId, message: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.messages.push((from, start, self.bytes.len()));
    }
}
