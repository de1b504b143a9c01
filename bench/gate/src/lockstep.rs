//! A client that says everything at once and then waits for all answers: so the server's turns are the same in every run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use basalt_net::grpc::client::{Answered, Client, Template};
use basalt_net::grpc::{Code, Metadata, Status};

/// One connection.
pub(crate) struct Lockstep {
    socket: TcpStream,
    client: Client,
    authority: String,
    heard: Heard,
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Heard {
    ended: usize,
    failed: Option<String>,
}

impl Answered for Heard {
    fn on_message(&mut self, _stream: u32, _message: &[u8]) {}

    fn on_status(&mut self, _stream: u32, status: &Status, _trailers: &Metadata) {
        self.ended += 1;
        if status.code != Code::Ok {
            self.failed.get_or_insert_with(|| status.to_string());
        }
    }
}

impl Lockstep {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) fn connect(to: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            client: Client::new(MESSAGE_BYTES_MAX, Instant::now()),
            authority: to.to_string(),
            heard: Heard::default(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// A header block for calls of `path`.
    pub(crate) fn template(&self, path: &str) -> Template {
        Template::new(path, &self.authority, &[], None)
    }

    /// Sends `calls` calls in one write and waits until all are answered OK. `message` writes the request of each.
    ///
    /// # Errors
    /// When a call fails or the server stops answering.
    pub(crate) fn round(
        &mut self,
        template: &Template,
        calls: usize,
        message: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<()> {
        self.heard.ended = 0;
        for _ in 0..calls {
            self.client
                .call(template, |out| message(out))
                .context("the server allows too few streams")?;
        }
        while self.heard.ended < calls {
            self.client.flush(Instant::now(), &mut self.heard);
            if !self.client.out().is_empty() {
                self.socket.write_all(self.client.out())?;
                let written = self.client.out().len();
                self.client.advance(written);
            }
            let count = self.socket.read(&mut self.buffer)?;
            ensure!(count > 0, "the server closed the connection");
            self.client
                .recv(&self.buffer[..count], Instant::now(), &mut self.heard);
            if let Some(reason) = self.client.failure() {
                bail!("the connection failed: {reason:?}");
            }
        }
        match self.heard.failed.take() {
            Some(why) => bail!("a call failed: {why}"),
            None => Ok(()),
        }
    }
}

const MESSAGE_BYTES_MAX: usize = 16 << 20;
const READ_BYTES: usize = 1 << 20;

/// A server under valgrind is some fifty times slower than alone.
const PATIENCE: Duration = Duration::from_secs(60);
