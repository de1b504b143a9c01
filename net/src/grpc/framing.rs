//! The five bytes before every message, and gzip behind them.

use super::{Code, Status};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};

/// Bytes before a message: flag and length.
pub(super) const PREFIX_BYTES: usize = 5;

/// The first message of a piece of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// It is whole.
    Message {
        flag: u8,
        message: &'a [u8],
        rest: &'a [u8],
    },
    /// More must come: so many bytes in all, its prefix included, as far as is known.
    Partial { whole_bytes: usize },
}

/// Cuts the first message off. A length over the bound is refused before the message has come.
pub(super) fn next_message(bytes: &[u8], message_bytes_max: usize) -> Result<Next<'_>, Status> {
    let Some((&[flag, l3, l2, l1, l0], rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(Next::Partial {
            whole_bytes: PREFIX_BYTES,
        });
    };
    let length = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
    if length > message_bytes_max {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!("grpc: received message larger than max ({length} vs. {message_bytes_max})"),
        ));
    }
    Ok(match rest.split_at_checked(length) {
        Some((message, rest)) => Next::Message {
            flag,
            message,
            rest,
        },
        None => Next::Partial {
            whole_bytes: PREFIX_BYTES + length,
        },
    })
}

/// Appends the message that `write` appends, behind its prefix.
pub(super) fn put_message(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    write(out);
    patch_prefix(out, at, 0, 0);
}

/// The same for the beginning of a message: so many bytes of it come behind what `write` appends.
pub(super) fn put_beginning(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>), rest: usize) {
    let at = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    write(out);
    patch_prefix(out, at, 0, rest);
}

/// The same, compressed; an empty message stays as it is.
pub(super) fn put_gzip_message(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut plain = Vec::new();
    write(&mut plain);
    let at = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    if plain.is_empty() {
        return;
    }
    let mut encoder = GzEncoder::new(&mut *out, Compression::default());
    let written = encoder
        .write_all(&plain)
        .and_then(|()| encoder.finish().map(drop));
    written.expect("writing to memory does not fail");
    patch_prefix(out, at, 1, 0);
}

fn patch_prefix(out: &mut [u8], at: usize, flag: u8, rest: usize) {
    let length =
        u32::try_from(out.len() - at - PREFIX_BYTES + rest).expect("no answer reaches 4 GiB");
    out[at] = flag;
    out[at + 1..at + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Inflates a gzip message into `plain`, which is cleared first; never more than the bound and one byte.
pub(super) fn inflate(
    message: &[u8],
    plain: &mut Vec<u8>,
    message_bytes_max: usize,
) -> Result<(), Status> {
    plain.clear();
    let mut reader = GzDecoder::new(message).take(message_bytes_max as u64 + 1);
    reader
        .read_to_end(plain)
        .map_err(|error| Status::new(Code::Internal, inflate_text(message, &error)))?;
    if plain.len() > message_bytes_max {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!(
                "grpc: received message after decompression larger than max {message_bytes_max}"
            ),
        ));
    }
    Ok(())
}

/// grpc-go's words, with Go's for what is wrong.
fn inflate_text(message: &[u8], error: &std::io::Error) -> String {
    const GZIP_HEADER_BYTES: usize = 10;
    let has_magic = message.starts_with(&[0x1f, 0x8b]);
    let what = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "unexpected EOF",
        _ if !has_magic && message.len() >= GZIP_HEADER_BYTES => "gzip: invalid header",
        _ if !has_magic => "unexpected EOF",
        _ => "flate: corrupt input",
    };
    if has_magic && message.len() >= GZIP_HEADER_BYTES {
        format!("grpc: failed to read decompressed data: {what}")
    } else {
        format!("grpc: failed to decompress the message: {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_off_one_by_one() {
        let mut wire = Vec::new();
        put_message(&mut wire, |out| out.extend_from_slice(b"one"));
        put_message(&mut wire, |_| {});
        let Ok(Next::Message {
            flag: 0,
            message: b"one",
            rest,
        }) = next_message(&wire, 3)
        else {
            panic!("first message not found");
        };
        let Ok(Next::Message {
            flag: 0,
            message: b"",
            rest,
        }) = next_message(rest, 3)
        else {
            panic!("second message not found");
        };
        assert_eq!(next_message(rest, 3), Ok(Next::Partial { whole_bytes: 5 }));
        assert_eq!(
            next_message(&wire[..6], 3),
            Ok(Next::Partial { whole_bytes: 8 })
        );
        assert_eq!(
            next_message(&wire, 2).unwrap_err().code,
            Code::ResourceExhausted
        );
    }

    #[test]
    fn gzip_survives_and_is_bounded() {
        let text = vec![b'x'; 100_000];
        let mut wire = Vec::new();
        put_gzip_message(&mut wire, |out| out.extend_from_slice(&text));
        assert!(wire.len() < 1_000);
        let Ok(Next::Message {
            flag: 1, message, ..
        }) = next_message(&wire, 1_000)
        else {
            panic!("message not found");
        };
        let mut plain = Vec::new();
        assert_eq!(inflate(message, &mut plain, text.len()), Ok(()));
        assert_eq!(plain, text);
        let refused = inflate(message, &mut plain, text.len() - 1).unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert_eq!(plain.len(), text.len());
        assert_eq!(
            inflate(b"no gzip", &mut plain, 10).unwrap_err().code,
            Code::Internal
        );
    }
}
