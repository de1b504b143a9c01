use super::page::{PAGE_BYTES, fnv1a};
use super::*;
use crate::disk::mem::MemDisk;
use crate::lease::Lease;
use crate::member::{Member, Release};
use crate::mvcc::{History, HistoryAt, Reader, Record, Store, StoreConfig};
use crate::types::{Index, LeaseId, MemberId, Term};
use core::convert::Infallible;
use core::ops::ControlFlow;

fn store(keys: usize, value: &[u8]) -> (Store, Reader) {
    let (mut store, reader) = Store::new(StoreConfig::default());
    for place in 0..keys {
        let key = format!("key-{place}");
        store
            .write()
            .put(key.as_bytes(), value, LeaseId(0))
            .unwrap();
    }
    store.write().delete(b"key-0").unwrap();
    store.publish();
    (store, reader)
}

fn description() -> Description {
    Description {
        applied: (Index(9), Term(2)),
        members: vec![Member {
            id: MemberId(0xab),
            peer_urls: vec!["http://a:1".to_owned()],
            ..Member::default()
        }],
        removed: vec![MemberId(7)],
        alarms: vec![(MemberId(0xab), 1)],
        cluster_version: Some("3.7.0".to_owned()),
    }
}

fn file(reader: &Reader) -> Vec<u8> {
    file_of(description(), reader)
}

fn file_of(description: Description, reader: &Reader) -> Vec<u8> {
    let mut snapshot = Snapshot::new(description, History::take(reader).unwrap());
    let mut out = Vec::new();
    loop {
        match snapshot.step(&mut MemDisk::default(), &mut out).unwrap() {
            Progress::LayingOut => assert!(out.is_empty()),
            Progress::Bytes => {}
            Progress::Whole { .. } => {
                assert_eq!(snapshot.bytes(), Some(out.len() as u64));
                return out;
            }
        }
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(wide)
}

/// Walks a file as bbolt does and counts how often each page is reached.
struct Walk<'a> {
    file: &'a [u8],
    reached: Vec<u32>,
    levels_max: usize,
}

impl Walk<'_> {
    /// The keys below `id`, in order; buckets are entered.
    fn keys(&mut self, id: u64, level: usize, keys: &mut Vec<Vec<u8>>) {
        let page = &self.file[usize::try_from(id).unwrap() * PAGE_BYTES..];
        self.levels_max = self.levels_max.max(level);
        assert_eq!(number::<8>(page, 0), id);
        for of_it in 0..=number::<4>(page, 12) {
            self.reached[usize::try_from(id + of_it).unwrap()] += 1;
        }
        for place in 0..number::<2>(page, 10) {
            let element = 16 + usize::try_from(place).unwrap() * 16;
            let word = |at| usize::try_from(number::<4>(page, element + at)).unwrap();
            if number::<2>(page, 8) == 1 {
                let first = &page[element + word(0)..][..word(4)];
                let before = keys.len();
                self.keys(number::<8>(page, element + 8), level + 1, keys);
                assert_eq!(keys[before], first);
                continue;
            }
            let key = &page[element + word(4)..][..word(8)];
            keys.push(key.to_vec());
            if word(0) == 1 {
                let root = number::<8>(page, element + word(4) + word(8));
                let mut inner = Vec::new();
                self.keys(root, 1, &mut inner);
                assert!(inner.is_sorted_by(|a, b| a < b));
                keys.append(&mut inner);
            }
        }
    }
}

/// [SNAP-1] bbolt trusts every offset: a page that is reached twice or never is a lost write later.
#[test]
fn every_page_is_reached_once_and_every_key_is_in_order() {
    let huge = vec![b'x'; 3 * PAGE_BYTES];
    for (keys, value, levels) in [
        (0, &b""[..], 1),
        (1, b"v", 1),
        (200, b"value", 2),
        (20_000, b"value", 3),
        (40, &huge, 2),
    ] {
        let (_store, reader) = store(keys, value);
        let file = file(&reader);
        assert_eq!(file.len() % PAGE_BYTES, 0);
        for page in [0, PAGE_BYTES] {
            let checksum = number::<8>(&file, page + 16 + 56);
            assert_eq!(fnv1a(&file[page + 16..][..56]), checksum);
            assert_eq!(
                number::<8>(&file, page + 16 + 40) as usize,
                file.len() / PAGE_BYTES
            );
        }
        let mut walk = Walk {
            file: &file,
            reached: vec![0; file.len() / PAGE_BYTES],
            levels_max: 0,
        };
        let mut found = Vec::new();
        walk.keys(number::<8>(&file, 16 + 16), 1, &mut found);
        assert_eq!(&walk.reached[..2], [0, 0]);
        assert!(walk.reached[2..].iter().all(|times| *times == 1));
        assert_eq!(walk.levels_max, levels);
        let records = if keys == 0 { 0 } else { keys + 1 };
        let others = 10 + 1 + 2 + 2 + 1 + 1 + 4;
        assert_eq!(found.len(), records + others);
        for bucket in Bucket::ALL {
            assert!(found.iter().any(|key| key == bucket.name()));
        }
    }
}

/// [SNAP-1] The file is the state of one moment, and of all before it.
#[test]
fn writes_meanwhile_do_not_change_the_file() {
    let (_quiet, reader) = store(500, b"value");
    let expected = file(&reader);
    let (mut busy, reader) = store(500, b"value");
    let mut snapshot = Snapshot::new(description(), History::take(&reader).unwrap());
    let mut out = Vec::new();
    while !matches!(
        snapshot.step(&mut MemDisk::default(), &mut out).unwrap(),
        Progress::Whole { .. }
    ) {
        busy.write().put(b"key-1", b"later", LeaseId(0)).unwrap();
        let revision = busy.revision();
        busy.compact(revision).unwrap();
        let _ = busy.poll_space(10).unwrap();
        busy.publish();
    }
    assert!(out == expected);
}

/// What a record is, for comparing.
type Plain = (Vec<u8>, Vec<u8>, i64, i64, i64, i64, i64);

fn plain(record: &Record<'_>) -> Plain {
    let revision = record.mod_revision;
    (
        record.key.to_vec(),
        record.value.to_vec(),
        record.create_revision,
        revision.main,
        revision.sub,
        record.version,
        record.lease.0,
    )
}

fn refusal(file: &[u8]) -> String {
    fuzz::import(file).unwrap_err().to_string()
}

/// [RESTORE-1] A backup that comes back changed is worse than none.
#[test]
fn what_was_written_is_read_back_record_by_record() {
    let (mut store, reader) = store(300, b"value");
    let mut write = store.write();
    write.put(b"in one txn", b"", LeaseId(-7)).unwrap();
    write
        .put(b"and another", &[b'x'; 9000], LeaseId(0))
        .unwrap();
    write.finish();
    store.compact(100).unwrap();
    let lease = |id, remaining| Lease {
        id: LeaseId(id),
        ttl: 9_000_000_000,
        remaining,
        generation: 0,
    };
    let leases = [lease(-7, 5), lease(7, 0), lease(i64::MIN, 0)];
    for lease in leases {
        store.grant(lease);
    }
    store.publish();
    let mut history = History::take(&reader).unwrap();
    let (mut at, mut expected) = (HistoryAt::default(), Vec::new());
    while history
        .visit(&mut at, &mut MemDisk::default(), |record| {
            expected.push(plain(record));
            ControlFlow::Continue(())
        })
        .unwrap()
    {}
    let file = file(&reader);
    let database = Database::open(fuzz::Bytes(&file), file.len() as u64).unwrap();
    let mut import = Import::open(database).unwrap();
    let mut found = Vec::new();
    import
        .each_record(|record| {
            found.push(plain(record));
            Ok::<_, ImportRefused<Infallible>>(())
        })
        .unwrap();
    assert!(found == expected);
    assert_eq!(import.revision, store.revision());
    // Its space is not given back yet, and whoever restores it has to go on with that.
    assert_eq!((import.compacted, import.finished), (100, -1));
    assert_eq!(import.alarms, [(MemberId(0xab), 1)]);
    assert_eq!(import.leases, leases.into_iter().collect());
    assert_eq!(import.cluster_version, Some(Release::OWN.cluster()));
}

/// [RESTORE-3] Every byte of a foreign file may be anything.
#[test]
fn damaged_files_are_refused_or_read_but_never_trusted() {
    let (_store, reader) = store(90, b"value");
    let file = file(&reader);
    for at in 0..file.len() {
        if file[at] == 0 && at % PAGE_BYTES >= 64 {
            continue;
        }
        for changed in [file[at] ^ 1, !file[at]] {
            let mut damaged = file.clone();
            damaged[at] = changed;
            fuzz::bbolt_reader(&damaged);
        }
    }
    for bytes in (0..file.len()).step_by(509) {
        let refused = refusal(&file[..bytes]);
        let is_said = refused == "invalid database" || refused.contains("where its database has");
        assert!(is_said, "{bytes}: {refused}");
    }
}

/// [RESTORE-3] A page that is its own ancestor would be read for ever.
#[test]
fn trees_with_cycles_and_pages_that_are_shared_are_refused() {
    let (_store, reader) = store(200, b"value");
    let file = file(&reader);
    let pages = file.len() / PAGE_BYTES;
    let branch = (2..pages)
        .find(|page| number::<2>(&file, page * PAGE_BYTES + 8) == 1)
        .unwrap();
    let child = |place: usize| branch * PAGE_BYTES + 16 + place * 16 + 8;
    let mut cycle = file.clone();
    cycle[child(1)..][..8].copy_from_slice(&(branch as u64).to_le_bytes());
    let refused = refusal(&cycle);
    assert!(
        refused.contains("reached twice") || refused.contains("out of order"),
        "{refused}"
    );
    let mut shared = file.clone();
    shared.copy_within(child(0)..child(0) + 8, child(1));
    assert!(refusal(&shared).contains("out of order"));
    let mut outside = file.clone();
    outside[child(0)..][..8].copy_from_slice(&(pages as u64).to_le_bytes());
    assert!(refusal(&outside).ends_with("it is not in the file"));
}

/// [RESTORE-3] The second meta page is there for the day when the first is torn.
#[test]
fn one_good_meta_page_is_enough() {
    let (_store, reader) = store(3, b"value");
    let mut file = file(&reader);
    file[20] ^= 1;
    assert_eq!(fuzz::import(&file).unwrap(), 4);
    file[PAGE_BYTES + 20] ^= 1;
    assert_eq!(refusal(&file), "invalid database");
}

/// [RESTORE-3] A deletion sorts behind a put of the same revision: order alone does not tell them apart.
#[test]
fn two_records_of_one_revision_are_refused() {
    let (_store, reader) = store(3, b"value");
    let mut file = file(&reader);
    let key = |main: u64| [&main.to_be_bytes()[..], b"_", &[0; 8]].concat();
    let deletion = [&key(5)[..], b"t"].concat();
    let at = file.windows(18).position(|it| it == deletion).unwrap();
    file[at..at + 17].copy_from_slice(&key(4));
    assert_eq!(
        refusal(&file),
        "bucket `key`: two records have one revision"
    );
}

/// [RESTORE-3] What is kept in memory is bounded, whoever wrote the file.
#[test]
fn more_alarms_than_a_cluster_has_are_refused() {
    let (_store, reader) = store(3, b"value");
    let alarms = |count| Description {
        alarms: (1..=count).map(|member| (MemberId(member), 1)).collect(),
        ..description()
    };
    let max = crate::limits::SNAPSHOT_ALARMS_MAX;
    assert_eq!(
        fuzz::import(&file_of(alarms(max as u64), &reader)).unwrap(),
        4
    );
    assert_eq!(
        refusal(&file_of(alarms(max as u64 + 1), &reader)),
        format!("the snapshot has more than {max} alarms")
    );
}

/// [RESTORE-3] The next put would run past the last revision there is.
#[test]
fn revisions_that_leave_no_room_are_refused() {
    let (_store, reader) = store(3, b"value");
    let mut file = file(&reader);
    let key = [&5_u64.to_be_bytes()[..], b"_", &[0; 8], b"t"].concat();
    let at = file.windows(18).position(|it| it == key).unwrap();
    file[at] = 0x7F;
    assert_eq!(refusal(&file), "bucket `key`: a key is no revision");
}
