//! A member's log under a random load on the simulated disk, beside a model of what it may hold after any crash.
//!
//! Promises: the model knows what was acknowledged and what was only staged, and nothing of how it is stored. Start at [`Member`],
//! then [`check`].

use basalt_engine::apply::Meta;
use basalt_engine::disk::{Disk, DiskAnswer, DiskDone, DiskOp, File, Pages};
use basalt_engine::lease::Lease;
use basalt_engine::mvcc::{BadSegment, PartRead, Store, StoreConfig};
use basalt_engine::replica::{BadContent, CheckpointContent, CheckpointJob};
use basalt_engine::types::{ClusterId, HardState, Index, LeaseId, MemberId, Run, RunKind, Term};
use basalt_engine::wal::{
    CheckpointReader, Corrupt, Found, Identity, Job, RecoverConfig, Recovered, Replayed, Rot, Wal,
    WalFailed, WalLimits, create, look, recover,
};
use fastrand::Rng;

use crate::sim_disk::SimDisk;

/// Whose directory it is.
pub const IDENTITY: Identity = Identity {
    cluster: ClusterId(0xc1),
    member: MemberId(0x3e),
    salt: 0x5a17,
};

/// Sizes so small that a few dozen runs change segments several times.
pub const LIMITS: WalLimits = WalLimits {
    group_bytes: 8 << 10,
    run_bytes_max: 8 << 10,
    segment_bytes_min: 24 << 10,
    segment_bytes_max: 48 << 10,
    ballast_bytes: 4 << 10,
    fill_bytes: 16 << 10,
};

/// One entry: its term and a checksum over its bytes.
pub type Entry = (u64, u32);

/// The log as its user sees it: entry i has index i + 1.
pub type Log = Vec<Entry>;

/// What may be found after a crash at this moment.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    /// Whether the directory was finished.
    pub is_made: bool,
    /// The log as of the last frame that was acknowledged.
    pub acked: Log,
    /// The log with the frame in flight.
    pub flying: Log,
    /// Term and vote that may have left the process.
    pub promised: HardState,
    /// The newest term, vote and commit that were staged.
    pub staged: HardState,
    /// The checkpoint that was last handed to the log.
    pub checkpoint: u64,
}

/// The disk of these tests.
pub type Sim = SimDisk<Mark>;

/// A running member: the log, its disk, and the background work.
#[derive(Debug)]
pub struct Member {
    /// The disk.
    pub disk: Sim,
    /// The log.
    pub wal: Wal,
    state: State,
    jobs: Vec<Job>,
    log: Log,
    hard: HardState,
    rng: Rng,
}

/// What a replay gave.
#[derive(Debug)]
pub struct Read {
    /// Checkpoint and log together.
    pub log: Log,
    /// What recovery said.
    pub recovered: Recovered,
    state: State,
}

/// A key space that has a key for each entry of the log, as checkpoints hold it.
struct State {
    store: Store,
    /// The last entry in it.
    applied: u64,
    /// The files that the last durable checkpoint names.
    named: Vec<u64>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "State({}, {:?})", self.applied, self.named)
    }
}

impl State {
    fn new() -> Self {
        let (store, _) = Store::new(STORE);
        Self {
            store,
            applied: 0,
            named: Vec::new(),
        }
    }

    /// Reads the pages of the index that the next entry changes; false if that fails.
    fn fetch(&mut self, disk: &mut Sim) -> bool {
        let key = (self.applied + 1).to_be_bytes();
        for key in [&key[..], b"hot"] {
            while let Err(need) = self.store.view().meta_at(key, i64::MAX).map(|_| ()) {
                if self.store.read_now(need, disk).is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// Adds an entry under a key of its own, and often another record that the next one replaces. Some entries grant a lease, on
    /// which their key hangs or none, some change one, and some end one that has no key.
    fn apply(&mut self, (term, crc): Entry) {
        self.applied += 1;
        let lease = self.change_leases(crc);
        let mut value = term.to_le_bytes().to_vec();
        value.extend_from_slice(&crc.to_le_bytes());
        let mut write = self.store.write();
        let put = write.put(&self.applied.to_be_bytes(), &value, lease);
        put.expect("it was fetched");
        if self.applied % 16 < 11 {
            let put = write.put(b"hot", &vec![1; small(self.applied % 7) * 40], LeaseId(0));
            put.expect("it was fetched");
        }
        write.finish();
    }

    /// The lease of this entry's key.
    fn change_leases(&mut self, crc: u32) -> LeaseId {
        let id = LeaseId(crc as i32 as i64 | 1);
        let is_new = self.store.grants().get(id).is_none();
        match crc % 8 {
            0 | 1 if is_new => {
                self.store.grant(Lease {
                    id,
                    ttl: i64::from(crc >> 8),
                    remaining: 0,
                    generation: self.applied,
                });
                id
            }
            2 => {
                let ids = self.store.grants().image().sorted();
                let Some(old) = ids.first().map(|lease| lease.id) else {
                    return LeaseId(0);
                };
                self.store.checkpoint_lease(old, i64::from(crc >> 16));
                old
            }
            3 => {
                // A lease goes once nothing hangs on it.
                let leases = self.store.grants().image().sorted();
                let keyless = |lease: &&Lease| self.store.attached().count(lease.id) == 0;
                if let Some(old) = leases.iter().find(keyless).map(|lease| lease.id) {
                    self.store.end_lease(old);
                }
                LeaseId(0)
            }
            4 if is_new => {
                self.store.grant(Lease {
                    id,
                    ttl: 1,
                    remaining: 0,
                    generation: self.applied,
                });
                LeaseId(0)
            }
            _ => LeaseId(0),
        }
    }

    /// Panics unless it has the leases, and the keys on them, that these entries make.
    fn check_leases(&self, log: &Log) {
        let mut expected = Self::new();
        for entry in log {
            expected.apply(*entry);
        }
        let (ours, theirs) = (&self.store, &expected.store);
        assert_eq!(ours.grants().image(), theirs.grants().image());
        for lease in theirs.grants().image().iter() {
            let keys = ours.attached().keys_from(lease.id, &[]);
            assert!(keys.eq(theirs.attached().keys_from(lease.id, &[])));
        }
    }

    /// False if a record could not be read: then it is not finished.
    fn compact(&mut self, disk: &mut Sim) -> bool {
        // Refused while nothing was written since the last one.
        let _ = self.store.compact(self.store.revision());
        loop {
            let part = match self.store.poll_space(1000) {
                Ok(true) => {
                    self.store.publish();
                    continue;
                }
                Ok(false) => return true,
                Err(part) => part,
            };
            let taken = read_part(disk, &part)
                .and_then(|(pages, bytes)| self.store.on_space_part(&part, &pages, bytes));
            if taken.is_err() {
                return false;
            }
        }
    }

    /// Reads every record that makes the log, a few in memory at a time.
    fn log(&mut self, disk: &mut Sim) -> Result<Log, Corrupt> {
        let mut log = Log::new();
        while (log.len() as u64) < self.applied {
            let key = (log.len() as u64 + 1).to_be_bytes();
            if let Ok(record) = self.store.view().get_at(&key, i64::MAX) {
                let value = record.expect("never deleted").value;
                let (term, crc) = value.split_at(8);
                log.push((
                    u64::from_le_bytes(term.try_into().expect("eight bytes")),
                    u32::from_le_bytes(crc.try_into().expect("four bytes")),
                ));
                continue;
            }
            self.store.evict();
            for part in self.store.take_wanted() {
                read_part(disk, &part)
                    .and_then(|(pages, bytes)| self.store.on_part(&part, &pages, bytes))
                    .map_err(corrupt)?;
            }
        }
        Ok(log)
    }
}

/// As a member does: a read that fails is made three times.
fn read_part(disk: &mut Sim, part: &PartRead) -> Result<(Pages, usize), BadSegment> {
    let mut tries = 3;
    loop {
        tries -= 1;
        match disk.perform(part.op()) {
            Ok(DiskAnswer::Read { pages, bytes }) => return Ok((pages, bytes)),
            Ok(other) => panic!("a read answered {other:?}"),
            Err(error) if tries == 0 => return Err(error.into()),
            Err(_) => {}
        }
    }
}

fn corrupt(bad: BadSegment) -> Corrupt {
    match bad {
        BadSegment::Disk(error) => Corrupt::Disk(error),
        BadSegment::Rotten { file, offset, .. } => Corrupt::Rotten {
            file,
            offset,
            what: Rot::Chunk { chunk: 0 },
        },
    }
}

/// So small that a few entries fill a segment.
const STORE: StoreConfig = StoreConfig {
    segment_bytes: 1800,
    cache_bytes: 3000,
    files_seed: 0,
};

/// Makes a directory and starts a member on it.
pub fn start(mut disk: Sim, seed: u64) -> Result<Member, Corrupt> {
    if look(&mut disk)? == Found::Empty {
        create(&mut disk, &IDENTITY, &LIMITS)?;
    }
    disk.mark.is_made = true;
    restart(disk, seed)
}

/// Starts a member on a finished directory.
pub fn restart(mut disk: Sim, seed: u64) -> Result<Member, Corrupt> {
    let Read {
        log,
        recovered,
        state,
    } = read(&mut disk)?;
    let hard = recovered.hard;
    disk.mark.acked.clone_from(&log);
    disk.mark.flying.clone_from(&log);
    disk.mark.promised = hard;
    disk.mark.staged = hard;
    Ok(Member {
        disk,
        wal: recovered.wal,
        state,
        jobs: Vec::new(),
        log,
        hard,
        rng: Rng::with_seed(seed),
    })
}

/// Reads checkpoint and log. Panics on what no disk may cause: gaps, repetitions, entries at or below the checkpoint.
pub fn read(disk: &mut Sim) -> Result<Read, Corrupt> {
    read_with(disk, false)
}

/// The same with the option to lose what is damaged.
pub fn read_with(disk: &mut Sim, accept_data_loss: bool) -> Result<Read, Corrupt> {
    let mut state = State::new();
    if let Found::Ours(block) = look(disk)?
        && block.checkpoint != Index(0)
    {
        state = read_checkpoint(disk, block.checkpoint)?;
    }
    let mut log = state.log(disk)?;
    let floor = log.len() as u64;
    let mut committed = floor;
    let mut on_event = |event: Replayed<'_>, _: &mut dyn Disk| match event {
        Replayed::Run(run, hard) => {
            assert_eq!(run.first.0, log.len() as u64 + 1, "a gap or a repetition");
            push(&mut log, &run);
            committed = committed.max(hard.commit.0);
        }
        Replayed::CutFrom(index) => {
            assert!(index.0 > committed, "a committed entry was replaced");
            log.truncate(small(index.0) - 1);
        }
    };
    let expect = Some((IDENTITY.cluster, IDENTITY.member));
    let config = RecoverConfig {
        expect,
        accept_data_loss,
        limits: LIMITS,
        segments: &state.named,
    };
    let recovered = recover(disk, &config, &mut on_event, &mut |_| {})?;
    assert_eq!(recovered.last.0, log.len() as u64);
    assert_eq!(recovered.checkpoint.0, floor);
    Ok(Read {
        log,
        recovered,
        state,
    })
}

fn read_checkpoint(disk: &mut Sim, index: Index) -> Result<State, Corrupt> {
    let mut reader = CheckpointReader::open(disk, index, IDENTITY.salt)?;
    let mut content = CheckpointContent::new(STORE);
    while let Some(chunk) = reader.next(disk)? {
        content.push(chunk).expect("its checksums held");
    }
    let named = content.named();
    let finished = content.finish(disk, IDENTITY.salt, &mut |_, _| {});
    let (meta, mut store, _) = finished.map_err(|bad| match bad {
        BadContent::Segment(bad) => corrupt(bad),
        other => panic!("the checkpoint is whole: {other}"),
    })?;
    assert_eq!(meta.applied.0, index);
    store.set_leases(meta.leases);
    let mut state = State {
        store,
        applied: index.0,
        named,
    };
    let log = state.log(disk)?;
    state.check_leases(&log);
    Ok(state)
}

fn push(log: &mut Log, run: &Run<'_>) {
    let mut rest = run.bytes;
    for _ in 0..run.count {
        let (length, after) = rest.split_first_chunk::<4>().expect("an entry");
        let (entry, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        log.push((run.term.0, crc(entry)));
        rest = after;
    }
    assert!(rest.is_empty());
}

fn small(number: u64) -> usize {
    usize::try_from(number).expect("the logs of these tests are short")
}

/// Enough of a checksum to tell entries of these tests apart.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

impl Member {
    /// Does `steps` random things. An error is the disk's.
    pub fn work(&mut self, steps: usize) -> Result<(), WalFailed> {
        for _ in 0..steps {
            match self.rng.u8(0..100) {
                0..35 => self.append(),
                35..40 => self.hear_term(),
                40..44 => self.commit(),
                44..70 => self.submit()?,
                70..85 => self.land_one()?,
                85..96 => self.background(),
                96..98 => self.checkpoint(),
                _ => self.settle()?,
            }
        }
        Ok(())
    }

    /// Stages a run; sometimes it replaces a suffix that was never committed.
    pub fn append(&mut self) {
        let lowest = self.hard.commit.0.max(self.disk.mark.checkpoint);
        let back = if self.rng.u8(0..6) == 0 {
            self.rng.u64(0..4)
        } else {
            0
        };
        let first = (self.log.len() as u64).saturating_sub(back).max(lowest) + 1;
        if back > 0 {
            self.hear_term();
        }
        let count = self.rng.u32(1..4);
        let mut bytes = Vec::new();
        for _ in 0..count {
            let length = if self.rng.u8(0..8) == 0 {
                self.rng.u32(0..2500)
            } else {
                self.rng.u32(0..200)
            };
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend((0..length).map(|_| self.rng.u8(..)));
        }
        if bytes.len() > self.wal.room() {
            return;
        }
        let kind = if count == 1 {
            RunKind::ConfChange
        } else {
            RunKind::Normal
        };
        let run = Run {
            kind,
            term: self.hard.term,
            first: Index(first),
            count,
            bytes: &bytes,
        };
        self.log.truncate(small(first) - 1);
        push(&mut self.log, &run);
        self.wal.append(run, self.hard);
        self.disk.mark.staged = self.hard;
    }

    fn hear_term(&mut self) {
        self.hard.term = Term(self.hard.term.0 + 1);
        self.hard.vote = self.rng.bool().then_some(MemberId(self.rng.u64(1..4)));
        self.wal.set_hard(self.hard);
        self.disk.mark.staged = self.hard;
    }

    fn commit(&mut self) {
        // Nothing is committed that a staged run replaces.
        let same = self
            .log
            .iter()
            .zip(&self.disk.mark.acked)
            .take_while(|(a, b)| a == b)
            .count();
        self.hard.commit = self
            .hard
            .commit
            .max(Index(same as u64).min(self.wal.durable()));
        self.wal.set_hard(self.hard);
        self.disk.mark.staged = self.hard;
    }

    /// Puts whatever the log asks for in flight.
    pub fn submit(&mut self) -> Result<(), WalFailed> {
        while let Some((id, op)) = self.wal.poll_op() {
            if matches!(
                op,
                DiskOp::Write {
                    file: File::Wal(_),
                    ..
                }
            ) {
                // The frame holds everything that was staged.
                self.disk.mark.flying.clone_from(&self.log);
            }
            if let Err(error) = self.disk.submit(id.0, op) {
                self.wal.on_done(DiskDone {
                    id,
                    result: Err(error),
                })?;
            }
        }
        Ok(())
    }

    fn land_one(&mut self) -> Result<(), WalFailed> {
        let flying = self.disk.flying();
        if flying.is_empty() {
            return Ok(());
        }
        let id = flying[self.rng.usize(0..flying.len())];
        let answer = self.disk.land(id);
        let id = basalt_engine::disk::OpId(id);
        if let Some(last) = self.wal.on_done(DiskDone {
            id,
            result: Ok(answer),
        })? {
            // All that the frame brought, or what nothing replaced while it was in flight.
            let (last, written) = (small(last.0), &self.disk.mark.flying);
            assert!(last == written.len() || !self.log.starts_with(written));
            assert_eq!(written[..last], self.log[..last]);
            self.disk.mark.acked.clone_from(&self.disk.mark.flying);
        }
        self.disk.mark.promised = self.wal.durable_hard();
        Ok(())
    }

    /// Ends every write in flight.
    pub fn land_all(&mut self) -> Result<(), WalFailed> {
        while !self.disk.flying().is_empty() {
            self.land_one()?;
        }
        Ok(())
    }

    /// Does all background work there is, whatever comes of it.
    pub fn settle_jobs(&mut self) {
        self.jobs.extend(self.wal.take_jobs());
        while !self.jobs.is_empty() {
            self.background();
        }
    }

    fn background(&mut self) {
        self.jobs.extend(self.wal.take_jobs());
        for _ in 0..self.rng.usize(1..6) {
            let Some(job) = self.jobs.first_mut() else {
                return;
            };
            if let Some(done) = job.step(&mut self.disk) {
                self.jobs.remove(0);
                self.wal.on_job_done(done);
                self.jobs.extend(self.wal.take_jobs());
            }
        }
    }

    /// Writes a checkpoint of what is committed and lets the log forget. A disk error leaves everything as it was.
    fn checkpoint(&mut self) {
        let upto = self.hard.commit.min(self.wal.durable());
        if upto.0 <= self.disk.mark.checkpoint || upto.0 > self.disk.mark.acked.len() as u64 {
            return;
        }
        let state = &mut self.state;
        for entry in &self.log[small(state.applied)..small(upto.0)] {
            if !state.fetch(&mut self.disk) {
                return;
            }
            state.apply(*entry);
        }
        if self.rng.bool() && !state.compact(&mut self.disk) {
            return;
        }
        let meta = Meta {
            applied: (upto, self.hard.term),
            leases: state.store.grants().image().clone(),
            ..Meta::default()
        };
        let cursor = state.store.checkpoint().expect("nothing is in the way");
        let mut job = CheckpointJob::new(meta, cursor, IDENTITY.salt);
        let made = loop {
            match job.step(&mut self.disk) {
                Ok(false) => {}
                Ok(true) => break true,
                Err(_) => break false,
            }
        };
        if made {
            let files = job.take_files();
            let is_named = |number: &u64| files.named().contains(number);
            let mut unnamed = std::mem::replace(&mut state.named, files.named().to_vec());
            unnamed.retain(|number| !is_named(number));
            state.store.on_checkpoint(files);
            self.disk.mark.checkpoint = upto.0;
            self.wal.release(upto, &unnamed);
        }
    }

    /// Lets everything that is staged become durable.
    pub fn settle(&mut self) -> Result<(), WalFailed> {
        for _ in 0..10_000 {
            self.submit()?;
            self.land_one()?;
            self.background();
            if self.wal.is_idle() && self.jobs.is_empty() {
                break;
            }
            if self.jobs.is_empty() && self.disk.flying().is_empty() {
                self.wal.retry_space();
            }
        }
        Ok(())
    }

    /// A clean stop.
    pub fn stop(&mut self) -> Result<(), WalFailed> {
        self.settle()?;
        self.wal.seal();
        self.settle()
    }
}

/// What a test found wrong.
pub type Violation = String;

/// Holds what was read against what could be there.
pub fn check(mark: &Mark, read: &Result<Read, Corrupt>) -> Result<(), Violation> {
    let read = match read {
        Ok(read) => read,
        Err(refused) => return Err(format!("refused: {refused}")),
    };
    if read.log != mark.acked && read.log != mark.flying {
        let (acked, flying) = (mark.acked.len(), mark.flying.len());
        return Err(format!(
            "read {} entries, acknowledged {acked}, with the frame in flight {flying}",
            read.log.len()
        ));
    }
    check_hard(mark, read)
}

fn check_hard(mark: &Mark, read: &Read) -> Result<(), Violation> {
    let hard = read.recovered.hard;
    let kept = hard.term > mark.promised.term
        || (hard.term == mark.promised.term && hard.vote == mark.promised.vote);
    if !kept {
        return Err(format!("promised {:?}, read {hard:?}", mark.promised));
    }
    let staged = mark.staged;
    if hard.term > staged.term || hard.commit > staged.commit || hard.commit > read.recovered.last {
        return Err(format!("staged {staged:?}, read {hard:?}"));
    }
    if read.recovered.checkpoint.0 > mark.checkpoint {
        return Err(format!(
            "checkpoint {:?} of {}",
            read.recovered.checkpoint, mark.checkpoint
        ));
    }
    Ok(())
}
