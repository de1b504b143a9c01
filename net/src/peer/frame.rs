use crate::limits::{KEPT_BUFFER_BYTES_MAX, PEER_CONTROL_BYTES_MAX};

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Urgent,
    Bulk,
    /// To be answered by a pong of the same bytes.
    Ping,
    Pong,
}

/// The connection cannot be trusted any more and must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadFrame {
    #[error("a frame's head is damaged")]
    Head,
    #[error("a frame of {bytes} bytes is longer than any that may come")]
    TooLong { bytes: usize },
    #[error("a frame's body is damaged")]
    Body,
}

/// Appends a frame whose body is what `write` appends.
pub(super) fn append(out: &mut Vec<u8>, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    write(out);
    let (head, body) = out[start..].split_at_mut(HEAD_BYTES);
    let length = u32::try_from(body.len()).expect("a message is far below 4 GiB");
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4] = kind.code();
    head[8..12].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let checksum = crc32c::crc32c(&head[..12]);
    head[12..].copy_from_slice(&checksum.to_le_bytes());
}

/// Finds the frames in a stream of bytes. Memory grows with what has come, not with what a head promises.
#[derive(Debug)]
pub(super) struct Frames {
    /// A frame that has begun and not ended.
    partial: Vec<u8>,
    body_bytes_max: usize,
}

impl Frames {
    pub(super) fn new(body_bytes_max: usize) -> Frames {
        Frames {
            partial: Vec::new(),
            body_bytes_max,
        }
    }

    /// Shows each frame that is whole. After an error nothing more may be given.
    pub(super) fn recv(
        &mut self,
        mut bytes: &[u8],
        mut on_frame: impl FnMut(Kind, &[u8]),
    ) -> Result<(), BadFrame> {
        while !self.partial.is_empty() && !bytes.is_empty() {
            let wanted = match self.partial.first_chunk() {
                Some(head) => HEAD_BYTES + read_head(head, self.body_bytes_max)?.body_bytes,
                None => HEAD_BYTES,
            };
            let (missing, rest) = bytes.split_at(bytes.len().min(wanted - self.partial.len()));
            self.partial.extend_from_slice(missing);
            bytes = rest;
            if take(&self.partial, self.body_bytes_max, &mut on_frame)? > 0 {
                self.partial.clear();
                if self.partial.capacity() > KEPT_BUFFER_BYTES_MAX {
                    self.partial = Vec::new();
                }
            }
        }
        loop {
            let taken = take(bytes, self.body_bytes_max, &mut on_frame)?;
            bytes = &bytes[taken..];
            if taken == 0 {
                self.partial.extend_from_slice(bytes);
                return Ok(());
            }
        }
    }
}

/// Shows the first frame of `bytes` and returns its length, or 0 if it is not whole.
fn take(
    bytes: &[u8],
    body_bytes_max: usize,
    on_frame: &mut impl FnMut(Kind, &[u8]),
) -> Result<usize, BadFrame> {
    let Some((head, rest)) = bytes.split_first_chunk() else {
        return Ok(0);
    };
    let head = read_head(head, body_bytes_max)?;
    let Some(body) = rest.get(..head.body_bytes) else {
        return Ok(0);
    };
    if crc32c::crc32c(body) != head.checksum {
        return Err(BadFrame::Body);
    }
    on_frame(head.kind, body);
    Ok(HEAD_BYTES + body.len())
}

struct Head {
    kind: Kind,
    body_bytes: usize,
    checksum: u32,
}

fn read_head(head: &[u8; HEAD_BYTES], body_bytes_max: usize) -> Result<Head, BadFrame> {
    let word = |at: usize| {
        u32::from_le_bytes(
            head[at..at + 4]
                .try_into()
                .expect("the slice has four bytes"),
        )
    };
    if word(12) != crc32c::crc32c(&head[..12]) || head[5..8] != [0; 3] {
        return Err(BadFrame::Head);
    }
    let kind = Kind::of(head[4]).ok_or(BadFrame::Head)?;
    let body_bytes = word(0) as usize;
    let most = match kind {
        Kind::Urgent | Kind::Bulk => body_bytes_max,
        Kind::Ping | Kind::Pong => PEER_CONTROL_BYTES_MAX,
    };
    if body_bytes > most {
        return Err(BadFrame::TooLong { bytes: body_bytes });
    }
    Ok(Head {
        kind,
        body_bytes,
        checksum: word(8),
    })
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Urgent => 1,
            Kind::Bulk => 2,
            Kind::Ping => 3,
            Kind::Pong => 4,
        }
    }

    fn of(code: u8) -> Option<Kind> {
        match code {
            1 => Some(Kind::Urgent),
            2 => Some(Kind::Bulk),
            3 => Some(Kind::Ping),
            4 => Some(Kind::Pong),
            _ => None,
        }
    }
}

/// Of each frame, before its body.
pub const HEAD_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(frames: &mut Frames, bytes: &[u8]) -> Result<Vec<(Kind, Vec<u8>)>, BadFrame> {
        let mut seen = Vec::new();
        frames.recv(bytes, |kind, body| seen.push((kind, body.to_vec())))?;
        Ok(seen)
    }

    fn stream() -> (Vec<u8>, Vec<(Kind, Vec<u8>)>) {
        let sent = vec![
            (Kind::Urgent, b"beat".to_vec()),
            (Kind::Bulk, vec![7; 3000]),
            (Kind::Ping, b"12345678".to_vec()),
            (Kind::Bulk, Vec::new()),
        ];
        let mut bytes = Vec::new();
        for (kind, body) in &sent {
            append(&mut bytes, *kind, |out| out.extend_from_slice(body));
        }
        (bytes, sent)
    }

    /// The socket cuts the stream anywhere.
    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let (bytes, sent) = stream();
        for size in [1, 2, 15, 16, 17, 1000, bytes.len()] {
            let mut frames = Frames::new(3000);
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                seen.extend(collect(&mut frames, piece).expect("good frames"));
            }
            assert_eq!(seen, sent, "pieces of {size}");
        }
    }

    /// A bit that flips past TCP's checksum must end the connection and never reach Raft.
    #[test]
    fn a_changed_byte_shows_only_what_came_before_it() {
        let (bytes, sent) = stream();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let mut seen = Vec::new();
            let result =
                Frames::new(3000).recv(&bad, |kind, body| seen.push((kind, body.to_vec())));
            assert!(result.is_err(), "byte {at}");
            assert!(sent.starts_with(&seen), "byte {at}");
        }
    }

    /// A head that promises gigabytes costs nothing.
    #[test]
    fn a_frame_longer_than_allowed_is_refused_by_its_head() {
        let mut bytes = Vec::new();
        append(&mut bytes, Kind::Bulk, |out| {
            out.extend_from_slice(&[1; 100])
        });
        let refused = Frames::new(99).recv(&bytes[..HEAD_BYTES], |_, _| {});
        assert_eq!(refused, Err(BadFrame::TooLong { bytes: 100 }));
        let mut ping = Vec::new();
        append(&mut ping, Kind::Ping, |out| {
            out.extend_from_slice(&[1; 100])
        });
        assert!(Frames::new(1000).recv(&ping, |_, _| {}).is_err());
    }
}
