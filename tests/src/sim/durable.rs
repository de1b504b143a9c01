//! Which members have an entry on their disk so that no power cut takes it: read from the disk, whatever the member believes.

use basalt_engine::disk::Disk;
use basalt_engine::raft::message::{Ballot, Body, Message};
use basalt_engine::run::split_entry;
use basalt_engine::types::{HardState, MemberId, Run};
use basalt_engine::wal::{Found, RecoverConfig, Replayed, look, recover};

use super::node::Node;
use super::witness::{Entry, digest};
use crate::sim_disk::Survive;

/// Whether the durable part of the member's disk has the entry, or a checkpoint that covers it.
#[must_use]
pub(super) fn has_durably(node: &Node, wanted: Entry) -> bool {
    let mut disk = node.disk.after_power_cut(Survive::Nothing);
    let Ok(Found::Ours(block)) = look(&mut disk) else {
        return false;
    };
    if block.checkpoint.0 >= wanted.index {
        return true;
    }
    let mut found = None;
    let told = RecoverConfig {
        limits: node.limits(),
        ..RecoverConfig::default()
    };
    let mut on_event = |event: Replayed<'_>, _: &mut dyn Disk| match event {
        Replayed::Run(run, _) if run.first.0 <= wanted.index => {
            found = (wanted.index <= run.last().0).then(|| read(&run, wanted.index));
        }
        Replayed::CutFrom(index) if index.0 <= wanted.index => found = None,
        _ => {}
    };
    let read = recover(&mut disk, &told, &mut on_event, &mut |_| {});
    read.is_ok() && found == Some((wanted.term, wanted.digest))
}

/// Whether a message says something of the sender's disk.
pub(super) fn is_promise(message: &Message) -> bool {
    matches!(
        message.body,
        Body::Appended { .. }
            | Body::Vote {
                ballot: Ballot::Real,
                ..
            }
            | Body::VoteAnswer {
                ballot: Ballot::Real,
                granted: true,
            }
    )
}

/// Whether the durable part of the sender's disk bears a message out.
#[must_use]
pub(super) fn keeps_promise(node: &Node, to: MemberId, message: &Message) -> bool {
    let Some((hard, last)) = durable_marks(node) else {
        return false;
    };
    let voted = |candidate| {
        hard.term > message.term || (hard.term == message.term && hard.vote == Some(candidate))
    };
    match message.body {
        Body::Appended { matched } => hard.term >= message.term && last >= matched.0,
        Body::Vote { .. } => voted(node.id),
        Body::VoteAnswer { .. } => voted(to),
        _ => true,
    }
}

/// Term, vote and last entry as a recovery would find them.
fn durable_marks(node: &Node) -> Option<(HardState, u64)> {
    let mut disk = node.disk.after_power_cut(Survive::Nothing);
    let told = RecoverConfig {
        limits: node.limits(),
        ..RecoverConfig::default()
    };
    let recovered = recover(&mut disk, &told, &mut |_, _| {}, &mut |_| {}).ok()?;
    Some((recovered.hard, recovered.last.0))
}

fn read(run: &Run<'_>, index: u64) -> (u64, u64) {
    let mut rest = run.bytes;
    let mut at = run.first.0;
    loop {
        let (entry, after) = split_entry(rest).expect("an entry");
        if at == index {
            return (run.term.0, digest(run.kind, entry));
        }
        (rest, at) = (after, at + 1);
    }
}
