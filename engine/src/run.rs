//! The bytes of runs, as they stand in a frame of the log and in a message to a follower: a head of 32 bytes, then the
//! entries. docs/FORMAT.md shows them.

use crate::types::{Index, Run, RunKind, Term};

/// Bytes before the entries of each run.
pub const RUN_HEAD_BYTES: usize = 32;

/// The length before each entry of a run.
pub const ENTRY_LENGTH_BYTES: usize = 4;

/// What stands before the entries of `run`.
#[must_use]
pub fn head(run: &Run<'_>) -> [u8; RUN_HEAD_BYTES] {
    let mut head = [0; RUN_HEAD_BYTES];
    let len = u32::try_from(run.bytes.len()).expect("a run is shorter than a segment");
    head[0..8].copy_from_slice(&run.term.0.to_le_bytes());
    head[8..16].copy_from_slice(&run.first.0.to_le_bytes());
    head[16..20].copy_from_slice(&run.count.to_le_bytes());
    head[20..24].copy_from_slice(&len.to_le_bytes());
    head[24] = run.kind as u8;
    head
}

/// The first run of `bytes`, and what stands behind it. `None` if that is no run.
#[must_use]
pub fn split_run(bytes: &[u8]) -> Option<(Run<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<RUN_HEAD_BYTES>()?;
    let (len, count) = (u32_at(head, 20), u32_at(head, 16));
    let (term, first) = (Term(u64_at(head, 0)), Index(u64_at(head, 8)));
    let kind = match head[24] {
        0 => RunKind::Normal,
        1 => RunKind::ConfChange,
        _ => return None,
    };
    let (bytes, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let fits = first.0.checked_add(u64::from(count)).is_some();
    let run = Run {
        kind,
        term,
        first,
        count,
        bytes,
    };
    let is_whole = entries_prefix(bytes, count) == Some(bytes.len());
    (count > 0 && first.0 > 0 && fits && is_whole).then_some((run, rest))
}

/// Bytes of the first `count` entries of a run, or `None` if it has fewer.
#[must_use]
pub fn entries_prefix(bytes: &[u8], count: u32) -> Option<usize> {
    let mut rest = bytes;
    for _ in 0..count {
        (_, rest) = split_entry(rest)?;
    }
    Some(bytes.len() - rest.len())
}

/// The first entry of a run's bytes, and the bytes behind it.
#[must_use]
pub fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<ENTRY_LENGTH_BYTES>()?;
    let len = usize::try_from(u32::from_le_bytes(*prefix)).ok()?;
    rest.split_at_checked(len)
}

/// The entries of `run` from `first` on, which is one of them.
#[must_use]
pub fn suffix(run: Run<'_>, first: Index) -> Run<'_> {
    let skipped = first.0.checked_sub(run.first.0);
    let skipped = skipped.and_then(|it| u32::try_from(it).ok());
    let skipped = skipped
        .filter(|it| *it < run.count)
        .expect("an entry of the run");
    let at = entries_prefix(run.bytes, skipped).expect("runs hold whole entries");
    Run {
        first,
        count: run.count - skipped,
        bytes: &run.bytes[at..],
        ..run
    }
}

/// How many entries `bytes` are, if they are nothing else.
#[must_use]
pub fn count_entries(mut bytes: &[u8]) -> Option<u32> {
    let mut count = 0_u32;
    while !bytes.is_empty() {
        (_, bytes) = split_entry(bytes)?;
        count = count.checked_add(1)?;
    }
    Some(count)
}

fn u32_at(head: &[u8; RUN_HEAD_BYTES], at: usize) -> u32 {
    let bytes = head[at..at + 4].first_chunk().expect("inside the head");
    u32::from_le_bytes(*bytes)
}

fn u64_at(head: &[u8; RUN_HEAD_BYTES], at: usize) -> u64 {
    let bytes = head[at..at + 8].first_chunk().expect("inside the head");
    u64::from_le_bytes(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(count: u32, entries: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend_from_slice(&(entry.len() as u32).to_le_bytes());
            bytes.extend_from_slice(entry);
        }
        let run = Run {
            kind: RunKind::ConfChange,
            term: Term(3),
            first: Index(7),
            count,
            bytes: &bytes,
        };
        let mut out = head(&run).to_vec();
        out.extend_from_slice(&bytes);
        out
    }

    /// What a leader wrote is what a follower reads.
    #[test]
    fn a_run_is_read_as_it_was_written() {
        let mut bytes = written(2, &[b"ab", b""]);
        bytes.push(9);
        let (run, rest) = split_run(&bytes).expect("a run");
        assert_eq!((run.kind, run.term), (RunKind::ConfChange, Term(3)));
        assert_eq!((run.first, run.count, rest), (Index(7), 2, &[9][..]));
        assert_eq!(entries_prefix(run.bytes, 1), Some(6));
        let rest = suffix(run, Index(8));
        assert_eq!(
            (rest.first, rest.count, rest.bytes),
            (Index(8), 1, &[0; 4][..])
        );
        assert_eq!(count_entries(run.bytes), Some(2));
    }

    /// Foreign bytes: too many entries, too few, none, an unknown kind, a cut.
    #[test]
    fn what_is_no_run_is_not_read() {
        let good = written(1, &[b"ab"]);
        for (count, entries) in [(2, &[&b"ab"[..]][..]), (1, &[b"a", b"b"]), (0, &[])] {
            assert!(split_run(&written(count, entries)).is_none());
        }
        for cut in 0..good.len() {
            assert!(split_run(&good[..cut]).is_none());
        }
        let mut unknown = good;
        unknown[24] = 2;
        assert!(split_run(&unknown).is_none());
    }
}
