//! The static Huffman code of RFC 7541, Appendix B. The code is canonical, so its lengths say everything.

/// Why a Huffman-coded string is refused: it holds EOS, or its padding is too long or not of ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadHuffman;

/// Appends the decoded string to `out`: at most 8/5 of the length of `source`.
pub fn decode(source: &[u8], out: &mut Vec<u8>) -> Result<(), BadHuffman> {
    // The next bit to read is the highest of `bits`; below the `held` ones it is all zeros.
    let mut bits: u64 = 0;
    let mut held: u32 = 0;
    let mut source = source.iter();
    out.reserve(source.len() * 8 / 5);
    loop {
        while held <= 56 {
            let Some(&byte) = source.next() else { break };
            bits |= u64::from(byte) << (56 - held);
            held += 8;
        }
        let (symbol, length) = next_symbol(bits);
        if length > held {
            let is_padding = held < 8 && bits.leading_ones() >= held;
            return if is_padding { Ok(()) } else { Err(BadHuffman) };
        }
        let byte = u8::try_from(symbol).map_err(|_| BadHuffman)?;
        out.push(byte);
        bits <<= length;
        held -= length;
    }
}

/// Appends the coded form of `text` to `out`.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    let mut bits: u64 = 0;
    let mut held: u32 = 0;
    for &byte in text {
        let (code, length) = CODES[usize::from(byte)];
        bits |= u64::from(code) << (64 - held - u32::from(length));
        held += u32::from(length);
        while held >= 8 {
            out.push((bits >> 56) as u8);
            bits <<= 8;
            held -= 8;
        }
    }
    if held > 0 {
        out.push((bits >> 56) as u8 | 0xff >> held);
    }
}

/// Bytes that `encode` appends.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text
        .iter()
        .map(|&byte| usize::from(LENGTHS[usize::from(byte)]))
        .sum();
    bits.div_ceil(8)
}

/// The symbol whose code leads `bits`, and the length of the code. Every sequence of 30 bits leads with one.
fn next_symbol(bits: u64) -> (u16, u32) {
    let (symbol, length) = SHORT[(bits >> 56) as usize];
    if length != 0 {
        return (u16::from(symbol), u32::from(length));
    }
    let window = (bits >> (64 - LENGTH_MAX)) as u32;
    let mut length = 9;
    while window >= CANON.limit[length] {
        length += 1;
    }
    let code = window >> (LENGTH_MAX - length);
    let place = CANON.place[length] + (code - CANON.first[length]) as u16;
    (CANON.symbols[usize::from(place)], length as u32)
}

const LENGTH_MAX: usize = 30;
const EOS: usize = 256;

/// Length of the code of each byte, and of EOS, in bits.
const LENGTHS: [u8; EOS + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

struct Canon {
    /// Symbols ordered by code.
    symbols: [u16; EOS + 1],
    /// Per length: the first code, where its symbols begin, and the first 30-bit window beyond its codes.
    first: [u32; LENGTH_MAX + 1],
    place: [u16; LENGTH_MAX + 1],
    limit: [u32; LENGTH_MAX + 1],
}

const fn canon() -> Canon {
    let mut canon = Canon {
        symbols: [0; EOS + 1],
        first: [0; LENGTH_MAX + 1],
        place: [0; LENGTH_MAX + 1],
        limit: [0; LENGTH_MAX + 1],
    };
    let mut code: u32 = 0;
    let mut placed: u16 = 0;
    let mut length = 1;
    while length <= LENGTH_MAX {
        code <<= 1;
        canon.first[length] = code;
        canon.place[length] = placed;
        let mut symbol = 0;
        while symbol <= EOS {
            if LENGTHS[symbol] as usize == length {
                canon.symbols[placed as usize] = symbol as u16;
                placed += 1;
                code += 1;
            }
            symbol += 1;
        }
        canon.limit[length] = code << (LENGTH_MAX - length);
        length += 1;
    }
    // The code is complete: no window is beyond the longest codes.
    assert!(canon.limit[LENGTH_MAX] == 1 << LENGTH_MAX);
    canon
}

static CANON: Canon = canon();

/// By the next eight bits: symbol and length of a code of at most eight bits; length 0 where the code is longer.
static SHORT: [(u8, u8); 256] = {
    let canon = canon();
    let mut table = [(0u8, 0u8); 256];
    let mut length = 5;
    while length <= 8 {
        let mut code = canon.first[length];
        let mut place = canon.place[length] as usize;
        while code << (LENGTH_MAX - length) < canon.limit[length] {
            let mut slot = (code as usize) << (8 - length);
            let end = (code as usize + 1) << (8 - length);
            while slot < end {
                table[slot] = (canon.symbols[place] as u8, length as u8);
                slot += 1;
            }
            code += 1;
            place += 1;
        }
        length += 1;
    }
    table
};

/// By byte: code and its length.
static CODES: [(u32, u8); 256] = {
    let canon = canon();
    let mut codes = [(0u32, 0u8); 256];
    let mut length = 1;
    while length <= LENGTH_MAX {
        let mut code = canon.first[length];
        let mut place = canon.place[length] as usize;
        while code << (LENGTH_MAX - length) < canon.limit[length] {
            let symbol = canon.symbols[place] as usize;
            if symbol < EOS {
                codes[symbol] = (code, length as u8);
            }
            code += 1;
            place += 1;
        }
        length += 1;
    }
    codes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_coding() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let mut coded = Vec::new();
        encode(&all, &mut coded);
        assert_eq!(coded.len(), encoded_len(&all));
        let mut decoded = Vec::new();
        assert_eq!(decode(&coded, &mut decoded), Ok(()));
        assert_eq!(decoded, all);
    }

    #[test]
    fn codes_are_those_of_appendix_b() {
        for (byte, code, length) in [
            (b'0', 0x0, 5),
            (b'a', 0x3, 5),
            (b' ', 0x14, 6),
            (b'&', 0xf8, 8),
            (b'!', 0x3f8, 10),
            (b'<', 0x7ffc, 15),
            (b'\\', 0x7fff0, 19),
            (0xff, 0x3ffffee, 26),
            (0x01, 0x7fffd8, 23),
            (0x0a, 0x3ffffffc, 30),
            (0x16, 0x3ffffffe, 30),
        ] {
            assert_eq!(CODES[usize::from(byte)], (code, length), "{byte:#x}");
        }
    }

    #[test]
    fn eos_and_bad_padding_are_refused() {
        let mut out = Vec::new();
        assert_eq!(
            decode(&[0xff, 0xff, 0xff, 0xff], &mut out),
            Err(BadHuffman),
            "EOS"
        );
        assert_eq!(
            decode(&[0x07, 0xff], &mut out),
            Err(BadHuffman),
            "padding of eleven bits"
        );
        assert_eq!(
            decode(&[0xff], &mut out),
            Err(BadHuffman),
            "padding of eight bits"
        );
        assert_eq!(
            decode(&[0x00], &mut out),
            Err(BadHuffman),
            "padding of zeros"
        );
        assert_eq!(decode(&[0x07], &mut out), Ok(()));
    }
}
