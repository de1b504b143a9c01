//! The body of the fuzz target `bbolt_reader`.

use core::convert::Infallible;

use super::page::{HEAD_BYTES, META_BYTES, fnv1a};
use super::{Database, Import, ImportRefused, Source};
use crate::disk::mem::MemDisk;
use crate::limits::SPACE_RECORDS_A_TURN;
use crate::mvcc::{ContentWriter, Restore, StoreConfig};
use crate::types::LeaseId;

/// A file in memory; reading beyond its end is a bug of ours.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Source for Bytes<'_> {
    type Error = Infallible;

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Infallible> {
        let at = usize::try_from(at).expect("within the file");
        into.copy_from_slice(&self.0[at..][..into.len()]);
        Ok(())
    }
}

/// Imports what the bytes are, and again with the checksums of the meta pages made good, which nothing gets past by chance.
pub fn bbolt_reader(data: &[u8]) {
    let first = import(data);
    let mut repaired = data.to_vec();
    for page in [0, 512, 4096] {
        let meta = page + HEAD_BYTES;
        if let Some(bytes) = repaired.get_mut(meta..meta + META_BYTES) {
            let checksum = fnv1a(&bytes[..META_BYTES - 8]);
            bytes[META_BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    let second = import(&repaired);
    assert!(first.is_err() || second.is_ok() || repaired != data);
}

/// The number of records; a second walk finds what the first found, and a store can be made of them
/// that goes on.
pub(super) fn import(data: &[u8]) -> Result<u64, ImportRefused<Infallible>> {
    let database = Database::open(Bytes(data), data.len() as u64)?;
    let mut import = Import::open(database)?;
    let (mut records, mut last) = (0, 0);
    let mut content = Vec::new();
    let (revision, compacted) = (import.revision, import.compacted);
    let mut writer = ContentWriter::begin(&mut content, revision, compacted, import.finished);
    import.each_record(|record| {
        assert!(record.mod_revision.main >= last);
        last = record.mod_revision.main;
        records += 1;
        writer.record(&mut content, record);
        Ok::<_, ImportRefused<Infallible>>(())
    })?;
    assert!(records == import.records);
    assert!(last <= import.revision);
    assert!(import.finished <= import.compacted);
    assert!(import.compacted <= import.revision);
    writer.end(&mut content);
    let mut restore = Restore::new(StoreConfig::default());
    restore.push(&content).expect("what import let through");
    let mut disk = MemDisk::default();
    let (mut store, _) = restore
        .finish(&mut disk, 0, &mut |_, _| {})
        .expect("written whole");
    assert!(store.revision() == revision);
    let mut write = store.write();
    write.put(b"key", b"", LeaseId(0)).expect("in memory");
    write.delete(b"key").expect("in memory");
    write.finish();
    store.compact(revision + 1).expect("above all others");
    store.publish();
    while store
        .poll_space(SPACE_RECORDS_A_TURN)
        .is_ok_and(|more| more)
    {}
    Ok(records)
}
