//! Frame headers and the frames small enough to write in one go.

use super::error::ErrorCode;

/// Bytes of every frame's header.
pub const HEADER_BYTES: usize = 9;
/// Highest stream id, and highest window (RFC 9113, 5.1.1 and 6.9.1).
pub const ID_MAX: u32 = (1 << 31) - 1;

/// Frame types (RFC 9113, 6). A number beyond them is ignored.
#[expect(missing_docs, reason = "the names are the RFC's own")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags.
#[expect(missing_docs, reason = "the names are the RFC's own")]
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload, below 2^24.
    pub payload_bytes: usize,
    /// One of `kind`, or unknown.
    pub kind: u8,
    /// Bits of `flag`; their meaning depends on the kind.
    pub flags: u8,
    /// Stream id without the reserved bit; 0 is the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// Reads the first nine bytes.
    pub fn read(bytes: &[u8; HEADER_BYTES]) -> FrameHeader {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = *bytes;
        FrameHeader {
            payload_bytes: u32::from_be_bytes([0, l2, l1, l0]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s3, s2, s1, s0]) & ID_MAX,
        }
    }

    /// The nine bytes.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [_, l2, l1, l0] = (self.payload_bytes as u32).to_be_bytes();
        let [s3, s2, s1, s0] = self.stream.to_be_bytes();
        [l2, l1, l0, self.kind, self.flags, s3, s2, s1, s0]
    }

    /// Is this bit set?
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame's header.
pub fn put_header(out: &mut Vec<u8>, payload_bytes: usize, kind: u8, flags: u8, stream: u32) {
    let header = FrameHeader {
        payload_bytes,
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&header.to_bytes());
}

/// Appends a RST_STREAM.
pub fn put_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    put_header(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.to_wire().to_be_bytes());
}

/// Appends a WINDOW_UPDATE.
pub fn put_window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put_header(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&bytes.to_be_bytes());
}

/// Appends a PING or its answer.
pub fn put_ping(out: &mut Vec<u8>, is_ack: bool, payload: [u8; 8]) {
    put_header(out, 8, kind::PING, if is_ack { flag::ACK } else { 0 }, 0);
    out.extend_from_slice(&payload);
}

/// Appends a GOAWAY.
pub fn put_goaway(out: &mut Vec<u8>, last_stream: u32, code: ErrorCode, debug: &[u8]) {
    put_header(out, 8 + debug.len(), kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.to_wire().to_be_bytes());
    out.extend_from_slice(debug);
}

/// Appends a header block as HEADERS and as many CONTINUATIONs as it takes.
pub fn put_headers(
    out: &mut Vec<u8>,
    stream: u32,
    block: &[u8],
    end_stream: bool,
    frame_bytes_max: usize,
) {
    let end_stream = if end_stream { flag::END_STREAM } else { 0 };
    if block.len() <= frame_bytes_max {
        put_header(
            out,
            block.len(),
            kind::HEADERS,
            flag::END_HEADERS | end_stream,
            stream,
        );
        out.extend_from_slice(block);
        return;
    }
    let pieces = block.len().div_ceil(frame_bytes_max);
    for (number, piece) in block.chunks(frame_bytes_max).enumerate() {
        let kind = if number == 0 {
            kind::HEADERS
        } else {
            kind::CONTINUATION
        };
        let mut flags = if number == 0 { end_stream } else { 0 };
        if number + 1 == pieces {
            flags |= flag::END_HEADERS;
        }
        put_header(out, piece.len(), kind, flags, stream);
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_survives_and_reserved_bit_is_ignored() {
        let header = FrameHeader {
            payload_bytes: 0x12_3456,
            kind: kind::DATA,
            flags: flag::END_STREAM,
            stream: 0x7654_3210,
        };
        let mut bytes = header.to_bytes();
        assert_eq!(FrameHeader::read(&bytes), header);
        bytes[5] |= 0x80;
        assert_eq!(FrameHeader::read(&bytes), header);
    }

    #[test]
    fn long_header_block_goes_on_in_continuations() {
        let mut out = Vec::new();
        put_headers(&mut out, 3, &[7; 25], true, 10);
        let mut seen = Vec::new();
        let mut rest = &out[..];
        while let Some((head, tail)) = rest.split_first_chunk() {
            let header = FrameHeader::read(head);
            seen.push((header.kind, header.flags, header.payload_bytes));
            rest = &tail[header.payload_bytes..];
        }
        let expected = [
            (kind::HEADERS, flag::END_STREAM, 10),
            (kind::CONTINUATION, 0, 10),
            (kind::CONTINUATION, flag::END_HEADERS, 5),
        ];
        assert_eq!(seen, expected);
    }
}
