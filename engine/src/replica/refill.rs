//! The follower's side of snapshots: fetches one from the leader, and becomes what it says.
//!
//! Every file comes under a name that nothing here has. Once every byte of all of them is checked, the member says nothing more,
//! lets its log come to rest, and one write of the superblocks makes the snapshot its state. Whoever drives it starts it anew then.

use bytes::Bytes;

use super::snapshot_job::{FileList, Piece, Work, coming};
use super::{Failure, Notice, Replica, SnapshotJob};
use crate::apply::{Outcome, Refused};
use crate::disk::{DiskError, File, PAGE_BYTES};
use crate::limits::{SNAPSHOT_LIST_BYTES_MAX, SNAPSHOT_RETRY_MS};
use crate::raft::log::Mark;
use crate::raft::message::Body;
use crate::types::{Index, MemberId, Millis};
use crate::wal::WalFailed;

/// What comes from the leader, if anything does.
#[derive(Debug, Default)]
pub(super) struct Refill {
    receiving: Option<Receiving>,
    /// After a failure: not before this.
    not_before: Millis,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Goes on as a follower, whatever comes beside that.
    #[default]
    Following,
    /// Says nothing and waits for its log to rest.
    Resting,
    /// The superblocks are being written.
    Switching,
    /// To be started anew.
    Switched,
}

#[derive(Debug)]
struct Receiving {
    from: MemberId,
    at: Mark,
    /// The list as far as it has come.
    list: Vec<u8>,
    files: Option<FileList>,
    /// What is asked for next: which file, 0 for the list, and from where.
    file: u32,
    offset: u64,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A piece is asked for.
    Asked,
    /// It is being written.
    Writing,
    /// All is there and being read.
    Checking,
    /// And as it should be.
    Whole,
}

impl Refill {
    /// Whether this member gives up what it was.
    pub(super) fn is_switching(&self) -> bool {
        self.phase != Phase::Following
    }

    /// Whether a checkpoint of the member's own might get in the way.
    pub(super) fn is_checking(&self) -> bool {
        let step = self.receiving.as_ref().map(|it| it.step);
        matches!(step, Some(Step::Checking | Step::Whole))
    }
}

impl Replica {
    /// Whether a snapshot took the place of the state on disk: this replica does nothing more, and the member is to be started
    /// from its disk.
    #[must_use]
    pub fn is_refilled(&self) -> bool {
        self.refill.phase == Phase::Switched
    }

    /// The leader has a snapshot for this member, and tells so again when it hears nothing.
    pub(super) fn on_offer(&mut self, from: MemberId, at: Mark) {
        if self.raft.agrees_with_snapshot(at) {
            return self.give_up_refill(None);
        }
        match &self.refill.receiving {
            Some(it) if it.step != Step::Asked => return,
            Some(it) if (it.from, it.at) == (from, at) => return self.ask_for_piece(),
            _ => {}
        }
        self.give_up_refill(None);
        if self.now < self.refill.not_before || self.refuses().is_some() {
            return;
        }
        self.refill.receiving = Some(Receiving {
            from,
            at,
            list: Vec::new(),
            files: None,
            file: 0,
            offset: 0,
            step: Step::Asked,
        });
        let index = at.index;
        self.notice(Notice::SnapshotBegan { from, index });
        self.ask_for_piece();
    }

    fn ask_for_piece(&mut self) {
        if let Some(it) = &self.refill.receiving {
            let (at, file, offset) = (it.at.index, it.file, it.offset);
            let body = Body::Fetch { at, file, offset };
            self.raft.send(it.from, body);
        }
    }

    /// A piece comes; only the one that is waited for is taken.
    pub(super) fn on_part(&mut self, from: MemberId, piece: Piece, bytes: Bytes) {
        let Some(it) = &mut self.refill.receiving else {
            return;
        };
        let is_it = it.step == Step::Asked
            && it.from == from
            && (it.at.index, it.file, it.offset) == (piece.at, piece.file, piece.offset);
        if !is_it || bytes.is_empty() {
            return;
        }
        let Some(files) = &it.files else {
            it.list.extend_from_slice(&bytes);
            it.offset = it.list.len() as u64;
            if piece.total > SNAPSHOT_LIST_BYTES_MAX {
                return self.give_up_refill(Some(self.now));
            }
            if it.offset < piece.total {
                return self.ask_for_piece();
            }
            let Some(files) = FileList::read(&it.list, it.at.index) else {
                return self.give_up_refill(Some(self.now));
            };
            it.list = Vec::new();
            it.files = Some(files);
            return self.next_file();
        };
        let (name, total) = files.files[it.file as usize - 1];
        if total != piece.total || !bytes.len().is_multiple_of(PAGE_BYTES) {
            return;
        }
        it.step = Step::Writing;
        let name = match name {
            File::Checkpoint(_) => coming(it.at.index),
            name => name,
        };
        self.snapshot_jobs
            .push(SnapshotJob(Work::Write { piece, name, bytes }));
    }

    /// Goes to the next file that is not here yet; looks at all of them behind the last one.
    fn next_file(&mut self) {
        let named = &self.checkpoint.named;
        let Some(it) = &mut self.refill.receiving else {
            return;
        };
        let Some(files) = &it.files else {
            return;
        };
        (it.file, it.offset, it.step) = (it.file + 1, 0, Step::Asked);
        // A number is given once: whoever has the file has got it by an earlier snapshot.
        let is_here = |file: &File| matches!(file, File::Segment(number) if named.binary_search(number).is_ok());
        while let Some((file, _)) = files.files.get(it.file as usize - 1)
            && is_here(file)
        {
            it.file += 1;
        }
        if it.file as usize <= files.files.len() {
            return self.ask_for_piece();
        }
        it.step = Step::Checking;
        let (at, salt) = (it.at, files.salt);
        self.snapshot_jobs
            .push(SnapshotJob(Work::Check { at, salt }));
    }

    pub(super) fn on_piece_written(
        &mut self,
        piece: Piece,
        bytes: u64,
        result: Result<(), DiskError>,
        now: Millis,
    ) {
        let receiving = self.refill.receiving.as_mut();
        let Some(it) = receiving.filter(|it| it.step == Step::Writing && it.at.index == piece.at)
        else {
            return;
        };
        if result.is_err() {
            return self.give_up_refill(Some(now));
        }
        it.step = Step::Asked;
        it.offset = piece.offset + bytes;
        match it.offset < piece.total {
            true => self.ask_for_piece(),
            false => self.next_file(),
        }
    }

    pub(super) fn on_checked(&mut self, at: Index, is_whole: bool, now: Millis) {
        let receiving = self.refill.receiving.as_mut();
        let Some(it) = receiving.filter(|it| it.step == Step::Checking && it.at.index == at) else {
            return;
        };
        it.step = Step::Whole;
        if !is_whole {
            self.give_up_refill(Some(now));
        }
    }

    /// Takes what has come away again, and waits a while if that is somebody's fault.
    fn give_up_refill(&mut self, failed: Option<Millis>) {
        let Some(it) = self.refill.receiving.take() else {
            return;
        };
        let named = &self.checkpoint.named;
        let is_own = |file: &File| matches!(file, File::Segment(number) if named.binary_search(number).is_ok());
        let files = it.files.into_iter().flat_map(|list| list.files);
        let mut files: Vec<File> = files.map(|it| it.0).filter(|it| !is_own(it)).collect();
        files.push(coming(it.at.index));
        self.snapshot_jobs.push(SnapshotJob(Work::Clear(files)));
        if let Some(now) = failed {
            self.refill.not_before = now.plus(Millis(SNAPSHOT_RETRY_MS));
            let index = it.at.index;
            self.notice(Notice::SnapshotFailed { index });
        }
    }

    /// Goes on with what makes a whole snapshot the state. True: this member does nothing else any more.
    pub(super) fn switch(&mut self) -> bool {
        let Some(it) = self.refill.receiving.as_ref() else {
            return self.refill.is_switching();
        };
        if it.step != Step::Whole {
            return false;
        }
        let at = it.at;
        let salt = it.files.as_ref().map(|files| files.salt);
        if self.refill.phase == Phase::Following {
            if self.raft.agrees_with_snapshot(at) || self.refuses().is_some() {
                self.give_up_refill(None);
                return false;
            }
            self.refill.phase = Phase::Resting;
            self.raft.outbox().clear();
        }
        let is_resting = self.refill.phase == Phase::Resting;
        if is_resting
            && self.wal.is_idle()
            && !self.checkpoint.running
            && let Some(salt) = salt
        {
            self.refill.phase = Phase::Switching;
            let switch = self.wal.switch_to(at.index, salt);
            self.snapshot_jobs.push(SnapshotJob(Work::Switch(switch)));
        }
        true
    }

    pub(super) fn on_switched(&mut self, result: Result<(), DiskError>) {
        match result {
            Ok(()) => {
                self.refill.phase = Phase::Switched;
                self.refuse_all(Outcome::Refused(Refused::Stopped));
            }
            Err(error) => self.fail(Failure::Wal(WalFailed { error })),
        }
    }
}
