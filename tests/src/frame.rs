//! HTTP/2 frames written by hand, right or wrong.

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types by their numbers.
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const PRIORITY: u8 = 2;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const GO_AWAY: u8 = 7;
/// See [`DATA`].
pub const WINDOW_UPDATE: u8 = 8;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;

/// A setting's number.
pub const INITIAL_WINDOW_SIZE: u16 = 4;
/// The window before anybody changes it.
pub const WINDOW_DEFAULT: u32 = 65_535;

/// A frame as it was received.
pub struct Frame<'a> {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// 0 for the connection.
    pub stream: u32,
    /// What follows the nine bytes.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame, if it is there whole.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let head = bytes.get(..9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Self {
            kind: head[3],
            flags: head[4],
            stream,
            payload: bytes.get(9..9 + length)?,
        })
    }

    /// Bytes of the whole frame.
    pub fn size(&self) -> usize {
        9 + self.payload.len()
    }
}

/// Any frame at all.
pub fn raw(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// SETTINGS with those values.
pub fn settings(out: &mut Vec<u8>, values: &[(u16, u32)]) {
    let payload: Vec<u8> = values
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    raw(out, SETTINGS, 0, 0, &payload);
}

/// WINDOW_UPDATE of a stream, or of the connection for 0.
pub fn window_update(out: &mut Vec<u8>, stream: u32, by: u32) {
    raw(out, WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
}

/// HEADERS with that block.
pub fn headers(out: &mut Vec<u8>, stream: u32, block: &[u8], flags: u8) {
    raw(out, HEADERS, flags, stream, block);
}

/// DATA, in frames that every peer takes; the flags stand on the last one.
pub fn data(out: &mut Vec<u8>, stream: u32, bytes: &[u8], flags: u8) {
    const FRAME_MAX: usize = 16_384;
    let mut pieces = bytes.chunks(FRAME_MAX).peekable();
    while let Some(piece) = pieces.next() {
        raw(
            out,
            DATA,
            if pieces.peek().is_none() { flags } else { 0 },
            stream,
            piece,
        );
    }
}

/// A message with gRPC's five bytes before it.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
    out
}

/// The header block of a gRPC call, without the dynamic table and without Huffman coding.
pub fn request_block(path: &str, authority: &str) -> Vec<u8> {
    // :method POST, :scheme http
    let mut block = vec![0x83, 0x86];
    indexed_name(&mut block, 4, path);
    indexed_name(&mut block, 1, authority);
    indexed_name(&mut block, 31, "application/grpc");
    new_name(&mut block, "te", "trailers");
    block
}

/// A field whose name is in the static table, not to be remembered.
pub fn indexed_name(block: &mut Vec<u8>, name: u8, value: &str) {
    if name < 15 {
        block.push(name);
    } else {
        block.extend_from_slice(&[0x0f, name - 15]);
    }
    string(block, value);
}

/// A field with its name written out, not to be remembered.
pub fn new_name(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    string(block, name);
    string(block, value);
}

/// A field with its name written out, to be put into the dynamic table.
pub fn remembered(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0x40);
    string(block, name);
    string(block, value);
}

fn string(block: &mut Vec<u8>, text: &str) {
    const PREFIX_MAX: usize = 127;
    if text.len() < PREFIX_MAX {
        block.push(text.len() as u8);
    } else {
        block.push(PREFIX_MAX as u8);
        let mut rest = text.len() - PREFIX_MAX;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(text.as_bytes());
}
