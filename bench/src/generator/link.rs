//! One connection's calls: which are open, what they are about, how they ended.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Result, bail};
use basalt_net::grpc::client::{Answered, Client, Template};
use basalt_net::grpc::{Code, Metadata, Status};
use basalt_net::hpack::Encoder;

use super::answer::Answer;
use super::workload::{Method, Question};

/// What a call is about, given back with its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// Nanoseconds on the driver's clock at which it was due.
    pub(crate) due: u64,
    pub(crate) question: Question,
}

/// Who hears of answers.
pub(crate) trait Hearing {
    /// A whole message of a call that has not ended, and what was read of those before; what is read of it is given back at the end. `None`: not to be read.
    fn on_message(
        &mut self,
        call: &Call,
        message: &[u8],
        earlier: Option<Answer>,
    ) -> Option<Answer>;

    /// A call ended: with status OK and what its last message said, or with another status.
    fn on_end(&mut self, call: Call, ending: Result<Option<Answer>, &Status>);
}

/// Net's client with our calls beside its streams.
pub(crate) struct Link {
    client: Client,
    heads: Heads,
    open: Open,
    /// Calls for which the server allows no stream yet.
    waiting: VecDeque<(Call, Vec<u8>)>,
    two_way: Option<TwoWay>,
}

/// A stream that carries many calls, each of one message there and one back, in order.
struct TwoWay {
    stream: u32,
    calls: VecDeque<Call>,
}

/// Header blocks as Go's client sends them: what a first call of a method puts into the table, later calls only name.
struct Heads {
    authority: String,
    encoder: Encoder,
    /// The block of a method's later calls, made when the table no longer changed.
    later: [Option<Template>; Method::ALL.len()],
    has_called: [bool; Method::ALL.len()],
    /// The block of a first call that has not been sent yet.
    first: Option<Template>,
}

impl Heads {
    fn new(authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            encoder: Encoder::new(TABLE_BYTES, true),
            later: [const { None }; Method::ALL.len()],
            has_called: [false; Method::ALL.len()],
            first: None,
        }
    }

    /// The block for the next call. Asked again for the same method until it is sent.
    fn of(&mut self, method: Method) -> &Template {
        let has_called = self.has_called[method as usize];
        let place = if has_called {
            &self.later[method as usize]
        } else {
            &self.first
        };
        if place.is_none() {
            let block = Some(self.code(method));
            if has_called {
                self.later[method as usize] = block;
            } else {
                self.first = block;
            }
        }
        let place = if has_called {
            &self.later[method as usize]
        } else {
            &self.first
        };
        place.as_ref().expect("made above")
    }

    fn on_sent(&mut self, method: Method) {
        if !self.has_called[method as usize] {
            self.has_called[method as usize] = true;
            self.first = None;
            // What the block added has moved the places of all that is in the table.
            self.later = [const { None }; Method::ALL.len()];
        }
    }

    fn code(&mut self, method: Method) -> Template {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method.path()),
            (":authority", &self.authority),
            ("content-type", "application/grpc"),
            ("user-agent", "basalt-bench"),
            ("te", "trailers"),
        ];
        let mut block = Vec::new();
        for (name, value) in fields {
            self.encoder
                .field(&mut block, name.as_bytes(), value.as_bytes());
        }
        Template::coded(block)
    }
}

/// The open calls by stream. Streams are opened in order and end almost in order, so a ring is as good as a map.
struct Open {
    /// The place of stream `first` is 0, of `first + 2` is 1 and so on. `None`: ended.
    calls: VecDeque<Option<Slot>>,
    first: u32,
    in_flight: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    call: Call,
    answer: Option<Answer>,
}

impl Link {
    /// Its greeting waits in the output.
    pub(crate) fn new(authority: &str, now: Instant) -> Self {
        Self {
            client: Client::new(MESSAGE_BYTES_MAX, now),
            heads: Heads::new(authority),
            open: Open {
                calls: VecDeque::new(),
                first: 1,
                in_flight: 0,
            },
            waiting: VecDeque::new(),
            two_way: None,
        }
    }

    /// Starts a call, now or as soon as the server allows it.
    pub(crate) fn send(&mut self, message: &[u8], call: Call) {
        // Calls leave in order: a header block may rest on the one before it.
        if !self.waiting.is_empty() || !self.start(message, call) {
            self.waiting.push_back((call, message.to_vec()));
        }
    }

    fn start(&mut self, message: &[u8], call: Call) -> bool {
        if call.question.ask.method().is_two_way() {
            return self.say(message, call);
        }
        let template = self.heads.of(call.question.ask.method());
        let write = |out: &mut Vec<u8>| out.extend_from_slice(message);
        let Some(stream) = self.client.call(template, write) else {
            return false;
        };
        self.heads.on_sent(call.question.ask.method());
        self.open.begin(stream, call);
        true
    }

    /// Sends a call on the stream that carries many.
    fn say(&mut self, message: &[u8], call: Call) -> bool {
        if self.two_way.is_none() {
            let method = call.question.ask.method();
            let Some(stream) = self.client.open(self.heads.of(method)) else {
                return false;
            };
            self.heads.on_sent(method);
            self.open.pass(stream);
            self.two_way = Some(TwoWay {
                stream,
                calls: VecDeque::new(),
            });
        }
        let two_way = self.two_way.as_mut().expect("made above");
        two_way.calls.push_back(call);
        let write = |out: &mut Vec<u8>| out.extend_from_slice(message);
        // What is unanswered is bounded by who draws the calls.
        let _ = self.client.send(two_way.stream, write);
        true
    }

    /// Takes what the socket gave.
    ///
    /// # Errors
    /// When the connection failed.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        now: Instant,
        hearing: &mut impl Hearing,
    ) -> Result<()> {
        let (open, two_way) = (&mut self.open, &mut self.two_way);
        let mut hearer = Hearer {
            open,
            two_way,
            hearing,
        };
        self.client.recv(bytes, now, &mut hearer);
        if let Some(reason) = self.client.failure() {
            bail!("the connection failed: {reason:?}");
        }
        while let Some((call, message)) = self.waiting.pop_front() {
            if !self.start(&message, call) {
                self.waiting.push_front((call, message));
                break;
            }
        }
        Ok(())
    }

    /// Moves what may be sent now into the output.
    pub(crate) fn flush(&mut self, now: Instant, hearing: &mut impl Hearing) {
        let (open, two_way) = (&mut self.open, &mut self.two_way);
        let mut hearer = Hearer {
            open,
            two_way,
            hearing,
        };
        self.client.flush(now, &mut hearer);
    }

    /// Bytes for the socket.
    pub(crate) fn output(&self) -> &[u8] {
        self.client.out()
    }

    /// The socket took so many of them.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.client.advance(bytes);
    }

    /// Whether another flush would find something to send.
    pub(crate) fn has_more(&self) -> bool {
        self.client.has_more()
    }

    /// Calls that have not ended, those that wait for a stream too.
    pub(crate) fn in_flight(&self) -> usize {
        let said = self.two_way.as_ref().map_or(0, |it| it.calls.len());
        self.open.in_flight + said + self.waiting.len()
    }
}

impl Open {
    fn begin(&mut self, stream: u32, call: Call) {
        assert!(stream == self.first + 2 * self.calls.len() as u32);
        let answer = None;
        self.calls.push_back(Some(Slot { call, answer }));
        self.in_flight += 1;
    }

    /// A stream of its own was opened.
    fn pass(&mut self, stream: u32) {
        assert!(stream == self.first + 2 * self.calls.len() as u32);
        self.calls.push_back(None);
        self.trim();
    }

    fn place(&mut self, stream: u32) -> Option<&mut Option<Slot>> {
        self.calls
            .get_mut((stream.checked_sub(self.first)? / 2) as usize)
    }

    /// Takes ended calls from the front.
    fn trim(&mut self) {
        while self.calls.front().is_some_and(Option::is_none) {
            self.calls.pop_front();
            self.first += 2;
        }
    }
}

struct Hearer<'a, H> {
    open: &'a mut Open,
    two_way: &'a mut Option<TwoWay>,
    hearing: &'a mut H,
}

impl<H: Hearing> Answered for Hearer<'_, H> {
    fn on_message(&mut self, stream: u32, message: &[u8]) {
        if let Some(two_way) = self.two_way.as_mut().filter(|it| it.stream == stream) {
            if let Some(call) = two_way.calls.pop_front() {
                let answer = self.hearing.on_message(&call, message, None);
                self.hearing.on_end(call, Ok(answer));
            }
            return;
        }
        if let Some(Some(slot)) = self.open.place(stream) {
            slot.answer = self.hearing.on_message(&slot.call, message, slot.answer);
        }
    }

    fn on_status(&mut self, stream: u32, status: &Status, _trailers: &Metadata) {
        if let Some(two_way) = self.two_way.take_if(|it| it.stream == stream) {
            let calls = two_way.calls.into_iter();
            return calls.for_each(|call| self.hearing.on_end(call, Err(status)));
        }
        let Some(slot) = self.open.place(stream).and_then(Option::take) else {
            return;
        };
        self.open.in_flight -= 1;
        self.open.trim();
        let ending = match status.code {
            Code::Ok => Ok(slot.answer),
            _ => Err(status),
        };
        self.hearing.on_end(slot.call, ending);
    }
}

/// The largest answer that is taken: far above a page of any workload.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// The table that every peer has unless it says otherwise; ours do not.
const TABLE_BYTES: usize = 4096;
