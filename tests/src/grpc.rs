//! A blocking gRPC client that shares no code with the server: calls go out pipelined, answers come in any order.
//!
//! It reads no header blocks: a call that ends with a message succeeded, one that ends without failed. That is enough to know what was
//! acknowledged, and leaves the bytes of frames in the hands of those who want to send wrong ones.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use prost::Message;

use crate::frame::{self, Frame};
use crate::server::PATIENCE;

/// One connection.
pub struct Client {
    socket: TcpStream,
    /// Frames not yet sent.
    out: Vec<u8>,
    /// Bytes received, read up to `read`.
    buffer: Vec<u8>,
    read: usize,
    next_stream: u32,
    authority: String,
    bodies: HashMap<u32, Vec<u8>>,
    /// Bytes of DATA since the connection's window was last opened.
    taken: u32,
}

/// The end of a call.
#[derive(Debug)]
pub struct Answer {
    /// Its stream.
    pub stream: u32,
    /// The message, or nothing if the call failed.
    pub message: Option<Vec<u8>>,
}

impl Client {
    /// Connects and greets.
    ///
    /// # Errors
    /// The socket's.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        Self::connect_within(to, PATIENCE)
    }

    /// As [`Client::connect`], waiting for anything at most so long.
    ///
    /// # Errors
    /// The socket's.
    pub fn connect_within(to: SocketAddr, patience: Duration) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&to, patience)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        socket.set_nodelay(true)?;
        let mut out = frame::PREFACE.to_vec();
        frame::settings(&mut out, &[(frame::INITIAL_WINDOW_SIZE, WINDOW)]);
        frame::window_update(&mut out, 0, WINDOW - frame::WINDOW_DEFAULT);
        let authority = to.to_string();
        Ok(Self {
            socket,
            out,
            buffer: Vec::new(),
            read: 0,
            next_stream: 1,
            authority,
            bodies: HashMap::new(),
            taken: 0,
        })
    }

    /// Queues a call; nothing leaves before [`Client::flush`] or [`Client::answer`].
    pub fn call(&mut self, path: &str, request: &impl Message) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        frame::headers(
            &mut self.out,
            stream,
            &frame::request_block(path, &self.authority),
            frame::END_HEADERS,
        );
        frame::data(
            &mut self.out,
            stream,
            &frame::message(&request.encode_to_vec()),
            frame::END_STREAM,
        );
        self.bodies.insert(stream, Vec::new());
        stream
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// The socket's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Waits for the end of any call.
    ///
    /// # Errors
    /// The socket's, also when the server closes or nothing comes for long.
    pub fn answer(&mut self) -> io::Result<Answer> {
        self.flush()?;
        loop {
            let Some(next) = Frame::parse(&self.buffer[self.read..]) else {
                self.receive()?;
                continue;
            };
            let (kind, flags, stream) = (next.kind, next.flags, next.stream);
            let payload = next.payload.to_vec();
            self.read += next.size();
            match kind {
                frame::DATA => {
                    self.taken += payload.len() as u32;
                    if let Some(body) = self.bodies.get_mut(&stream) {
                        body.extend_from_slice(&payload);
                    }
                }
                frame::SETTINGS if flags & frame::ACK == 0 => {
                    frame::raw(&mut self.out, frame::SETTINGS, frame::ACK, 0, &[])
                }
                frame::PING if flags & frame::ACK == 0 => {
                    frame::raw(&mut self.out, frame::PING, frame::ACK, 0, &payload)
                }
                frame::GO_AWAY => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        format!("GOAWAY {payload:?}"),
                    ));
                }
                _ => {}
            }
            let ends = kind == frame::RST_STREAM
                || (kind != frame::SETTINGS && flags & frame::END_STREAM != 0);
            if !ends || kind == frame::PING {
                continue;
            }
            if let Some(body) = self.bodies.remove(&stream) {
                let message = if kind == frame::RST_STREAM {
                    None
                } else {
                    body.get(5..).map(<[u8]>::to_vec)
                };
                return Ok(Answer { stream, message });
            }
        }
    }

    /// One call from its beginning to its end.
    ///
    /// # Errors
    /// The socket's, or `Other` if the server refused the call.
    pub fn ask<A: Message + Default>(
        &mut self,
        path: &str,
        request: &impl Message,
    ) -> io::Result<A> {
        let stream = self.call(path, request);
        loop {
            let answer = self.answer()?;
            if answer.stream == stream {
                let message = answer
                    .message
                    .ok_or_else(|| io::Error::other(format!("{path} was refused")))?;
                return A::decode(message.as_slice()).map_err(io::Error::other);
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        if self.taken > WINDOW / 2 {
            frame::window_update(&mut self.out, 0, self.taken);
            self.taken = 0;
        }
        self.flush()?;
        self.buffer.drain(..self.read);
        self.read = 0;
        let mut piece = [0; 64 << 10];
        let count = self.socket.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(())
    }
}

/// Room for every answer of these suites without opening a stream's window again.
const WINDOW: u32 = 1 << 28;
