use super::page::{ELEMENT_BYTES, HEAD_BYTES, IS_BUCKET, Kind, PAGE_BYTES, put_head};

/// Packs sorted entries into the pages of one tree, from the leaves up. A branch leaves as soon as
/// it is full, so that memory holds one page of each level and not an index of the leaves.
pub(super) struct TreeWriter {
    /// The page that is written next.
    next_page: u64,
    leaf: Filling,
    /// From the leaves' parents up.
    branches: Vec<Filling>,
    pages: Pages,
}

/// Where pages go.
pub(super) enum Pages {
    /// Nowhere: only their number counts.
    Counted,
    /// To the caller.
    Made(Vec<u8>),
}

/// A page that is not full yet.
#[derive(Default)]
struct Filling {
    elements: Vec<Element>,
    /// Keys and values, back to back; not filled where pages are only counted, the first key apart.
    data: Vec<u8>,
    /// What `data` would be long.
    data_bytes: usize,
    first_key: Vec<u8>,
    /// Whether a page of this level has left already.
    has_left: bool,
}

#[derive(Clone, Copy)]
struct Element {
    flags: u32,
    key_bytes: u32,
    value_bytes: u32,
    /// The page below; in branches only.
    child: u64,
}

impl TreeWriter {
    pub(super) fn new(next_page: u64, pages: Pages) -> Self {
        Self {
            next_page,
            leaf: Filling::default(),
            branches: Vec::new(),
            pages,
        }
    }

    /// The page behind the last one that has left.
    pub(super) fn next_page(&self) -> u64 {
        self.next_page
    }

    /// The pages that are made; those that were taken from it are gone.
    pub(super) fn made(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.pages {
            Pages::Made(bytes) => Some(bytes),
            Pages::Counted => None,
        }
    }

    /// Adds an entry; its key is above all before. `value` appends exactly `value_bytes`.
    pub(super) fn push(
        &mut self,
        key: &[u8],
        value_bytes: usize,
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        self.add(0, key, value_bytes, value);
    }

    /// Adds a bucket with the page of its tree.
    pub(super) fn push_bucket(&mut self, name: &[u8], root: u64) {
        self.add(IS_BUCKET, name, 16, |out| {
            out.extend_from_slice(&root.to_le_bytes());
            out.extend_from_slice(&0u64.to_le_bytes());
        });
    }

    /// Ends the tree, an empty one too; answers its root page. The next entry begins another tree.
    pub(super) fn finish(&mut self) -> u64 {
        let mut root = self.leave(None);
        let mut level = 0;
        while level < self.branches.len() {
            let is_top = level + 1 == self.branches.len();
            let branch = &self.branches[level];
            if is_top && !branch.has_left && branch.elements.len() == 1 {
                break;
            }
            if !branch.elements.is_empty() {
                root = self.leave(Some(level));
            }
            level += 1;
        }
        self.leaf = Filling::default();
        self.branches.clear();
        root
    }

    fn add(
        &mut self,
        flags: u32,
        key: &[u8],
        value_bytes: usize,
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        if !self.leaf.has_room(key.len() + value_bytes) {
            self.leave(None);
        }
        let is_made = matches!(self.pages, Pages::Made(_));
        let leaf = &mut self.leaf;
        leaf.begin(key, value_bytes, flags, 0);
        if is_made {
            leaf.data.extend_from_slice(key);
            let value_at = leaf.data.len();
            value(&mut leaf.data);
            assert!(leaf.data.len() - value_at == value_bytes);
        }
    }

    /// Sends the leaf off, or the branch of a level, and tells its parent. Answers its page.
    fn leave(&mut self, branch: Option<usize>) -> u64 {
        let page = self.next_page;
        let (filling, kind) = match branch {
            None => (&mut self.leaf, Kind::Leaf),
            Some(level) => (&mut self.branches[level], Kind::Branch),
        };
        let pages = filling.bytes().div_ceil(PAGE_BYTES);
        let overflow = u32::try_from(pages - 1).expect("a record is shorter than 4 GiB");
        if let Pages::Made(out) = &mut self.pages {
            filling.write(out, page, kind, overflow);
        }
        self.next_page += pages as u64;
        let first_key = filling.clear();
        let parent = branch.map_or(0, |level| level + 1);
        self.adopt(parent, first_key, page);
        page
    }

    /// Adds the page `child` to the branch of `level`.
    fn adopt(&mut self, level: usize, first_key: Vec<u8>, child: u64) {
        if level == self.branches.len() {
            self.branches.push(Filling::default());
        }
        if !self.branches[level].has_room(first_key.len()) {
            self.leave(Some(level));
        }
        let branch = &mut self.branches[level];
        branch.begin(&first_key, 0, 0, child);
        branch.data.extend_from_slice(&first_key);
    }
}

impl Filling {
    fn bytes(&self) -> usize {
        HEAD_BYTES + self.elements.len() * ELEMENT_BYTES + self.data_bytes
    }

    /// Whether one more element still leaves it one page; an empty one takes anything.
    fn has_room(&self, data_bytes: usize) -> bool {
        self.elements.is_empty() || self.bytes() + ELEMENT_BYTES + data_bytes <= PAGE_BYTES
    }

    fn begin(&mut self, key: &[u8], value_bytes: usize, flags: u32, child: u64) {
        if self.elements.is_empty() {
            self.first_key.extend_from_slice(key);
        }
        self.elements.push(Element {
            flags,
            key_bytes: u32::try_from(key.len()).expect("a key is shorter than 4 GiB"),
            value_bytes: u32::try_from(value_bytes).expect("a value is shorter than 4 GiB"),
            child,
        });
        self.data_bytes += key.len() + value_bytes;
    }

    fn write(&self, out: &mut Vec<u8>, page: u64, kind: Kind, overflow: u32) {
        assert!(self.data.len() == self.data_bytes);
        let start = out.len();
        put_head(out, page, kind, self.elements.len(), overflow);
        // From the element's own first byte to its key.
        let mut to_key = self.elements.len() * ELEMENT_BYTES;
        for element in &self.elements {
            let pos = u32::try_from(to_key).expect("only the last of a page is long");
            match kind {
                Kind::Branch => {
                    for word in [pos, element.key_bytes] {
                        out.extend_from_slice(&word.to_le_bytes());
                    }
                    out.extend_from_slice(&element.child.to_le_bytes());
                }
                Kind::Leaf | Kind::Meta => {
                    for word in [element.flags, pos, element.key_bytes, element.value_bytes] {
                        out.extend_from_slice(&word.to_le_bytes());
                    }
                }
            }
            to_key += element.key_bytes as usize + element.value_bytes as usize;
            to_key -= ELEMENT_BYTES;
        }
        out.extend_from_slice(&self.data);
        let pages = overflow as usize + 1;
        out.resize(start + pages * PAGE_BYTES, 0);
    }

    /// Empties it; answers the first key it had.
    fn clear(&mut self) -> Vec<u8> {
        self.elements.clear();
        self.data.clear();
        self.data_bytes = 0;
        self.has_left = true;
        std::mem::take(&mut self.first_key)
    }
}
