//! One connection's calls: which are open, what they are about, how they ended.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Result, bail};
use basalt_net::grpc::client::{Answered, Client, Template};
use basalt_net::grpc::{Code, Metadata, Status};

use crate::workload::Method;

/// What a call is about, given back with its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// Nanoseconds on the driver's clock at which it was due.
    pub(crate) due: u64,
    pub(crate) key: u32,
    pub(crate) method: Method,
}

/// How a call ended.
pub(crate) enum Ending<'a> {
    /// Status OK and this message.
    Message(&'a [u8]),
    /// Any other status.
    Failed(&'a Status),
}

/// Net's client with our calls beside its streams.
pub(crate) struct Link {
    client: Client,
    templates: [Template; Method::ALL.len()],
    open: Open,
    /// Calls for which the server allows no stream yet.
    waiting: VecDeque<(Call, Vec<u8>)>,
}

/// The open calls by stream. Streams are opened in order and end almost in order, so a ring is as good as a map.
#[derive(Default)]
struct Open {
    /// The place of stream `first` is 0, of `first + 2` is 1 and so on.
    calls: VecDeque<Slot>,
    first: u32,
    in_flight: usize,
    /// Buffers of ended calls.
    spare: Vec<Vec<u8>>,
}

struct Slot {
    call: Option<Call>,
    message: Vec<u8>,
}

impl Link {
    /// Its greeting waits in the output.
    pub(crate) fn new(authority: &str, now: Instant) -> Self {
        Self {
            client: Client::new(MESSAGE_BYTES_MAX, now),
            templates: Method::ALL.map(|method| Template::new(method.path(), authority, &[], None)),
            open: Open {
                first: 1,
                ..Open::default()
            },
            waiting: VecDeque::new(),
        }
    }

    /// Starts a call, now or as soon as the server allows it.
    pub(crate) fn send(&mut self, message: &[u8], call: Call) {
        let template = &self.templates[call.method as usize];
        match self
            .client
            .call(template, |out| out.extend_from_slice(message))
        {
            Some(stream) => self.open.begin(stream, call),
            None => self.waiting.push_back((call, message.to_vec())),
        }
    }

    /// Takes what the socket gave; `done` hears of each call that ended.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        now: Instant,
        done: &mut dyn FnMut(Call, Ending<'_>),
    ) -> Result<()> {
        self.client.recv(
            bytes,
            now,
            &mut Hearer {
                open: &mut self.open,
                done,
            },
        );
        if let Some(reason) = self.client.failure() {
            bail!("the connection failed: {reason:?}");
        }
        while let Some((call, message)) = self.waiting.pop_front() {
            let template = &self.templates[call.method as usize];
            let Some(stream) = self
                .client
                .call(template, |out| out.extend_from_slice(&message))
            else {
                self.waiting.push_front((call, message));
                break;
            };
            self.open.begin(stream, call);
        }
        Ok(())
    }

    /// Moves what may be sent now into the output.
    pub(crate) fn flush(&mut self, now: Instant) {
        // Sending ends no call: nobody has to hear of it.
        self.client.flush(
            now,
            &mut Hearer {
                open: &mut self.open,
                done: &mut |_, _| {},
            },
        );
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
        self.open.in_flight + self.waiting.len()
    }
}

impl Open {
    fn begin(&mut self, stream: u32, call: Call) {
        assert!(stream == self.first + 2 * self.calls.len() as u32);
        let message = self.spare.pop().unwrap_or_default();
        self.calls.push_back(Slot {
            call: Some(call),
            message,
        });
        self.in_flight += 1;
    }

    fn slot(&mut self, stream: u32) -> Option<&mut Slot> {
        self.calls
            .get_mut((stream.checked_sub(self.first)? / 2) as usize)
    }

    /// Takes ended calls from the front.
    fn trim(&mut self) {
        while self.calls.front().is_some_and(|slot| slot.call.is_none()) {
            if let Some(mut slot) = self.calls.pop_front() {
                slot.message.clear();
                self.spare.push(slot.message);
            }
            self.first += 2;
        }
    }
}

struct Hearer<'a> {
    open: &'a mut Open,
    done: &'a mut dyn FnMut(Call, Ending<'_>),
}

impl Answered for Hearer<'_> {
    fn on_message(&mut self, stream: u32, message: &[u8]) {
        if let Some(slot) = self.open.slot(stream) {
            slot.message.clear();
            slot.message.extend_from_slice(message);
        }
    }

    fn on_status(&mut self, stream: u32, status: &Status, _trailers: &Metadata) {
        let Some(slot) = self.open.slot(stream) else {
            return;
        };
        let Some(call) = slot.call.take() else { return };
        let ending = match status.code {
            Code::Ok => Ending::Message(&slot.message),
            _ => Ending::Failed(status),
        };
        (self.done)(call, ending);
        self.open.in_flight -= 1;
        self.open.trim();
    }
}

/// The largest answer that is taken: far above a page of any workload.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
