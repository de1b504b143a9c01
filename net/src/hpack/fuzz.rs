//! Bodies of the HPACK fuzz target; the property tests run them too.

use super::{DEFAULT_TABLE_BYTES, Decoder, Encoder, Fields, encode};

/// Arbitrary bytes, cut into blocks: no panic, table and list within their bounds; fields made of them survive a round trip.
pub fn hpack(data: &[u8]) {
    arbitrary_blocks(data);
    round_trip(data);
}

fn arbitrary_blocks(data: &[u8]) {
    const LIST_BYTES_MAX: usize = 2048;
    let mut decoder = Decoder::new(DEFAULT_TABLE_BYTES);
    let mut fields = Fields::default();
    for block in data.split(|&byte| byte == 0xfe) {
        let decoded = decoder.decode(block, &mut fields, LIST_BYTES_MAX, 64);
        assert!(decoder.table_bytes() <= DEFAULT_TABLE_BYTES);
        assert!(fields.len() <= 64);
        let kept: usize = fields.iter().map(|(n, v)| n.len() + v.len() + 32).sum();
        assert!(kept <= LIST_BYTES_MAX);
        if decoded.is_err() {
            return;
        }
    }
}

fn round_trip(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else {
        return;
    };
    let mut encoder = Encoder::new(DEFAULT_TABLE_BYTES, mode & 1 == 1);
    let mut decoder = Decoder::new(DEFAULT_TABLE_BYTES);
    let mut fields = Fields::default();
    for chunk in data.chunks(97) {
        let mut block = Vec::new();
        if mode & 2 == 2 {
            encoder.set_table_bytes(&mut block, usize::from(chunk[0]) * 16);
        }
        let sent: Vec<(&[u8], &[u8])> = chunk
            .chunks(23)
            .map(|field| field.split_at(field.len() / 3))
            .collect();
        for (place, (name, value)) in sent.iter().enumerate() {
            match place % 4 {
                0 => encode::literal(&mut block, name, value),
                1 => encode::literal_huffman(&mut block, name, value),
                _ => encoder.field(&mut block, name, value),
            }
        }
        let decoded = decoder.decode(&block, &mut fields, usize::MAX, usize::MAX);
        assert!(decoded.is_ok(), "{decoded:?}");
        assert!(fields.iter().eq(sent.iter().copied()));
    }
}
