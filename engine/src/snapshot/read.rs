use sha2::{Digest, Sha256};

use super::page::{
    self, ELEMENT_BYTES, HEAD_BYTES, IS_BUCKET, Kind, PAGE_BYTES_MAX, PAGE_BYTES_MIN,
};
use crate::limits::{SNAPSHOT_BRANCH_BYTES_MAX, SNAPSHOT_LEAF_BYTES_MAX, SNAPSHOT_STEP_BYTES};

/// The bytes of a file that somebody else may have written.
pub trait Source {
    /// Why they cannot be read.
    type Error;

    /// Fills `into` with the bytes at `at`; asked only for what lies within the length that
    /// [`Database::open`] was told.
    ///
    /// # Errors
    /// The file's.
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Self::Error>;
}

/// A bbolt database, every number of which is doubted.
pub struct Database<S> {
    source: S,
    page_bytes: usize,
    /// Pages of the database; the file has them all.
    pages: u64,
    root: u64,
    /// How many pages walks may still reach: a file in which one page is reached twice, or its own
    /// ancestor, runs out of them.
    left: u64,
}

/// Why a database is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage<E> {
    /// The file cannot be read.
    #[error("{0}")]
    Source(E),
    /// Neither meta page is a database's.
    #[error("invalid database")]
    NoMeta,
    /// The file ends before the database does.
    #[error("the file has {found} bytes where its database has {expected}")]
    Short {
        /// By the meta page.
        expected: u64,
        /// Of the file.
        found: u64,
    },
    /// A page is not what its parent says.
    #[error("page {page}: {what}")]
    Page {
        /// Its number.
        page: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// Hears of an entry: whether it is a bucket, key, value.
type Each<'a, E> = dyn FnMut(bool, &[u8], &[u8]) -> Result<(), E> + 'a;

/// One page with what belongs to it.
struct Page {
    id: u64,
    bytes: Vec<u8>,
    kind: Kind,
    count: usize,
}

/// One entry of a leaf.
struct Entry {
    is_bucket: bool,
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

impl<S: Source> Database<S> {
    /// Reads the meta pages of a file of `bytes` bytes.
    ///
    /// # Errors
    /// It is no database, or not a whole one.
    pub fn open(mut source: S, bytes: u64) -> Result<Self, Damage<S::Error>> {
        let mut best = None;
        let mut head = [0; HEAD_BYTES + page::META_BYTES];
        // The second copy lies one page on, and the first, which says how long that is, may be
        // damaged: then each length is tried.
        let sizes = std::iter::successors(Some(PAGE_BYTES_MIN), |size| Some(size * 2));
        let sizes = sizes.take_while(|size| *size <= PAGE_BYTES_MAX);
        for at in std::iter::once(0).chain(sizes) {
            if at + head.len() as u64 > bytes {
                break;
            }
            source.read(at, &mut head).map_err(Damage::Source)?;
            let Some((meta, page_bytes)) = page::Meta::read(&head) else {
                continue;
            };
            let is_here = at == 0 || at == page_bytes as u64;
            if is_here && best.is_none_or(|(known, _): (page::Meta, usize)| known.txid < meta.txid)
            {
                best = Some((meta, page_bytes));
            }
        }
        let (meta, page_bytes) = best.ok_or(Damage::NoMeta)?;
        let expected = meta.pages.checked_mul(page_bytes as u64);
        match expected {
            Some(expected) if expected <= bytes => {}
            _ => {
                return Err(Damage::Short {
                    expected: expected.unwrap_or(u64::MAX),
                    found: bytes,
                });
            }
        }
        Ok(Self {
            source,
            page_bytes,
            pages: meta.pages,
            root: meta.root,
            left: 0,
        })
    }

    /// Hands the entries of bucket `name` to `each`, in order. False: there is no such bucket.
    ///
    /// # Errors
    /// A page on the way is damaged, or what `each` says.
    pub fn bucket<E: From<Damage<S::Error>>>(
        &mut self,
        name: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut found = None;
        self.left = self.pages;
        self.walk::<E>(self.root, &mut |is_bucket, key, value| {
            if is_bucket && key == name {
                found = Some(value.to_vec());
            }
            Ok(())
        })?;
        let Some(value) = found else {
            return Ok(false);
        };
        let (Some(root), true) = (value.first_chunk::<8>(), value.len() >= BUCKET_BYTES) else {
            return Err(self.bad(self.root, "a bucket without a root").into());
        };
        self.left = self.pages;
        let mut entry = |is_bucket: bool, key: &[u8], value: &[u8]| match is_bucket {
            true => Ok(()),
            false => each(key, value),
        };
        match u64::from_le_bytes(*root) {
            0 => self.inline(&value[BUCKET_BYTES..], &mut entry)?,
            root => self.walk(root, &mut entry)?,
        }
        Ok(true)
    }

    /// Visits all entries below `root`. Checks that keys ascend over all leaves.
    fn walk<E: From<Damage<S::Error>>>(
        &mut self,
        root: u64,
        each: &mut Each<'_, E>,
    ) -> Result<(), E> {
        let mut open: Vec<(Page, usize)> = vec![(self.page(root)?, 0)];
        let mut last: Option<Vec<u8>> = None;
        while let Some((page, next)) = open.last_mut() {
            if page.kind == Kind::Branch && *next < page.count {
                let child = page.child(*next).map_err(|what| bad(page.id, what))?;
                *next += 1;
                if open.len() == DEPTH_MAX {
                    return Err(self.bad(child, "the tree is too deep").into());
                }
                open.push((self.page(child)?, 0));
                continue;
            }
            if page.kind == Kind::Leaf {
                leaf::<S::Error, E>(page, &mut last, each)?;
            }
            open.pop();
        }
        Ok(())
    }

    /// A bucket that lies in its entry: a page whose numbers are 0.
    fn inline<E: From<Damage<S::Error>>>(
        &self,
        bytes: &[u8],
        each: &mut Each<'_, E>,
    ) -> Result<(), E> {
        let page =
            Page::new(self.root, bytes.to_vec()).map_err(|what| self.bad(self.root, what))?;
        if page.kind != Kind::Leaf {
            return Err(self
                .bad(self.root, "an inline bucket that is no leaf")
                .into());
        }
        leaf::<S::Error, E>(&page, &mut None, each)
    }

    /// Reads page `id` and what belongs to it.
    fn page(&mut self, id: u64) -> Result<Page, Damage<S::Error>> {
        if id < page::META_PAGES || id >= self.pages {
            return Err(self.bad(id, "it is not in the file"));
        }
        let at = id * self.page_bytes as u64;
        let mut bytes = vec![0; self.page_bytes];
        self.source.read(at, &mut bytes).map_err(Damage::Source)?;
        let overflow = u64::from(page::word(&bytes, 12).unwrap_or_default());
        if page::long(&bytes, 0) != Some(id) {
            return Err(self.bad(id, "it says that it is another"));
        }
        if overflow >= self.pages - id {
            return Err(self.bad(id, "it is longer than the file"));
        }
        self.left = self
            .left
            .checked_sub(1 + overflow)
            .ok_or_else(|| self.bad(id, "it is reached twice"))?;
        let first = bytes.len();
        let whole = (overflow + 1) * self.page_bytes as u64;
        let bytes_max = match page::half(&bytes, 8) == Some(Kind::Branch as u16) {
            true => SNAPSHOT_BRANCH_BYTES_MAX,
            false => SNAPSHOT_LEAF_BYTES_MAX,
        };
        if whole > bytes_max {
            return Err(self.bad(id, "it is longer than any page of etcd's"));
        }
        let whole = usize::try_from(whole).map_err(|_| self.bad(id, TOO_LONG))?;
        bytes
            .try_reserve_exact(whole - first)
            .map_err(|_| self.bad(id, TOO_LONG))?;
        bytes.resize(whole, 0);
        let rest = &mut bytes[first..];
        self.source
            .read(at + first as u64, rest)
            .map_err(Damage::Source)?;
        Page::new(id, bytes).map_err(|what| self.bad(id, what))
    }

    fn bad(&self, page: u64, what: &'static str) -> Damage<S::Error> {
        bad(page, what)
    }
}

fn bad<E>(page: u64, what: &'static str) -> Damage<E> {
    Damage::Page { page, what }
}

/// Hands out a leaf's entries; `last` is the key before them.
fn leaf<S, E: From<Damage<S>>>(
    page: &Page,
    last: &mut Option<Vec<u8>>,
    each: &mut Each<'_, E>,
) -> Result<(), E> {
    for place in 0..page.count {
        let entry = page.entry(place).map_err(|what| bad(page.id, what))?;
        let key = &page.bytes[entry.key];
        if key.is_empty() || last.as_deref().is_some_and(|last| key <= last) {
            return Err(bad(page.id, "its keys are out of order").into());
        }
        each(entry.is_bucket, key, &page.bytes[entry.value])?;
        let last = last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
    }
    Ok(())
}

impl Page {
    fn new(id: u64, bytes: Vec<u8>) -> Result<Self, &'static str> {
        let (Some(flags), Some(count)) = (page::half(&bytes, 8), page::half(&bytes, 10)) else {
            return Err("it is too short");
        };
        let kind = match flags {
            1 => Kind::Branch,
            2 => Kind::Leaf,
            _ => return Err("it is neither branch nor leaf"),
        };
        let count = usize::from(count);
        if kind == Kind::Branch && count == 0 {
            return Err("it is an empty branch");
        }
        if HEAD_BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err("it has more elements than room");
        }
        Ok(Self {
            id,
            bytes,
            kind,
            count,
        })
    }

    fn child(&self, place: usize) -> Result<u64, &'static str> {
        let at = HEAD_BYTES + place * ELEMENT_BYTES;
        page::long(&self.bytes, at + 8).ok_or("it is too short")
    }

    fn entry(&self, place: usize) -> Result<Entry, &'static str> {
        let at = HEAD_BYTES + place * ELEMENT_BYTES;
        let word = |skip| page::word(&self.bytes, at + skip).ok_or("it is too short");
        let key_at = at.checked_add(word(4)? as usize);
        let value_at = key_at.and_then(|it| it.checked_add(word(8).ok()? as usize));
        let end = value_at.and_then(|it| it.checked_add(word(12).ok()? as usize));
        match (key_at, value_at, end) {
            (Some(key_at), Some(value_at), Some(end))
                if end <= self.bytes.len() && key_at >= HEAD_BYTES + self.count * ELEMENT_BYTES =>
            {
                Ok(Entry {
                    is_bucket: word(0)? & IS_BUCKET != 0,
                    key: key_at..value_at,
                    value: value_at..end,
                })
            }
            _ => Err("an element points out of it"),
        }
    }
}

/// SHA-256 of the first `bytes` bytes; `progress` hears how many are done.
///
/// # Errors
/// The file's.
pub fn file_digest<S: Source>(
    source: &mut S,
    bytes: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<[u8; 32], S::Error> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; SNAPSHOT_STEP_BYTES];
    let mut at = 0;
    while at < bytes {
        let take = (bytes - at).min(buffer.len() as u64);
        let part = &mut buffer[..usize::try_from(take).expect("at most the buffer")];
        source.read(at, part)?;
        digest.update(part);
        at += take;
        progress(at);
    }
    Ok(digest.finalize().into())
}

const TOO_LONG: &str = "it is longer than the free memory";

/// Levels of a tree: with two children each, more leaves than 64 bits can count.
const DEPTH_MAX: usize = 64;

/// Root page and sequence.
const BUCKET_BYTES: usize = 16;
