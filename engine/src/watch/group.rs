use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::skiplist::Ranked;
use crate::mvcc::KeyRange;

/// What a watcher wants to see: watchers that want the same share every event's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted<'k> {
    /// The keys, one or a range; a range that is not empty.
    pub(super) keys: KeyRange<'k>,
    /// Puts are not wanted.
    pub(super) no_put: bool,
    /// Deletions are not wanted.
    pub(super) no_delete: bool,
    /// Each event shows what was there before it.
    pub(super) prev_kv: bool,
}

/// All watchers of a member that want the same.
pub(super) struct Group {
    /// The first key, and behind it the first key that is not meant, if there is one.
    bounds: Box<[u8]>,
    start_len: u32,
    shape: Shape,
    span: Span,
    /// Of all loops; whoever takes the last one out removes the group from the index.
    watchers: AtomicUsize,
    /// By loop: the number of the loop's own table of it, or `NOBODY`.
    local: Box<[AtomicU32]>,
}

/// What is wanted besides the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    form: Form,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Single,
    Range,
    From,
}

/// Where a group is looked for: with the keys that begin with `common` bytes of its start, and go on
/// with one of `from..=to`. Everything that it wants lies there; not all that lies there is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) common: usize,
    pub(super) from: Next,
    pub(super) to: Next,
}

/// What follows a prefix in a key: 0 if the key ends, else the byte plus one.
pub(super) type Next = u16;

/// Orders groups by where they are looked for, then by what they want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'a> {
    prefix: &'a [u8],
    from: Next,
    to: Next,
    shape: Shape,
    bounds: &'a [u8],
    start_len: u32,
}

impl Group {
    /// The group of the first watcher.
    pub(super) fn new(wanted: &Wanted<'_>, loops: usize) -> Self {
        let (form, start, end) = parts(&wanted.keys);
        let shape = Shape {
            form,
            no_put: wanted.no_put,
            no_delete: wanted.no_delete,
            prev_kv: wanted.prev_kv,
        };
        Self {
            bounds: [start, end].concat().into(),
            start_len: u32::try_from(start.len()).expect("a request is shorter than 4 GiB"),
            shape,
            span: Span::of(form, start, end),
            watchers: AtomicUsize::new(1),
            local: (0..loops).map(|_| AtomicU32::new(NOBODY)).collect(),
        }
    }

    /// Adds a watcher; false if the last one has gone and with it the group.
    pub(super) fn join(&self) -> bool {
        let one_more = |watchers| (watchers > 0).then_some(watchers + 1);
        // AcqRel: pairs with `leave` of another thread.
        let joined = self
            .watchers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        joined.is_ok()
    }

    /// Takes a watcher out; true for the last one, who has to remove the group.
    pub(super) fn leave(&self) -> bool {
        self.watchers.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) fn is_gone(&self) -> bool {
        self.watchers.load(Ordering::Acquire) == 0
    }

    /// The number of this loop's table, if the loop has watchers in the group.
    pub(super) fn local(&self, net_loop: usize) -> Option<u32> {
        // SeqCst: see `Hub::join`.
        let local = self.local[net_loop].load(Ordering::SeqCst);
        (local != NOBODY).then_some(local)
    }

    pub(super) fn set_local(&self, net_loop: usize, local: Option<u32>) {
        self.local[net_loop].store(local.unwrap_or(NOBODY), Ordering::SeqCst);
    }

    /// Whether an event of `key` is wanted.
    pub(super) fn wants(&self, key: &[u8], is_delete: bool) -> bool {
        let (start, end) = self.bounds.split_at(self.start_len as usize);
        let is_meant = match self.shape.form {
            Form::Single => key == start,
            Form::Range => start <= key && key < end,
            Form::From => start <= key,
        };
        let is_filtered = match is_delete {
            true => self.shape.no_delete,
            false => self.shape.no_put,
        };
        is_meant && !is_filtered
    }

    pub(super) fn wants_prev_kv(&self) -> bool {
        self.shape.prev_kv
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }
}

impl Ranked for std::sync::Arc<Group> {
    type Rank<'a> = Rank<'a>;

    fn rank(&self) -> Rank<'_> {
        Rank {
            prefix: &self.bounds[..self.span.common],
            from: self.span.from,
            to: self.span.to,
            shape: self.shape,
            bounds: &self.bounds,
            start_len: self.start_len,
        }
    }

    fn compare(&self, rank: Rank<'_>) -> std::cmp::Ordering {
        self.rank().cmp(&rank)
    }
}

impl<'a> Rank<'a> {
    pub(super) fn is_behind(&self, prefix: &[u8]) -> bool {
        self.prefix == prefix
    }

    /// Not above any group of this prefix whose span begins at `from` or later, and if there, ends at
    /// `to` or later.
    pub(super) fn first(prefix: &'a [u8], from: Next, to: Next) -> Self {
        Self {
            prefix,
            from,
            to,
            shape: Shape {
                form: Form::Single,
                no_put: false,
                no_delete: false,
                prev_kv: false,
            },
            bounds: &[],
            start_len: 0,
        }
    }
}

impl Span {
    fn of(form: Form, start: &[u8], end: &[u8]) -> Self {
        let common = match form {
            Form::Single => {
                return Self {
                    common: start.len(),
                    from: 0,
                    to: 0,
                };
            }
            Form::Range => {
                let same = start.iter().zip(end).take_while(|(a, b)| a == b);
                same.count().min(PREFIX_BYTES_MAX)
            }
            Form::From => 0,
        };
        let to = match form {
            Form::From => Next::MAX,
            _ => next(end, common),
        };
        Self {
            common,
            from: next(start, common),
            to,
        }
    }
}

/// What follows the first `common` bytes of `key`.
pub(super) fn next(key: &[u8], common: usize) -> Next {
    key.get(common).map_or(0, |byte| Next::from(*byte) + 1)
}

fn parts<'k>(keys: &KeyRange<'k>) -> (Form, &'k [u8], &'k [u8]) {
    match *keys {
        KeyRange::Single(key) => (Form::Single, key, &[]),
        KeyRange::Range { start, end } => (Form::Range, start, end),
        KeyRange::From(start) => (Form::From, start, &[]),
        KeyRange::All => (Form::From, &[], &[]),
    }
}

/// Not a table's number.
const NOBODY: u32 = u32::MAX;

/// Longer common prefixes are cut: so many lengths are counted apart.
pub(super) const PREFIX_BYTES_MAX: usize = 255;
