/// The metadata of a call: names and values in the order of the wire, names in lower case.
///
/// One buffer for all of it, so that a connection can reuse it without allocating.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    start: u32,
    name_bytes: u32,
    value_bytes: u32,
}

impl Metadata {
    /// Adds one entry; `name` must be in lower case. The value of a `-bin` name is the decoded one.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start =
            u32::try_from(self.bytes.len()).expect("header lists are bounded far below 4 GiB");
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push(Entry {
            start,
            name_bytes: name.len() as u32,
            value_bytes: value.len() as u32,
        });
    }

    /// The first value of `name`. Values of `-bin` names are already decoded from base64.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// All values of `name`, in order.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter()
            .filter(move |(found, _)| *found == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// Names and values in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|entry| {
            let start = entry.start as usize;
            let middle = start + entry.name_bytes as usize;
            let end = middle + entry.value_bytes as usize;
            (&self.bytes[start..middle], &self.bytes[middle..end])
        })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_name_keep_their_order() {
        let mut meta = Metadata::default();
        meta.push(b"token", b"a");
        meta.push(b"other", b"");
        meta.push(b"token", b"b");
        assert_eq!(meta.get("token"), Some(&b"a"[..]));
        assert_eq!(meta.get_all("token").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(meta.get("missing"), None);
        assert_eq!(meta.len(), 3);
    }
}
