use super::*;
use crate::disk::{Disk, DiskAnswer, DiskErrorKind, File, PAGE_BYTES, Page, Pages, ReadAhead};
use crate::types::{ClusterId, HardState, Index, MemberId, Run, RunKind, Term};
use crate::wal::{Found, Identity, RecoverConfig, Replayed, Wal, WalLimits, create, look, recover};

const IDENTITY: Identity = Identity {
    cluster: ClusterId(1),
    member: MemberId(2),
    salt: 3,
};

fn drive(wal: &mut Wal, io: &mut WalIo, worker: &mut BlockingDisk) {
    while !wal.is_idle() {
        while let Some((id, op)) = wal.poll_op() {
            io.submit(id, op);
        }
        io.wait();
        for done in io.complete() {
            wal.on_done(done).unwrap();
        }
        for job in wal.take_jobs() {
            wal.on_job_done(job.run(worker));
        }
    }
}

fn round_trip(kind: WalIoKind) {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let mut disk = dir.disk();
    assert_eq!(look(&mut disk).unwrap(), Found::Empty);
    let limits = WalLimits {
        segment_bytes_min: 1 << 20,
        group_bytes: 128 << 10,
        run_bytes_max: 128 << 10,
        ..WalLimits::default()
    };
    create(&mut disk, &IDENTITY, &limits).unwrap();
    let config = RecoverConfig {
        limits,
        ..RecoverConfig::default()
    };
    let mut wal = recover(&mut disk, &config, &mut |_, _| {}, &mut |_| {})
        .unwrap()
        .wal;
    let mut io = dir.wal_io(kind).unwrap();
    assert_eq!(io.kind(), kind);
    let entry = [100_u32.to_le_bytes().as_slice(), &[7; 100]].concat();
    for index in 1..=300 {
        let bytes = entry.repeat(if index % 10 == 0 { 500 } else { 1 });
        let count = u32::try_from(bytes.len() / entry.len()).unwrap();
        let first = wal.last().next();
        let run = Run {
            kind: RunKind::Normal,
            term: Term(1),
            first,
            count,
            bytes: &bytes,
        };
        wal.append(
            run,
            HardState {
                term: Term(1),
                vote: Some(MemberId(2)),
                commit: Index(0),
            },
        );
        drive(&mut wal, &mut io, &mut disk);
        assert_eq!(wal.durable(), wal.last());
    }
    let last = wal.last();
    wal.seal();
    drive(&mut wal, &mut io, &mut disk);
    drop((io, wal));
    let mut entries = 0;
    let mut on_event = |event: Replayed<'_>, _: &mut dyn Disk| {
        if let Replayed::Run(run, _) = event {
            entries += u64::from(run.count);
        }
    };
    let recovered = recover(&mut disk, &config, &mut on_event, &mut |_| {}).unwrap();
    assert_eq!((recovered.last, entries), (last, last.0));
    assert_eq!(recovered.hard.vote, Some(MemberId(2)));
    assert!(recovered.is_clean);
}

#[test]
fn a_log_written_by_the_thread_is_read_back_from_a_real_disk() {
    round_trip(WalIoKind::Pwrite);
}

#[test]
fn a_log_written_by_io_uring_is_read_back_from_a_real_disk() {
    // Where the system refuses io_uring there is nothing to be tested.
    if probe().is_ok() {
        round_trip(WalIoKind::Uring);
    }
}

#[test]
fn a_second_process_is_kept_out_until_the_first_is_gone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let disk = dir.disk();
    assert!(matches!(
        DataDir::open(temp.path()),
        Err(DirRefused::InUse(_))
    ));
    drop(dir);
    assert!(
        matches!(DataDir::open(temp.path()), Err(DirRefused::InUse(_))),
        "a disk still holds it"
    );
    drop(disk);
    assert!(DataDir::open(temp.path()).is_ok());
}

#[test]
fn an_etcd_directory_is_refused_and_left_as_it_is() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(temp.path().join("member/snap")).unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let refused = look(&mut dir.disk()).unwrap_err().to_string();
    assert!(refused.contains("member/snap belongs to etcd"), "{refused}");
    let names = std::fs::read_dir(temp.path().join("member"))
        .unwrap()
        .count();
    assert_eq!(names, 1);
}

#[test]
fn errors_of_the_system_keep_their_place_and_number() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    for kind in [WalIoKind::Pwrite, WalIoKind::Auto] {
        let mut io = dir.wal_io(kind).unwrap();
        let pages = Pages::from(Page::ZERO);
        io.submit(
            OpId(5),
            DiskOp::Write {
                file: File::Wal(9),
                offset: 8192,
                pages,
                durable: true,
            },
        );
        io.wait();
        let done = io.complete().next().unwrap();
        let error = done.result.unwrap_err();
        assert_eq!(
            (done.id, error.kind, error.errno),
            (OpId(5), DiskErrorKind::NotFound, Some(libc::ENOENT))
        );
        assert_eq!(error.site.offset, 8192);
    }
}

#[test]
fn what_a_file_does_not_have_is_not_read() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let mut disk = dir.disk();
    disk.perform(DiskOp::Create {
        file: File::Temp(1),
        bytes: 8192,
    })
    .unwrap();
    let read = |disk: &mut BlockingDisk, offset| match disk.perform(DiskOp::Read {
        file: File::Temp(1),
        offset,
        into: Pages::zeroed(4),
    }) {
        Ok(DiskAnswer::Read { bytes, .. }) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(read(&mut disk, 0), 8192);
    assert_eq!(read(&mut disk, 4096), 4096);
    assert_eq!(read(&mut disk, 8192), 0);
}

/// A start must read what is on the disk: what was read ahead counts only as long as nothing changes.
#[test]
fn what_was_read_ahead_is_what_the_disk_has() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let mut disk = dir.ahead_disk();
    let file = File::Segment(1);
    let write = |disk: &mut AheadDisk, page: u64, byte| {
        disk.perform(DiskOp::Write {
            file,
            offset: page * PAGE_BYTES as u64,
            pages: Page([byte; PAGE_BYTES]).into(),
            durable: false,
        })
        .unwrap();
    };
    let read = |disk: &mut AheadDisk, ahead: ReadAhead| {
        let into = Pages::zeroed(ahead.pages);
        let ReadAhead { file, offset, .. } = ahead;
        match disk.perform(DiskOp::Read { file, offset, into }) {
            Ok(DiskAnswer::Read { pages, bytes }) => {
                assert_eq!(bytes, pages.bytes());
                pages.as_slice()[0].0[7]
            }
            other => panic!("{other:?}"),
        }
    };
    disk.perform(DiskOp::Create { file, bytes: 0 }).unwrap();
    for page in 0..200 {
        write(&mut disk, page, page as u8);
    }
    let at = |page: u64| ReadAhead {
        file,
        offset: page * PAGE_BYTES as u64,
        pages: 1,
    };
    let all: Vec<ReadAhead> = (0..200).map(at).collect();
    disk.read_ahead(&all);
    for page in (0..200).rev().step_by(3) {
        assert_eq!(read(&mut disk, at(page)), page as u8);
    }
    write(&mut disk, 0, 99);
    write(&mut disk, 1, 98);
    assert_eq!(read(&mut disk, at(0)), 99);
    disk.read_ahead(&all[..2]);
    assert_eq!(read(&mut disk, at(1)), 98);
    // What is not there fails when it is asked for.
    let missing = ReadAhead {
        file: File::Segment(2),
        ..at(0)
    };
    disk.read_ahead(&[missing]);
    let into = Pages::zeroed(1);
    let failed = disk.perform(DiskOp::Read {
        file: missing.file,
        offset: 0,
        into,
    });
    assert_eq!(failed.unwrap_err().kind, DiskErrorKind::NotFound);
}
