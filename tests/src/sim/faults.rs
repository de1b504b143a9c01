//! Faults strike, and end.

use basalt_engine::disk::DiskErrorKind;
use basalt_engine::types::ReplyTo;

use super::clients::NOBODY;
use super::node::{Node, member_id};
use super::plan::{DiskFault, FaultKind, LEADER};
use super::world::{Event, World};
use crate::check::history::Violation;
use crate::sim_disk;

/// What ends when a fault ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Undo {
    /// A member's disk works again.
    DiskError(usize),
    /// It has space again.
    DiskFull(usize),
    /// It is as fast as before.
    DiskSlow(usize),
    /// Links are there again: from, to, both ways.
    Cut(u8, u8, bool),
    /// Links are as good as before.
    Noise,
}

/// What awaits those who are elected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depose {
    times: u8,
    after_us: u64,
    ms: u64,
}

impl World<'_> {
    /// The plan's fault of that number happens, if there is anything that it can happen to.
    pub(super) fn strike(&mut self, number: usize) -> Result<(), Violation> {
        let kind = self.plan.faults[number].kind.clone();
        self.trace.note(self.now_us, format_args!("{kind:?}"));
        self.tally.add("faults", 1);
        self.tally.add(name(&kind), 1);
        match kind {
            FaultKind::Crash {
                member,
                power,
                chances,
                down_ms,
                in_recovery,
            } => {
                if let Some(member) = self.who(member) {
                    self.die(member, power, chances, down_ms * 1000, in_recovery);
                }
            }
            FaultKind::Blackout { chances, down_ms } => {
                for member in 0..self.nodes.len() {
                    self.die(member, true, chances, down_ms * 1000, false);
                }
            }
            FaultKind::Stop { member } => {
                if let Some(member) = self.who(member) {
                    return self.stop(member);
                }
            }
            FaultKind::Pause {
                member,
                ms,
                clock_stops,
            } => self.pause(member, ms * 1000, clock_stops),
            FaultKind::DiskError { member, error, ms } => {
                let Some(member) = self.who(member) else {
                    return Ok(());
                };
                let disk = &mut self.nodes[member].disk;
                disk.fault = Some(sim_disk::Fault {
                    call: disk.calls + 1,
                    for_ever: ms > 0,
                    kind: kind_of(error),
                });
                self.schedule(ms * 1000, Event::Undo(Undo::DiskError(member)));
            }
            FaultKind::DiskFull { member, left, ms } => {
                let Some(member) = self.who(member) else {
                    return Ok(());
                };
                let disk = &mut self.nodes[member].disk;
                disk.capacity_bytes = Some(disk.used_bytes() + left);
                self.schedule(ms * 1000, Event::Undo(Undo::DiskFull(member)));
            }
            FaultKind::DiskSlow { member, times, ms } => {
                if let Some(member) = self.who(member) {
                    self.nodes[member].slower = times;
                    self.schedule(ms * 1000, Event::Undo(Undo::DiskSlow(member)));
                }
            }
            FaultKind::DiskLies {
                member,
                shift_pages,
            } => self.nodes[usize::from(member)].lie = Some(shift_pages),
            FaultKind::Rot {
                member,
                file,
                byte,
                down_ms,
            } => self.rot(usize::from(member), file, byte, down_ms * 1000),
            FaultKind::Cut {
                from,
                to,
                both_ways,
                ms,
            } => {
                self.network.cut(from, to, both_ways, true);
                self.schedule(ms * 1000, Event::Undo(Undo::Cut(from, to, both_ways)));
            }
            FaultKind::Isolate {
                member,
                says,
                hears,
                ms,
            } => {
                if let Some(member) = self.who(member) {
                    self.isolate(member, says, hears, ms);
                }
            }
            FaultKind::Depose {
                times,
                after_us,
                ms,
            } => {
                self.depose = Some(Depose {
                    times,
                    after_us,
                    ms,
                })
            }
            FaultKind::Transfer { to } => return self.transfer(usize::from(to)),
            FaultKind::Noise {
                permille,
                slower,
                ms,
            } => {
                self.network.set_noise(permille, slower);
                self.schedule(ms * 1000, Event::Undo(Undo::Noise));
            }
        }
        Ok(())
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::DiskError(member) => {
                // One that was to come once and has not come yet still will.
                let disk = &mut self.nodes[member].disk;
                disk.fault.take_if(|fault| fault.for_ever);
            }
            Undo::DiskFull(member) => self.nodes[member].disk.capacity_bytes = None,
            Undo::DiskSlow(member) => self.nodes[member].slower = 1,
            Undo::Cut(from, to, both_ways) => self.network.cut(from, to, both_ways, false),
            Undo::Noise => self.network.set_noise(self.plan.settings.link_permille, 1),
        }
    }

    /// Ends a process, which starts again later. What was asked of it is lost with it.
    pub(super) fn die(
        &mut self,
        member: usize,
        power: bool,
        chances: u8,
        down_us: u64,
        in_recovery: bool,
    ) {
        let node = &mut self.nodes[member];
        if node.running.is_none() {
            // Its disk may lose power nevertheless, and it is on its way up already.
            if power {
                node.kill(true, chances);
            }
            return;
        }
        node.kill(power, chances);
        self.tally.add("crashes", 1);
        self.hang_up(member);
        if !power {
            // The kernel lives on and resets the connections.
            for other in (0..self.nodes.len()).filter(|it| *it != member) {
                let after = self.rng.u64(0..RESET_US);
                self.schedule(after, Event::Reset(other, member));
            }
        }
        self.schedule(down_us, Event::Start(member, in_recovery));
    }

    /// The member that a plan means; `None`: nobody leads.
    fn who(&self, member: u8) -> Option<usize> {
        if member != LEADER {
            return Some(usize::from(member));
        }
        let leads = |node: &&Node| {
            let running = node.running.as_ref();
            running.is_some_and(|it| it.replica.raft().is_leader())
        };
        let newest = |node: &&Node| node.running.as_ref().map(|it| it.replica.raft().term());
        let leader = self.nodes.iter().filter(leads).max_by_key(newest)?;
        self.nodes.iter().position(|node| node.id == leader.id)
    }

    fn pause(&mut self, member: u8, us: u64, clock_stops: bool) {
        let Some(member) = self.who(member) else {
            return;
        };
        if let Some(process) = &mut self.nodes[member].running
            && process.paused_until_us <= self.now_us
        {
            process.paused_until_us = self.now_us + us;
            if clock_stops {
                process.began_us += us;
            }
        }
    }

    fn rot(&mut self, member: usize, file: u8, byte: u64, down_us: u64) {
        self.die(member, true, 4, down_us, false);
        let node = &mut self.nodes[member];
        let files = node.disk.files();
        if !node.is_gone && !files.is_empty() {
            let file = files[usize::from(file) % files.len()];
            node.disk.rot(file, byte, (byte % 8) as u8);
            node.is_damaged = true;
            node.is_rotten = true;
        }
    }

    pub(super) fn isolate(&mut self, member: usize, says: bool, hears: bool, ms: u64) {
        let (it, all) = (1 << member, u8::MAX);
        for (from, to, is_cut) in [(it, all, says), (all, it, hears)] {
            if is_cut {
                self.network.cut(from, to, false, true);
                self.schedule(ms * 1000, Event::Undo(Undo::Cut(from, to, false)));
            }
        }
    }

    /// A member was just elected.
    pub(super) fn on_elected(&mut self, member: usize) {
        self.tally.add("elections won", 1);
        if let Some(depose) = &mut self.depose
            && depose.times > 0
        {
            depose.times -= 1;
            let after_us = self.rng.u64(0..2 * depose.after_us);
            let ms = depose.ms;
            self.schedule(after_us, Event::Depose(member, ms));
        }
    }

    fn stop(&mut self, member: usize) -> Result<(), Violation> {
        let now_us = self.now_us;
        if let Some(process) = &mut self.nodes[member].running
            && process.paused_until_us <= now_us
        {
            process.replica.stop();
            process.is_stopping = true;
        }
        self.drive(member)
    }

    fn transfer(&mut self, to: usize) -> Result<(), Violation> {
        let Some(leader) = self.who(LEADER) else {
            return Ok(());
        };
        let running = self.nodes[leader].running.as_ref();
        if running.is_none_or(|it| it.paused_until_us > self.now_us) {
            return Ok(());
        }
        let reply = ReplyTo {
            stream: NOBODY,
            ..ReplyTo::default()
        };
        if let Some(process) = &mut self.nodes[leader].running {
            process.replica.transfer(member_id(to), reply);
        }
        self.drive(leader)
    }

    /// Every fault ends.
    pub(super) fn end_faults(&mut self) {
        self.network.heal();
        self.depose = None;
        for node in &mut self.nodes {
            node.disk.fault = None;
            node.disk.capacity_bytes = None;
            node.slower = 1;
            node.lie = None;
            if let Some(process) = &mut node.running {
                process.paused_until_us = 0;
            }
        }
    }
}

/// Until a peer hears that a process is gone, at most.
const RESET_US: u64 = 5_000;

fn kind_of(error: DiskFault) -> DiskErrorKind {
    match error {
        DiskFault::Failed => DiskErrorKind::Failed,
        DiskFault::NoSpace => DiskErrorKind::NoSpace,
        DiskFault::ReadOnly => DiskErrorKind::ReadOnly,
        DiskFault::Short => DiskErrorKind::Short,
    }
}

fn name(kind: &FaultKind) -> &'static str {
    match kind {
        FaultKind::Crash { power: true, .. } => "fault: power cut",
        FaultKind::Crash { .. } => "fault: kill",
        FaultKind::Blackout { .. } => "fault: blackout",
        FaultKind::Stop { .. } => "fault: clean stop",
        FaultKind::Pause {
            clock_stops: true, ..
        } => "fault: suspension",
        FaultKind::Pause { .. } => "fault: pause",
        FaultKind::DiskError { .. } => "fault: disk error",
        FaultKind::DiskFull { .. } => "fault: disk full",
        FaultKind::DiskSlow { .. } => "fault: slow disk",
        FaultKind::DiskLies { .. } => "fault: lying disk",
        FaultKind::Rot { .. } => "fault: rot",
        FaultKind::Cut { .. } => "fault: cut",
        FaultKind::Isolate { .. } => "fault: isolation",
        FaultKind::Depose { .. } => "fault: leaders deposed",
        FaultKind::Transfer { .. } => "fault: transfer",
        FaultKind::Noise { .. } => "fault: noise",
    }
}
