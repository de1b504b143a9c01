use super::connection::Bad;
use crate::limits::H1_CHUNK_LINE_BYTES_MAX;

/// Undoes chunked framing in place: what is decoded moves down to `start..decoded_end`, behind it lies what is not read yet.
#[derive(Debug)]
pub(super) struct Chunked {
    start: usize,
    /// `start <= decoded_end <= read`.
    decoded_end: usize,
    read: usize,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Size,
    Data { left: usize },
    DataEnd,
    Trailer,
}

impl Chunked {
    /// The framing begins at `start` of the connection's buffer.
    pub(super) fn new(start: usize) -> Chunked {
        Chunked {
            start,
            decoded_end: start,
            read: start,
            state: State::Size,
        }
    }

    /// Where the next request begins once the body is whole.
    pub(super) fn end(&self) -> usize {
        self.read
    }

    /// The decoded body, valid once `advance` said so.
    pub(super) fn body(&self) -> std::ops::Range<usize> {
        self.start..self.decoded_end
    }

    /// Goes on with what has arrived; true when the body is whole. `body_max` bounds the decoded length in bytes.
    pub(super) fn advance(&mut self, buffer: &mut [u8], body_max: usize) -> Result<bool, Bad> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = self.line(buffer)? else {
                        return Ok(false);
                    };
                    let left = chunk_size(&buffer[line])?;
                    if left > body_max || self.decoded_end - self.start > body_max - left {
                        return Err(Bad::BodyTooLarge);
                    }
                    self.state = if left == 0 {
                        State::Trailer
                    } else {
                        State::Data { left }
                    };
                }
                State::Data { left } => {
                    let here = left.min(buffer.len() - self.read);
                    buffer.copy_within(self.read..self.read + here, self.decoded_end);
                    self.decoded_end += here;
                    self.read += here;
                    if here < left {
                        self.state = State::Data { left: left - here };
                        return Ok(false);
                    }
                    self.state = State::DataEnd;
                }
                State::DataEnd => {
                    let Some(line) = self.line(buffer)? else {
                        return Ok(false);
                    };
                    if !line.is_empty() {
                        return Err(Bad::Malformed);
                    }
                    self.state = State::Size;
                }
                State::Trailer => {
                    let Some(line) = self.line(buffer)? else {
                        return Ok(false);
                    };
                    if line.is_empty() {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Bytes that are held though already decoded, so that the caller's bound counts content and not framing.
    pub(super) fn squeeze(&mut self, buffer: &mut Vec<u8>) {
        buffer.drain(self.decoded_end..self.read);
        self.read = self.decoded_end;
    }

    /// The next line without its end; `None` until it is whole.
    fn line(&mut self, buffer: &[u8]) -> Result<Option<std::ops::Range<usize>>, Bad> {
        let rest = &buffer[self.read..];
        let window = &rest[..rest.len().min(H1_CHUNK_LINE_BYTES_MAX)];
        let Some(length) = memchr::memchr(b'\n', window) else {
            return if window.len() < rest.len() {
                Err(Bad::Malformed)
            } else {
                Ok(None)
            };
        };
        // A bare LF is refused: two readers that differ about it is how requests are smuggled.
        let Some(line) = window[..length].strip_suffix(b"\r") else {
            return Err(Bad::Malformed);
        };
        let range = self.read..self.read + line.len();
        self.read += length + 1;
        Ok(Some(range))
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, Bad> {
    let digits = line
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or(line)
        .trim_ascii_end();
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Bad::Malformed);
    }
    let text = std::str::from_utf8(digits).map_err(|_| Bad::Malformed)?;
    usize::from_str_radix(text, 16).map_err(|_| Bad::Malformed)
}
