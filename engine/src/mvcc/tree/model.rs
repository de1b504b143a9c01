//! The tree against a `BTreeMap`, driven by bytes: for the fuzzer, and for seeded tests.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{
    Body, Bulk, Entry, Leaf, Left, Memory, Node, PageRef, Span, Summary, Tree, Was, Written, count,
    walk, walk_back, walk_bottom,
};
use crate::limits::NODE_KEY_BYTES_MAX;

type Entries = Vec<(Vec<u8>, Entry)>;

/// The tree, what it must hold, and the pages that a disk would have.
struct Play {
    tree: Tree<u64>,
    model: BTreeMap<Vec<u8>, Entry>,
    published: BTreeMap<Vec<u8>, Entry>,
    pages: BTreeMap<PageRef, Entries>,
    files: u32,
    /// Of the last checkpoint, as long as the tree has not heard of it.
    written: Vec<Written>,
}

/// Plays the operations that `data` spells and checks the tree after each. Leaves are written to
/// pages, given back and loaded on the way.
///
/// # Panics
/// When the tree and the model differ.
pub fn fuzz_tree_model(data: &[u8]) {
    let mut play = Play {
        tree: Bulk::new().finish(0u64),
        model: BTreeMap::new(),
        published: BTreeMap::new(),
        pages: BTreeMap::new(),
        files: 0,
        written: Vec::new(),
    };
    let mut data = data;
    let mut rev = 1;
    while let Some((&op, rest)) = data.split_first() {
        data = rest;
        rev += 1;
        match op % 8 {
            0..=3 => play.put(take_key(&mut data), rev),
            4 => play.delete(&take_key(&mut data), rev),
            5 => play.remove(take_key(&mut data)),
            6 => match op >> 3 {
                0..=14 => play.publish(rev, op & 8 != 0),
                15..=19 => _ = play.checkpoint(rev),
                20..=23 => play.settle(),
                24..=29 => {
                    let before = play.tree.memory().clean_bytes;
                    play.tree.evict(before / 2, usize::from(op) * 2);
                }
                _ => play.restart(rev),
            },
            _ => {
                let (from, before) = (take_key(&mut data), take_key(&mut data));
                play.check_range(&from, &before, rev);
            }
        }
    }
    let pin = play.tree.shared().clone();
    let pin = pin.pin();
    let published: Entries = play.published.clone().into_iter().collect();
    assert!(play.contents(pin.get().0) == published);
    play.check_all(rev);
    assert!(play.contents(pin.get().0) == published);
}

impl Play {
    /// What `op` answers once it needs no page any more.
    fn ready<R>(&mut self, mut op: impl FnMut(&mut Tree<u64>) -> Result<R, PageRef>) -> R {
        loop {
            match op(&mut self.tree) {
                Ok(done) => return done,
                Err(page) => self.load(page),
            }
        }
    }

    fn load(&mut self, page: PageRef) {
        assert!(self.tree.load(page, leaf_of(&self.pages[&page])));
        assert!(!self.tree.load(page, leaf_of(&self.pages[&page])));
    }

    fn put(&mut self, key: Vec<u8>, rev: i64) {
        let old = self.model.get(&key).copied();
        let make = |found: Option<&Entry>| {
            assert_eq!(found.copied(), old);
            let create = found.map_or(rev, |old| if old.is_live() { old.create } else { rev });
            Entry {
                main: rev,
                create,
                version: 1 + old.map_or(0, |old: Entry| old.version),
                ..Entry::default()
            }
        };
        self.ready(|tree| tree.upsert(&key, make));
        let found = self.tree.root().get(&key).expect("just changed");
        let entry = found.map(|(leaf, index)| *leaf.entry(index));
        assert_eq!(entry.map(|entry| entry.main), Some(rev));
        self.model.insert(key, entry.unwrap_or_default());
    }

    fn delete(&mut self, key: &[u8], rev: i64) {
        let tombstone = Entry {
            main: rev,
            ..Entry::default()
        };
        if let Some(entry) = self.model.get_mut(key) {
            *entry = tombstone;
            self.ready(|tree| tree.upsert(key, |_| tombstone));
        }
    }

    fn remove(&mut self, from: Vec<u8>) {
        let next = self.model.range(from..).next().map(|(key, _)| key.clone());
        if let Some(key) = next {
            self.model.remove(&key);
            self.ready(|tree| tree.root().get(&key).map(|found| assert!(found.is_some())));
            self.tree.remove(&key);
        }
    }

    fn publish(&mut self, rev: i64, hurry: bool) {
        self.published = self.model.clone();
        self.tree.publish(rev.unsigned_abs(), hurry);
    }

    /// Writes what no page holds to new ones, and some pages anew; answers what names them all.
    fn checkpoint(&mut self, rev: i64) -> Vec<(Vec<u8>, PageRef, Summary)> {
        self.publish(rev, false);
        self.settle();
        let (file, mut table) = (self.files, Vec::new());
        let mut page = 0;
        let (pages, written) = (&mut self.pages, &mut self.written);
        let _: ControlFlow<()> = walk_bottom(self.tree.root(), b"", &mut |bottom| {
            let next = PageRef { file, page };
            let (was, entries) = match (bottom.page, bottom.leaf) {
                (Some(at), _) if at.page % 3 > 0 => {
                    table.push((bottom.separator.to_vec(), at, bottom.summary));
                    return ControlFlow::Continue(());
                }
                (Some(at), _) => (Was::Page(at), pages[&at].clone()),
                (None, Some((leaf, batch))) => (Was::Batch(batch), entries_of(leaf)),
                (None, None) => unreachable!("it is somewhere"),
            };
            if entries.is_empty() {
                return ControlFlow::Continue(());
            }
            page += 1;
            pages.insert(next, entries);
            let separator = Box::from(bottom.separator);
            written.push(Written {
                separator,
                was,
                page: next,
            });
            table.push((bottom.separator.to_vec(), next, bottom.summary));
            ControlFlow::Continue(())
        });
        self.files += 1;
        table
    }

    fn settle(&mut self) {
        for written in self.written.drain(..) {
            self.tree.settle(&written);
        }
    }

    fn restart(&mut self, rev: i64) {
        let mut bulk = Bulk::new();
        for (separator, page, summary) in self.checkpoint(rev) {
            bulk.push(&separator, page, summary);
        }
        self.written.clear();
        self.tree = bulk.finish(0);
        assert_eq!(self.tree.memory().clean, 0);
    }

    /// All that is in the tree of `root` and on its pages.
    fn contents(&self, root: &Node) -> Entries {
        let mut all = Vec::new();
        let _: ControlFlow<()> = walk_bottom(root, b"", &mut |bottom| {
            let entries = match (bottom.leaf, bottom.page) {
                (Some((leaf, _)), page) => {
                    let entries = entries_of(leaf);
                    assert!(page.is_none_or(|page| self.pages[&page] == entries));
                    entries
                }
                (None, Some(page)) => self.pages[&page].clone(),
                (None, None) => unreachable!("it is somewhere"),
            };
            let first = entries.first().map_or(&[][..], |(key, _)| key);
            assert!(bottom.separator <= first || entries.is_empty());
            let live = entries.iter().filter(|(_, entry)| entry.is_live()).count();
            assert_eq!(bottom.summary.live as usize, live);
            let changed = entries.iter().map(|(_, entry)| entry.changed()).max();
            assert!(bottom.summary.changed >= changed.unwrap_or(0));
            all.extend(entries);
            ControlFlow::Continue(())
        });
        all
    }

    fn check_range(&mut self, from: &[u8], before: &[u8], rev: i64) {
        if from >= before {
            return;
        }
        let range = self.model.range(from.to_vec()..before.to_vec());
        let expected = range.map(|(key, entry)| (key.clone(), *entry)).collect();
        self.check(Some(from), Some(before), &expected, rev);
    }

    fn check_all(&mut self, rev: i64) {
        let expected: Entries = self.model.clone().into_iter().collect();
        assert!(self.contents(self.tree.root()) == expected);
        self.check(None, None, &expected, rev);
        for (key, entry) in &expected {
            let found = self.tree.root().get(key).expect("all is loaded");
            assert_eq!(found.map(|(leaf, index)| leaf.entry(index)), Some(entry));
        }
        let mut memory = Memory::default();
        check_node(self.tree.root(), true, &mut memory);
        assert_eq!(memory, self.tree.memory());
    }

    fn check(&mut self, from: Option<&[u8]>, before: Option<&[u8]>, expected: &Entries, rev: i64) {
        for rev in [rev, rev / 2] {
            // A key that changed after `rev` counts as live in this model, whatever it was.
            let live = expected
                .iter()
                .filter(|(_, entry)| entry.is_live() || entry.main > rev)
                .count();
            let any = &mut |_: &Leaf, _| Ok::<bool, Left<()>>(true);
            let counted = self.ready(|tree| {
                let mut total = 0;
                match count(tree.root(), from, before, rev, &mut total, any) {
                    Err(Left::Page(page)) => Err(page),
                    counted => {
                        assert_eq!(counted, Ok(()));
                        Ok(total)
                    }
                }
            });
            assert_eq!(counted, live as u64);
        }
        let all = |left: ControlFlow<Left<()>>| match left {
            ControlFlow::Break(Left::Page(page)) => Err(page),
            ControlFlow::Break(Left::Visitor(())) => unreachable!("it never breaks off"),
            ControlFlow::Continue(()) => Ok(()),
        };
        let found = self.ready(|tree| {
            let mut found = Vec::new();
            all(walk(tree.root(), from, before, &mut |leaf, places| {
                found.extend(places.map(|at| (leaf.key(at).to_vec(), *leaf.entry(at))));
                ControlFlow::Continue(())
            }))?;
            Ok(found)
        });
        assert!(found == *expected);
        let mut found = self.ready(|tree| {
            let mut found = Vec::new();
            all(walk_back(tree.root(), from, before, &mut |leaf, places| {
                let places = places.rev();
                found.extend(places.map(|at| (leaf.key(at).to_vec(), *leaf.entry(at))));
                ControlFlow::Continue(())
            }))?;
            Ok(found)
        });
        found.reverse();
        assert!(found == *expected);
    }
}

pub(super) fn entries_of(leaf: &Leaf) -> Entries {
    let places = 0..leaf.len();
    places
        .map(|at| (leaf.key(at).to_vec(), *leaf.entry(at)))
        .collect()
}

pub(super) fn leaf_of(entries: &Entries) -> Leaf {
    let (mut keys, mut spans) = (Vec::new(), Vec::new());
    for (key, entry) in entries {
        spans.push((Span::new(keys.len(), key.len()), *entry));
        keys.extend_from_slice(key);
    }
    Leaf::of_sorted(&keys, &spans)
}

/// A key of up to 255 bytes from few letters, with runs that make prefixes and heads collide;
/// rarely a giant.
fn take_key(data: &mut &[u8]) -> Vec<u8> {
    let Some((&form, rest)) = data.split_first() else {
        return b"k".to_vec();
    };
    let len = usize::from(form % 8).min(rest.len());
    let (letters, rest) = rest.split_at(len);
    *data = rest;
    let repeat = match form >> 3 {
        0..=15 => 1,
        16..=24 => 5,
        25..=29 => 40,
        30 => 700,
        _ => 3000,
    };
    let mut key = b"/k".to_vec();
    for letter in letters {
        key.extend(std::iter::repeat_n(letter % 5, repeat));
    }
    key
}

/// Looks at the form of all nodes in memory and counts the leaves.
fn check_node(node: &Node, is_root: bool, memory: &mut Memory) {
    match &node.body {
        Body::Leaf(leaf) => {
            assert!(is_root || leaf.len() > 0);
            let giant = (0..leaf.len()).any(|index| leaf.key(index).len() > NODE_KEY_BYTES_MAX / 2);
            assert!(leaf.len() <= 1 || leaf.keys.len() <= NODE_KEY_BYTES_MAX * 3 / 2 || giant);
            memory.leaves += 1;
            if node.stored().is_some() {
                memory.clean += 1;
                memory.clean_bytes += node.bytes();
            }
        }
        Body::Inner(inner) => {
            assert!(inner.len() > 0);
            for index in 0..inner.len() {
                let Ok(child) = inner.try_child(index) else {
                    memory.pages += 1;
                    continue;
                };
                let summary = child.summary();
                assert_eq!(inner.summary_of(index).live, summary.live);
                assert!(inner.summary_of(index).changed >= summary.changed);
                check_node(child, false, memory);
            }
        }
    }
}
