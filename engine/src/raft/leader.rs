//! What only a leader knows and does: how far each member has come, and what it is sent.

use std::collections::BTreeMap;

use super::config::Config;
use super::log::{Log, Mark};
use super::message::{Body, Runs};
use super::progress::{Progress, State};
use super::read_index::Reads;
use super::{Raft, Role};
use crate::mutant::{Mutant, is_on};
use crate::types::{Index, MemberId, Millis};

/// One leadership. Bounded by the number of members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    /// The empty entry that began the term. Entries before it count as committed only through it or
    /// a later one.
    pub(super) own_first: Index,
    /// The newest entry that changes the configuration; no other is taken before it is applied.
    pub(super) last_change: Index,
    /// Everybody else in the configuration, by ascending id.
    pub(super) peers: Vec<(MemberId, Progress)>,
    pub(super) reads: Reads,
    heartbeat_due: Millis,
    /// From when on a majority must have been heard of, and when that is looked at.
    quorum_since: Millis,
    quorum_due: Millis,
    transfer: Option<Transfer>,
}

/// Leadership on its way to another member. Nothing is proposed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Transfer {
    to: MemberId,
    /// Given up then.
    until: Millis,
    /// Whether it was told.
    is_told: bool,
}

impl Leader {
    /// A leader whose first entry is `own_first`; nothing is known of anybody.
    #[must_use]
    pub(super) fn new(
        own_first: Index,
        me: MemberId,
        config: &Config,
        now: Millis,
        election: Millis,
    ) -> Self {
        let mut leader = Self {
            own_first,
            last_change: own_first,
            peers: Vec::new(),
            reads: Reads::default(),
            heartbeat_due: now,
            quorum_since: now,
            quorum_due: now.plus(election),
            transfer: None,
        };
        leader.set_peers(me, config, own_first, now);
        leader
    }

    /// Highest index that a majority holds and that this term may call committed; 0 if none yet.
    /// `own` is what this member holds durably.
    #[must_use]
    pub(super) fn committed(&self, me: MemberId, own: Index, config: &Config) -> Index {
        let quorum = config.voters.committed(|voter| match voter == me {
            true => own,
            false => self.peer(voter).map_or(Index(0), |peer| peer.matched),
        });
        // An entry of an older term may still be replaced although a majority holds it.
        if quorum >= self.own_first || is_on(Mutant::CommitOlderTerm) {
            quorum
        } else {
            Index(0)
        }
    }

    pub(super) fn peer(&self, id: MemberId) -> Option<&Progress> {
        let slot = self.peers.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.peers[slot].1)
    }

    pub(super) fn peer_mut(&mut self, id: MemberId) -> Option<&mut Progress> {
        let slot = self.peers.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&mut self.peers[slot].1)
    }

    pub(super) fn is_transferring(&self) -> bool {
        self.transfer.is_some()
    }

    /// Whether a majority was heard of since then.
    fn hears_quorum(&self, me: MemberId, config: &Config, since: Millis) -> bool {
        let hears = |id| id == me || self.peer(id).is_some_and(|peer| peer.heard >= since);
        let heard = config.voters.ids().iter().filter(|id| hears(**id));
        heard.count() >= config.voters.majority()
    }

    /// Follows the configuration; a new member is probed from the log's end.
    fn set_peers(&mut self, me: MemberId, config: &Config, next: Index, now: Millis) {
        let mut peers = Vec::new();
        for id in config.members().filter(|id| *id != me) {
            let known = self.peer(id).cloned();
            peers.push((id, known.unwrap_or_else(|| Progress::new(next, now))));
        }
        peers.sort_unstable_by_key(|(id, _)| *id);
        self.peers = peers;
    }
}

impl Raft {
    /// Heartbeats, the look for a majority, the end of a transfer.
    pub(super) fn tick_leader(&mut self) {
        let (now, times) = (self.now, self.settings);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if leader.peers.is_empty() {
            return;
        }
        if leader.transfer.is_some_and(|it| now >= it.until) {
            leader.transfer = None;
        }
        if now >= leader.quorum_due {
            if !leader.hears_quorum(self.me, &self.config, leader.quorum_since) {
                // CheckQuorum: whoever has a majority now must not be taken for this one.
                return self.follow(self.term, None);
            }
            leader.quorum_since = now;
            leader.quorum_due = now.plus(times.election);
        }
        if now >= leader.heartbeat_due {
            self.send_heartbeats();
        }
    }

    /// Whether this member leads and has heard of a majority within an election's time: one that was stopped meanwhile has
    /// not, whatever it believes (C3).
    #[must_use]
    pub fn leads_a_quorum(&self) -> bool {
        let since = Millis(self.now.0.saturating_sub(self.settings.election.0));
        match &self.role {
            Role::Leader(leader) => leader.hears_quorum(self.me, &self.config, since),
            _ => false,
        }
    }

    pub(super) fn send_heartbeats(&mut self) {
        let hard = self.hard();
        let heartbeat = self.settings.heartbeat;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        leader.heartbeat_due = self.now.plus(heartbeat);
        let round = leader.reads.round();
        for (to, peer) in &mut leader.peers {
            // No more than it is known to have: a heartbeat does not look at its log.
            let known = match is_on(Mutant::CommitUnseen) {
                true => self.log.last().index,
                false => peer.matched,
            };
            let commit = known.min(self.log.committed());
            let body = Body::Heartbeat { commit, round };
            self.outbox.push(*to, body.of(hard.term), hard);
        }
    }

    /// When a leader must be called although nothing happens.
    pub(super) fn leader_wake(&self) -> Option<Millis> {
        let Role::Leader(leader) = &self.role else {
            return None;
        };
        let transfer = leader.transfer.map(|it| it.until);
        let due = leader.heartbeat_due.min(leader.quorum_due);
        let has_peers = !leader.peers.is_empty();
        has_peers.then(|| transfer.map_or(due, |until| until.min(due)))
    }

    /// Sends every member what is new for it, as far as its window has room.
    pub(super) fn send_entries(&mut self) {
        let (hard, bytes_max) = (self.hard(), self.settings.append_bytes);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        // Members that are equally far are sent the same bytes.
        let mut read = BTreeMap::new();
        for (to, peer) in &mut leader.peers {
            while let Some(body) = next_append(&self.log, peer, bytes_max, &mut read) {
                self.outbox.push(*to, body.of(hard.term), hard);
            }
        }
        if let Some(transfer) = &mut leader.transfer
            && !transfer.is_told
        {
            let to = transfer.to;
            let last = self.log.last().index;
            let peer = leader.peers.iter().find(|(id, _)| *id == to);
            if peer.is_some_and(|(_, peer)| peer.matched == last) {
                transfer.is_told = true;
                self.outbox.push(to, Body::Lead.of(hard.term), hard);
            }
        }
    }

    pub(super) fn on_appended(&mut self, from: MemberId, matched: Index) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(peer) = leader.peer_mut(from) else {
            return;
        };
        peer.heard = self.now;
        // Nobody has what this leader does not have.
        if matched <= last && peer.on_appended(matched) {
            self.advance_commit();
        }
    }

    pub(super) fn on_rejected(&mut self, from: MemberId, previous: Index, hint: Mark) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(peer) = leader.peer_mut(from) else {
            return;
        };
        peer.heard = self.now;
        // Before what is held here nothing can be compared.
        let agreed = self.log.agrees_at_most(hint.index, hint.term).index;
        peer.on_rejected(previous, agreed.min(hint.index));
    }

    pub(super) fn on_heartbeat_answer(&mut self, from: MemberId, round: u64, commit: Index) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(peer) = leader.peer_mut(from) else {
            return;
        };
        peer.heard = self.now;
        peer.round = peer.round.max(round);
        if is_on(Mutant::HeartbeatAcknowledges) {
            peer.on_appended(last);
        }
        // It has forgotten, or a message was lost: tell it again.
        peer.commit_sent = peer.commit_sent.min(commit);
        match &mut peer.state {
            State::Probe { is_paused } => *is_paused = false,
            State::Replicate(inflights) if !inflights.is_empty() => {
                // Rejected if an earlier one was lost.
                let previous = peer.next.previous();
                if let Some(term) = self.log.term_at(previous) {
                    let previous = Mark {
                        index: previous,
                        term,
                    };
                    let commit = self.log.committed();
                    let runs = Runs::default();
                    self.send(
                        from,
                        Body::Append {
                            previous,
                            commit,
                            runs,
                        },
                    );
                }
            }
            State::Replicate(_) => {}
            // It has come by other means to where this log goes on.
            State::Snapshot if self.log.term_at(peer.matched.max(commit)).is_some() => {
                peer.next = peer.matched.max(commit).next();
                peer.state = State::Probe { is_paused: false };
            }
            State::Snapshot => {}
        }
        self.confirm_reads();
    }

    /// Commits what a majority holds by now.
    pub(super) fn advance_commit(&mut self) {
        if let Role::Leader(leader) = &self.role {
            let own = match is_on(Mutant::CommitBeforeDurable) {
                true => self.log.last().index,
                false => self.log.durable(),
            };
            let committed = leader.committed(self.me, own, &self.config);
            self.log.commit_to(committed);
        }
    }

    /// A configuration entry is applied: who is new is sent the log, who is gone hears that it is.
    pub(super) fn follow_config(&mut self) {
        let (hard, bytes_max) = (self.hard(), self.settings.append_bytes);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let mut read = BTreeMap::new();
        for (to, peer) in &mut leader.peers {
            let is_gone = !self.config.members().any(|id| id == *to);
            if is_gone && let Some(body) = next_append(&self.log, peer, bytes_max, &mut read) {
                self.outbox.push(*to, body.of(hard.term), hard);
            }
        }
        let next = self.log.last().index.next();
        leader.set_peers(self.me, &self.config, next, self.now);
        if !self.config.voters.contains(self.me) {
            // Whoever is ahead of the others takes over at once; everybody is told what is committed.
            self.send_entries();
            if let Some(to) = self.best_successor() {
                self.send(to, Body::Lead);
            }
            return self.follow(self.term, None);
        }
        self.advance_commit();
    }

    /// The voter that is furthest among those that were heard of lately.
    #[must_use]
    pub fn best_successor(&self) -> Option<MemberId> {
        let Role::Leader(leader) = &self.role else {
            return None;
        };
        let election = self.settings.election;
        let lives = |peer: &Progress| self.now.since(peer.heard) <= election;
        let voters = leader.peers.iter().filter(|(id, peer)| {
            self.config.voters.contains(*id) && lives(peer) && peer.state != State::Snapshot
        });
        let best = voters.max_by_key(|(_, peer)| peer.matched);
        best.map(|(id, _)| *id)
    }

    /// Hands leadership to `to` once it has everything; given up after an election's time. False: this member does not
    /// lead, or `to` is no other voter.
    pub fn transfer(&mut self, to: MemberId) -> bool {
        let until = self.now.plus(self.settings.election);
        let Role::Leader(leader) = &mut self.role else {
            return false;
        };
        if to == self.me || !self.config.voters.contains(to) {
            return false;
        }
        if leader.transfer.is_none_or(|it| it.to != to) {
            let is_told = false;
            leader.transfer = Some(Transfer { to, until, is_told });
        }
        true
    }

    /// The members that were heard of lately and need entries that are gone here.
    pub fn lagging(&self) -> impl Iterator<Item = MemberId> {
        let peers = match &self.role {
            Role::Leader(leader) => &leader.peers[..],
            _ => &[],
        };
        let (now, election) = (self.now, self.settings.election);
        let lags = move |peer: &Progress| {
            peer.state == State::Snapshot && now.since(peer.heard) <= election
        };
        let lagging = peers.iter().filter(move |(_, peer)| lags(peer));
        lagging.map(|(id, _)| *id)
    }

    /// A follower says something that is not Raft's.
    pub(super) fn on_follower_word(&mut self, from: MemberId) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(peer) = leader.peer_mut(from)
        {
            peer.heard = self.now;
        }
    }

    /// How far each other member is, as this leader knows it.
    pub fn peers(&self) -> impl Iterator<Item = (MemberId, Index)> {
        let peers = match &self.role {
            Role::Leader(leader) => &leader.peers[..],
            _ => &[],
        };
        peers.iter().map(|(id, peer)| (*id, peer.matched))
    }
}

/// The next message with entries for a member, if it may be sent one now. `read` is what was read of the log so far, by
/// the first entry.
fn next_append(
    log: &Log,
    peer: &mut Progress,
    bytes_max: usize,
    read: &mut BTreeMap<Index, Runs>,
) -> Option<Body> {
    let (last, commit) = (log.last().index, log.committed());
    let has_news = peer.next <= last || peer.commit_sent < commit;
    match &peer.state {
        State::Probe { is_paused: false } => {}
        State::Replicate(inflights) if has_news && !inflights.is_full() => {}
        State::Probe { .. } | State::Replicate(_) | State::Snapshot => return None,
    }
    let previous = peer.next.previous();
    let Some(term) = log.term_at(previous) else {
        peer.state = State::Snapshot;
        return None;
    };
    let previous = Mark {
        index: previous,
        term,
    };
    let runs = match peer.next <= last {
        true => {
            let from = || log.runs_from(peer.next, bytes_max);
            read.entry(peer.next).or_insert_with(from).clone()
        }
        false => Runs::default(),
    };
    peer.commit_sent = commit;
    match &mut peer.state {
        State::Probe { is_paused } => *is_paused = true,
        State::Replicate(inflights) => {
            if let Some(run) = runs.iter().last() {
                peer.next = run.last().next();
                inflights.push(run.last(), runs.bytes_len());
            }
        }
        State::Snapshot => {}
    }
    Some(Body::Append {
        previous,
        commit,
        runs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::config::Step;

    /// Counting copies of an older term's entry is not commitment (Raft, figure 8).
    #[test]
    fn entries_of_older_terms_commit_only_through_an_own_one() {
        let me = MemberId(1);
        let mut config = Config::default();
        config.apply(Step::AddVoter(me));
        config.apply(Step::AddVoter(MemberId(2)));
        let mut leader = Leader::new(Index(5), me, &config, Millis(0), Millis(0));
        leader.peers[0].1.matched = Index(4);
        assert_eq!(leader.committed(me, Index(5), &config), Index(0));
        leader.peers[0].1.matched = Index(6);
        assert_eq!(leader.committed(me, Index(4), &config), Index(0));
        assert_eq!(leader.committed(me, Index(5), &config), Index(5));
    }
}
