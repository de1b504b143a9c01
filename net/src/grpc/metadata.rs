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

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Memory kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
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

/// Appends what a `-bin` value stands for, with or without padding. The error is the place of the first wrong byte.
pub(super) fn decode_base64(value: &[u8], out: &mut Vec<u8>) -> Result<(), usize> {
    let padding = match value {
        [.., b'=', b'='] if value.len().is_multiple_of(4) => 2,
        [.., b'='] if value.len().is_multiple_of(4) => 1,
        _ => 0,
    };
    let digits = &value[..value.len() - padding];
    if digits.len() % 4 == 1 {
        return Err(value.len());
    }
    let (mut bits, mut held) = (0u32, 0);
    for (at, &digit) in digits.iter().enumerate() {
        let six = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(at),
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Ok(())
}

/// Appends the value of a `-bin` name, without padding.
pub(super) fn encode_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for place in 0..=chunk.len() {
            out.push(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_survive_with_and_without_padding() {
        for length in 0..20u8 {
            let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(37)).collect();
            let mut value = Vec::new();
            encode_base64(&bytes, &mut value);
            let mut decoded = Vec::new();
            assert_eq!(decode_base64(&value, &mut decoded), Ok(()));
            assert_eq!(decoded, bytes);
            while !value.len().is_multiple_of(4) {
                value.push(b'=');
            }
            decoded.clear();
            assert_eq!(decode_base64(&value, &mut decoded), Ok(()));
            assert_eq!(decoded, bytes);
        }
        for wrong in [&b"A"[..], b"AB!C", b"A=BC", b"====="] {
            assert!(decode_base64(wrong, &mut Vec::new()).is_err());
        }
    }

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
