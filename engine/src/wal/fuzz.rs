//! What fuzzing asks of recovery: no panic, no unbounded memory, and either the log that was written or a named damage.

use super::mem_disk::MemDisk;
use super::{Corrupt, Identity, RecoverConfig, Recovered, Replayed, WalLimits, create, recover};
use crate::disk::{Disk, File, PAGE_BYTES};
use crate::types::{ClusterId, HardState, Index, MemberId, Run, RunKind, Term};

const IDENTITY: Identity = Identity {
    cluster: ClusterId(7),
    member: MemberId(9),
    salt: 11,
};
const LIMITS: WalLimits = WalLimits {
    group_bytes: 8 << 10,
    run_bytes_max: 8 << 10,
    segment_bytes_min: 32 << 10,
    segment_bytes_max: 64 << 10,
    ballast_bytes: 4 << 10,
    fill_bytes: 16 << 10,
};

/// The body of the fuzz target `wal_recover`. The first half of the input writes a log, the second half damages its files.
pub fn wal_recover(data: &[u8]) {
    let (script, damage) = data.split_at(data.len() / 2);
    let mut disk = MemDisk::default();
    create(&mut disk, &IDENTITY, &LIMITS).expect("an empty disk");
    let mut written = Vec::new();
    let mut recovered = replay(&mut disk, &mut Vec::new()).expect("a fresh directory");
    let mut hard = HardState {
        term: Term(1),
        ..HardState::default()
    };
    for step in script.chunks(4) {
        let [what, length, back, fill] = [0, 1, 2, 3].map(|at| step.get(at).copied().unwrap_or(0));
        let wal = &mut recovered.wal;
        let last = wal.last();
        let first = Index(last.0.saturating_sub(u64::from(back % 4)) + 1).max(hard.commit.next());
        let mut bytes = Vec::new();
        let count = u32::from(what % 3) + 1;
        for _ in 0..count {
            bytes.extend_from_slice(&u32::from(length).to_le_bytes());
            bytes.resize(bytes.len() + usize::from(length), fill);
        }
        hard.term = Term(hard.term.0 + u64::from(what & 0x80 != 0));
        if wal.room() >= bytes.len() {
            let run = Run {
                kind: RunKind::Normal,
                term: hard.term,
                first,
                count,
                bytes: &bytes,
            };
            written.truncate(usize::try_from(first.0).expect("small") - 1);
            push(&mut written, &run);
            wal.append(run, hard);
        }
        if what & 0x40 != 0 {
            disk.drive(wal);
            hard.commit = wal.durable();
        }
        if what & 0x20 != 0 {
            // A leader that saved nothing since leaves its files as a clean process would.
            disk.drive(wal);
            recovered = replay(&mut disk, &mut Vec::new()).expect("an undamaged directory");
        }
    }
    disk.drive(&mut recovered.wal);
    check_whole(&mut disk.clone(), &written);
    let mut damaged = false;
    for step in damage.chunks_exact(4) {
        damaged |= harm(&mut disk, [step[0], step[1], step[2], step[3]]);
    }
    let mut read = Vec::new();
    match replay(&mut disk, &mut read) {
        Ok(_) => {
            assert!(read == written, "a silent difference");
            let mut again = Vec::new();
            replay(&mut disk, &mut again).expect("a recovered directory");
            assert!(again == read);
        }
        Err(refused) => assert!(damaged, "{refused}"),
    }
}

/// An entry as it was read: term and bytes.
type Entry = (Term, Vec<u8>);

fn push(log: &mut Vec<Entry>, run: &Run<'_>) {
    let mut rest = run.bytes;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (entry, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        log.push((run.term, entry.to_vec()));
        rest = after;
    }
}

fn replay(disk: &mut MemDisk, log: &mut Vec<Entry>) -> Result<Recovered, Corrupt> {
    let config = RecoverConfig {
        limits: LIMITS,
        ..RecoverConfig::default()
    };
    let mut on_event = |event: Replayed<'_>, _: &mut dyn Disk| match event {
        Replayed::Run(run, _) => push(log, &run),
        Replayed::CutFrom(index) => log.truncate(usize::try_from(index.0).expect("small") - 1),
    };
    recover(disk, &config, &mut on_event, &mut |_| {})
}

fn check_whole(disk: &mut MemDisk, written: &[Entry]) {
    let mut read = Vec::new();
    replay(disk, &mut read).expect("an undamaged directory");
    assert!(read == written);
}

/// Flips, zeroes, copies or cuts. True if a byte changed.
fn harm(disk: &mut MemDisk, [what, file, page, at]: [u8; 4]) -> bool {
    let files: Vec<File> = disk.files.keys().copied().collect();
    let file = files[usize::from(file) % files.len()];
    let bytes = disk.files.get_mut(&file).expect("listed");
    let before = bytes.clone();
    let offset = (usize::from(page) * PAGE_BYTES + usize::from(at) * 16 + usize::from(what >> 4))
        % bytes.len().max(1);
    let sector = offset / 512 * 512;
    match what % 5 {
        0 if offset < bytes.len() => bytes[offset] ^= 1 << (what >> 5),
        1 if sector + 512 <= bytes.len() => bytes[sector..sector + 512].fill(0),
        2 if sector + 512 <= bytes.len() => bytes.copy_within(sector..sector + 512, 0),
        3 => bytes.truncate(offset),
        _ => {}
    }
    *bytes != before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_names_damage_and_never_panics() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..400 {
            let data: Vec<u8> = (0..random.usize(0..256)).map(|_| random.u8(..)).collect();
            wal_recover(&data);
        }
    }
}
