//! What the scrub finds, and what it leaves alone.

use super::recovery::history;
use super::*;
use crate::disk::File;
use crate::replica::Notice;

fn scrubbed() -> ReplicaConfig {
    ReplicaConfig {
        checkpoint_entries: 20,
        store: StoreConfig {
            segment_bytes: 3 << 10,
            cache_bytes: 64 << 10,
            ..StoreConfig::default()
        },
        ..config()
    }
}

/// Lets one whole pass run; answers what it told.
fn pass(rig: &mut Rig) -> Vec<Notice> {
    let passes = rig.replica.scrub.counts.passes;
    rig.replica.scrub.next = Some(rig.now);
    let mut notices = Vec::new();
    for _ in 0..100_000 {
        let (turn, moved) = rig.step();
        rig.replica.take_notices(&mut notices);
        if rig.replica.scrub.counts.passes > passes {
            rig.replica.scrub.next = None;
            notices.retain(|notice| matches!(notice, Notice::Damaged(_)));
            return notices;
        }
        if !moved {
            rig.now = turn.wake.expect("the scrub goes on");
        }
    }
    panic!("the scrub never ends");
}

/// Each file of the checkpoint is read: a byte that is not as it was written is told with its file, once a pass, and the
/// member serves on.
#[test]
fn damage_in_any_file_of_the_checkpoint_is_told_and_nothing_stops() {
    let mut rig = Rig::new(scrubbed());
    history(&mut rig, 3, 300);
    assert!(pass(&mut rig).is_empty());
    let files: Vec<File> = rig.disk.files.keys().copied().collect();
    let mut seen = 0;
    for file in files {
        let is_named = match file {
            File::Segment(number) => rig.replica.machine.store().uses_file(number),
            File::Checkpoint(index) => index == rig.replica.checkpoint.last.0,
            _ => false,
        };
        if !is_named {
            continue;
        }
        seen += 1;
        let bytes = rig.disk.files[&file].clone();
        for at in [9, bytes.len() / 2, bytes.len() - 2] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            rig.disk.files.insert(file, damaged);
            let told = pass(&mut rig);
            // What fills a checkpoint's pages says nothing.
            if told.is_empty() && matches!(file, File::Checkpoint(_)) {
                continue;
            }
            let [Notice::Damaged(damage)] = told[..] else {
                panic!("{file} at {at}: {told:?}")
            };
            let text = damage.to_string();
            assert!(text.contains(&file.to_string()), "{text}");
        }
        rig.disk.files.remove(&file);
        assert_eq!(pass(&mut rig).len(), 1, "{file} is missing");
        rig.disk.files.insert(file, bytes);
    }
    assert!(seen > 4, "{seen}");
    assert!(rig.replica.failure().is_none());
    assert!(pass(&mut rig).is_empty());
}

/// Files that a newer checkpoint has replaced while a pass rests are nobody's any more.
#[test]
fn files_that_are_gone_meanwhile_are_no_damage() {
    let mut rig = Rig::new(scrubbed());
    history(&mut rig, 5, 100);
    rig.replica.scrub.next = Some(rig.now);
    // The pass knows its files from here on.
    rig.replica.turn(rig.now);
    let mut held = Vec::new();
    rig.replica.take_jobs(&mut held);
    assert!(held.iter().any(|job| matches!(job, Job::Scrub(_))));
    history(&mut rig, 6, 200);
    rig.compact_all();
    history(&mut rig, 7, 100);
    for job in held {
        let done = job.run(&mut rig.disk);
        rig.replica.on_job(done, rig.now);
    }
    assert!(pass(&mut rig).is_empty());
    assert_eq!(rig.replica.scrub.counts.damages, 0);
}
