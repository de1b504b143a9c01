//! bbolt's pages as bytes, all numbers little-endian. docs/FORMAT.md has the tables.

/// Bytes of a page. bbolt takes the system's; every system that etcd's releases are for has this.
pub(super) const PAGE_BYTES: usize = 4096;

/// Bytes of the pages of foreign files: bbolt takes the system's page, 4 KiB or up to 64 KiB on some, and its tests less.
pub(super) const PAGE_BYTES_MIN: u64 = 512;
pub(super) const PAGE_BYTES_MAX: u64 = 64 << 10;

/// Bytes before the elements of a page.
pub(super) const HEAD_BYTES: usize = 16;

/// Bytes of an element, its key and value apart.
pub(super) const ELEMENT_BYTES: usize = 16;

/// Elements that a page can count.
pub(super) const ELEMENTS_MAX: usize = 0xFFFF;

/// Where the two copies of the meta data lie; the valid one with the higher number wins.
pub(super) const META_PAGES: u64 = 2;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Branch = 1,
    Leaf = 2,
    Meta = 4,
}

/// Bytes of the meta data behind the head of their page.
pub(super) const META_BYTES: usize = 64;

/// Marks the element of a leaf as a bucket.
pub(super) const IS_BUCKET: u32 = 1;

/// What the meta pages say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// The page with the buckets.
    pub(super) root: u64,
    /// Pages of the file.
    pub(super) pages: u64,
    /// Counts transactions.
    pub(super) txid: u64,
}

/// Head of a page: `overflow` is how many pages it has besides its first.
pub(super) fn put_head(out: &mut Vec<u8>, id: u64, kind: Kind, count: usize, overflow: u32) {
    let count = u16::try_from(count).expect("at most ELEMENTS_MAX");
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&(kind as u16).to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&overflow.to_le_bytes());
}

impl Meta {
    /// Appends meta page `id`, 0 or 1.
    pub(super) fn write(&self, out: &mut Vec<u8>, id: u64) {
        let start = out.len();
        put_head(out, id, Kind::Meta, 0, 0);
        let meta = out.len();
        for word in [MAGIC, VERSION, PAGE_BYTES as u32, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let txid = self.txid - id;
        for long in [self.root, 0, NO_FREELIST, self.pages, txid] {
            out.extend_from_slice(&long.to_le_bytes());
        }
        let checksum = fnv1a(&out[meta..]);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.resize(start + PAGE_BYTES, 0);
    }
}

impl Meta {
    /// Reads a meta page, and how long the file's pages are; `None` if it is none that holds.
    pub(super) fn read(head: &[u8; HEAD_BYTES + META_BYTES]) -> Option<(Self, usize)> {
        let meta = &head[HEAD_BYTES..];
        let is_ours = half(head, 8) == Some(Kind::Meta as u16)
            && word(meta, 0) == Some(MAGIC)
            && word(meta, 4) == Some(VERSION)
            && long(meta, 56) == Some(fnv1a(&meta[..56]));
        let page_bytes = word(meta, 8)?;
        let is_possible = (PAGE_BYTES_MIN as u32..=PAGE_BYTES_MAX as u32).contains(&page_bytes);
        if !is_ours || !is_possible || !page_bytes.is_power_of_two() {
            return None;
        }
        let meta = Self {
            root: long(meta, 16)?,
            pages: long(meta, 40)?,
            txid: long(meta, 48)?,
        };
        Some((meta, usize::try_from(page_bytes).ok()?))
    }
}

pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// FNV-1a, 64 bits.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;

/// In place of the freelist's page: there is none, bbolt finds the free pages itself.
const NO_FREELIST: u64 = u64::MAX;

const _: () = assert!(PAGE_BYTES / ELEMENT_BYTES <= ELEMENTS_MAX);
