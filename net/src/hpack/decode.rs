use super::huffman;
use super::table::{DynamicTable, ENTRY_OVERHEAD, STATIC};

/// One side's reading half of HPACK: the dynamic table that the peer's encoder drives.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// What we announced as SETTINGS_HEADER_TABLE_SIZE; a size update above it is refused.
    announced_bytes: usize,
    scratch: Vec<u8>,
}

/// A list of header fields in one buffer, names as sent.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// Size of the list as RFC 9113, 6.5.2 counts it, of all fields, also of those left out.
    list_bytes: usize,
    truncated: bool,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    name_bytes: u32,
    value_bytes: u32,
}

/// What reading a block did beside giving fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// The dynamic table is another than before: the same bytes may mean something else from now on.
    pub table_changed: bool,
    /// The block refers to the dynamic table: what it means depends on the table's content.
    pub table_used: bool,
}

/// The block is not HPACK. The tables of both sides differ from now on: a connection error COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// The block ends inside a field.
    #[error("header block ends inside a field")]
    Cut,
    /// An integer beyond 2^28, or coded in more bytes than that takes.
    #[error("integer too large")]
    IntegerTooLarge,
    /// Index 0, or beyond both tables.
    #[error("no such index")]
    NoSuchIndex,
    /// A string that is not of the static Huffman code.
    #[error("bad Huffman string")]
    BadHuffman,
    /// A table size update after the first field, or above what was announced.
    #[error("table size update not allowed")]
    BadSizeUpdate,
}

impl Decoder {
    /// `announced_bytes` is the table size that our SETTINGS allow the peer.
    pub fn new(announced_bytes: usize) -> Decoder {
        Decoder {
            table: DynamicTable::new(announced_bytes),
            announced_bytes,
            scratch: Vec::new(),
        }
    }

    /// Reads a whole block into `fields`, which is cleared first.
    ///
    /// Fields beyond `list_bytes_max` or `fields_max` are counted and left out; `Fields::is_truncated` tells.
    pub fn decode(
        &mut self,
        block: &[u8],
        fields: &mut Fields,
        list_bytes_max: usize,
        fields_max: usize,
    ) -> Result<Decoded, HpackError> {
        fields.clear();
        let mut decoded = Decoded {
            table_changed: false,
            table_used: false,
        };
        let mut is_first = true;
        let mut rest = block;
        while let Some(&lead) = rest.first() {
            if lead & 0xe0 == 0x20 {
                let size = take_integer(&mut rest, 5)?;
                if !is_first || size > self.announced_bytes {
                    return Err(HpackError::BadSizeUpdate);
                }
                self.table.set_bytes_max(size);
                decoded.table_changed = true;
                continue;
            }
            is_first = false;
            let room = Room {
                list_bytes_max,
                fields_max,
            };
            if lead & 0x80 != 0 {
                let index = take_integer(&mut rest, 7)?;
                decoded.table_used |= index > STATIC.len();
                let (name, value) = lookup(&self.table, index)?;
                fields.push(name, value, room);
                continue;
            }
            let is_indexed = lead & 0x40 != 0;
            let index = take_integer(&mut rest, if is_indexed { 6 } else { 4 })?;
            decoded.table_used |= index > STATIC.len();
            decoded.table_changed |= is_indexed;
            self.literal(&mut rest, index, is_indexed, fields, room)?;
        }
        Ok(decoded)
    }

    /// Bytes the dynamic table holds, by RFC 7541's count.
    pub fn table_bytes(&self) -> usize {
        self.table.size()
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        name_index: usize,
        is_indexed: bool,
        fields: &mut Fields,
        room: Room,
    ) -> Result<(), HpackError> {
        // The scratch keeps name and value apart from the table, which the insertion changes.
        self.scratch.clear();
        if name_index == 0 {
            take_string(rest, &mut self.scratch)?;
        } else {
            let (name, _) = lookup(&self.table, name_index)?;
            self.scratch.extend_from_slice(name);
        }
        let name_bytes = self.scratch.len();
        take_string(rest, &mut self.scratch)?;
        let (name, value) = self.scratch.split_at(name_bytes);
        fields.push(name, value, room);
        if is_indexed {
            self.table.insert(name, value);
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Room {
    list_bytes_max: usize,
    fields_max: usize,
}

impl Fields {
    /// Names and values in the order of the block.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|span| {
            let start = span.start as usize;
            let middle = start + span.name_bytes as usize;
            let end = middle + span.value_bytes as usize;
            (&self.bytes[start..middle], &self.bytes[middle..end])
        })
    }

    /// The first value of `name`.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    /// Number of fields kept.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True when none was kept.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Fields were left out because the list was over a bound.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Size of the whole list, 32 bytes a field beside its bytes.
    pub fn list_bytes(&self) -> usize {
        self.list_bytes
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.list_bytes = 0;
        self.truncated = false;
    }

    fn push(&mut self, name: &[u8], value: &[u8], room: Room) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.list_bytes = self.list_bytes.saturating_add(size);
        if self.list_bytes > room.list_bytes_max || self.spans.len() == room.fields_max {
            self.truncated = true;
        }
        if self.truncated {
            return;
        }
        let span = Span {
            start: self.bytes.len() as u32,
            name_bytes: name.len() as u32,
            value_bytes: value.len() as u32,
        };
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.spans.push(span);
    }
}

fn lookup(table: &DynamicTable, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
    match index.checked_sub(1) {
        None => Err(HpackError::NoSuchIndex),
        Some(place) if place < STATIC.len() => {
            let (name, value) = STATIC[place];
            Ok((name.as_bytes(), value.as_bytes()))
        }
        Some(place) => table
            .get(place - STATIC.len())
            .ok_or(HpackError::NoSuchIndex),
    }
}

/// An integer with a prefix of `prefix_bits` (RFC 7541, 5.1).
fn take_integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, HpackError> {
    let (&lead, mut tail) = rest.split_first().ok_or(HpackError::Cut)?;
    let prefix_max = (1usize << prefix_bits) - 1;
    let mut value = usize::from(lead) & prefix_max;
    if value == prefix_max {
        let mut shift = 0;
        loop {
            let (&byte, after) = tail.split_first().ok_or(HpackError::Cut)?;
            tail = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(HpackError::IntegerTooLarge);
            }
        }
    }
    *rest = tail;
    Ok(value)
}

fn take_string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let is_huffman = rest.first().ok_or(HpackError::Cut)? & 0x80 != 0;
    let length = take_integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(HpackError::Cut)?;
    *rest = tail;
    if is_huffman {
        huffman::decode(text, out).map_err(|_| HpackError::BadHuffman)
    } else {
        out.extend_from_slice(text);
        Ok(())
    }
}
