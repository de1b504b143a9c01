//! What is read back from files for whoever waits for it, many parts at a time, each once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Failure, Replica};
use crate::disk::{DiskAnswer, DiskDone, DiskOp, OpId};
use crate::limits::{PART_READ_TRIES, PART_READS_MAX, PARTS_WANTED_MAX};
use crate::mvcc::{NeedRead, PartRead};

/// Reads of parts.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Not begun yet; at most `PARTS_WANTED_MAX` and compaction's one.
    queue: VecDeque<Read>,
    /// At most `PART_READS_MAX`.
    flying: BTreeMap<OpId, Read>,
    /// What clients and the next entry wait for, of both.
    wanted: BTreeSet<NeedRead>,
    /// Whether compaction waits for one of both.
    is_for_space: bool,
    begun: u64,
    /// Parts that came into memory.
    pub(super) done: u64,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    part: PartRead,
    /// For compaction, which keeps it out of the cache.
    for_space: bool,
    /// So often it failed.
    failed: u32,
}

impl Parts {
    pub(super) fn poll_op(&mut self) -> Option<(OpId, DiskOp)> {
        if self.flying.len() >= PART_READS_MAX {
            return None;
        }
        let read = self.queue.pop_front()?;
        self.begun += 1;
        let id = OpId(READ_IDS | self.begun);
        self.flying.insert(id, read);
        Some((id, read.part.op()))
    }

    /// Whoever finds no room asks again.
    fn add(&mut self, part: PartRead) {
        if self.wanted.len() < PARTS_WANTED_MAX && self.wanted.insert(part.need()) {
            self.queue.push_back(Read {
                part,
                for_space: false,
                failed: 0,
            });
        }
    }

    /// For compaction, which waits for one at a time.
    pub(super) fn add_for_space(&mut self, part: PartRead) {
        assert!(!self.is_for_space);
        self.is_for_space = true;
        self.queue.push_back(Read {
            part,
            for_space: true,
            failed: 0,
        });
    }

    pub(super) fn is_for_space(&self) -> bool {
        self.is_for_space
    }

    fn remove(&mut self, read: &Read) {
        match read.for_space {
            true => self.is_for_space = false,
            false => _ = self.wanted.remove(&read.part.need()),
        }
    }
}

impl Replica {
    /// Takes up what reads, and the entry to be applied, missed.
    pub(super) fn queue_reads(&mut self) {
        for part in self.machine.store().take_wanted() {
            self.parts.add(part);
        }
    }

    /// Hears of an operation; gives it back if it is not a read of a part.
    pub(super) fn on_read(&mut self, done: DiskDone) -> Option<DiskDone> {
        let Some(read) = self.parts.flying.remove(&done.id) else {
            return Some(done);
        };
        let store = self.machine.store_mut();
        let taken = match done.result {
            // It may have been rewritten, and the file be gone by now.
            _ if !store.is_wanted(&read.part) => Ok(()),
            Ok(DiskAnswer::Read { pages, bytes }) if read.for_space => {
                store.on_space_part(&read.part, &pages, bytes)
            }
            Ok(DiskAnswer::Read { pages, bytes }) => store.on_part(&read.part, &pages, bytes),
            Ok(other) => unreachable!("a read answered {other:?}"),
            Err(error) => Err(error.into()),
        };
        match taken {
            Ok(()) => {
                self.parts.done += 1;
                self.parts.remove(&read);
            }
            Err(_) if read.failed + 1 < PART_READ_TRIES => self.parts.queue.push_front(Read {
                failed: read.failed + 1,
                ..read
            }),
            Err(bad) => self.fail(Failure::Records(bad)),
        }
        None
    }
}

/// Apart from the numbers of the log's operations.
const READ_IDS: u64 = 1 << 63;
