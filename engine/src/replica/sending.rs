//! The leader's side of snapshots: who needs one, of which checkpoint, and what of it is held meanwhile.
//!
//! The follower asks for one piece after the other, so nothing is sent to whoever does not take it, and what is lost is asked for
//! again. A snapshot is the newest checkpoint that the superblocks name; its files and the log behind it stay while it is sent.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::snapshot_job::{Done, FileList, Piece, Work};
use super::{Replica, SnapshotJob, Stopping};
use crate::limits::{SNAPSHOT_PART_BYTES, SNAPSHOT_PATIENCE_ELECTIONS};
use crate::raft::log::Mark;
use crate::raft::message::Body;
use crate::types::{Index, MemberId, Millis};

/// A snapshot that members receive.
#[derive(Debug)]
pub(super) struct Sending {
    at: Mark,
    /// Once it is known how long they are.
    files: Option<(FileList, Bytes)>,
    /// Bounded by the number of members.
    receivers: BTreeMap<MemberId, Receiver>,
}

/// A member that receives it, or the log behind it.
#[derive(Clone, Copy, Debug)]
struct Receiver {
    /// When it last asked for something.
    heard: Millis,
    offered: Option<Millis>,
    /// Whether a piece is being read for it.
    is_reading: bool,
    /// Once it goes on with the log: how far it must come before that is not held for it any more.
    goal: Option<Index>,
}

impl Replica {
    /// Offers a snapshot to whoever needs one.
    pub(super) fn send_snapshots(&mut self, now: Millis) {
        if self.sending.is_none() && self.raft.lagging().next().is_none() {
            self.checkpoint.is_wanted = false;
            self.raft.log_mut().hold_behind(None);
            return;
        }
        let lagging: Vec<MemberId> = self.raft.lagging().collect();
        if !self.raft.is_leader() || self.stopping != Stopping::No {
            return self.end_sending();
        }
        self.begin_sending();
        let patience = SNAPSHOT_PATIENCE_ELECTIONS * self.raft.settings().election.0;
        let pause = Millis(2 * self.raft.settings().heartbeat.0);
        let Self { raft, sending, .. } = self;
        let Some(sending) = sending else {
            return;
        };
        for id in &lagging {
            sending.receivers.entry(*id).or_insert(Receiver {
                heard: now,
                offered: None,
                is_reading: false,
                goal: None,
            });
        }
        let last = raft.log().last().index;
        sending.receivers.retain(|id, receiver| {
            let lags = lagging.contains(id);
            receiver.goal = match lags {
                true => None,
                false => receiver.goal.or(Some(last)),
            };
            let matched = raft.peers().find(|(peer, _)| peer == id).map(|it| it.1);
            let comes = lags || matched < receiver.goal;
            comes && now.since(receiver.heard).0 <= patience
        });
        // The log went on without waiting for whoever is that slow.
        let is_useless = raft.log().term_at(sending.at.index).is_none();
        if sending.receivers.is_empty() || is_useless {
            return self.end_sending();
        }
        if sending.files.is_none() {
            return;
        }
        let at = sending.at;
        for (id, receiver) in &mut sending.receivers {
            let is_due = receiver
                .offered
                .is_none_or(|offered| now >= offered.max(receiver.heard).plus(pause));
            if receiver.goal.is_none() && is_due && !receiver.is_reading {
                receiver.offered = Some(now);
                raft.send(*id, Body::Offer { at });
            }
        }
    }

    /// Takes the newest checkpoint, or wants a newer one if the log does not go on behind it.
    fn begin_sending(&mut self) {
        let last = self.checkpoint.last;
        if self.sending.is_some() {
            return;
        }
        let Some(term) = self.raft.log().term_at(last).filter(|_| last > Index(0)) else {
            self.checkpoint.is_wanted = true;
            return;
        };
        self.checkpoint.is_wanted = false;
        // Only these files keep their names through a crash.
        if self.wal.named_checkpoint() != last {
            return;
        }
        self.wal.hold_files(true);
        self.raft.log_mut().hold_behind(Some(last));
        self.sending = Some(Sending {
            at: Mark { index: last, term },
            files: None,
            receivers: BTreeMap::new(),
        });
        self.snapshot_jobs.push(SnapshotJob(Work::List {
            at: last,
            salt: self.checkpoint.salt,
            named: self.checkpoint.named.clone(),
        }));
    }

    fn end_sending(&mut self) {
        self.sending = None;
        self.wal.hold_files(false);
        self.raft.log_mut().hold_behind(None);
    }

    /// A follower asks for a piece.
    pub(super) fn on_fetch(&mut self, from: MemberId, at: Index, file: u32, offset: u64) {
        let Some(sending) = self.sending.as_mut().filter(|it| it.at.index == at) else {
            return;
        };
        let Some((list, encoded)) = &sending.files else {
            return;
        };
        let Some(receiver) = sending.receivers.get_mut(&from) else {
            return;
        };
        receiver.heard = self.now;
        if receiver.is_reading {
            return;
        }
        let Some(place) = file.checked_sub(1) else {
            let total = encoded.len() as u64;
            let Ok(from_byte) = usize::try_from(offset.min(total)) else {
                return;
            };
            let to_byte = encoded.len().min(from_byte + SNAPSHOT_PART_BYTES);
            let bytes = encoded.slice(from_byte..to_byte);
            let body = Body::Part {
                at,
                file,
                offset: from_byte as u64,
                total,
                bytes,
            };
            return self.raft.send(from, body);
        };
        let Some((name, total)) = list.files.get(place as usize).copied() else {
            return;
        };
        if offset < total {
            receiver.is_reading = true;
            let piece = Piece {
                at,
                file,
                offset,
                total,
            };
            let to = from;
            self.snapshot_jobs
                .push(SnapshotJob(Work::Read { to, piece, name }));
        }
    }

    /// Work on the snapshot that is sent, or on the one that comes, is done.
    pub(super) fn on_snapshot_job(&mut self, done: Done, now: Millis) {
        match done {
            Done::Listed { at, list } => {
                let Some(sending) = self.sending.as_mut().filter(|it| it.at.index == at) else {
                    return;
                };
                match list {
                    Some(list) => {
                        let encoded = list.encode();
                        sending.files = Some((list, encoded));
                    }
                    None => self.end_sending(),
                }
            }
            Done::Read { to, piece, bytes } => self.on_piece_read(to, piece, bytes),
            Done::Written {
                piece,
                bytes,
                result,
            } => self.on_piece_written(piece, bytes, result, now),
            Done::Checked { at, is_whole } => self.on_checked(at, is_whole, now),
            Done::Cleared => {}
            Done::Switched(result) => self.on_switched(result),
        }
    }

    fn on_piece_read(&mut self, to: MemberId, piece: Piece, bytes: Option<Bytes>) {
        let sending = self.sending.as_mut();
        let Some(sending) = sending.filter(|it| it.at.index == piece.at) else {
            return;
        };
        if let Some(receiver) = sending.receivers.get_mut(&to) {
            receiver.is_reading = false;
        }
        // What cannot be read is asked for again.
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        let Piece {
            at,
            file,
            offset,
            total,
        } = piece;
        if self.raft.is_leader() {
            let body = Body::Part {
                at,
                file,
                offset,
                total,
                bytes,
            };
            self.raft.send(to, body);
        }
    }
}
