//! A gRPC server without a reactor, one thread a connection: for h2spec, h2load and profiles of the codec alone.
//! `cargo run --release -p basalt-net --example grpc_echo 127.0.0.1:23800`

use basalt_net::grpc::{Answers, Connection, Method, Request, ServerConfig, Sink};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// Answers every request, whatever its path, with 300 bytes.
struct Answer;

impl Sink for Answer {
    fn method(&self, _: &[u8]) -> Method {
        Method::OneRequest
    }

    fn on_request(&mut self, answers: &mut Answers, stream: u32, _: Request<'_>) {
        answers.reply(stream, |out| out.resize(out.len() + 300, b'x'));
    }

    fn on_end(&mut self, _: &mut Answers, _: u32) {}
    fn on_cancel(&mut self, _: &mut Answers, _: u32) {}
    fn on_writable(&mut self, _: &mut Answers, _: u32) {}
}

fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let config = ServerConfig {
        streams_max: 100,
        ..ServerConfig::default()
    };
    let mut connection = Connection::new(&config, Instant::now());
    let mut buffer = vec![0; 64 << 10];
    loop {
        loop {
            connection.flush(Instant::now(), &mut Answer);
            let bytes = connection.out().len();
            if bytes == 0 {
                break;
            }
            socket.write_all(connection.out())?;
            connection.advance(bytes);
        }
        if connection.is_finished() {
            return Ok(());
        }
        let bytes = socket.read(&mut buffer)?;
        if bytes == 0 {
            connection.on_closed(&mut Answer);
            return Ok(());
        }
        connection.recv(&buffer[..bytes], Instant::now(), &mut Answer);
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:23800".to_string());
    for socket in TcpListener::bind(address)?.incoming() {
        let socket = socket?;
        std::thread::spawn(move || serve(socket));
    }
    Ok(())
}
