//! The running log: stages runs, says what to write, hears that it is written. One durable frame in flight; whatever is
//! staged meanwhile is the next one.

use super::corrupt::WalFailed;
use super::job::{Job, JobDone};
use super::record::{Frame, FrameKind, Header};
use super::segment::{Layout, Segments, Space, WalLimits};
use super::superblock::{Place, Superblock};
use super::switch::Switch;
use crate::disk::{DiskAnswer, DiskDone, DiskOp, File, OpId, Pages};
use crate::mutant::{Mutant, is_on};
use crate::run::RUN_HEAD_BYTES;
use crate::types::{HardState, Index, Run, Term};

/// The log of one member. Performs nothing itself.
#[derive(Debug)]
pub struct Wal {
    /// Runs that no frame carries yet.
    open: Frame,
    /// Memory of the last frame, for the next one.
    spare: Pages,
    flying: Option<Flying>,
    segments: Segments,
    supers: Supers,
    /// The last frame that was closed, and its digest.
    sequence: u64,
    digest: u32,
    /// The last frame that is durable. At most one less than `sequence`.
    durable_sequence: u64,
    durable: Index,
    /// The last index staged; durable <= last but after a suffix was replaced.
    last: Index,
    last_term: Term,
    hard: HardState,
    checkpoint: Index,
    /// Files that no checkpoint from this index on names; removed once the superblocks name such a one.
    unnamed: Vec<(Index, File)>,
    ops: u64,
    seal: Seal,
    /// The log goes on elsewhere: see [`Wal::switch_to`].
    is_over: bool,
    /// Checkpoints and files of the revision log that nobody names any more and somebody reads.
    withheld: Option<Vec<File>>,
    failed: Option<WalFailed>,
    limits: WalLimits,
}

#[derive(Debug)]
struct Flying {
    id: OpId,
    /// The last entry that will count once it is written: less than it holds if a suffix was replaced meanwhile.
    last: Index,
    is_seal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seal {
    No,
    Wanted,
    Done,
}

/// The two superblocks: always written one after the other, so that one is whole.
#[derive(Debug)]
struct Supers {
    /// What both copies say on disk.
    durable: Superblock,
    writing: Writing,
    /// Whether another round is needed.
    dirty: bool,
}

#[derive(Clone, Copy, Debug)]
enum Writing {
    Nothing,
    First(Superblock, OpId),
    /// The first copy is durable, the second is not asked for yet.
    Between(Superblock),
    Second(Superblock, OpId),
}

/// What recovery knows of the log's end.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) superblock: Superblock,
    pub(super) layout: Layout,
    pub(super) sequence: u64,
    pub(super) digest: u32,
    pub(super) last: Index,
    pub(super) last_term: Term,
    pub(super) hard: HardState,
}

impl Wal {
    /// Continues a log whose every byte up to `tail` is durable.
    pub(super) fn resume(tail: Tail, limits: WalLimits) -> Self {
        Self {
            open: Frame::new(Pages::default()),
            spare: Pages::default(),
            flying: None,
            segments: Segments::new(tail.layout, tail.superblock.identity.frame_salt(), limits),
            supers: Supers {
                durable: tail.superblock,
                writing: Writing::Nothing,
                dirty: false,
            },
            sequence: tail.sequence,
            digest: tail.digest,
            durable_sequence: tail.sequence,
            durable: tail.last,
            last: tail.last,
            last_term: tail.last_term,
            hard: tail.hard,
            checkpoint: tail.superblock.checkpoint,
            unnamed: Vec::new(),
            ops: 0,
            seal: Seal::No,
            is_over: false,
            withheld: None,
            failed: None,
            limits,
        }
    }

    /// Stages a run with the newest hard state. A run that starts at or before `last()` replaces what follows its start.
    /// After a failure or [`Wal::seal`] nothing is staged any more.
    ///
    /// # Panics
    /// If the run does not fit [`Wal::room`], leaves a gap, or would replace what a checkpoint holds.
    pub fn append(&mut self, run: Run<'_>, hard: HardState) {
        if self.failed.is_some() || self.seal != Seal::No {
            return;
        }
        assert!(run.bytes.len() <= self.room());
        assert!(run.first <= self.last.next());
        assert!(run.first > self.checkpoint);
        self.set_hard(hard);
        if let Some(flying) = &mut self.flying {
            flying.last = flying.last.min(run.first.previous());
        }
        self.open.push(&run);
        self.last = run.last();
        self.last_term = run.term;
    }

    /// A new term, vote or commit without entries. Term and vote go to both superblocks, the commit with the next frame.
    pub fn set_hard(&mut self, hard: HardState) {
        assert!(hard.term >= self.hard.term);
        self.supers.dirty |= hard.term != self.hard.term || hard.vote != self.hard.vote;
        self.hard = hard;
    }

    /// The next operation to perform, if any. Call until `None`.
    pub fn poll_op(&mut self) -> Option<(OpId, DiskOp)> {
        if self.failed.is_some() || self.is_over {
            return None;
        }
        self.poll_superblock().or_else(|| self.poll_frame())
    }

    /// Hears how an operation went. The index is the last one durable now; it can be lower than before if a suffix was replaced.
    ///
    /// # Errors
    /// The disk failed, now or before: nothing more is acknowledged, ever.
    pub fn on_done(&mut self, done: DiskDone) -> Result<Option<Index>, WalFailed> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let pages = match done.result {
            Ok(DiskAnswer::Written(pages)) => pages,
            Ok(other) => unreachable!("a write answered {other:?}"),
            Err(_) if is_on(Mutant::IgnoreFailedWrite) => Pages::default(),
            Err(error) => {
                let failed = WalFailed { error };
                self.failed = Some(failed);
                return Err(failed);
            }
        };
        if self.on_superblock_done(done.id) {
            return Ok(None);
        }
        let flying = self
            .flying
            .take()
            .expect("only the frame in flight is left");
        assert!(flying.id == done.id);
        self.spare = pages;
        self.durable_sequence = self.sequence;
        if flying.is_seal {
            self.on_sealed();
            return Ok(None);
        }
        self.durable = flying.last;
        Ok(Some(flying.last))
    }

    /// The last entry that is durable.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.durable
    }

    /// Term and vote that both superblocks hold, and the commit last staged. A vote may leave once it is here.
    #[must_use]
    pub fn durable_hard(&self) -> HardState {
        let HardState { commit, .. } = self.hard;
        HardState {
            term: self.supers.durable.term,
            vote: self.supers.durable.vote,
            commit,
        }
    }

    /// The last entry staged.
    #[must_use]
    pub fn last(&self) -> Index {
        self.last
    }

    /// The operation of the log that the disk has not answered, if there is one; of two the frame.
    #[must_use]
    pub fn in_flight(&self) -> Option<OpId> {
        let writing = match self.supers.writing {
            Writing::First(_, id) | Writing::Second(_, id) => Some(id),
            Writing::Nothing | Writing::Between(_) => None,
        };
        self.flying.as_ref().map(|it| it.id).or(writing)
    }

    /// Whether nothing is staged and nothing is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let quiet = self.flying.is_none() && matches!(self.supers.writing, Writing::Nothing);
        let staged = !self.open.is_empty() || self.supers.dirty || self.seal == Seal::Wanted;
        self.failed.is_some() || self.is_over || (quiet && !staged)
    }

    /// Bytes of the largest run that may ever be appended.
    #[must_use]
    pub fn run_bytes_max(&self) -> usize {
        let alone = self.limits.group_bytes.saturating_sub(RUN_HEAD_BYTES);
        alone.max(self.limits.run_bytes_max)
    }

    /// Bytes of the largest run that may be appended now. An empty group takes one run of any legal size.
    #[must_use]
    pub fn room(&self) -> usize {
        let rest = self
            .limits
            .group_bytes
            .saturating_sub(self.open.body_bytes() + RUN_HEAD_BYTES);
        if self.open.is_empty() {
            rest.max(self.limits.run_bytes_max)
        } else {
            rest
        }
    }

    /// `Checkpoint(upto)` is durable under its name: the log may forget what it covers. The superblocks say so first, then
    /// segments are used again and the older checkpoint is removed, and of the files of the revision log those `unnamed`:
    /// an older checkpoint named them and this one does not.
    pub fn release(&mut self, upto: Index, unnamed: &[u64]) {
        assert!(upto >= self.checkpoint);
        assert!(upto <= self.durable);
        self.checkpoint = upto;
        let unnamed = unnamed.iter().map(|number| (upto, File::Segment(*number)));
        self.unnamed.extend(unnamed);
        self.segments.release(upto);
        self.supers.dirty = true;
    }

    /// The checkpoint that both superblocks name.
    #[must_use]
    pub fn named_checkpoint(&self) -> Index {
        self.supers.durable.checkpoint
    }

    /// From now on, or no longer, the files of older checkpoints stay although nobody names them. A restart removes them.
    pub fn hold_files(&mut self, hold: bool) {
        match (hold, &mut self.withheld) {
            (true, None) => self.withheld = Some(Vec::new()),
            (false, Some(_)) => {
                for file in self.withheld.take().into_iter().flatten() {
                    self.segments.remove(file);
                }
            }
            _ => {}
        }
    }

    /// Ends this log in favour of one that goes on behind `Checkpoint(upto)`, which is durable with all that it names, under
    /// `files_salt`. What this log holds behind its own checkpoint is given up. The disk is asked for nothing more; whoever
    /// performs the switch starts the member anew.
    ///
    /// # Panics
    /// If it is not idle.
    pub fn switch_to(&mut self, upto: Index, files_salt: u64) -> Switch {
        assert!(self.is_idle());
        assert!(self.failed.is_none());
        assert!(upto > self.checkpoint);
        self.is_over = true;
        let (start, fill) = self.segments.fresh_start();
        let mut block = self.describe();
        block.checkpoint = upto;
        block.floor_index = upto;
        block.start = start;
        block.start_sequence = self.sequence + 1;
        block.next = Place::default();
        block.files_salt = files_salt;
        Switch::new(fill, block)
    }

    /// A clean stop: what is staged, then a frame that says that nothing follows, then the floor. Done when `is_idle`.
    pub fn seal(&mut self) {
        if self.seal == Seal::No {
            self.seal = Seal::Wanted;
        }
    }

    /// Bytes of log that a restart would read: the trigger for the next checkpoint.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.segments.live_bytes()
    }

    /// Work for the background worker, each answered by [`Wal::on_job_done`].
    pub fn take_jobs(&mut self) -> Vec<Job> {
        self.segments.take_jobs()
    }

    /// Hears how a job went. Nothing that a job does can fail the log; at worst [`Wal::space`] is low.
    pub fn on_job_done(&mut self, done: JobDone) {
        self.segments.on_job_done(done);
    }

    /// Whether the log can go on for long.
    #[must_use]
    pub fn space(&self) -> Space {
        self.segments.space()
    }

    /// Tries again to get space, as a job; to be called about once a second while space is low.
    pub fn retry_space(&mut self) {
        self.segments.retry();
    }

    /// Why the log stopped for good.
    #[must_use]
    pub fn failed(&self) -> Option<&WalFailed> {
        self.failed.as_ref()
    }

    fn poll_superblock(&mut self) -> Option<(OpId, DiskOp)> {
        let (block, copy) = match self.supers.writing {
            Writing::Nothing if self.supers.dirty || self.may_name() => (self.describe(), 0),
            Writing::Between(block) => (block, 1),
            _ => return None,
        };
        let id = self.next_id();
        self.supers.writing = match copy {
            0 => Writing::First(block, id),
            _ => Writing::Second(block, id),
        };
        let file = File::Superblock(copy);
        Some((
            id,
            DiskOp::Write {
                file,
                offset: 0,
                pages: block.encode(),
                durable: true,
            },
        ))
    }

    /// Whether a next segment is to be named now. Not while the superblocks still name the segment in use and none of its
    /// frames is durable: after a crash nobody would know where a torn first frame lies.
    fn may_name(&self) -> bool {
        self.segments.wants_naming() && !self.is_fresh()
    }

    fn is_fresh(&self) -> bool {
        let current = &self.segments.current;
        self.supers.durable.next == current.place && current.first_sequence > self.durable_sequence
    }

    /// The superblock as it should be now.
    fn describe(&mut self) -> Superblock {
        self.supers.dirty = false;
        let mut block = self.supers.durable;
        block.counter += 1;
        block.term = self.hard.term;
        block.vote = self.hard.vote;
        block.floor_sequence = self.durable_sequence;
        block.floor_index = self.durable;
        block.checkpoint = self.checkpoint;
        let next = block.next;
        self.segments.describe(&mut block);
        if self.is_fresh() {
            block.next = next;
        }
        block
    }

    /// Whether `id` was a superblock's.
    fn on_superblock_done(&mut self, done: OpId) -> bool {
        match self.supers.writing {
            Writing::First(block, id) if id == done => {
                self.supers.writing = Writing::Between(block)
            }
            Writing::Second(block, id) if id == done => {
                let older = self.supers.durable.checkpoint;
                if older != Index(0) && older != block.checkpoint {
                    self.forget(File::Checkpoint(older.0));
                }
                let is_gone = |it: &(Index, File)| it.0 <= block.checkpoint;
                let (gone, kept): (Vec<_>, Vec<_>) = self.unnamed.drain(..).partition(is_gone);
                self.unnamed = kept;
                for (_, file) in gone {
                    self.forget(file);
                }
                self.supers.writing = Writing::Nothing;
                self.supers.durable = block;
                self.segments.on_described(&block);
            }
            _ => return false,
        }
        true
    }

    /// Nobody names the file any more.
    fn forget(&mut self, file: File) {
        match &mut self.withheld {
            Some(withheld) => withheld.push(file),
            None => self.segments.remove(file),
        }
    }

    fn poll_frame(&mut self) -> Option<(OpId, DiskOp)> {
        if self.flying.is_some() {
            return None;
        }
        let is_seal = self.open.is_empty();
        if is_seal && self.seal != Seal::Wanted {
            return None;
        }
        let bytes = self.open.disk_bytes();
        if !self.segments.make_room(bytes, self.sequence + 1) {
            if is_seal {
                // A full log is sealed by its floor alone.
                self.on_sealed();
                return self.poll_superblock();
            }
            return None;
        }
        let pages = self.close(if is_seal {
            FrameKind::Seal
        } else {
            FrameKind::Runs
        });
        let id = self.next_id();
        self.flying = Some(Flying {
            id,
            last: self.last,
            is_seal,
        });
        let current = &mut self.segments.current;
        let (file, offset) = (File::Wal(current.place.slot), current.at);
        assert!(pages.bytes() as u64 == bytes);
        current.at += bytes;
        Some((
            id,
            DiskOp::Write {
                file,
                offset,
                pages,
                durable: true,
            },
        ))
    }

    /// Makes the open group a frame of the current segment, which has room for it.
    fn close(&mut self, kind: FrameKind) -> Pages {
        let frame =
            core::mem::replace(&mut self.open, Frame::new(core::mem::take(&mut self.spare)));
        let current = &mut self.segments.current;
        current.highest = current.highest.max(frame.highest());
        self.sequence += 1;
        let header = Header {
            kind,
            body_bytes: 0,
            body_crc: 0,
            previous: self.digest,
            frame_pages_max: u32::try_from(self.limits.frame_pages_max())
                .expect("a frame is shorter than a segment"),
            salt: self.supers.durable.identity.frame_salt(),
            generation: current.place.generation,
            slot: current.place.slot,
            offset: current.at,
            segment_bytes: current.place.bytes,
            sequence: self.sequence,
            term: self.last_term,
            first: self.last,
            last: self.last,
            hard: self.hard,
            runs: 0,
        };
        let (pages, digest) = frame.finish(header);
        self.digest = digest;
        pages
    }

    fn on_sealed(&mut self) {
        self.seal = Seal::Done;
        self.supers.dirty = true;
    }

    fn next_id(&mut self) -> OpId {
        self.ops += 1;
        OpId(self.ops)
    }
}

#[cfg(test)]
mod tests;
