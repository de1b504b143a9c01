//! The released server under callgrind: what one request costs it from socket to socket.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use anyhow::{Context, Result, bail};
use basalt_pb::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op,
};
use basalt_pb::paths::kv;
use prost::Message;
use prost::bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};

use crate::baseline::Cost;
use crate::callgrind::{self, Counted};
use crate::lockstep::Lockstep;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Get,
    Put,
    /// Compare, put, else range: what Kubernetes sends.
    Txn,
}

impl Request {
    pub(crate) const ALL: [(&'static str, Request); 3] = [
        ("server-get", Request::Get),
        ("server-put", Request::Put),
        ("server-txn", Request::Txn),
    ];

    fn path(self) -> &'static str {
        match self {
            Request::Get => kv::RANGE,
            Request::Put => kv::PUT,
            Request::Txn => kv::TXN,
        }
    }

    fn bytes(self, key: u64) -> Vec<u8> {
        let key = Bytes::from(format!("/registry/leases/ns/{key:08}"));
        let range = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let put = put(key.clone());
        match self {
            Request::Get => range.encode_to_vec(),
            Request::Put => put.encode_to_vec(),
            Request::Txn => TxnRequest {
                compare: vec![Compare {
                    result: compare::CompareResult::Greater as i32,
                    target: compare::CompareTarget::Mod as i32,
                    key,
                    target_union: Some(compare::TargetUnion::ModRevision(1)),
                    ..Compare::default()
                }],
                success: vec![RequestOp {
                    request: Some(request_op::Request::RequestPut(put)),
                }],
                failure: vec![RequestOp {
                    request: Some(request_op::Request::RequestRange(range)),
                }],
            }
            .encode_to_vec(),
        }
    }
}

fn put(key: Bytes) -> PutRequest {
    PutRequest {
        key,
        value: Bytes::from_static(&[b'v'; VALUE_BYTES]),
        ..PutRequest::default()
    }
}

/// What one request costs.
///
/// # Errors
/// When valgrind is missing, or the server does not start or answer under it.
pub(crate) fn cost(program: &Path, request: Request) -> Result<Cost> {
    let short = run(program, request, ROUNDS)?;
    let long = run(program, request, 2 * ROUNDS)?;
    Ok(short.cost_to(long, (ROUNDS * CALLS) as u64))
}

fn run(program: &Path, request: Request, rounds: usize) -> Result<Counted> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("callgrind.out");
    let server = Server::start(program, folder.path(), &out)?;
    let mut client = Lockstep::connect(server.client)?;
    let template = client.template(kv::PUT);
    for first in (0..KEYS).step_by(CALLS) {
        let mut key = first;
        client.round(&template, CALLS, &mut |out| {
            out.extend_from_slice(&Request::Put.bytes(key));
            key += 1;
        })?;
    }
    let template = client.template(request.path());
    let mut key = 0;
    for _ in 0..rounds {
        client.round(&template, CALLS, &mut |out| {
            out.extend_from_slice(&request.bytes(key % KEYS));
            // A step without a common divisor with the keys: all of them, in an order that no cache likes.
            key += 379;
        })?;
    }
    server.stop()?;
    callgrind::read(&out)
}

struct Server {
    child: Child,
    client: SocketAddr,
    log: BufReader<ChildStderr>,
}

impl Server {
    fn start(program: &Path, folder: &Path, out: &Path) -> Result<Self> {
        let (client, peer) = (free_address()?, free_address()?);
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let mut child = callgrind::command(program, out)?
            .args(["--name", "m", "--threads", "inline", "--wal-io", "pwrite"])
            .args(["--log-level", "info", "--data-dir"])
            .arg(folder.join("data"))
            .args(["--listen-client-urls", &client_url])
            .args(["--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("m={peer_url}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("its log is piped")?;
        let mut server = Self {
            child,
            client,
            log: BufReader::new(stderr),
        };
        server.await_ready()?;
        Ok(server)
    }

    fn await_ready(&mut self) -> Result<()> {
        let mut log = String::new();
        while !log.ends_with('\n') || !log.contains(READY) {
            if self.log.read_line(&mut log)? == 0 {
                bail!("the server ended before it was ready:\n{log}");
            }
        }
        Ok(())
    }

    fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process has a number")?, Signal::TERM)?;
        std::io::copy(&mut self.log, &mut std::io::sink())?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the process has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

const READY: &str = "ready to serve client requests";

/// Requests of one write.
const CALLS: usize = 50;
/// Rounds of the short run; the long one has twice as many.
const ROUNDS: usize = 100;
const KEYS: u64 = 2_000;
const VALUE_BYTES: usize = 256;
