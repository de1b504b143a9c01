//! The end: faults heal for a majority, which must serve; then for all, who must become equal; then the histories are checked.

use basalt_pb::etcdserverpb as pb;
use pb::request_op::Request as Op;

use super::world::{Event, World};
use crate::check::history::{Outcome, Request, Violation};
use crate::check::linear::{self, Verdict};
use crate::check::order;

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Faults strike.
    Faults,
    /// A majority is healed and must answer a probe before that time.
    Serve {
        /// Who is in it.
        core: Vec<usize>,
        /// By when.
        until_us: u64,
    },
    /// All are healed and must become equal before that time.
    Rest {
        /// By when.
        until_us: u64,
    },
    /// Nothing more happens.
    Over,
}

impl World<'_> {
    /// Faults are over for a majority drawn by lot; the others stay as they are, but down.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.end_faults();
        for client in &mut self.clients {
            client.steps.clear();
        }
        let mut members: Vec<usize> = (0..self.nodes.len())
            .filter(|member| !self.nodes[*member].is_gone)
            .collect();
        self.rng.shuffle(&mut members);
        let core = members[..self.nodes.len() / 2 + 1].to_vec();
        for member in 0..self.nodes.len() {
            if self.nodes[member].is_gone {
                continue;
            }
            if !core.contains(&member) {
                self.nodes[member].kill(true, 4);
                self.hang_up(member);
            } else if self.nodes[member].running.is_none() {
                self.schedule(1, Event::Start(member, false));
            }
        }
        self.phase = Phase::Serve {
            core,
            until_us: self.now_us + SERVES_WITHIN_US,
        };
        self.schedule(LOOK_US, Event::Look);
        Ok(())
    }

    /// A member with a damaged disk refused to start. Without a majority that is the end: stopped, and nothing wrong was said.
    pub(super) fn on_refused(&mut self, member: usize) {
        self.nodes[member].is_gone = true;
        let left = self.nodes.iter().filter(|node| !node.is_gone).count();
        let is_core = matches!(&self.phase, Phase::Serve { core, .. } if core.contains(&member));
        if left <= self.nodes.len() / 2 || is_core {
            self.phase = Phase::Over;
        }
    }

    /// The probe was answered.
    pub(super) fn on_probe(&mut self, number: u32) {
        let is_done = matches!(self.history[number as usize].outcome, Outcome::Done { .. });
        if is_done && matches!(self.phase, Phase::Serve { .. }) {
            self.tally.add("served after faults", 1);
            self.phase = Phase::Rest {
                until_us: self.now_us + RESTS_WITHIN_US,
            };
            for member in 0..self.nodes.len() {
                if self.nodes[member].running.is_none() {
                    self.schedule(1, Event::Start(member, false));
                }
            }
        }
    }

    /// Looks whether the cluster has come further, and asks the next probe.
    pub(super) fn look(&mut self) -> Result<(), Violation> {
        match self.phase.clone() {
            Phase::Faults | Phase::Over => return Ok(()),
            Phase::Serve { until_us, core } if self.now_us > until_us => {
                return self.is_late(&core, "a healed majority does not serve");
            }
            Phase::Serve { core, .. } => {
                let member = core[self.rng.usize(..core.len())];
                self.disarm(member)?;
                if self.nodes[member].running.is_some() {
                    let put = pb::PutRequest {
                        key: "probe".into(),
                        value: self.asked.len().to_string().into(),
                        ..Default::default()
                    };
                    let request = Request::Op(Op::RequestPut(put));
                    self.send(self.clients.len(), member, request, false);
                }
            }
            Phase::Rest { .. } if self.is_at_rest() => {
                for node in 0..self.nodes.len() {
                    if let Some(process) = &self.nodes[node].running {
                        self.witness.check_state(node, &process.replica)?;
                    }
                }
                self.phase = Phase::Over;
            }
            Phase::Rest { until_us } if self.now_us > until_us => {
                let all: Vec<usize> = (0..self.nodes.len()).collect();
                return self.is_late(&all, "healed members do not become equal and quiet");
            }
            Phase::Rest { .. } => {}
        }
        self.schedule(LOOK_US, Event::Look);
        Ok(())
    }

    /// Time is up. Where a disk is damaged that is no fault: nobody takes a snapshot with a file that is not what was written, neither
    /// as its sender has it nor as its receiver does, and files are not mended from other members (R11).
    fn is_late(&mut self, members: &[usize], what: &str) -> Result<(), Violation> {
        let is_damaged = |member: &usize| self.nodes[*member].is_damaged;
        if !members.iter().any(is_damaged) {
            return Err(what.to_owned());
        }
        self.tally.add("ended by a damaged disk", 1);
        self.phase = Phase::Over;
        Ok(())
    }

    /// Whether all members have applied everything and have nothing left to do.
    fn is_at_rest(&self) -> bool {
        if self.witness.has_leases() || !self.is_all_heard() {
            return false;
        }
        self.nodes.iter().filter(|node| !node.is_gone).all(|node| {
            node.running.as_ref().is_some_and(|process| {
                let status = process.replica.published().status();
                let counts = process.replica.published().counts();
                status.applied.0 == self.witness.committed()
                    && counts.proposals_pending == 0
                    && process.jobs.is_empty()
                    && node.disk.flying().is_empty()
            })
        })
    }

    /// The clients' history, by revisions and without.
    pub(super) fn check_history(&mut self) -> Result<(), Violation> {
        let tally = order::check(&self.history, self.witness.written())?;
        self.tally.add("answers replayed", tally.answers);
        self.tally.add("unknown outcomes settled", tally.settled);
        let verdict = linear::check(&self.history, LINEAR_STEPS_MAX)?;
        let name = match verdict {
            Verdict::Linearizable(_) => "histories linearizable",
            Verdict::TooHard => "histories too hard for the search",
        };
        self.tally.add(name, 1);
        Ok(())
    }
}

const LOOK_US: u64 = 200_000;

/// Twenty elections and some disk.
const SERVES_WITHIN_US: u64 = 40_000_000;

const RESTS_WITHIN_US: u64 = 60_000_000;

/// More makes a run longer than it is worth.
const LINEAR_STEPS_MAX: usize = 20_000;
