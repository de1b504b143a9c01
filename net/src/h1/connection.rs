use super::body::Chunked;
use super::message::{HttpDate, Request, Response};
use crate::limits::{H1_HEAD_BYTES_MAX, H1_HEADERS_MAX};

/// The server's side of one HTTP/1.1 connection.
///
/// `recv` takes what arrived, `poll` finds the next whole request, `with_request` shows it, `respond` answers it.
#[derive(Debug)]
pub struct Connection {
    /// What is not consumed yet; the request that is shown lies at its front.
    buffer: Vec<u8>,
    stage: Stage,
    /// Bytes of `buffer` in which no end of a head can begin: makes the search linear when bytes trickle in.
    searched: usize,
    body_bytes_max: usize,
    out: Vec<u8>,
    /// The last answer is written or under way: nothing more is parsed.
    closing: bool,
}

/// What `Connection::poll` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A whole request waits: show it, then answer it.
    Request,
    /// More bytes are needed, or the answer to the request before.
    Nothing,
}

#[derive(Debug)]
enum Stage {
    Head,
    Body {
        head: Head,
        chunked: Option<Chunked>,
    },
    /// Shown to the handler; `body` and `end` are offsets in the buffer.
    Ready {
        head: Head,
        body: std::ops::Range<usize>,
        end: usize,
    },
    /// The handler has it, its bytes are gone from the buffer.
    Asked {
        head: Head,
    },
}

#[derive(Debug, Clone, Copy)]
struct Head {
    bytes: usize,
    content_length: usize,
    is_head: bool,
    keep_alive: bool,
}

/// Why a request cannot be framed. The connection ends after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    Malformed,
    HeadTooLarge,
    BodyTooLarge,
    TransferEncoding,
    Expectation,
    Version,
    /// The first line names no version of HTTP: another protocol, or a broken HTTP/2 preface.
    Foreign,
}

impl Bad {
    /// `None`: whoever speaks another protocol would take an answer for its own bytes.
    fn status(self) -> Option<u16> {
        match self {
            Bad::Malformed => Some(400),
            Bad::HeadTooLarge => Some(431),
            Bad::BodyTooLarge => Some(413),
            Bad::TransferEncoding => Some(501),
            Bad::Expectation => Some(417),
            Bad::Version => Some(505),
            Bad::Foreign => None,
        }
    }
}

impl Connection {
    /// `body_bytes_max` bounds the decoded body of a request.
    pub fn new(body_bytes_max: usize) -> Connection {
        Connection {
            buffer: Vec::new(),
            stage: Stage::Head,
            searched: 0,
            body_bytes_max,
            out: Vec::new(),
            closing: false,
        }
    }

    /// Takes what the socket gave. Ignored once the connection is closing.
    pub fn recv(&mut self, bytes: &[u8]) {
        if !self.closing {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether the reader should wait: a pipelining client is not allowed to fill memory while it is being answered.
    pub fn is_full(&self) -> bool {
        matches!(self.stage, Stage::Ready { .. } | Stage::Asked { .. })
            && self.buffer.len() > H1_HEAD_BYTES_MAX
    }

    /// Looks for the next whole request. A request that cannot be framed is answered here, and what is not HTTP at all ends the
    /// connection in silence.
    pub fn poll(&mut self, date: &HttpDate) -> Parsed {
        if self.closing {
            return Parsed::Nothing;
        }
        match self.advance() {
            Ok(parsed) => parsed,
            Err(bad) => {
                match bad.status() {
                    Some(status) => self.close_with(Response::refusal(status), date),
                    None => self.close(),
                }
                Parsed::Nothing
            }
        }
    }

    /// Shows the request that `poll` found, once. Its bytes are given back afterwards.
    ///
    /// The buffer is taken out for the time of the call, so the handler may answer on this very connection.
    pub fn take_request(&mut self) -> Option<TakenRequest> {
        let Stage::Ready {
            head,
            ref body,
            end,
        } = self.stage
        else {
            return None;
        };
        let body = body.clone();
        self.stage = Stage::Asked { head };
        let rest = self.buffer.split_off(end);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        Some(TakenRequest {
            bytes,
            head_bytes: head.bytes,
            body,
        })
    }

    /// Answers the request that was shown. Ignored when there is none.
    pub fn respond(&mut self, response: &Response, date: &HttpDate) {
        let Stage::Asked { head } = self.stage else {
            return;
        };
        let close = response.close || !head.keep_alive;
        response.write(&mut self.out, date, head.is_head, close);
        self.stage = Stage::Head;
        self.searched = 0;
        if close {
            self.close();
        }
    }

    /// The head did not arrive in time (only an unfinished request is told so), or the server stops.
    pub fn close_idle(&mut self, date: &HttpDate) {
        match self.stage {
            Stage::Head if self.buffer.is_empty() => self.close(),
            Stage::Head | Stage::Body { .. } => self.close_with(Response::refusal(408), date),
            Stage::Ready { ref mut head, .. } | Stage::Asked { ref mut head } => {
                head.keep_alive = false
            }
        }
    }

    /// A request has begun and is not whole: a deadline should run.
    pub fn is_receiving(&self) -> bool {
        match self.stage {
            Stage::Head => !self.buffer.is_empty(),
            Stage::Body { .. } => true,
            Stage::Ready { .. } | Stage::Asked { .. } => false,
        }
    }

    /// Between two requests, with nothing to say: closing loses nothing.
    pub fn is_idle(&self) -> bool {
        !self.is_receiving() && !self.is_answering() && self.out.is_empty()
    }

    /// A request waits for its answer.
    pub fn is_answering(&self) -> bool {
        matches!(self.stage, Stage::Ready { .. } | Stage::Asked { .. })
    }

    /// Bytes of a further request have come already.
    pub fn has_unread(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Nothing more will be parsed or answered; close when `out` is written.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// What is to be written, whole answers in order.
    pub fn out(&self) -> &[u8] {
        &self.out
    }

    /// `written` bytes of `out` have left.
    pub fn advance_out(&mut self, written: usize) {
        self.out.drain(..written);
        if self.out.is_empty() && self.out.capacity() > 0 {
            self.out = Vec::new();
        }
    }

    fn advance(&mut self) -> Result<Parsed, Bad> {
        if let Stage::Head = self.stage {
            let Some(head_end) = self.find_head_end() else {
                return if self.buffer.len() > H1_HEAD_BYTES_MAX {
                    Err(Bad::HeadTooLarge)
                } else {
                    Ok(Parsed::Nothing)
                };
            };
            if head_end > H1_HEAD_BYTES_MAX {
                return Err(Bad::HeadTooLarge);
            }
            self.stage = self.parse_head()?;
        }
        if let Stage::Body {
            head,
            ref mut chunked,
        } = self.stage
        {
            let (body, end) = match chunked {
                Some(chunked) => {
                    if !chunked.advance(&mut self.buffer, self.body_bytes_max)? {
                        chunked.squeeze(&mut self.buffer);
                        return Ok(Parsed::Nothing);
                    }
                    (chunked.body(), chunked.end())
                }
                None if self.buffer.len() - head.bytes < head.content_length => {
                    return Ok(Parsed::Nothing);
                }
                None => (
                    head.bytes..head.bytes + head.content_length,
                    head.bytes + head.content_length,
                ),
            };
            self.stage = Stage::Ready { head, body, end };
            return Ok(Parsed::Request);
        }
        Ok(Parsed::Nothing)
    }

    /// The end of an empty line, searched only where it was not searched before.
    fn find_head_end(&mut self) -> Option<usize> {
        // Empty lines before a request are allowed and skipped.
        let blank = self
            .buffer
            .iter()
            .take_while(|&&byte| byte == b'\r' || byte == b'\n')
            .count();
        if blank > 0 {
            self.buffer.drain(..blank);
            self.searched = 0;
        }
        let from = self.searched;
        for newline in memchr::memchr_iter(b'\n', &self.buffer[from..]) {
            let after = &self.buffer[from + newline + 1..];
            match after {
                [b'\n', ..] => return Some(from + newline + 2),
                [b'\r', b'\n', ..] => return Some(from + newline + 3),
                _ => {}
            }
        }
        self.searched = self.buffer.len().saturating_sub(2);
        None
    }

    /// What is wrong with a first line whose version cannot be read.
    fn version_fault(&self) -> Bad {
        let line = self.buffer.split(|byte| *byte == b'\n').next();
        let is_http = line.is_some_and(|line| memchr::memmem::find(line, b" HTTP/").is_some());
        if is_http { Bad::Version } else { Bad::Foreign }
    }

    fn parse_head(&mut self) -> Result<Stage, Bad> {
        let mut headers = [httparse::EMPTY_HEADER; H1_HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let bytes = match request.parse(&self.buffer) {
            Ok(httparse::Status::Complete(bytes)) => bytes,
            Ok(httparse::Status::Partial) => return Err(Bad::Malformed),
            Err(httparse::Error::TooManyHeaders) => return Err(Bad::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(self.version_fault()),
            Err(_) => return Err(Bad::Malformed),
        };
        let framing = Framing::read(&request)?;
        let head = Head {
            bytes,
            content_length: framing.content_length.unwrap_or(0),
            is_head: request.method == Some("HEAD"),
            keep_alive: framing.keep_alive,
        };
        if head.content_length > self.body_bytes_max {
            return Err(Bad::BodyTooLarge);
        }
        if framing.expects_continue && (framing.chunked || head.content_length > 0) {
            self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        Ok(Stage::Body {
            head,
            chunked: framing.chunked.then(|| Chunked::new(bytes)),
        })
    }

    fn close_with(&mut self, response: Response, date: &HttpDate) {
        response.write(&mut self.out, date, false, true);
        self.close();
    }

    fn close(&mut self) {
        self.closing = true;
        self.buffer = Vec::new();
        self.stage = Stage::Head;
    }
}

/// A request with the bytes it stands in, apart from the connection it came from.
#[derive(Debug)]
pub struct TakenRequest {
    bytes: Vec<u8>,
    head_bytes: usize,
    body: std::ops::Range<usize>,
}

impl TakenRequest {
    /// Shows the request, marked with the `tag` of its listener.
    pub fn show<R>(&self, tag: u32, show: impl FnOnce(Request<'_>) -> R) -> R {
        let mut headers = [httparse::EMPTY_HEADER; H1_HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&self.bytes[..self.head_bytes]);
        assert!(
            parsed.is_ok_and(|status| status.is_complete()),
            "the head was parsed before"
        );
        show(Request {
            method: request.method.unwrap_or_default(),
            target: request.path.unwrap_or_default(),
            headers: request.headers,
            body: &self.bytes[self.body.clone()],
            tag,
        })
    }
}

/// How the body ends and whether the connection goes on, from the head alone.
struct Framing {
    content_length: Option<usize>,
    chunked: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Framing {
    fn read(request: &httparse::Request<'_, '_>) -> Result<Framing, Bad> {
        let is_http_11 = request.version == Some(1);
        let mut framing = Framing {
            content_length: None,
            chunked: false,
            keep_alive: is_http_11,
            expects_continue: false,
        };
        let mut hosts = 0;
        for header in request.headers.iter() {
            let value = header.value.trim_ascii();
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = decimal(value).ok_or(Bad::Malformed)?;
                if framing
                    .content_length
                    .is_some_and(|before| before != length)
                {
                    return Err(Bad::Malformed);
                }
                framing.content_length = Some(length);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                if framing.chunked || !value.eq_ignore_ascii_case(b"chunked") || !is_http_11 {
                    return Err(Bad::TransferEncoding);
                }
                framing.chunked = true;
            } else if header.name.eq_ignore_ascii_case("connection") {
                for token in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    if token.eq_ignore_ascii_case(b"close") {
                        framing.keep_alive = false;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") && !is_http_11 {
                        framing.keep_alive = true;
                    }
                }
            } else if header.name.eq_ignore_ascii_case("expect") {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Bad::Expectation);
                }
                framing.expects_continue = is_http_11;
            } else if header.name.eq_ignore_ascii_case("host") {
                hosts += 1;
            }
        }
        // A length beside chunked framing is how requests are smuggled past a proxy that reads the other one.
        if framing.chunked && framing.content_length.is_some() {
            return Err(Bad::Malformed);
        }
        if hosts > 1 || (is_http_11 && hosts == 0) {
            return Err(Bad::Malformed);
        }
        Ok(framing)
    }
}

fn decimal(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 15 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
