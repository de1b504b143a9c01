//! Maintenance.Snapshot: the worker makes pieces of the file, the loop sends them. The next piece is
//! made when the client has room for it, so that memory is bounded by one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use basalt_engine::disk::Disk;
use basalt_engine::member::Member;
use basalt_engine::mvcc::{History, HoldRefused, Reader};
use basalt_engine::replica::{Outcome, Published, Refused};
use basalt_engine::snapshot::{Description, Progress, Snapshot};
use basalt_net::grpc::{CallId, Calls, Flow, Metadata, Status};
use basalt_pb::hot::{put_bytes_field, put_uint_field};

use super::backend::{Backend, Step, Work};
use super::errors::Error;
use super::fields;
use super::gate::Rpc;
use super::limits::{SNAPSHOT_BLOB_BYTES, SNAPSHOT_PIECE_BYTES, SNAPSHOT_STALL_MAX, SNAPSHOTS_MAX};
use super::meter::Meter;
use super::services::Services;
use super::waiting::Then;
use crate::version;

/// The snapshots on their way on one loop.
#[derive(Default)]
pub(super) struct Snapshots {
    list: Vec<Stream>,
}

/// One of them.
struct Stream {
    call: CallId,
    making: Arc<Making>,
    state: State,
    began: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The worker is to make a piece.
    Wants,
    /// The worker makes one.
    Works,
    /// The client has not read what there is.
    Full { since: Instant },
}

/// Shared with the worker, which has it while it makes a piece.
struct Making {
    /// Nobody waits for the rest.
    is_over: AtomicBool,
    file: Mutex<File>,
}

struct File {
    reader: Reader,
    stage: Stage,
    /// What was made and not sent.
    piece: Vec<u8>,
    /// Bytes of the file still to be sent, `piece` included.
    left_bytes: u64,
    /// Once the last byte is in `piece`.
    digest: Option<[u8; 32]>,
}

enum Stage {
    /// The store's history is not held yet.
    Waits(Description),
    Runs(Box<Snapshot>),
}

impl<B: Backend> Services<B> {
    /// Answers this member's state without asking others, as etcd does: everything acknowledged
    /// here before the call is in it.
    pub(super) fn on_snapshot(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [] = fields::ints(message)?;
        self.admit(Rpc::Snapshot, false, meta)?;
        if self.snapshots.list.len() >= SNAPSHOTS_MAX {
            return Err(Error::TooManyRequests);
        }
        // Described before the store is held: the index is at most that of the newest record.
        let description = describe(self.backend.published());
        let mut file = File {
            reader: self.backend.reader().clone(),
            stage: Stage::Waits(description),
            piece: Vec::new(),
            left_bytes: 0,
            digest: None,
        };
        // Where this fails the worker tries again.
        let _ = file.hold();
        tracing::info!("sending database snapshot to client");
        self.snapshots.list.push(Stream {
            call,
            making: Arc::new(Making {
                is_over: AtomicBool::new(false),
                file: Mutex::new(file),
            }),
            state: State::Wants,
            began: Instant::now(),
        });
        Ok(())
    }

    /// The worker has made a piece, or says why it does not.
    pub(super) fn on_piece(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        outcome: Outcome,
        now: Instant,
    ) {
        let list = &mut self.snapshots.list;
        let Some(at) = list.iter().position(|stream| stream.call == call) else {
            return;
        };
        if let Outcome::Refused(refused) = outcome {
            calls.finish(call, Error::from(refused).status());
            list.swap_remove(at);
            return;
        }
        let mut file = list[at].making.file();
        let flow = file.send(calls, call);
        let is_whole = file.digest.is_some();
        drop(file);
        if is_whole {
            calls.finish(call, Status::OK);
            let stream = list.swap_remove(at);
            tracing::info!(took = ?stream.began.elapsed(), "successfully sent database snapshot to client");
            return;
        }
        list[at].state = match flow {
            Flow::Ready => State::Wants,
            Flow::Full => State::Full { since: now },
        };
    }

    /// Hands work to the worker and ends what nobody reads. Returns when to look again.
    pub(super) fn poll_snapshots(
        &mut self,
        calls: &mut impl Calls,
        meter: &Meter,
        now: Instant,
    ) -> Option<Instant> {
        let mut wake = None;
        for at in (0..self.snapshots.list.len()).rev() {
            let stream = &mut self.snapshots.list[at];
            let call = stream.call;
            let look = match stream.state {
                State::Works => continue,
                State::Full { since } if since + SNAPSHOT_STALL_MAX <= now => {
                    let calls = &mut meter.count(Rpc::Snapshot, calls);
                    calls.finish(call, Error::SnapshotNotRead.status());
                    self.snapshots.list.swap_remove(at);
                    continue;
                }
                State::Full { since } => since + SNAPSHOT_STALL_MAX,
                State::Wants => {
                    let work = stream.making.work();
                    match self.submit(call, Rpc::Snapshot, work, Then::Piece) {
                        Ok(()) => {
                            self.snapshots.list[at].state = State::Works;
                            continue;
                        }
                        // Its queue is full.
                        Err(_) => now + RETRY,
                    }
                }
            };
            wake = Some(wake.map_or(look, |wake: Instant| wake.min(look)));
        }
        wake
    }
}

impl Snapshots {
    pub(super) fn on_writable(&mut self, call: CallId) {
        let mut list = self.list.iter_mut();
        if let Some(stream) = list.find(|stream| stream.call == call)
            && matches!(stream.state, State::Full { .. })
        {
            stream.state = State::Wants;
        }
    }

    pub(super) fn on_cancel(&mut self, call: CallId) {
        self.list.retain(|stream| stream.call != call);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Only a hint to stop early: the worker reads it again at each step.
        self.making.is_over.store(true, Ordering::Relaxed);
    }
}

impl Making {
    fn file(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The making of one piece.
    fn work(self: &Arc<Self>) -> Work {
        let making = Arc::clone(self);
        Box::new(
            move |disk, _| match making.is_over.load(Ordering::Relaxed) {
                true => Step::Done,
                false => making.file().step(disk),
            },
        )
    }
}

impl File {
    /// # Errors
    /// Compaction is giving memory back, or too much is held.
    fn hold(&mut self) -> Result<(), HoldRefused> {
        if let Stage::Waits(description) = &mut self.stage {
            let history = History::take(&self.reader)?;
            let snapshot = Snapshot::new(std::mem::take(description), history);
            self.stage = Stage::Runs(Box::new(snapshot));
        }
        Ok(())
    }

    fn step(&mut self, disk: &mut dyn Disk) -> Step {
        match self.hold() {
            Ok(()) => {}
            Err(HoldRefused::Full) => return Step::Refused(Refused::TooManyRequests),
            Err(HoldRefused::Swept) => return pause(),
        }
        let Stage::Runs(snapshot) = &mut self.stage else {
            return Step::Again;
        };
        let was_laid_out = snapshot.bytes().is_some();
        let Ok(progress) = snapshot.step(disk, &mut self.piece) else {
            return Step::Refused(Refused::CorruptCluster);
        };
        if !was_laid_out {
            self.left_bytes = snapshot.bytes().unwrap_or_default();
        }
        match progress {
            Progress::Whole { digest } => {
                self.digest = Some(digest);
                Step::Done
            }
            Progress::Bytes if self.piece.len() >= SNAPSHOT_PIECE_BYTES => Step::Done,
            Progress::Bytes | Progress::LayingOut => Step::Again,
        }
    }

    /// Sends the whole blobs of the piece, and behind the last the digest.
    fn send(&mut self, calls: &mut impl Calls, call: CallId) -> Flow {
        let mut flow = Flow::Ready;
        let end = match self.digest {
            None => self.piece.len() / SNAPSHOT_BLOB_BYTES * SNAPSHOT_BLOB_BYTES,
            Some(_) => self.piece.len(),
        };
        for blob in self.piece[..end].chunks(SNAPSHOT_BLOB_BYTES) {
            self.left_bytes -= blob.len() as u64;
            flow = calls.send(call, |out| write_response(out, self.left_bytes, blob));
        }
        self.piece.drain(..end);
        if let Some(digest) = &self.digest {
            flow = calls.send(call, |out| write_response(out, 0, digest));
        }
        flow
    }
}

/// A `SnapshotResponse`, which has no header in etcd.
fn write_response(out: &mut Vec<u8>, left_bytes: u64, blob: &[u8]) {
    put_uint_field(out, 2, left_bytes);
    put_bytes_field(out, 3, blob);
    put_bytes_field(out, 4, version::CLUSTER.as_bytes());
}

/// For the worker, while nothing can be done: it comes back to this at the next step.
fn pause() -> Step {
    std::thread::sleep(RETRY);
    Step::Again
}

fn describe(published: &Published) -> Description {
    let status = published.status();
    let cluster = published.cluster();
    Description {
        applied: (status.applied, status.applied_term),
        members: cluster.members.iter().map(Member::from_proto).collect(),
        removed: cluster.removed.clone(),
        alarms: cluster.alarms.clone(),
        cluster_version: cluster.cluster_version.clone(),
    }
}

/// Between two tries of what is not possible just now.
const RETRY: Duration = Duration::from_millis(1);
