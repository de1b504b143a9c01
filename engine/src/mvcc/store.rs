use std::sync::Arc;

use super::compact::{CompactHash, Space};
use super::digest::Digests;
use super::hold::{Hold, HoldRefused, Holds};
use super::page::{IndexFiles, LoadedIndex};
use super::range::{KeyRange, Resume, SliceBound, Visited, Want};
use super::revlog::RevLog;
use super::revlog::directory::Directory;
use super::revlog::log_view::LogView;
use super::revlog::record::{Chain, Head};
use super::tree::{self, Entry, PageRef, Tree};
use super::view::{Record, View};
use super::wants::{NeedRead, PartRead};
use crate::lease::{Attached, Grants, GrantsImage};
use crate::limits::{INDEX_BYTES_MIN, LEASE_BYTES, MVCC_SEGMENT_BYTES};
use crate::types::{LeaseId, Revision};

/// The writer's end of the store: there is one, and only `apply` changes state through it.
pub struct Store {
    pub(super) tree: Tree<Front>,
    pub(super) log: RevLog,
    /// Shared with each walk of a checkpoint over the index.
    pub(super) walks: Arc<()>,
    /// Where the pages of the index lie.
    pub(super) pages: IndexFiles,
    /// Leaves that the newest checkpoint has written and the tree has not heard of.
    pub(super) written: Vec<tree::Written>,
    /// Bytes of leaves that may be in memory although pages hold them.
    pub(super) page_bytes: u64,
    /// Pages that came into memory since the last publish.
    pub(super) came: Vec<PageRef>,
    pub(super) marks: Marks,
    pub(super) space: Space,
    /// Newest last, at most `COMPACT_HASHES_MAX`.
    pub(super) hashes: Arc<[CompactHash]>,
    pub(super) holds: Arc<Holds>,
    pub(super) grants: Grants,
    pub(super) attached: Attached,
    /// A transaction is begun, has changed something and waits to go on.
    pub(super) is_paused: bool,
    /// The main revision of the last publish.
    published: i64,
    /// Something changed since the last publish.
    pub(super) is_dirty: bool,
    /// Records came into memory or were given back since then.
    pub(super) is_log_dirty: bool,
    /// The last change gave memory back: the next publish asks the epoch to free it soon.
    pub(super) is_freeing: bool,
}

/// How a store is laid out in memory.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// Bytes of one segment of the revision log.
    pub segment_bytes: usize,
    /// Bytes of records and of leaves of the index that may be in memory although a file holds them. Leaves take half of it at
    /// most, records what leaves do not.
    pub cache_bytes: u64,
    /// Of the directory: files are numbered from a place that is drawn from it, so that files of several members can lie in one
    /// directory. 0: from 1.
    pub files_seed: u64,
}

/// The readers' end of the store.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<tree::Shared<Front>>,
    holds: Arc<Holds>,
}

/// Keeps one published state. Held for one slice of work (`SliceBound::SLICE`), never across a
/// wait: no memory of any store is freed while it exists.
pub struct Pin<'r>(tree::Pin<'r, Front>);

/// What one publish shows besides the index.
pub(super) struct Front {
    log: Arc<Directory>,
    marks: Marks,
    hashes: Arc<[CompactHash]>,
    leases: GrantsImage,
}

/// finished <= compacted <= revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) finished: i64,
    pub(super) digests: Digests,
}

/// The changes of one transaction: all get one main revision. Readers see them after the next
/// `Store::publish`.
pub struct Write<'s> {
    store: &'s mut Store,
    main: i64,
    /// Changes so far; the next one's sub-revision.
    changes: u32,
}

/// Why a revision cannot be read or compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevisionRefused {
    /// It lies below the compacted revision, or (for a compaction) is not above it.
    Compacted,
    /// It is greater than the store's revision.
    Future,
}

/// Sizes as etcd reports those of its file, estimated; both are whole pages, at least a fresh
/// file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of all records, those that compaction dropped included as long as their memory is not
    /// given back.
    pub total: u64,
    /// The part of `total` that reads can still need.
    pub in_use: u64,
}

impl Store {
    /// An empty store at revision 1, never compacted.
    #[must_use]
    pub fn new(config: StoreConfig) -> (Self, Reader) {
        Self::with_marks(
            config,
            Marks {
                revision: 1,
                compacted: -1,
                finished: -1,
                digests: Digests::default(),
            },
        )
    }

    pub(super) fn with_marks(config: StoreConfig, marks: Marks) -> (Self, Reader) {
        let log = RevLog::new(config);
        Self::with_log(config, marks, log, LoadedIndex::default())
    }

    /// A store with this log and its index.
    pub(super) fn with_log(
        config: StoreConfig,
        marks: Marks,
        log: RevLog,
        LoadedIndex {
            bulk: index,
            files: pages,
            attached,
        }: LoadedIndex,
    ) -> (Self, Reader) {
        let hashes: Arc<[CompactHash]> = Arc::from([]);
        let front = Front {
            log: Arc::clone(log.directory()),
            marks,
            hashes: Arc::clone(&hashes),
            leases: GrantsImage::default(),
        };
        let tree = index.finish(front);
        let holds = Arc::new(Holds::new(marks.finished));
        let space = Space::default();
        let store = Self {
            tree,
            log,
            walks: Arc::default(),
            pages,
            written: Vec::new(),
            page_bytes: (config.cache_bytes / 2).max(INDEX_BYTES_MIN),
            came: Vec::new(),
            marks,
            space,
            hashes,
            holds,
            grants: Grants::default(),
            attached,
            is_paused: false,
            published: marks.revision,
            is_dirty: false,
            is_log_dirty: false,
            is_freeing: false,
        };
        let reader = store.reader();
        (store, reader)
    }

    /// Another reader.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader {
            shared: Arc::clone(self.tree.shared()),
            holds: Arc::clone(&self.holds),
        }
    }

    /// The main revision of the last change; 1 when fresh.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.marks.revision
    }

    /// The revision that readers see.
    #[must_use]
    pub fn published_revision(&self) -> i64 {
        self.published
    }

    /// The compacted revision, -1 if never: etcd's scheduled mark.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.marks.compacted
    }

    /// The compaction whose memory is given back, -1 if none: etcd's finished mark.
    #[must_use]
    pub fn finished(&self) -> i64 {
        self.marks.finished
    }

    /// What the content adds up to.
    #[must_use]
    pub fn digests(&self) -> Digests {
        self.marks.digests
    }

    /// The newest state, unpublished changes included.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View {
            root: self.tree.root(),
            log: LogView::new(self.log.directory()),
            marks: self.marks,
        }
    }

    /// Begins a transaction. It takes a revision only if it changes something.
    pub fn write(&mut self) -> Write<'_> {
        self.resume(0)
    }

    /// Goes on with the transaction that [`Write::pause`] left after so many changes. Nothing was
    /// changed and nothing published in between.
    pub fn resume(&mut self, changes: u32) -> Write<'_> {
        assert!(self.is_paused == (changes > 0));
        self.is_paused = false;
        let main = self.marks.revision + i64::from(changes == 0);
        Write {
            store: self,
            main,
            changes,
        }
    }

    /// Shows readers everything so far. Once a batch; free if nothing changed.
    pub fn publish(&mut self) {
        // R9: all of a transaction or nothing.
        assert!(!self.is_paused);
        if !self.is_dirty {
            return self.publish_log();
        }
        let log = Arc::clone(self.log.directory());
        let front = Front {
            log,
            marks: self.marks,
            hashes: Arc::clone(&self.hashes),
            leases: self.grants.image().clone(),
        };
        self.tree.publish(front, self.is_freeing);
        self.published = self.marks.revision;
        self.is_dirty = false;
        self.is_log_dirty = false;
        self.is_freeing = false;
        if !self.came.is_empty() {
            self.log.directory().wants().on_pages(self.came.drain(..));
        }
    }

    /// For the quota and Status.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let total = self.log.bytes() + self.grants.len() as u64 * LEASE_BYTES;
        let in_use = total - self.log.gone_bytes();
        Sizes {
            total: (FRESH_BYTES + total).next_multiple_of(PAGE_BYTES),
            in_use: (FRESH_BYTES + in_use).next_multiple_of(PAGE_BYTES),
        }
    }

    /// Bytes of records that no checkpoint has written: new ones, and those that compaction has
    /// rewritten. They stay in memory until one does.
    #[must_use]
    pub fn unfiled_bytes(&self) -> u64 {
        self.log.unfiled_bytes()
    }

    /// What reads missed since the last call and that is still missing.
    #[must_use]
    pub fn take_wanted(&self) -> Vec<PartRead> {
        let wanted = self.log.directory().wants().take();
        let parts = wanted.into_iter().map(|need| self.part_of(need));
        parts.flatten().collect()
    }

    /// Shows readers which records are in memory, and nothing else that is new; also in the middle of
    /// a transaction.
    pub fn publish_log(&mut self) {
        if !self.is_log_dirty {
            return;
        }
        let log = Arc::clone(self.log.directory());
        self.tree.publish_rest(|front| Front {
            log,
            marks: front.marks,
            hashes: Arc::clone(&front.hashes),
            leases: front.leases.clone(),
        });
        self.is_log_dirty = false;
    }

    /// Whether any read can answer `NeedRead` now; if not, nothing needs to be fetched ahead.
    #[must_use]
    pub fn has_cold(&self) -> bool {
        self.log.has_cold() || self.tree.memory().pages > 0
    }

    /// Adds a record to log and index. `stamp` makes revision, creation, version and lease out of
    /// what the key was.
    ///
    /// # Errors
    /// A page must be read first; nothing is changed.
    #[inline]
    pub(super) fn append(
        &mut self,
        key: &[u8],
        value: &[u8],
        stamp: impl FnOnce(Option<&Entry>) -> Stamp,
    ) -> Result<(), NeedRead> {
        let (log, digests) = (&mut self.log, &mut self.marks.digests);
        let mut leases = (0, 0);
        let done = self.tree.upsert(key, |old| {
            let chain = old.map_or(Chain::default(), |old| log.chain_after(old.at, old.main));
            let Stamp {
                main,
                sub,
                create,
                version,
                lease,
            } = stamp(old);
            leases = (old.map_or(0, |old| old.lease), lease);
            let at = log.append(
                &Head {
                    main,
                    sub,
                    create,
                    version,
                    lease,
                    chain,
                },
                key,
                value,
            );
            digests.on_append(&Record {
                key,
                value,
                create_revision: create,
                mod_revision: Revision::new(main, i64::from(sub)),
                version,
                lease: LeaseId(lease),
            });
            let value_len = u32::try_from(value.len()).expect("a request is shorter than 4 GiB");
            Entry {
                main,
                create,
                version,
                lease,
                at,
                sub,
                value_len,
            }
        });
        if leases.0 != leases.1 {
            let (from, to) = (LeaseId(leases.0), LeaseId(leases.1));
            self.attached.change(key, from, to);
        }
        // Nodes above a page may be copied already.
        self.is_dirty = true;
        done.map_err(|page| self.view().missing(page))
    }
}

/// The numbers of a new record.
pub(super) struct Stamp {
    pub(super) main: i64,
    pub(super) sub: u32,
    pub(super) create: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
}

impl Write<'_> {
    /// The newest record of `key`, this transaction's changes included.
    ///
    /// # Errors
    /// A segment must be read first.
    pub fn get(&self, key: &[u8]) -> Result<Option<Record<'_>>, NeedRead> {
        self.store.view().get_at(key, i64::MAX)
    }

    /// As `get`, without the value; answered by the index.
    ///
    /// # Errors
    /// A page must be read first.
    pub fn meta(&self, key: &[u8]) -> Result<Option<Record<'_>>, NeedRead> {
        self.store.view().meta_at(key, i64::MAX)
    }

    /// The state with this transaction's changes; its `revision` is the transaction's own once
    /// something changed.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        self.store.view()
    }

    /// The revision a header shows after the changes so far.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.main - i64::from(self.changes == 0)
    }

    /// Which keys hang on which lease, this transaction's changes included.
    pub(super) fn attached(&self) -> &Attached {
        &self.store.attached
    }

    /// Sets `key`. A key that was not live begins a new generation.
    ///
    /// # Errors
    /// A page must be read first; nothing is changed.
    #[inline]
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Result<Revision, NeedRead> {
        let (main, sub) = (self.main, self.changes);
        self.store.append(key, value, |old| match old {
            Some(old) if old.is_live() => Stamp {
                main,
                sub,
                create: old.create,
                version: old.version + 1,
                lease: lease.0,
            },
            _ => Stamp {
                main,
                sub,
                create: main,
                version: 1,
                lease: lease.0,
            },
        })?;
        self.on_change();
        Ok(Revision::new(main, i64::from(sub)))
    }

    /// Deletes `key`; `None` and no change if it is not live.
    ///
    /// # Errors
    /// A page must be read first; nothing is changed.
    pub fn delete(&mut self, key: &[u8]) -> Result<Option<Revision>, NeedRead> {
        if self.meta(key)?.is_none() {
            return Ok(None);
        }
        let (main, sub) = (self.main, self.changes);
        self.store.append(key, &[], |_| Stamp {
            main,
            sub,
            create: 0,
            version: 0,
            lease: 0,
        })?;
        self.on_change();
        Ok(Some(Revision::new(main, i64::from(sub))))
    }

    /// Deletes the live keys of `range` in key order and hands each to `each` just before, without
    /// its value. What it examines is taken from `left`.
    ///
    /// # Errors
    /// A page must be read first; `resume` stands there, what lies before it is deleted.
    pub fn delete_range(
        &mut self,
        range: &KeyRange<'_>,
        resume: &mut Resume,
        left: &mut SliceBound,
        mut each: impl FnMut(&Record<'_>),
    ) -> Result<Visited, NeedRead> {
        let mut keys = Vec::new();
        let mut ends = Vec::new();
        loop {
            keys.clear();
            ends.clear();
            let run = SliceBound {
                records: left.records.min(DELETE_RUN),
                bytes: left.bytes.min(DELETE_RUN_BYTES),
            };
            let mut some = run;
            let view = self.store.view();
            let newest = i64::MAX;
            let visited =
                view.visit_within(range, newest, Want::Keys, resume, &mut some, |record| {
                    each(record);
                    keys.extend_from_slice(record.key);
                    ends.push(keys.len());
                    std::ops::ControlFlow::Continue(())
                });
            left.records = left.records.saturating_sub(run.records - some.records);
            left.bytes = left.bytes.saturating_sub(run.bytes - some.bytes);
            let mut start = 0;
            for end in &ends {
                let deleted = self.delete(&keys[start..*end]);
                assert!(deleted.is_ok_and(|revision| revision.is_some()), "{SEEN}");
                start = *end;
            }
            match visited? {
                Visited::End => return Ok(Visited::End),
                Visited::Stopped => unreachable!("the visitor never breaks off"),
                Visited::More => {
                    if left.records == 0 || left.bytes == 0 {
                        return Ok(Visited::More);
                    }
                }
            }
        }
    }

    /// Leaves the transaction for a while, to be taken up by [`Store::resume`] with what this answers.
    #[must_use]
    pub fn pause(self) -> u32 {
        self.store.is_paused = self.changes > 0;
        self.changes
    }

    /// Ends the transaction; answers the store's revision, which is the old one if nothing changed.
    #[allow(
        clippy::must_use_candidate,
        reason = "ending is the point, the number often known"
    )]
    pub fn finish(self) -> i64 {
        self.revision()
    }

    fn on_change(&mut self) {
        self.changes = self
            .changes
            .checked_add(1)
            .expect("a transaction of 4 billion changes");
        self.store.marks.revision = self.main;
    }
}

impl Reader {
    /// The newest published state.
    #[must_use]
    pub fn pin(&self) -> Pin<'_> {
        Pin(self.shared.pin())
    }

    /// Sets what is called, from any thread, when a read misses something: it wakes the loop that calls
    /// `Store::take_wanted`. The first one holds.
    pub fn on_wanted(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.pin().0.get().1.log.wants().on_add(wake);
    }

    /// Lets a read at `floor` or above go on after its pin: until the hold is dropped, compaction
    /// gives no memory back that such a read can need. Take it while the first pin is held.
    ///
    /// # Errors
    /// `Swept` if compaction has begun to pass `floor`, `Full` if too many are held.
    pub fn hold(&self, floor: i64) -> Result<Hold, HoldRefused> {
        self.holds.take(floor)
    }
}

impl Pin<'_> {
    /// The pinned state.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        let (root, front) = self.0.get();
        View {
            root,
            log: LogView::new(&front.log),
            marks: front.marks,
        }
    }

    /// The leases of the pinned state.
    pub(super) fn leases(&self) -> &GrantsImage {
        &self.0.get().1.leases
    }

    /// The remembered hash of the compaction at `rev`.
    pub(super) fn compact_hash(&self, rev: i64) -> Option<CompactHash> {
        let (_, front) = self.0.get();
        front
            .hashes
            .iter()
            .find(|hash| hash.revision == rev)
            .copied()
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            segment_bytes: MVCC_SEGMENT_BYTES,
            cache_bytes: u64::MAX,
            files_seed: 0,
        }
    }
}

/// What a fresh etcd file takes; tools divide by the size, so it is never 0.
const FRESH_BYTES: u64 = 20_480;

/// etcd counts whole pages.
const PAGE_BYTES: u64 = 4096;

/// Keys that a range deletion collects before it deletes them: the tree must not change under the
/// walk.
const DELETE_RUN: usize = 256;

/// Nothing is given back in between.
const SEEN: &str = "seen live, and in memory, just now";

/// Bytes of those keys.
const DELETE_RUN_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
