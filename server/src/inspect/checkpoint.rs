use std::io::{self, Write};

use basalt_engine::disk::File;
use basalt_engine::replica::{CheckpointReport, inspect_checkpoint};
use basalt_engine::types::Index;
use basalt_engine::wal::Superblock;
use serde_json::{Value, json};

use super::{Ended, Opened, Shown, progress, say_superblock, superblock_json, superblock_of};

pub(super) fn show(opened: &mut Opened, is_json: bool, out: &mut dyn Write) -> Shown {
    let mut progress = progress();
    let found = opened.settle(Result::is_ok, |disk, _| {
        let block = superblock_of(disk)?;
        if block.checkpoint == Index(0) {
            return Ok((block, None));
        }
        let (index, salt) = (block.checkpoint, block.files_salt);
        inspect_checkpoint(disk, index, salt, &mut progress)
            .map(|report| (block, Some(report)))
            .map_err(|refused| Ended::Said(refused.to_string()))
    });
    let (block, report) = found?;
    if is_json {
        let value = json!({
            "in_use": opened.is_in_use,
            "superblock": superblock_json(&block),
            "checkpoint": report.as_ref().map(json_of),
        });
        writeln!(out, "{value:#}")?;
    } else {
        opened.say_in_use(out)?;
        say(&block, report.as_ref(), out)?;
    }
    Ok(true)
}

fn say(
    block: &Superblock,
    report: Option<&CheckpointReport>,
    out: &mut dyn Write,
) -> io::Result<()> {
    say_superblock(block, out)?;
    let Some(report) = report else {
        return writeln!(
            out,
            "\nthere is no checkpoint yet: the log holds everything"
        );
    };
    let meta = &report.meta;
    writeln!(
        out,
        "\n{}: {} bytes, and {} files of the revision log",
        File::Checkpoint(report.index.0),
        report.bytes,
        report.segments.len()
    )?;
    let (index, term) = meta.applied;
    writeln!(out, "applied: index {index} of term {term}")?;
    writeln!(
        out,
        "revision {}, compacted {}, space given back up to {}",
        report.revision,
        mark(report.compacted),
        mark(report.finished)
    )?;
    writeln!(
        out,
        "digest of the history {:016x}, of what is kept {:016x}",
        report.digests.history, report.digests.kept
    )?;
    writeln!(
        out,
        "db size {} bytes, in use {} bytes",
        report.sizes.total, report.sizes.in_use
    )?;
    let version = meta.cluster_version.map(|version| version.to_string());
    let version = version.as_deref().unwrap_or("not decided");
    writeln!(out, "cluster version: {version}")?;
    for member in meta.members.iter() {
        let learner = if member.is_learner { ", learner" } else { "" };
        let (name, peers, clients) = (&member.name, &member.peer_urls, &member.client_urls);
        writeln!(
            out,
            "member {}: name {name:?}, peer URLs {peers:?}, client URLs {clients:?}{learner}",
            member.id
        )?;
    }
    for id in meta.members.removed() {
        writeln!(out, "removed member {id}")?;
    }
    for (member, kind) in meta.alarms.iter() {
        writeln!(out, "alarm {kind} of member {member}")?;
    }
    if let Some(blemish) = &report.blemish {
        writeln!(out, "notice: {blemish}")?;
    }
    Ok(())
}

fn mark(revision: i64) -> String {
    match revision {
        -1 => "never".to_owned(),
        revision => revision.to_string(),
    }
}

pub(super) fn json_of(report: &CheckpointReport) -> Value {
    let meta = &report.meta;
    json!({
        "file": File::Checkpoint(report.index.0).to_string(),
        "bytes": report.bytes,
        "segment_files": report.segments.len(),
        "index": meta.applied.0.0,
        "term": meta.applied.1.0,
        "revision": report.revision,
        "compacted": report.compacted,
        "finished_compaction": report.finished,
        "history_digest": format!("{:016x}", report.digests.history),
        "kept_digest": format!("{:016x}", report.digests.kept),
        "db_size": report.sizes.total,
        "db_size_in_use": report.sizes.in_use,
        "cluster_version": meta.cluster_version.map(|version| version.to_string()),
        "members": meta.members.iter().map(|member| json!({
            "id": member.id.to_string(),
            "name": member.name,
            "peer_urls": member.peer_urls,
            "client_urls": member.client_urls,
            "learner": member.is_learner,
        })).collect::<Value>(),
        "removed": meta.members.removed().map(|id| id.to_string()).collect::<Vec<_>>(),
        "alarms": meta.alarms.iter().map(|(member, kind)| json!({
            "member": member.to_string(),
            "type": kind,
        })).collect::<Value>(),
        "notice": report.blemish.map(|blemish| blemish.to_string()),
    })
}
