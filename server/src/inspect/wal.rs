use std::io::{self, Write};

use basalt_engine::disk::File;
use basalt_engine::types::HardState;
use basalt_engine::wal::{self, FrameReport, SegmentReport, WalEnd, WalReport};
use serde_json::{Value, json};

use super::{Ended, Opened, Shown, say_superblock, superblock_json};

pub(super) fn show(
    opened: &mut Opened,
    is_json: bool,
    with_frames: bool,
    out: &mut dyn Write,
) -> Shown {
    let mut frames = Vec::new();
    let found = opened.settle(
        |found| matches!(found, Ok(WalReport { end: Ok(_), .. })),
        |disk, is_in_use| {
            frames.clear();
            wal::inspect(disk, is_in_use, &mut |frame| {
                if with_frames {
                    frames.push(*frame);
                }
            })
        },
    );
    let report = found.map_err(|corrupt| Ended::Said(corrupt.to_string()))?;
    if is_json {
        let mut value = json_of(&report);
        value["in_use"] = opened.is_in_use.into();
        if with_frames {
            value["frames"] = frames.iter().map(frame_json).collect();
        }
        writeln!(out, "{value:#}")?;
    } else {
        opened.say_in_use(out)?;
        say(&report, &frames, out)?;
    }
    Ok(report.end.is_ok())
}

fn say(report: &WalReport, frames: &[FrameReport], out: &mut dyn Write) -> io::Result<()> {
    say_superblock(&report.superblock, out)?;
    writeln!(out, "hard state: {}\n", hard_text(&report.hard))?;
    writeln!(
        out,
        "{:<27} {:>10} {:>10} {:>10} {:>8} {:>19} {:>9} {:>19} {:>9}",
        "segment",
        "bytes",
        "used",
        "generation",
        "frames",
        "sequences",
        "entries",
        "indexes",
        "terms"
    )?;
    for segment in &report.segments {
        writeln!(
            out,
            "{:<27} {:>10} {:>10} {:>10} {:>8} {:>19} {:>9} {:>19} {:>9}",
            File::Wal(segment.slot).to_string(),
            segment.bytes,
            segment.used_bytes,
            segment.generation,
            segment.frames,
            span(segment.sequences),
            segment.entries,
            span((segment.indexes.0.0, segment.indexes.1.0)),
            span((segment.terms.0.0, segment.terms.1.0)),
        )?;
    }
    for other in &report.others {
        writeln!(
            out,
            "{:<27} {:>10} {}",
            other.name, other.bytes, other.purpose
        )?;
    }
    if !frames.is_empty() {
        writeln!(
            out,
            "\n{:<27} {:>10} {:>10} {:>10} {:>6} {:>19} {:>6} hard state",
            "frame in", "offset", "bytes", "sequence", "runs", "indexes", "term"
        )?;
    }
    for frame in frames {
        let indexes = match frame.is_seal {
            true => "seal".to_owned(),
            false => span((frame.indexes.0.0, frame.indexes.1.0)),
        };
        writeln!(
            out,
            "{:<27} {:>10} {:>10} {:>10} {:>6} {indexes:>19} {:>6} {}",
            File::Wal(frame.slot).to_string(),
            frame.offset,
            frame.bytes,
            frame.sequence,
            frame.runs,
            frame.term.0,
            hard_text(&frame.hard),
        )?;
    }
    writeln!(out)?;
    for notice in &report.notices {
        writeln!(out, "notice: {notice}")?;
    }
    for blemish in &report.blemishes {
        writeln!(out, "notice: {blemish}")?;
    }
    match &report.end {
        Ok(end) => writeln!(out, "{}", end_text(report, end)),
        Err(corrupt) => writeln!(out, "damage: {corrupt}"),
    }
}

/// Where the log ends, in a sentence.
pub(super) fn end_text(report: &WalReport, end: &WalEnd) -> String {
    let verdict = match (end.is_sealed, end.torn_bytes) {
        (true, 0) => "whole, and sealed by a clean stop".to_owned(),
        (false, 0) => "whole, without a clean stop".to_owned(),
        (_, torn) => format!(
            "whole; behind it lie {torn} bytes of a frame that was never acknowledged, which a start cuts off"
        ),
    };
    format!(
        "the log ends at byte {} of {} with frame {}, index {} of term {}: {verdict}",
        end.offset,
        File::Wal(end.slot),
        end.sequence,
        report.last,
        report.last_term
    )
}

fn hard_text(hard: &HardState) -> String {
    let vote = hard.vote.map_or("nobody".to_owned(), |id| id.to_string());
    format!(
        "term {}, vote for {vote}, commit {}",
        hard.term, hard.commit
    )
}

fn span((from, to): (u64, u64)) -> String {
    match (from, to) {
        (0, 0) => "-".to_owned(),
        (from, to) if from == to => from.to_string(),
        (from, to) => format!("{from}-{to}"),
    }
}

pub(super) fn json_of(report: &WalReport) -> Value {
    let end = match &report.end {
        Ok(end) => json!({
            "file": File::Wal(end.slot).to_string(),
            "offset": end.offset,
            "sequence": end.sequence,
            "clean_stop": end.is_sealed,
            "torn_bytes": end.torn_bytes,
        }),
        Err(_) => Value::Null,
    };
    let blemishes = report.blemishes.iter().map(ToString::to_string);
    let notices = report.notices.iter().cloned().chain(blemishes);
    json!({
        "superblock": superblock_json(&report.superblock),
        "hard_state": hard_json(&report.hard),
        "segments": report.segments.iter().map(segment_json).collect::<Value>(),
        "other_files": report.others.iter().map(|other| json!({
            "name": other.name,
            "bytes": other.bytes,
            "purpose": other.purpose,
        })).collect::<Value>(),
        "last_index": report.last.0,
        "last_term": report.last_term.0,
        "end": end,
        "damage": report.end.as_ref().err().map(ToString::to_string),
        "notices": notices.collect::<Vec<_>>(),
    })
}

fn hard_json(hard: &HardState) -> Value {
    json!({
        "term": hard.term.0,
        "vote": hard.vote.map(|id| id.to_string()),
        "commit": hard.commit.0,
    })
}

fn segment_json(segment: &SegmentReport) -> Value {
    json!({
        "file": File::Wal(segment.slot).to_string(),
        "bytes": segment.bytes,
        "used_bytes": segment.used_bytes,
        "generation": segment.generation,
        "frames": segment.frames,
        "first_sequence": segment.sequences.0,
        "last_sequence": segment.sequences.1,
        "entries": segment.entries,
        "lowest_index": segment.indexes.0.0,
        "highest_index": segment.indexes.1.0,
        "lowest_term": segment.terms.0.0,
        "highest_term": segment.terms.1.0,
    })
}

fn frame_json(frame: &FrameReport) -> Value {
    json!({
        "file": File::Wal(frame.slot).to_string(),
        "offset": frame.offset,
        "bytes": frame.bytes,
        "sequence": frame.sequence,
        "seal": frame.is_seal,
        "runs": frame.runs,
        "lowest_index": frame.indexes.0.0,
        "last_index": frame.indexes.1.0,
        "term": frame.term.0,
        "hard_state": hard_json(&frame.hard),
    })
}
