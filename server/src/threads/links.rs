use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_engine::member::Member;
use basalt_engine::raft::message::{self, Message};
use basalt_engine::replica::{ClusterView, Published, Replica};
use basalt_engine::types::{MemberId, Millis};
use basalt_net::peer::{Class, Event, PeerId, Peers, PeersConfig, Release, Roster, Verdict};
use basalt_net::reactor::Handle;

use super::resolver::Resolver;
use crate::boot::{Booted, wal_limits};
use crate::config::{Config, Url};
use crate::metrics::PeerMetrics;
use crate::peers::Connectivity;
use crate::version;

/// The member's links to the others, on the thread that has the replica: messages in before its turn, messages out behind it.
pub(super) struct Links {
    peers: Peers,
    published: Arc<Published>,
    /// What the roster was made from; before there is one, a view that nobody has published.
    view: Arc<ClusterView>,
    /// Whom the first start named; they are heard until the log says that they are gone.
    first_members: Vec<Member>,
    resolver: Resolver,
    connectivity: Arc<Connectivity>,
    metrics: BTreeMap<MemberId, Arc<PeerMetrics>>,
    outgoing: Vec<(MemberId, Message)>,
    /// Messages that cannot be read since the last line about them, and when that was written.
    unreadable: u64,
    unreadable_told: Option<Instant>,
    /// Whether a member has said that this one was removed.
    is_removed: bool,
}

impl Links {
    pub(super) fn new(config: &Config, booted: &Booted, connectivity: Arc<Connectivity>) -> Links {
        let release = Release(version::numbers());
        let peers = Peers::new(PeersConfig {
            cluster: booted.cluster.0,
            me: PeerId(booted.member.0),
            session: booted.session,
            release,
            message_bytes_max: message::message_bytes_max(wal_limits(config).run_bytes_max),
            silence_max: 2 * config.election,
        });
        Links {
            peers,
            published: Arc::clone(booted.replica.published()),
            view: Arc::default(),
            first_members: booted.first_members.clone(),
            resolver: Resolver::default(),
            connectivity,
            metrics: BTreeMap::new(),
            outgoing: Vec::new(),
            unreadable: 0,
            unreadable_told: None,
            is_removed: false,
        }
    }

    pub(super) fn peers(&mut self) -> &mut Peers {
        &mut self.peers
    }

    /// A member whose removal was told by another need not wait for its own log, which may never say it.
    pub(super) fn is_removed(&self) -> bool {
        self.is_removed
    }

    /// Wakes this loop when names were looked up.
    pub(super) fn set_waker(&mut self, engine: Handle) {
        self.resolver.set_waker(engine);
    }

    /// Before the replica's turn: what came goes in.
    pub(super) fn receive(&mut self, replica: &mut Replica, now: Instant, millis: Millis) {
        let mut unreadable = 0;
        let Links {
            peers,
            metrics,
            connectivity,
            ..
        } = self;
        peers.take_messages(|from, bytes| {
            let from = MemberId(from.0);
            let message = Message::decode(bytes);
            let read = message.is_ok().then_some(bytes.len());
            metrics_of(metrics, connectivity, from).received(read);
            match message {
                Ok(message) => replica.on_message(from, message, millis),
                Err(_) => unreadable += 1,
            }
        });
        self.tell_unreadable(unreadable, now);
        while let Some(event) = self.peers.poll_event() {
            self.on_event(event, replica, now, millis);
        }
    }

    /// Behind the replica's turn: what it says goes out. Each link sends heartbeats and votes first.
    pub(super) fn send(&mut self, replica: &mut Replica, now: Instant) {
        replica.take_messages(&mut self.outgoing);
        for (to, message) in self.outgoing.drain(..) {
            let class = match message.class() {
                message::Class::Urgent => Class::Urgent,
                message::Class::Bulk => Class::Bulk,
            };
            let mut bytes = 0;
            // Where it is not sent it is lost as on the way: Raft repeats what matters.
            let is_sent = self.peers.send(PeerId(to.0), class, |out| {
                let start = out.len();
                message.encode(out);
                bytes = out.len() - start;
            });
            let metrics = metrics_of(&mut self.metrics, &self.connectivity, to);
            metrics.sent(is_sent.then_some(bytes));
        }
        self.follow_members(now);
    }

    /// When names are to be looked up again.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.resolver.wake()
    }

    fn follow_members(&mut self, now: Instant) {
        let view = self.published.cluster();
        let is_other = !Arc::ptr_eq(&view, &self.view);
        if is_other {
            self.view = view;
            let members = known_members(&self.view, &self.first_members);
            self.resolver.set(members, now);
        }
        if self.resolver.poll(now) || is_other {
            self.apply_roster(now);
        }
    }

    fn apply_roster(&mut self, now: Instant) {
        let removed = self.view.removed.iter().map(|id| PeerId(id.0)).collect();
        let members = self.resolver.endpoints();
        self.peers.set_roster(Roster { members, removed }, now);
    }

    fn on_event(&mut self, event: Event, replica: &mut Replica, now: Instant, millis: Millis) {
        match event {
            Event::Up { peer, release } => {
                let [major, minor, patch] = release.0;
                tracing::info!(
                    "remote-peer-id" = %MemberId(peer.0),
                    "remote-release" = %format_args!("{major}.{minor}.{patch}"),
                    "established connection with remote peer"
                );
                self.connectivity.set(MemberId(peer.0), Some(now));
            }
            Event::Down(peer) => {
                tracing::warn!("remote-peer-id" = %MemberId(peer.0), "lost connection with remote peer");
                self.connectivity.set(MemberId(peer.0), None);
                if self.is_stranger(peer) {
                    self.metrics.remove(&MemberId(peer.0));
                    self.connectivity.forget(MemberId(peer.0));
                }
            }
            Event::RoundTrip { peer, took } => {
                let peer = MemberId(peer.0);
                metrics_of(&mut self.metrics, &self.connectivity, peer).round_trip(took);
            }
            Event::Unreachable { peer, refused } => {
                if refused {
                    replica.on_unreachable(MemberId(peer.0), millis);
                }
                tracing::debug!("remote-peer-id" = %MemberId(peer.0), refused, "failed to reach remote peer");
            }
            Event::RefusedBy { peer, verdict } => {
                tracing::warn!(
                    "remote-peer-id" = %MemberId(peer.0),
                    reason = reason(verdict),
                    "remote peer refused the connection"
                );
                self.is_removed |= verdict == Verdict::Removed;
            }
            Event::Refused { peer, verdict } => tracing::warn!(
                "remote-peer-id" = %MemberId(peer.0),
                reason = reason(verdict),
                "refused a connection from a peer"
            ),
            Event::Garbled(peer) => tracing::warn!(
                "remote-peer-id" = %MemberId(peer.map_or(0, |peer| peer.0)),
                "closed a connection that carried what no peer sends"
            ),
        }
    }

    /// Whether nobody has named it: what is known of such a one goes with its connection.
    fn is_stranger(&self, peer: PeerId) -> bool {
        let known = known_members(&self.view, &self.first_members);
        known.iter().all(|(id, _)| *id != peer)
    }

    /// A line now and then: a hostile peer must not fill the log.
    fn tell_unreadable(&mut self, count: u64, now: Instant) {
        self.unreadable += count;
        let is_due = |told: Instant| now >= told + UNREADABLE_PAUSE;
        if self.unreadable > 0 && self.unreadable_told.is_none_or(is_due) {
            tracing::warn!(
                count = self.unreadable,
                "dropped messages that cannot be read"
            );
            self.unreadable = 0;
            self.unreadable_told = Some(now);
        }
    }
}

/// The log's members, and those of the first start that it does not name yet.
fn known_members(view: &ClusterView, first: &[Member]) -> Vec<(PeerId, Vec<Url>)> {
    let listed = view.members.iter().map(|it| (it.id, &it.peer_urls));
    let is_new = |member: &&Member| {
        !view.members.iter().any(|it| it.id == member.id.0) && !view.removed.contains(&member.id)
    };
    let named = first
        .iter()
        .filter(is_new)
        .map(|it| (it.id.0, &it.peer_urls));
    listed
        .chain(named)
        .map(|(id, urls)| {
            let urls = urls.iter().filter_map(|url| Url::parse(url).ok());
            (PeerId(id), urls.collect())
        })
        .collect()
}

/// Kept, so that a message costs no lock.
fn metrics_of<'a>(
    kept: &'a mut BTreeMap<MemberId, Arc<PeerMetrics>>,
    connectivity: &Connectivity,
    of: MemberId,
) -> &'a PeerMetrics {
    kept.entry(of).or_insert_with(|| connectivity.metrics(of))
}

fn reason(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Welcome => "none",
        Verdict::OtherCluster => "cluster ID mismatch",
        Verdict::OtherMember => "member ID mismatch: another member has this peer URL",
        Verdict::Removed => "the member was removed from the cluster",
        Verdict::OtherFormat => "the releases speak different peer protocols",
        Verdict::Full => "too many unknown members are connected",
    }
}

const UNREADABLE_PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, url: &str) -> Member {
        Member {
            id: MemberId(id),
            peer_urls: vec![url.to_owned()],
            ..Member::default()
        }
    }

    /// A joining member reads old entries first: the leader that sends them must not be cut off by them.
    #[test]
    fn members_of_the_first_start_are_heard_until_the_log_removes_them() {
        let first = [
            member(1, "http://127.0.0.1:1"),
            member(2, "http://127.0.0.1:2"),
        ];
        let view = ClusterView {
            members: vec![member(1, "http://127.0.0.1:9").to_proto()],
            ..ClusterView::default()
        };
        let known = known_members(&view, &first);
        let url = |text: &str| vec![Url::parse(text).expect("a URL")];
        let expected = [
            (PeerId(1), url("http://127.0.0.1:9")),
            (PeerId(2), url("http://127.0.0.1:2")),
        ];
        assert_eq!(known, expected);
        let gone = ClusterView {
            removed: vec![MemberId(2)],
            ..view
        };
        assert_eq!(known_members(&gone, &first).len(), 1);
    }
}
