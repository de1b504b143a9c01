use std::io::{self, Write};

use basalt_engine::disk::File;
use basalt_engine::replica::{Integrity, integrity};
use serde_json::json;

use super::{Opened, Shown, checkpoint, progress, say_superblock, wal};

pub(super) fn show(opened: &mut Opened, is_json: bool, out: &mut dyn Write) -> Shown {
    let mut progress = progress();
    let found = opened.settle(is_good, |disk, is_in_use| {
        integrity(disk, is_in_use, &mut progress)
    });
    if is_json {
        let report = found.checkpoint.as_ref().and_then(|it| it.as_ref().ok());
        let value = json!({
            "in_use": opened.is_in_use,
            "good": is_good(&found),
            "damages": found.damages(),
            "notices": found.blemishes(),
            "wal": found.wal.as_ref().ok().map(wal::json_of),
            "checkpoint": report.map(checkpoint::json_of),
        });
        writeln!(out, "{value:#}")?;
    } else {
        opened.say_in_use(out)?;
        say(&found, out)?;
    }
    Ok(is_good(&found))
}

fn is_good(found: &Integrity) -> bool {
    found.damages().is_empty() && found.blemishes().is_empty()
}

fn say(found: &Integrity, out: &mut dyn Write) -> io::Result<()> {
    if let Ok(report) = &found.wal {
        say_superblock(&report.superblock, out)?;
        let frames: u64 = report.segments.iter().map(|it| it.frames).sum();
        let (segments, bytes) = (
            report.segments.len(),
            report.segments.iter().map(|it| it.used_bytes).sum::<u64>(),
        );
        writeln!(
            out,
            "\nlog: {frames} frames in {segments} segments, {bytes} bytes"
        )?;
        if let Ok(end) = &report.end {
            writeln!(out, "{}", wal::end_text(report, end))?;
        }
    }
    match &found.checkpoint {
        Some(Ok(report)) => writeln!(
            out,
            "checkpoint: {}, {} bytes, revision {}\nrevision log: {} files, {} bytes",
            File::Checkpoint(report.index.0),
            report.bytes,
            report.revision,
            report.segments.len(),
            report.segments.iter().map(|it| it.bytes).sum::<u64>()
        )?,
        Some(Err(_)) => {}
        None => writeln!(out, "checkpoint: none is named")?,
    }
    writeln!(out)?;
    let (damages, notices) = (found.damages(), found.blemishes());
    for damage in &damages {
        writeln!(out, "damage: {damage}")?;
    }
    for notice in &notices {
        writeln!(out, "notice: {notice}")?;
    }
    match (damages.len(), notices.len()) {
        (0, 0) => writeln!(
            out,
            "good: everything that a start would read is as it was written"
        ),
        (0, notices) => writeln!(
            out,
            "not as it was written in {notices} places, none of which keeps a member from starting; watch the disk"
        ),
        (damages, _) => writeln!(
            out,
            "damaged in {damages} places: no member starts from this directory"
        ),
    }
}
