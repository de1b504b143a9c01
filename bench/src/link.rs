//! One connection's calls as bytes: the few frames that a load of small messages needs. Net's client role takes its place.

use std::borrow::Cow;
use std::collections::VecDeque;

use anyhow::{Result, bail};

use crate::workload::Method;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub due: u64,
    pub key: u32,
    pub method: Method,
}

pub(crate) enum Ending<'a> {
    Message(&'a [u8]),
    Failed(Cow<'static, str>),
}

pub(crate) struct Link {
    out: Vec<u8>,
    pending: Vec<u8>,
    next: u32,
    base: u32,
    calls: VecDeque<Option<Slot>>,
    in_flight: usize,
    blocks: [Vec<u8>; 3],
    ok: Vec<u8>,
    consumed: usize,
}

struct Slot {
    call: Call,
    body: Vec<u8>,
}

impl Link {
    pub(crate) fn new(authority: &str) -> Self {
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(
            &mut out,
            4,
            0,
            0,
            &[0, 1, 0, 0, 0, 0, 0, 4, 0x3f, 0xff, 0xff, 0xff],
        );
        frame(&mut out, 8, 0, 0, &0x3fff_0000u32.to_be_bytes());
        let blocks = Method::ALL.map(|method| {
            let mut block = vec![0x83, 0x86];
            literal(&mut block, 4, method.path());
            literal(&mut block, 1, authority);
            literal(&mut block, 31, "application/grpc");
            block.extend_from_slice(&[0x00, 2]);
            block.extend_from_slice(b"te");
            block.push(8);
            block.extend_from_slice(b"trailers");
            block
        });
        Self {
            out,
            pending: Vec::new(),
            next: 1,
            base: 1,
            calls: VecDeque::new(),
            in_flight: 0,
            blocks,
            ok: Vec::new(),
            consumed: 0,
        }
    }

    pub(crate) fn send(&mut self, message: &[u8], call: Call) {
        let block = &self.blocks[call.method as usize];
        frame(&mut self.out, 1, 4, self.next, block);
        let len = message.len() + 5;
        self.out
            .extend_from_slice(&[(len >> 16) as u8, (len >> 8) as u8, len as u8, 0, 1]);
        self.out.extend_from_slice(&self.next.to_be_bytes());
        self.out.push(0);
        self.out
            .extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.out.extend_from_slice(message);
        self.next += 2;
        self.calls.push_back(Some(Slot {
            call,
            body: Vec::new(),
        }));
        self.in_flight += 1;
    }

    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        done: &mut dyn FnMut(Call, Ending<'_>),
    ) -> Result<()> {
        if self.pending.is_empty() {
            let used = self.frames(bytes, done)?;
            self.pending.extend_from_slice(&bytes[used..]);
        } else {
            let mut all = std::mem::take(&mut self.pending);
            all.extend_from_slice(bytes);
            let used = self.frames(&all, done)?;
            all.drain(..used);
            self.pending = all;
        }
        if self.consumed > 1 << 20 {
            frame(
                &mut self.out,
                8,
                0,
                0,
                &(self.consumed as u32).to_be_bytes(),
            );
            self.consumed = 0;
        }
        Ok(())
    }

    fn frames(&mut self, bytes: &[u8], done: &mut dyn FnMut(Call, Ending<'_>)) -> Result<usize> {
        let mut at = 0;
        while bytes.len() - at >= 9 {
            let head = &bytes[at..at + 9];
            let len = (head[0] as usize) << 16 | (head[1] as usize) << 8 | head[2] as usize;
            if bytes.len() - at < 9 + len {
                break;
            }
            let payload = &bytes[at + 9..at + 9 + len];
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            at += 9 + len;
            match head[3] {
                0 => {
                    self.consumed += len;
                    if let Some(slot) = self.slot(stream) {
                        slot.body.extend_from_slice(payload);
                    }
                }
                1 if head[4] & 1 != 0 => {
                    let place = ((stream - self.base) / 2) as usize;
                    let Some(slot) = self.calls.get_mut(place).and_then(Option::take) else {
                        continue;
                    };
                    self.in_flight -= 1;
                    if self.ok.is_empty() && slot.body.len() >= 5 {
                        self.ok = payload.to_vec();
                    }
                    if payload == self.ok {
                        done(slot.call, Ending::Message(&slot.body[5..]));
                    } else {
                        done(slot.call, Ending::Failed(format!("{payload:x?}").into()));
                    }
                    while matches!(self.calls.front(), Some(None)) {
                        self.calls.pop_front();
                        self.base += 2;
                    }
                }
                1 | 8 => {}
                4 if head[4] & 1 == 0 => frame(&mut self.out, 4, 1, 0, &[]),
                4 => {}
                6 if head[4] & 1 == 0 => frame(&mut self.out, 6, 1, 0, payload),
                other => bail!("frame {other} {payload:x?}"),
            }
        }
        Ok(at)
    }

    fn slot(&mut self, stream: u32) -> Option<&mut Slot> {
        self.calls
            .get_mut(((stream - self.base) / 2) as usize)?
            .as_mut()
    }

    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

fn literal(block: &mut Vec<u8>, name: u8, value: &str) {
    if name < 15 {
        block.push(name);
    } else {
        block.extend_from_slice(&[0x0f, name - 15]);
    }
    block.push(value.len() as u8);
    block.extend_from_slice(value.as_bytes());
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let len = payload.len();
    out.extend_from_slice(&[(len >> 16) as u8, (len >> 8) as u8, len as u8, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}
