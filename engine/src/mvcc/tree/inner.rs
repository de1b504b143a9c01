use super::keys::{Keys, Span, common_prefix, head, search};
use super::root::Link;
use super::{Node, PageRef};
use crate::limits::{INNER_CHILDREN_MAX, NODE_KEY_BYTES_MAX};

/// Children in key order. Separator `i` is not above any key of child `i` and above all keys of
/// child `i - 1`; the first child has none.
pub(crate) struct Inner {
    pub(super) keys: Keys,
    len: usize,
    heads: [u64; INNER_CHILDREN_MAX],
    separators: [Span; INNER_CHILDREN_MAX],
    children: [Option<Link>; INNER_CHILDREN_MAX],
    live: [u32; INNER_CHILDREN_MAX],
    changed: [i64; INNER_CHILDREN_MAX],
}

/// What a node says of everything below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Keys whose newest record is no tombstone.
    pub(crate) live: u32,
    /// No key below was created or deleted after this main revision: at it and later ones `live` is
    /// the count.
    pub(crate) changed: i64,
}

impl Inner {
    /// A new root above `left` and `right`.
    pub(super) fn new(left: (Link, Summary), separator: &[u8], right: (Link, Summary)) -> Self {
        let mut inner = Self::empty();
        inner.push(&[], left.0, left.1);
        inner.push(separator, right.0, right.1);
        inner.fit_prefix();
        inner
    }

    /// Children in key order, each behind what separates it from the one before; the first
    /// separator is empty.
    pub(super) fn of_sorted(children: Vec<(Vec<u8>, Link, Summary)>) -> Self {
        let mut inner = Self::empty();
        for (separator, child, summary) in children {
            inner.push(&separator, child, summary);
        }
        inner.fit_prefix();
        inner
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A child that is known to be in memory.
    pub(super) fn child(&self, index: usize) -> &Node {
        self.link(index).get()
    }

    /// A child, or the page that holds it.
    #[inline]
    pub(crate) fn try_child(&self, index: usize) -> Result<&Node, PageRef> {
        self.link(index).node()
    }

    pub(super) fn link(&self, index: usize) -> &Link {
        self.children[..self.len][index]
            .as_ref()
            .expect("places below len are filled")
    }

    pub(super) fn link_mut(&mut self, index: usize) -> &mut Link {
        self.children[..self.len][index]
            .as_mut()
            .expect("places below len are filled")
    }

    pub(crate) fn summary_of(&self, index: usize) -> Summary {
        Summary {
            live: self.live[..self.len][index],
            changed: self.changed[..self.len][index],
        }
    }

    pub(super) fn set_summary(&mut self, index: usize, summary: Summary) {
        self.live[..self.len][index] = summary.live;
        self.changed[..self.len][index] = summary.changed;
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            live: self.live[..self.len].iter().sum(),
            changed: self.changed[..self.len].iter().copied().max().unwrap_or(0),
        }
    }

    /// The child that holds `key` if any does.
    pub(super) fn child_for(&self, key: &[u8]) -> usize {
        let (index, is_equal) = search(&self.heads[1..self.len], &self.keys, key, |index| {
            self.separators[index + 1]
        });
        index + usize::from(is_equal)
    }

    /// The separator in front of child `index`, which is not the first.
    pub(super) fn separator(&self, index: usize) -> &[u8] {
        assert!(index > 0);
        self.keys.get(self.separators[..self.len][index])
    }

    /// Whether `more` children with separators of `bytes` make this node too large.
    pub(super) fn is_full_for(&self, more: usize, bytes: usize) -> bool {
        self.len + more > INNER_CHILDREN_MAX
            || (self.len >= 4 && self.keys.len() + bytes > NODE_KEY_BYTES_MAX)
    }

    /// Puts a child at `index`, which is not 0.
    pub(super) fn insert(&mut self, index: usize, separator: &[u8], child: Link, summary: Summary) {
        assert!(index > 0);
        assert!(index <= self.len);
        assert!(self.len < INNER_CHILDREN_MAX);
        self.rebuild_if_sparse();
        let prefix = self.keys.prefix();
        let shared = if self.len == 1 {
            separator.len()
        } else {
            common_prefix(self.prefix(), separator)
        };
        let span = self.keys.add(separator);
        self.children[self.len] = Some(child);
        self.children[index..=self.len].rotate_right(1);
        self.separators.copy_within(index..self.len, index + 1);
        self.heads.copy_within(index..self.len, index + 1);
        self.live.copy_within(index..self.len, index + 1);
        self.changed.copy_within(index..self.len, index + 1);
        self.separators[index] = span;
        self.len += 1;
        self.set_summary(index, summary);
        if self.len == 2 || shared < prefix {
            self.set_prefix(shared);
        } else {
            self.heads[index] = head(&separator[prefix..]);
        }
    }

    /// Takes child `index` out, and the separator between it and its left neighbour (the first
    /// child's right one).
    pub(super) fn remove(&mut self, index: usize) -> Link {
        assert!(index < self.len);
        let separator = index.max(1);
        if separator < self.len {
            self.keys.discard(self.separators[separator]);
            self.separators
                .copy_within(separator + 1..self.len, separator);
            self.heads.copy_within(separator + 1..self.len, separator);
        }
        self.live.copy_within(index + 1..self.len, index);
        self.changed.copy_within(index + 1..self.len, index);
        self.children[index..self.len].rotate_left(1);
        self.len -= 1;
        let child = self.children[self.len]
            .take()
            .expect("places below len are filled");
        self.rebuild_if_sparse();
        child
    }

    /// Cuts the node before child `at`: returns the separator in front of it, and a node of it and
    /// all behind.
    pub(super) fn split_off(&mut self, at: usize) -> (Vec<u8>, Self) {
        let separator = self.separator(at).to_vec();
        let mut right = Self::empty();
        for index in at..self.len {
            let child = self.children[index]
                .take()
                .expect("places below len are filled");
            let own = if index == at {
                &[]
            } else {
                self.keys.get(self.separators[index])
            };
            right.push(own, child, self.summary_of(index));
        }
        for index in at..self.len {
            self.keys.discard(self.separators[index]);
        }
        self.len = at;
        self.keys.rebuild(self.separators[1..at].iter_mut());
        self.fit_prefix();
        right.fit_prefix();
        (separator, right)
    }

    /// Takes over all children of `right`; `separator` stands between the two nodes.
    pub(super) fn append(&mut self, separator: &[u8], right: &mut Self) {
        for index in 0..right.len {
            let child = right.children[index]
                .take()
                .expect("places below len are filled");
            let own = if index == 0 {
                separator
            } else {
                right.keys.get(right.separators[index])
            };
            self.push(own, child, right.summary_of(index));
        }
        right.len = 0;
        self.fit_prefix();
    }

    fn empty() -> Self {
        Self {
            keys: Keys::new(),
            len: 0,
            heads: [0; INNER_CHILDREN_MAX],
            separators: [Span::default(); INNER_CHILDREN_MAX],
            children: [const { None }; INNER_CHILDREN_MAX],
            live: [0; INNER_CHILDREN_MAX],
            changed: [0; INNER_CHILDREN_MAX],
        }
    }

    /// Adds a child behind all others; heads are set by the `fit_prefix` that follows. The first
    /// child's separator is empty.
    fn push(&mut self, separator: &[u8], child: Link, summary: Summary) {
        assert!(self.len < INNER_CHILDREN_MAX);
        self.separators[self.len] = self.keys.add(separator);
        self.children[self.len] = Some(child);
        self.len += 1;
        self.set_summary(self.len - 1, summary);
    }

    /// What all separators share.
    fn prefix(&self) -> &[u8] {
        if self.len < 2 {
            &[]
        } else {
            &self.separator(1)[..self.keys.prefix()]
        }
    }

    fn fit_prefix(&mut self) {
        if self.len >= 2 {
            self.set_prefix(common_prefix(
                self.separator(1),
                self.separator(self.len - 1),
            ));
        }
    }

    fn set_prefix(&mut self, prefix: usize) {
        self.keys.set_prefix(self.separators[1], prefix);
        for index in 1..self.len {
            self.heads[index] = head(&self.keys.get(self.separators[index])[prefix..]);
        }
    }

    fn rebuild_if_sparse(&mut self) {
        if self.keys.is_sparse() && self.len > 0 {
            self.keys.rebuild(self.separators[1..self.len].iter_mut());
        }
    }
}
