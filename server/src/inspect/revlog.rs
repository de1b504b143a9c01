use std::io::{self, Write};

use basalt_engine::disk::File;
use basalt_engine::mvcc::SegmentFileReport;
use basalt_engine::replica::inspect_revlog;
use basalt_engine::types::Index;
use basalt_engine::wal::Superblock;
use serde_json::{Value, json};

use super::{Ended, Opened, Shown, progress, say_superblock, superblock_json, superblock_of};

pub(super) fn show(opened: &mut Opened, is_json: bool, out: &mut dyn Write) -> Shown {
    let mut progress = progress();
    let found = opened.settle(
        |found: &Result<(Superblock, Vec<SegmentFileReport>), Ended>| {
            found.as_ref().is_ok_and(|(_, segments)| is_whole(segments))
        },
        |disk, _| {
            let block = superblock_of(disk)?;
            if block.checkpoint == Index(0) {
                return Ok((block, Vec::new()));
            }
            inspect_revlog(disk, block.checkpoint, block.files_salt, &mut progress)
                .map(|segments| (block, segments))
                .map_err(|refused| Ended::Said(refused.to_string()))
        },
    );
    let (block, segments) = found?;
    if is_json {
        let value = json!({
            "in_use": opened.is_in_use,
            "superblock": superblock_json(&block),
            "segments": segments.iter().map(json_of).collect::<Value>(),
        });
        writeln!(out, "{value:#}")?;
    } else {
        opened.say_in_use(out)?;
        say(&block, &segments, out)?;
    }
    Ok(is_whole(&segments))
}

fn is_whole(segments: &[SegmentFileReport]) -> bool {
    segments.iter().all(|segment| segment.read.is_ok())
}

fn say(block: &Superblock, segments: &[SegmentFileReport], out: &mut dyn Write) -> io::Result<()> {
    say_superblock(block, out)?;
    if segments.is_empty() {
        return writeln!(out, "\nthe checkpoint names no file of the revision log");
    }
    writeln!(
        out,
        "\n{:<24} {:>8} {:>10} {:>7} {:>10} {:>10} {:>21}",
        "file", "segment", "bytes", "frames", "records", "dropped", "revisions"
    )?;
    for segment in segments {
        let (frames, revisions) = match &segment.read {
            Ok(read) => {
                let (first, last) = read.revisions;
                (read.frames.to_string(), format!("{first}-{last}"))
            }
            Err(_) => ("damaged".to_owned(), "-".to_owned()),
        };
        writeln!(
            out,
            "{:<24} {:>8} {:>10} {frames:>7} {:>10} {:>10} {revisions:>21}",
            File::Segment(segment.number).to_string(),
            segment.segment,
            segment.bytes,
            segment.record_bytes,
            segment.gone_bytes,
        )?;
    }
    writeln!(out)?;
    for damage in segments.iter().filter_map(|segment| segment.read.err()) {
        writeln!(out, "damage: {damage}")?;
    }
    let sum = |of: fn(&SegmentFileReport) -> u64| segments.iter().map(of).sum::<u64>();
    writeln!(
        out,
        "{} files, {} bytes; {} bytes of records, {} of them dropped by compaction",
        segments.len(),
        sum(|it| it.bytes),
        sum(|it| it.record_bytes),
        sum(|it| it.gone_bytes)
    )
}

fn json_of(segment: &SegmentFileReport) -> Value {
    let read = segment.read.as_ref();
    json!({
        "file": File::Segment(segment.number).to_string(),
        "segment": segment.segment,
        "bytes": segment.bytes,
        "record_bytes": segment.record_bytes,
        "dropped_bytes": segment.gone_bytes,
        "frames": read.ok().map(|it| it.frames),
        "first_revision": read.ok().map(|it| it.revisions.0),
        "last_revision": read.ok().map(|it| it.revisions.1),
        "damage": read.err().map(ToString::to_string),
    })
}
