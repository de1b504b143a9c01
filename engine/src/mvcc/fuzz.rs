//! The body of the fuzz target `revlog_record`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::checkpoint::{FORMAT_SEGMENTS, KIND_INDEX, SegmentEntry, write_end, write_head};
use super::digest::Digests;
use super::page;
use super::revlog::Position;
use super::revlog::file::SegmentFile;
use super::revlog::frame::FrameAt;
use super::revlog::record::Stored;
use super::store::Marks;
use super::view::entry_of;
use super::{Counting, HashJob, KeyRange, Restore, Resume, SliceBound, StoreConfig, Want, rebuild};
use crate::disk::mem::MemDisk;

/// A segment whose frame holds `data`, with all digests right: the start refuses it, or every read
/// and a compaction of what it let through end.
///
/// # Panics
/// When one does not go on.
pub fn revlog_record(data: &[u8]) {
    let Some((head, frame)) = data.split_first_chunk::<HEAD_BYTES>() else {
        return;
    };
    let first = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let (oldest, newest) = (i64::from(head[4]), i64::from(head[5]));
    let mut disk = MemDisk::default();
    let at = FrameAt {
        first,
        page: 0,
        pages: 0,
        digest: 0,
        oldest,
        newest,
    };
    let file = SegmentFile::write_raw(&mut disk, SALT, frame, at);
    let marks = Marks {
        revision: newest.max(1),
        compacted: -1,
        finished: -1,
        digests: Digests::default(),
    };
    let mut content = Vec::new();
    write_head(&mut content, FORMAT_SEGMENTS, marks);
    content.extend_from_slice(&1u32.to_le_bytes());
    content.extend_from_slice(&2u64.to_le_bytes());
    content.extend_from_slice(&[0; 16]);
    let entry = SegmentEntry {
        file,
        first_main: 1,
        gone_bytes: 0,
        gone: None,
    };
    entry.write(&mut content);
    content.push(KIND_INDEX);
    if !write_index(&entry, &mut disk, &mut content) {
        return;
    }
    write_end(&mut content, 1);
    let mut restore = Restore::new(StoreConfig::default());
    restore.push(&content).expect("as it is written");
    let (mut store, reader) = restore
        .finish(&mut disk, SALT, &mut |_, _| {})
        .expect("it was read just now");
    rebuild::load_index(&mut store, &mut disk);
    rebuild::load_all(&mut store, &mut disk);
    store.publish();
    let mut seen = 0;
    for rev in 1..=store.revision() {
        let mut resume = Resume::default();
        let each = |_: &super::Record<'_>| {
            seen += 1;
            ControlFlow::Continue(())
        };
        let view = store.view();
        let bound = SliceBound::NONE;
        let visited = view.visit(&KeyRange::All, rev, Want::Values, &mut resume, bound, each);
        assert!(visited.is_ok());
        let counted = view.count(&KeyRange::All, rev, &mut Counting::default(), usize::MAX);
        assert!(counted.is_ok());
    }
    let mut job = HashJob::start(&reader, 0).expect("nothing is compacted");
    while job.poll(1000, &mut disk).expect("in memory").is_none() {}
    store
        .compact(store.revision())
        .expect("nothing is compacted");
    while store.poll_space(1000).expect("in memory") {}
    store.publish();
}

/// Appends the index of the records of `segment`; false if it is refused.
fn write_index(segment: &SegmentEntry, disk: &mut MemDisk, out: &mut Vec<u8>) -> bool {
    let Ok(file) = SegmentFile::open(disk, SALT, &segment.file) else {
        return false;
    };
    let Ok(frame) = file.read(disk, 0) else {
        return false;
    };
    let mut entries = BTreeMap::new();
    let mut word = file.frames[0].first;
    while let Some((at, record)) = frame.next_from(word) {
        let stored = Stored::new(record);
        let found = Position {
            segment: segment.file.segment,
            word: at,
        };
        entries.insert(stored.key(), entry_of(found, stored));
        word = found.after(stored).word;
    }
    page::fuzz::write_index(
        entries.iter().map(|(key, entry)| (*key, entry)),
        disk,
        9,
        out,
    );
    true
}

/// Where the first record began (`u32`), main revision of the first and of the last one.
const HEAD_BYTES: usize = 6;

const SALT: u64 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::revlog::frame::FrameBuilder;
    use crate::mvcc::revlog::record::{Chain, HEAD_BYTES as RECORD, Head, Older};

    /// Some versions of two keys with a deletion; with gaps, as a rewrite leaves them.
    fn seed(is_packed: bool) -> Vec<u8> {
        let mut frame = FrameBuilder::new(is_packed);
        let mut word = 3;
        let mut last = [Older::default(); 2];
        for main in 2..12 {
            let key = usize::from(main % 3 == 0);
            let is_put = main != 7;
            let chain = Chain {
                ordinal: 0,
                prev: last[key],
                jump: last[key],
            };
            let head = Head {
                main,
                sub: 0,
                create: if is_put { 2 } else { 0 },
                version: i64::from(is_put),
                lease: 0,
                chain,
            };
            let value = [b"value", &b""[..]][usize::from(!is_put)];
            let mut record = head.encode(1, value.len()).to_vec();
            record.push(b'a' + u8::from(key == 1));
            record.extend_from_slice(value);
            record.resize(record.len().next_multiple_of(8), 0);
            assert!(record.len() > RECORD);
            assert!(frame.push(word, &record));
            last[key] = Older {
                main,
                at: Position { segment: 0, word },
            };
            word += u32::try_from(record.len() / 8).unwrap() + 4 * u32::from(is_packed);
        }
        let (bytes, _) = frame.finish();
        [&[3, 0, 0, 0, 2, 11][..], &bytes].concat()
    }

    /// Whatever byte of a record is changed behind all digests, nothing panics and nothing loops.
    #[test]
    fn changed_records_are_refused_or_read_to_an_end() {
        for is_packed in [false, true] {
            let seed = seed(is_packed);
            revlog_record(&seed);
            for byte in 0..seed.len() {
                for change in [1, 0x80, 0xff] {
                    let mut data = seed.clone();
                    data[byte] ^= change;
                    revlog_record(&data);
                }
                revlog_record(&seed[..byte]);
            }
        }
    }
}
