use super::*;

impl Net {
    /// A member with nothing, which waits for a leader.
    fn join(&mut self, id: u64) {
        let (hard, log) = (HardState::default(), Log::new(Mark::default()));
        let raft = Raft::new(MemberId(id), hard, Config::default(), log, settings(id));
        self.nodes.insert(id, Node::new(raft));
    }
}

/// A learner gets the log and is not counted; promoted, it is.
#[test]
fn a_learner_catches_up_and_is_promoted() {
    let mut net = Net::led();
    net.propose(1, b"one");
    net.settle();
    net.join(4);
    net.propose_change(1, b"\x04l");
    net.pass(300);
    assert_eq!(net.texts(4), ["one"]);
    // Two of three voters are silent: a learner's copy makes no majority.
    net.isolate(2);
    net.isolate(3);
    let index = net.propose(1, b"two").0;
    net.settle();
    assert!(net.committed(1) < index);
    net.heal();
    net.pass(300);
    assert_eq!(net.committed(1), index);
    net.propose_change(1, b"\x04");
    net.settle();
    assert_eq!(net.raft(4).config().voters.ids().len(), 4);
    net.isolate(2);
    let index = net.propose(1, b"three").0;
    net.settle();
    assert_eq!(net.committed(1), index);
    net.assert_agreement();
}

/// A learner never stands for election, however long it hears nobody.
#[test]
fn a_learner_does_not_campaign() {
    let mut net = Net::led();
    net.join(4);
    net.propose_change(1, b"\x04l");
    net.pass(300);
    net.isolate(4);
    let term = net.raft(4).term();
    net.pass(10_000);
    assert_eq!(net.raft(4).term(), term);
    assert_eq!(net.raft(4).wake(), None);
}

/// A second change waits until the first is applied, so that majorities overlap.
#[test]
fn changes_come_one_at_a_time() {
    let mut net = Net::led();
    net.propose_change(1, b"\x04l");
    assert!(!net.raft(1).takes_changes());
    net.settle();
    assert!(net.raft(1).takes_changes());
    // A new leader waits for its own first entry.
    net.raft(1).transfer(MemberId(2));
    for _ in 0..20 {
        net.step();
        if net.raft(2).is_leader() {
            break;
        }
    }
    net.raft(2).flush();
    assert!(!net.raft(2).takes_changes());
    net.settle();
    assert!(net.raft(2).takes_changes());
}

/// Who is removed hears of it and is silent; the others go on.
#[test]
fn a_removed_member_is_silent() {
    let mut net = Net::led();
    net.propose_change(1, b"\x03r");
    net.settle();
    assert!(!net.raft(3).config().voters.contains(MemberId(3)));
    net.pass(10_000);
    assert_eq!(net.leaders(), [1]);
    let index = net.propose(1, b"one").0;
    net.settle();
    assert_eq!(net.committed(2), index);
    assert!(net.texts(3).is_empty());
}

/// A leader that removes itself hands over and stops leading.
#[test]
fn a_leader_that_is_removed_hands_over() {
    let mut net = Net::led();
    net.propose_change(1, b"\x01r");
    net.settle();
    assert!(!net.raft(1).is_leader());
    net.pass(100);
    let leaders = net.leaders();
    assert!(leaders == [2] || leaders == [3], "{leaders:?}");
    net.propose(leaders[0], b"one");
    net.settle();
    assert_eq!(net.texts(5 - leaders[0]), ["one"]);
}

/// A committed change that a member has not applied keeps it from leading with the old configuration.
#[test]
fn who_has_not_applied_a_committed_change_does_not_campaign() {
    let mut raft = started(1, 3);
    while let Some(last) = raft.log().next_to_stage().map(|run| run.last()) {
        raft.log_mut().on_staged(last);
    }
    raft.on_durable(raft.log().last().index);
    while raft.log().next_to_apply().is_some() {
        raft.log_mut().on_applied();
    }
    let entry = framed(b"\x04");
    raft.log_mut()
        .append(RunKind::ConfChange, Term(1), 1, entry);
    raft.log_mut().commit_to(Index(4));
    raft.campaign();
    assert!(matches!(raft.role, Role::Follower(_)));
    raft.on_config_applied(Index(4), Step::AddVoter(MemberId(4)));
    raft.campaign();
    assert!(matches!(raft.role, Role::PreCandidate(_)));
}

/// A transfer takes one round, loses nothing, and does not wait for anybody's silence.
#[test]
fn leadership_is_handed_over() {
    let mut net = Net::led();
    net.pass(200);
    net.propose(1, b"one");
    assert!(net.raft(1).transfer(MemberId(3)));
    assert!(!net.raft(1).takes_proposals());
    net.settle();
    assert_eq!(net.leaders(), [3]);
    assert_eq!(net.texts(3), ["one"]);
    assert!(!net.raft(1).transfer(MemberId(2)));
}

/// A transfer to a member that is gone is given up, and proposals are taken again.
#[test]
fn a_transfer_to_a_silent_member_is_given_up() {
    let mut net = Net::led();
    net.isolate(3);
    net.propose(1, b"one");
    assert!(net.raft(1).transfer(MemberId(3)));
    assert!(!net.raft(1).transfer(MemberId(9)));
    assert!(!net.raft(1).transfer(MemberId(1)));
    net.pass(900);
    assert!(!net.raft(1).takes_proposals());
    net.pass(200);
    assert!(net.raft(1).takes_proposals());
    assert_eq!(net.leaders(), [1]);
}

/// A leader whose disk hangs hands over to a member that it has heard of, the one that is furthest.
#[test]
fn the_best_successor_is_up_to_date_and_alive() {
    let mut net = Net::led();
    net.isolate(2);
    net.propose(1, b"one");
    net.pass(3_000);
    assert_eq!(net.raft(1).best_successor(), Some(MemberId(3)));
}
