use std::ops::ControlFlow;

use sha2::{Digest, Sha256};

use super::buckets::{self, Bucket, Description};
use super::page::{META_PAGES, Meta, PAGE_BYTES};
use super::tree::{Pages, TreeWriter};
use crate::disk::Disk;
use crate::limits::{SNAPSHOT_LAYOUT_RECORDS, SNAPSHOT_STEP_BYTES};
use crate::mvcc::{BadSegment, History, HistoryAt};

/// A snapshot on its way, in steps of about a millisecond: first all is laid out, which says how
/// long the file becomes and where its root lies, then the same walk makes the pages.
pub struct Snapshot {
    description: Description,
    history: History,
    walk: Walk,
    /// Known once all is laid out.
    layout: Option<Meta>,
    /// Over all that was handed out.
    digest: Sha256,
    /// What was handed out.
    done_bytes: u64,
}

/// How one step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to send yet: call again.
    LayingOut,
    /// More of the file was appended.
    Bytes,
    /// The file is whole. The digest over it stands behind it in what tools save.
    Whole {
        /// SHA-256.
        digest: [u8; 32],
    },
}

/// One pass over all buckets.
struct Walk {
    tree: TreeWriter,
    /// The next one, by its place in `Bucket::ALL`.
    bucket: usize,
    at: HistoryAt,
    /// Root pages of the buckets that are done.
    roots: Vec<u64>,
}

impl Snapshot {
    /// The state that `description` and `history` are.
    #[must_use]
    pub fn new(description: Description, history: History) -> Self {
        Self {
            description,
            history,
            walk: Walk::new(Pages::Counted),
            layout: None,
            digest: Sha256::new(),
            done_bytes: 0,
        }
    }

    /// Bytes of the file, without the digest; `None` while it is laid out.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.layout.map(|layout| layout.pages * PAGE_BYTES as u64)
    }

    /// Appends more of the file to `out`, sometimes nothing; `SNAPSHOT_STEP_BYTES` and one record at
    /// most.
    ///
    /// # Errors
    /// Records cannot be read from `disk`, where those lie that are not in memory.
    pub fn step(&mut self, disk: &mut dyn Disk, out: &mut Vec<u8>) -> Result<Progress, BadSegment> {
        let length = self.bytes();
        let (description, history) = (&self.description, &mut self.history);
        let Some(layout) = self.layout else {
            if let Some(layout) = self.walk.step(description, history, disk)? {
                self.layout = Some(layout);
                self.walk = Walk::new(Pages::Made(Vec::new()));
            }
            return Ok(Progress::LayingOut);
        };
        let start = out.len();
        if self.done_bytes == 0 {
            for page in 0..META_PAGES {
                layout.write(out, page);
            }
        } else if Some(self.done_bytes) == length {
            let digest = self.digest.clone().finalize().into();
            return Ok(Progress::Whole { digest });
        } else {
            let end = self.walk.step(description, history, disk)?;
            assert!(end.is_none_or(|end| end == layout));
            out.append(self.walk.tree.made().expect("the second pass makes pages"));
        }
        self.digest.update(&out[start..]);
        self.done_bytes += (out.len() - start) as u64;
        assert!(Some(self.done_bytes) <= length);
        Ok(Progress::Bytes)
    }
}

impl Walk {
    fn new(pages: Pages) -> Self {
        Self {
            tree: TreeWriter::new(META_PAGES, pages),
            bucket: 0,
            at: HistoryAt::default(),
            roots: Vec::new(),
        }
    }

    /// Goes on by a bucket or a bounded part of one. `Some`: that was the last.
    fn step(
        &mut self,
        description: &Description,
        history: &mut History,
        disk: &mut dyn Disk,
    ) -> Result<Option<Meta>, BadSegment> {
        let Some(&bucket) = Bucket::ALL.get(self.bucket) else {
            return Ok(Some(self.finish()));
        };
        if bucket == Bucket::Key {
            let (tree, mut left) = (&mut self.tree, SNAPSHOT_LAYOUT_RECORDS);
            let more = history.visit(&mut self.at, disk, |record| {
                buckets::push_record(tree, record);
                left -= 1;
                let made_bytes = tree.made().map_or(0, |made| made.len());
                match left == 0 || made_bytes >= SNAPSHOT_STEP_BYTES {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
            if more {
                return Ok(None);
            }
        } else {
            for (key, value) in description.entries(bucket, history) {
                let append = |out: &mut Vec<u8>| out.extend_from_slice(&value);
                self.tree.push(&key, value.len(), append);
            }
        }
        self.roots.push(self.tree.finish());
        self.bucket += 1;
        Ok(None)
    }

    fn finish(&mut self) -> Meta {
        for (bucket, root) in Bucket::ALL.iter().zip(&self.roots) {
            self.tree.push_bucket(bucket.name(), *root);
        }
        let root = self.tree.finish();
        Meta {
            root,
            pages: self.tree.next_page(),
            txid: TXID,
        }
    }
}

/// The second copy of the meta data has one less.
const TXID: u64 = 1;
