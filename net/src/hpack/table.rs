use std::collections::VecDeque;

/// What one entry costs beyond its bytes (RFC 7541, 4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;

/// The dynamic table: newest entry first, bytes of all entries in one buffer.
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// Oldest entry at the front.
    entries: VecDeque<Entry>,
    /// Bytes of live entries, preceded by `dead` bytes of evicted ones.
    bytes: Vec<u8>,
    dead: usize,
    /// Sum of the entries' sizes; at most `bytes_max`.
    size: usize,
    bytes_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name_bytes: u32,
    value_bytes: u32,
    start: usize,
}

impl DynamicTable {
    pub(super) fn new(bytes_max: usize) -> DynamicTable {
        DynamicTable {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            dead: 0,
            size: 0,
            bytes_max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The entry at `index`, 0 being the newest.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let place = self.entries.len().checked_sub(index + 1)?;
        let entry = self.entries[place];
        let middle = entry.start + entry.name_bytes as usize;
        let end = middle + entry.value_bytes as usize;
        Some((&self.bytes[entry.start..middle], &self.bytes[middle..end]))
    }

    /// Makes room and adds; an entry larger than the table empties it (RFC 7541, 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.shrink_to(self.bytes_max.saturating_sub(size));
        if size > self.bytes_max {
            return;
        }
        self.entries.push_back(Entry {
            name_bytes: name.len() as u32,
            value_bytes: value.len() as u32,
            start: self.bytes.len(),
        });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += size;
    }

    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.shrink_to(bytes_max);
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size {
            let evicted = self
                .entries
                .pop_front()
                .expect("a size above zero comes from an entry");
            let bytes = evicted.name_bytes as usize + evicted.value_bytes as usize;
            self.dead += bytes;
            self.size -= bytes + ENTRY_OVERHEAD;
        }
        // Moving at most as many bytes as have died since the last time keeps insertion linear.
        if self.dead > self.bytes_max.max(self.bytes.len() / 2) {
            self.bytes.drain(..self.dead);
            for entry in &mut self.entries {
                entry.start -= self.dead;
            }
            self.dead = 0;
        }
    }
}

/// Name and value by index, 1 being the first (RFC 7541, Appendix A).
pub(super) static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_never_holds_more_than_its_bound_and_forgets_the_oldest() {
        let mut table = DynamicTable::new(100);
        for round in 0..1000u32 {
            let value = round.to_string();
            table.insert(b"name", value.as_bytes());
            assert!(table.size() <= 100);
            assert!(table.bytes.len() <= 300);
            assert_eq!(table.get(0), Some((&b"name"[..], value.as_bytes())));
        }
        assert_eq!(table.len(), 2);
        table.insert(&[b'x'; 101], b"");
        assert_eq!(table.len(), 0);
        assert_eq!(table.get(0), None);
    }
}
