//! The body of the fuzz target `bbolt_reader`.

use core::convert::Infallible;

use super::page::{HEAD_BYTES, META_BYTES, fnv1a};
use super::{Database, Import, ImportRefused, Source};

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

/// The number of records; a second walk finds what the first found.
pub(super) fn import(data: &[u8]) -> Result<u64, ImportRefused<Infallible>> {
    let database = Database::open(Bytes(data), data.len() as u64)?;
    let mut import = Import::open(database)?;
    let (mut records, mut last) = (0, 0);
    import.each_record(|record| {
        assert!(record.mod_revision.main >= last);
        last = record.mod_revision.main;
        records += 1;
        Ok::<_, ImportRefused<Infallible>>(())
    })?;
    assert!(records == import.records);
    assert!(last <= import.revision);
    assert!(import.finished <= import.compacted);
    assert!(import.compacted <= import.revision);
    Ok(records)
}
