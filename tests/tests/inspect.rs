//! What `basalt inspect` tells of whole, damaged and running directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

use basalt_engine::apply::Meta;
use basalt_engine::disk::{Disk, DiskDone, DiskError, DiskOp, File};
use basalt_engine::io::DataDir;
use basalt_engine::mvcc::{ContentWriter, Record, Store, StoreConfig};
use basalt_engine::replica::{CheckpointImport, CheckpointJob, Integrity, integrity};
use basalt_engine::types::{HardState, Index, LeaseId, Revision, Run, RunKind, Term};
use basalt_engine::wal::{Corrupt, Job, RecoverConfig, Wal, create_from, inspect, recover};
use basalt_pb::etcdserverpb::{PutRequest, PutResponse};
use basalt_pb::paths::kv;
use basalt_tests::crash::{IDENTITY, LIMITS};
use basalt_tests::grpc::Client;
use basalt_tests::server::{Kind, Server};
use basalt_tests::tools;
use fastrand::Rng;
use tempfile::TempDir;

const FROM: (Index, Term) = (Index(9), Term(1));

/// A member's directory with a checkpoint of some hundred records, as a restore makes it or with files of the revision log, and a
/// log of several segments.
fn directory(seed: u64, is_clean: bool, has_segments: bool) -> TempDir {
    let temp = TempDir::new().expect("a temporary directory");
    let dir = DataDir::open(temp.path()).expect("an empty directory");
    let mut disk = dir.disk();
    let mut named = Vec::new();
    let made = create_from(
        &mut disk,
        &IDENTITY,
        &LIMITS,
        FROM,
        |disk| match has_segments {
            true => checkpoint_of_segments(disk).map(|files| named = files),
            false => checkpoint(disk),
        },
    );
    made.expect("made");
    assert_eq!(named.is_empty(), !has_segments);
    let config = RecoverConfig {
        limits: LIMITS,
        segments: &named,
        ..RecoverConfig::default()
    };
    let recovered = recover(&mut disk, &config, &mut |_, _| {}, &mut |_| {}).expect("whole");
    let mut wal = recovered.wal;
    let mut rng = Rng::with_seed(seed);
    let mut hard = HardState {
        term: Term(1),
        vote: Some(IDENTITY.member),
        commit: FROM.0,
    };
    drive(&mut disk, &mut wal);
    for _ in 0..60 {
        let length = rng.u32(1..5000);
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend((0..length).map(|_| rng.u8(..)));
        hard.term = Term(hard.term.0 + u64::from(rng.u8(0..10) == 0));
        hard.commit = wal.durable().max(FROM.0);
        let run = Run {
            kind: RunKind::Normal,
            term: hard.term,
            first: wal.last().next(),
            count: 1,
            bytes: &bytes,
        };
        wal.append(run, hard);
        drive(&mut disk, &mut wal);
    }
    if is_clean {
        wal.seal();
        drive(&mut disk, &mut wal);
    }
    temp
}

fn checkpoint(disk: &mut dyn Disk) -> Result<(), Corrupt> {
    let meta = Meta {
        applied: FROM,
        ..Meta::default()
    };
    let mut written = || -> Result<(), DiskError> {
        let mut import = CheckpointImport::begin(&meta, IDENTITY.salt, disk)?;
        let mut content = ContentWriter::begin(import.content(), 300, 3, 3);
        for main in 4..=300 {
            let key = format!("key-{main}");
            let record = Record {
                key: key.as_bytes(),
                value: &[b'v'; 900],
                create_revision: main,
                mod_revision: Revision::new(main, 0),
                version: 1,
                lease: LeaseId(0),
            };
            content.record(import.content(), &record);
            import.flush(disk)?;
        }
        content.end(import.content());
        import.finish(disk)
    };
    Ok(written()?)
}

/// The files that it names.
fn checkpoint_of_segments(disk: &mut dyn Disk) -> Result<Vec<u64>, Corrupt> {
    let segment_bytes = 64 << 10;
    let (mut store, _) = Store::new(StoreConfig {
        segment_bytes,
        ..StoreConfig::default()
    });
    for place in 0..400 {
        let key = format!("key-{}", place % 100);
        let put = store.write().put(key.as_bytes(), &[b'v'; 900], LeaseId(0));
        put.expect("in memory");
    }
    store.compact(100).expect("a revision");
    while store.poll_space(1000).expect("in memory") {}
    let meta = Meta {
        applied: FROM,
        ..Meta::default()
    };
    let cursor = store.checkpoint().expect("nothing is in the way");
    let mut job = CheckpointJob::new(meta, cursor, IDENTITY.salt);
    while !job.step(disk).expect("a sound disk") {}
    Ok(job.take_files().named().to_vec())
}

/// Performs what the log asks for until it asks for nothing.
fn drive(disk: &mut dyn Disk, wal: &mut Wal) {
    loop {
        let mut is_idle = true;
        while let Some((id, op)) = wal.poll_op() {
            let result = disk.perform(op);
            wal.on_done(DiskDone { id, result }).expect("a sound disk");
            is_idle = false;
        }
        for job in wal.take_jobs() {
            wal.on_job_done(Job::run(job, disk));
            is_idle = false;
        }
        if is_idle {
            return;
        }
    }
}

fn look(at: &Path) -> Integrity {
    // Whether it is held is another test's: a child that is just being made has our lock too.
    let (dir, _) = DataDir::open_read_only(at).expect("a directory");
    integrity(&mut dir.disk(), false, &mut |_, _| {})
}

/// The files that hold data, and how many bytes of each do. Left out, by name: the ballast, files in the making, segments outside
/// the log, and what lies behind the log's end in its last segment.
fn data_of(at: &Path) -> Vec<(PathBuf, usize)> {
    let (dir, _) = DataDir::open_read_only(at).expect("a directory");
    let report = inspect(&mut dir.disk(), false, &mut |_| {}).expect("whole");
    let mut files = Vec::new();
    for entry in fs::read_dir(at.join("member")).expect("listed") {
        let entry = entry.expect("listed");
        let name = entry.file_name().into_string().expect("plain");
        let bytes = entry.metadata().expect("there").len();
        let data = match File::parse(&name) {
            Some(File::Superblock(_) | File::Checkpoint(_) | File::Segment(_)) => bytes,
            Some(File::Wal(slot)) => {
                let used = report.segments.iter().find(|it| it.slot == slot);
                used.map_or(0, |segment| segment.used_bytes)
            }
            _ => 0,
        };
        if data > 0 {
            files.push((entry.path(), usize::try_from(data).expect("small")));
        }
    }
    files.sort();
    files
}

/// Changes bytes of data and says how; `None` if by chance nothing changed.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, data: usize) -> Option<String> {
    let before = bytes.clone();
    let at = rng.usize(0..data);
    let length = rng.usize(1..=4096).min(data - at);
    let said = match rng.u8(0..4) {
        0 => {
            let bit = rng.u8(0..8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        1 => {
            bytes[at..at + length].fill(0);
            format!("{length} bytes at {at} zeroed")
        }
        2 => {
            bytes.truncate(at);
            format!("cut to {at} bytes")
        }
        _ => {
            let length = length.min(data / 2);
            let (one, two) = (rng.usize(0..=data / 2 - length), data / 2);
            let other = two + rng.usize(0..=data - two - length);
            let (front, back) = bytes.split_at_mut(two);
            front[one..one + length].swap_with_slice(&mut back[other - two..][..length]);
            format!("{length} bytes at {one} and {other} swapped")
        }
    };
    (*bytes != before).then_some(said)
}

/// [INSPECT-2] A check that overlooks damage is worse than none: somebody deletes the good copy.
#[test]
fn each_of_a_thousand_random_damages_is_found() {
    let mut rng = Rng::with_seed(11);
    let (mut done, mut refused) = (0, 0);
    for seed in 1..=4 {
        let has_segments = seed > 2;
        let temp = directory(seed, seed % 2 == 0, has_segments);
        let whole = look(temp.path());
        assert_eq!((whole.damages(), whole.blemishes()), (vec![], vec![]));
        let files = data_of(temp.path());
        let count = |kind: &str| {
            let is_kind = |path: &Path| path.display().to_string().contains(kind);
            files.iter().filter(|(path, _)| is_kind(path)).count()
        };
        assert!(count("member/wal-") > 1);
        assert_eq!(count("member/checkpoint-"), 1);
        assert_eq!(count("member/segment-") > 3, has_segments);
        let mut left = 250;
        while left > 0 {
            let (path, data) = &files[rng.usize(0..files.len())];
            let good = fs::read(path).expect("there");
            let mut bytes = good.clone();
            let Some(what) = damage(&mut rng, &mut bytes, *data) else {
                continue;
            };
            fs::write(path, &bytes).expect("room");
            let found = look(temp.path());
            let is_found = !found.damages().is_empty() || !found.blemishes().is_empty();
            assert!(is_found, "seed {seed}, {}: {what}", path.display());
            refused += u32::from(!found.damages().is_empty());
            fs::write(path, &good).expect("room");
            left -= 1;
            done += 1;
        }
        let whole = look(temp.path());
        assert_eq!((whole.damages(), whole.blemishes()), (vec![], vec![]));
    }
    println!("{done} damages, {refused} of them such that no member starts");
    assert_eq!(done, 1000);
    assert!(refused > 500, "{refused}");
}

/// [INSPECT-1] Who inspects a damaged directory has only this one.
#[test]
fn the_disk_of_an_inspection_changes_nothing() {
    let temp = directory(1, true, false);
    let (dir, _) = DataDir::open_read_only(temp.path()).expect("a directory");
    let mut disk = dir.disk();
    let file = File::Superblock(0);
    for op in [
        DiskOp::Remove { file },
        DiskOp::Sync { file },
        DiskOp::SyncDir,
        DiskOp::Create {
            file: File::Ballast,
            bytes: 0,
        },
        DiskOp::Rename {
            from: file,
            to: File::Ballast,
        },
        DiskOp::Write {
            file,
            offset: 0,
            pages: Default::default(),
            durable: false,
        },
    ] {
        assert!(disk.perform(op).is_err());
    }
    let absent = temp.path().join("absent");
    assert!(DataDir::open_read_only(&absent).is_err());
    assert!(!absent.exists());
}

/// [INSPECT-1] A directory that a server writes to every millisecond looks whole at any moment, and the server goes on.
#[test]
fn a_running_servers_directory_is_inspected_and_said_to_be_in_use() {
    let server = Server::start(Kind::Basalt, QUIET).expect("our own");
    let is_over = AtomicBool::new(false);
    let outputs = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut puts = 0;
            while !is_over.load(Ordering::Relaxed) {
                put(&server, 50);
                puts += 50;
            }
            puts
        });
        let whats = WHATS.iter().cycle().take(20);
        let look = |what: &&str| inspect_with(what, &server.data_dir(), false);
        let outputs: Vec<Output> = whats.map(look).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(writer.join().expect("the server answers") > 0);
        outputs
    });
    for output in outputs {
        let said = said(&output);
        assert!(said.starts_with("a server runs"), "{said}");
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
}

/// [INSPECT-1] [INSPECT-2] What is said is said to scripts too, and no byte and no time of change moves.
#[test]
fn a_stopped_servers_directory_is_told_in_text_and_json_and_not_touched() {
    let mut server = Server::start(Kind::Basalt, QUIET).expect("our own");
    put(&server, 30);
    server.kill();
    let dir = server.data_dir();
    let before = state_of(&dir);
    for what in WHATS {
        let (text, json) = (
            inspect_with(what, &dir, false),
            inspect_with(what, &dir, true),
        );
        assert_eq!(text.status.code(), Some(0), "{}", said(&text));
        assert!(said(&text).starts_with("member "), "{}", said(&text));
        let json: serde_json::Value = serde_json::from_str(&said(&json)).expect("JSON");
        assert_eq!(json["in_use"], false);
    }
    let whole: serde_json::Value =
        serde_json::from_str(&said(&inspect_with("integrity", &dir, true))).expect("JSON");
    assert_eq!(whole["good"], true);
    let last = whole["wal"]["last_index"].as_u64().expect("a number");
    assert!(last >= 30, "{whole}");
    assert!(state_of(&dir) == before);

    let log = dir.join("member/wal-0000000000000001");
    let mut bytes = fs::read(&log).expect("there");
    bytes[4096 + 200] ^= 1;
    fs::write(&log, bytes).expect("room");
    let before = state_of(&dir);
    for what in ["wal", "integrity"] {
        let output = inspect_with(what, &dir, false);
        assert_eq!(output.status.code(), Some(1));
        let place =
            "damage: member/wal-0000000000000001 at byte 4096: the body of frame 2 is changed";
        assert!(said(&output).contains(place), "{}", said(&output));
    }
    assert!(state_of(&dir) == before);
    let absent = inspect_with("wal", &dir.join("absent"), false);
    assert_eq!(absent.status.code(), Some(1));
    assert!(!dir.join("absent").exists());
}

const WHATS: [&str; 4] = ["wal", "checkpoint", "revlog", "integrity"];
const QUIET: &[&str] = &["--log-level", "error"];

fn inspect_with(what: &str, dir: &Path, is_json: bool) -> Output {
    let mut command = Command::new(tools::basalt());
    command.args(["inspect", what]).arg(dir);
    if is_json {
        command.arg("--json");
    }
    command.output().expect("built")
}

fn said(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(error)
}

fn put(server: &Server, count: usize) {
    let mut client = Client::connect(server.address()).expect("a server");
    for place in 0..count {
        let request = PutRequest {
            key: format!("key-{place}").into(),
            value: vec![b'v'; 2000].into(),
            ..PutRequest::default()
        };
        let _: PutResponse = client.ask(kv::PUT, &request).expect("an answer");
    }
}

/// Every file with its bytes and the time of its last change.
fn state_of(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let member = fs::read_dir(dir.join("member")).expect("listed");
    let entries = member.map(|entry| entry.expect("listed").path());
    let mut state: BTreeMap<_, _> = entries
        .map(|path| {
            let changed = fs::metadata(&path).and_then(|it| it.modified());
            let bytes = fs::read(&path).expect("there");
            (path, (bytes, changed.expect("known")))
        })
        .collect();
    let changed = fs::metadata(dir.join("member")).and_then(|it| it.modified());
    state.insert(dir.to_owned(), (Vec::new(), changed.expect("known")));
    state
}
