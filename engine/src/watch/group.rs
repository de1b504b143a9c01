use std::sync::atomic::Ordering;

use super::skiplist::{Entry, Held, Ranked, SkipList};
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

/// All watchers of a member that want the same. Its node in the index has the keys as bytes: the first one, and of a range
/// behind it the first that is not meant and the length of the first. Its words are the number of watchers of all loops
/// (whoever takes the last one out removes the group from the index), and by loop the number of the loop's first watcher in
/// it, or `NOBODY`.
pub(super) struct Group {
    shape: Shape,
    /// Of a range: bytes of the prefix that it stands behind.
    common: u8,
}

/// A group as it is met in the index.
pub(super) type GroupEntry<'g> = Entry<'g, Group>;

/// A group that stays while it is needed.
pub(super) type GroupHeld = Held<Group>;

/// What is wanted besides the keys: the form of these, and a bit for each wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape(u8);

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
    start: &'a [u8],
    end: &'a [u8],
}

impl Group {
    /// The group of the first watcher, not in the list yet.
    pub(super) fn make(list: &SkipList<Self>, wanted: &Wanted<'_>, loops: u16) -> GroupHeld {
        let (form, start, end) = parts(&wanted.keys);
        let common = Span::of(form, start, end).common;
        let group = Self {
            shape: Shape::new(form, wanted),
            common: u8::try_from(common).unwrap_or(u8::MAX),
        };
        let start_len = u32::try_from(start.len()).expect("a request is shorter than 4 GiB");
        let start_len = start_len.to_le_bytes();
        let is_range = form == Form::Range;
        let bytes = [start, end, &start_len];
        let word = |at| if at == 0 { 1 } else { NOBODY };
        list.make(
            group,
            (1 + loops, word),
            if is_range { &bytes } else { &bytes[..1] },
        )
    }
}

impl<'g> Entry<'g, Group> {
    /// Adds a watcher; false if the last one has gone and with it the group.
    pub(super) fn join(self) -> bool {
        let one_more = |watchers| (watchers > 0).then_some(watchers + 1);
        // AcqRel: pairs with `leave` of another thread.
        let joined = self.words()[0].fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        joined.is_ok()
    }

    /// Takes a watcher out; true for the last one, who has to remove the group.
    pub(super) fn leave(self) -> bool {
        self.words()[0].fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) fn is_gone(self) -> bool {
        self.words()[0].load(Ordering::Acquire) == 0
    }

    /// The number of this loop's first watcher, if the loop has any in the group.
    pub(super) fn first_of(self, net_loop: usize) -> Option<u32> {
        // SeqCst: see `Hub::is_told`.
        let first = self.words()[1 + net_loop].load(Ordering::SeqCst);
        (first != NOBODY).then_some(first)
    }

    pub(super) fn set_first_of(self, net_loop: usize, first: Option<u32>) {
        self.words()[1 + net_loop].store(first.unwrap_or(NOBODY), Ordering::SeqCst);
    }

    /// Whether an event of `key` is wanted.
    pub(super) fn wants(self, key: &[u8], is_delete: bool) -> bool {
        let shape = self.item().shape;
        let (start, end) = self.bounds();
        let is_meant = match shape.form() {
            Form::Single => key == start,
            Form::Range => start <= key && key < end,
            Form::From => start <= key,
        };
        is_meant
            && !shape.has(if is_delete {
                Shape::NO_DELETE
            } else {
                Shape::NO_PUT
            })
    }

    pub(super) fn wants_prev_kv(self) -> bool {
        self.item().shape.has(Shape::PREV_KV)
    }

    pub(super) fn span(self) -> Span {
        let (start, end) = self.bounds();
        match self.item().shape.form() {
            Form::Single => Span::single(start),
            form => Span::behind(form, self.item().common.into(), start, end),
        }
    }

    /// The first key, and the first that is not meant of a range.
    fn bounds(self) -> (&'g [u8], &'g [u8]) {
        let bytes = self.bytes();
        if self.item().shape.form() != Form::Range {
            return (bytes, &[]);
        }
        let (bounds, start_len) = bytes.split_last_chunk().expect("as `make` has written it");
        bounds.split_at(u32::from_le_bytes(*start_len) as usize)
    }
}

impl Ranked for Group {
    type Rank<'a> = Rank<'a>;

    fn rank(entry: GroupEntry<'_>) -> Rank<'_> {
        let Span { common, from, to } = entry.span();
        let (start, end) = entry.bounds();
        Rank {
            prefix: &start[..common],
            from,
            to,
            shape: entry.item().shape,
            start,
            end,
        }
    }

    fn compare(entry: GroupEntry<'_>, rank: Rank<'_>) -> std::cmp::Ordering {
        Self::rank(entry).cmp(&rank)
    }
}

impl Shape {
    const NO_PUT: u8 = 1 << 2;
    const NO_DELETE: u8 = 1 << 3;
    const PREV_KV: u8 = 1 << 4;

    fn new(form: Form, wanted: &Wanted<'_>) -> Self {
        let wish = |is_wished, bit| if is_wished { bit } else { 0 };
        let wishes = wish(wanted.no_put, Self::NO_PUT)
            | wish(wanted.no_delete, Self::NO_DELETE)
            | wish(wanted.prev_kv, Self::PREV_KV);
        Self(wishes | form as u8)
    }

    fn form(self) -> Form {
        match self.0 & 3 {
            0 => Form::Single,
            1 => Form::Range,
            _ => Form::From,
        }
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
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
            shape: Shape(0),
            start: &[],
            end: &[],
        }
    }
}

impl Span {
    fn of(form: Form, start: &[u8], end: &[u8]) -> Self {
        match form {
            Form::Single => Self::single(start),
            Form::Range => {
                let same = start.iter().zip(end).take_while(|(a, b)| a == b);
                Self::behind(form, same.count().min(PREFIX_BYTES_MAX), start, end)
            }
            Form::From => Self::behind(form, 0, start, end),
        }
    }

    fn single(key: &[u8]) -> Self {
        Self {
            common: key.len(),
            from: 0,
            to: 0,
        }
    }

    fn behind(form: Form, common: usize, start: &[u8], end: &[u8]) -> Self {
        Self {
            common,
            from: next(start, common),
            to: match form {
                Form::From => Next::MAX,
                _ => next(end, common),
            },
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

/// Not a watcher's number.
const NOBODY: u32 = u32::MAX;

/// Longer common prefixes are cut: so many lengths are counted apart.
pub(super) const PREFIX_BYTES_MAX: usize = u8::MAX as usize;
