//! Header fields to blocks. The plain functions touch no table, so what they make can be kept and sent again.

use super::huffman;
use super::table::{DynamicTable, STATIC};

/// Appends a field of the static table by its index (RFC 7541, 6.1).
pub fn indexed(out: &mut Vec<u8>, index: usize) {
    assert!((1..=STATIC.len()).contains(&index));
    put_integer(out, 0x80, 7, index);
}

/// Appends a field as a literal that no table learns (RFC 7541, 6.2.2); a known name goes by its index.
pub fn literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put_literal(out, 0x00, 4, static_name(name), name, value, false);
}

/// The same with Huffman-coded strings where that is shorter.
pub fn literal_huffman(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put_literal(out, 0x00, 4, static_name(name), name, value, true);
}

/// Appends an order to forget the dynamic table and keep at most `size` bytes (RFC 7541, 6.3).
pub fn size_update(out: &mut Vec<u8>, size: usize) {
    put_integer(out, 0x20, 5, size);
}

/// An encoder that teaches the peer's table what it sends, as most clients do.
#[derive(Debug)]
pub struct Encoder {
    table: DynamicTable,
    huffman: bool,
}

impl Encoder {
    /// `table_bytes` is at most what the peer announced.
    pub fn new(table_bytes: usize, huffman: bool) -> Encoder {
        Encoder {
            table: DynamicTable::new(table_bytes),
            huffman,
        }
    }

    /// Appends one field; after the first time it is one or two bytes, as long as the table keeps it.
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let known = STATIC
            .iter()
            .position(|(n, v)| n.as_bytes() == name && v.as_bytes() == value);
        let learnt = || {
            (0..self.table.len())
                .find(|&index| self.table.get(index) == Some((name, value)))
                .map(|index| index + STATIC.len())
        };
        if let Some(place) = known.or_else(learnt) {
            put_integer(out, 0x80, 7, place + 1);
            return;
        }
        put_literal(
            out,
            0x40,
            6,
            self.name_index(name),
            name,
            value,
            self.huffman,
        );
        self.table.insert(name, value);
    }

    /// Changes the table's size and tells the peer; only before the first field of a block.
    pub fn set_table_bytes(&mut self, out: &mut Vec<u8>, table_bytes: usize) {
        self.table.set_bytes_max(table_bytes);
        size_update(out, table_bytes);
    }

    fn name_index(&self, name: &[u8]) -> usize {
        let learnt = || {
            (0..self.table.len())
                .find(|&index| self.table.get(index).is_some_and(|(n, _)| n == name))
                .map_or(0, |index| index + STATIC.len() + 1)
        };
        match static_name(name) {
            0 => learnt(),
            index => index,
        }
    }
}

fn static_name(name: &[u8]) -> usize {
    STATIC
        .iter()
        .position(|(known, _)| known.as_bytes() == name)
        .map_or(0, |place| place + 1)
}

fn put_literal(
    out: &mut Vec<u8>,
    pattern: u8,
    prefix_bits: u32,
    name_index: usize,
    name: &[u8],
    value: &[u8],
    huffman: bool,
) {
    put_integer(out, pattern, prefix_bits, name_index);
    if name_index == 0 {
        put_string(out, name, huffman);
    }
    put_string(out, value, huffman);
}

fn put_string(out: &mut Vec<u8>, text: &[u8], huffman: bool) {
    if huffman {
        let length = huffman::encoded_len(text);
        if length < text.len() {
            put_integer(out, 0x80, 7, length);
            huffman::encode(text, out);
            return;
        }
    }
    put_integer(out, 0x00, 7, text.len());
    out.extend_from_slice(text);
}

fn put_integer(out: &mut Vec<u8>, pattern: u8, prefix_bits: u32, value: usize) {
    let prefix_max = (1usize << prefix_bits) - 1;
    if value < prefix_max {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | prefix_max as u8);
    let mut rest = value - prefix_max;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
