use super::*;

fn make_durable(raft: &mut Raft) {
    while let Some(last) = raft.log().next_to_stage().map(|run| run.last()) {
        raft.log_mut().on_staged(last);
    }
    raft.on_durable(raft.log().last().index);
}

/// The first start's terms and indexes are visible to clients (etcd-facts 3).
#[test]
fn a_single_member_leads_term_two_at_once() {
    let mut raft = started(1, 1);
    assert_eq!(raft.hard().commit, Index(1));
    assert_eq!(raft.term(), Term(1));
    raft.campaign();
    assert!(raft.is_leader());
    assert_eq!(
        raft.log().last(),
        Mark {
            index: Index(2),
            term: Term(2)
        }
    );
    assert_eq!(raft.hard().vote, Some(MemberId(1)));
}

/// A read before the own empty entry is committed might miss what was acknowledged earlier.
#[test]
fn reads_are_free_only_behind_an_own_committed_entry() {
    let mut raft = started(1, 1);
    raft.campaign();
    assert_eq!(raft.free_read_index(), None);
    make_durable(&mut raft);
    assert_eq!(raft.free_read_index(), Some(Index(2)));
}

/// Nothing counts as committed before the disk said so.
#[test]
fn a_proposal_commits_when_it_is_durable() {
    let mut raft = started(1, 1);
    raft.campaign();
    make_durable(&mut raft);
    let index = raft
        .propose(RunKind::Normal, 1, framed(b"x"))
        .expect("leads");
    assert_eq!(index, Index(3));
    assert_eq!(raft.log().committed(), Index(2));
    make_durable(&mut raft);
    assert_eq!(raft.log().committed(), Index(3));
}

/// A restarted member begins above every term it has seen.
#[test]
fn a_restarted_member_takes_a_new_term() {
    let base = Mark {
        index: Index(9),
        term: Term(4),
    };
    let mut config = Config::default();
    config.apply(Step::AddVoter(MemberId(1)));
    let hard = HardState {
        term: Term(4),
        vote: Some(MemberId(1)),
        commit: Index(9),
    };
    let mut raft = Raft::new(MemberId(1), hard, config, Log::new(base), settings(1));
    raft.campaign();
    assert_eq!(
        raft.log().last(),
        Mark {
            index: Index(10),
            term: Term(5)
        }
    );
}

/// A learner, or a member that was removed, must not start elections.
#[test]
fn who_has_no_vote_does_not_campaign() {
    let mut raft = started(1, 1);
    raft.on_config_applied(Index(2), Step::Remove(MemberId(1)));
    raft.campaign();
    assert_eq!(raft.term(), Term(1));
    assert!(!raft.is_leader());
}

/// A cluster finds a leader by itself, and keeps it.
#[test]
fn members_elect_a_leader_and_stay_with_it() {
    for voters in [3, 5] {
        let mut net = Net::new(voters);
        let leader = net.elected();
        let term = net.raft(leader).term();
        net.pass(20_000);
        assert_eq!(net.leaders(), [leader]);
        assert_eq!(net.raft(leader).term(), term);
    }
}

/// C6: who restarts in the midst of an election must not vote twice in one term.
#[test]
fn a_vote_survives_a_crash_and_does_not_leave_before_it_is_durable() {
    let mut net = Net::new(3);
    net.settle();
    net.isolate(3);
    net.node(2).disk_hangs = true;
    net.raft(1).campaign();
    net.settle();
    // The vote of 2 is given and held.
    assert_eq!(net.raft(2).hard().vote, Some(MemberId(1)));
    assert!(net.leaders().is_empty());
    net.node(2).disk_hangs = false;
    net.settle();
    assert_eq!(net.leaders(), [1]);
    let term = net.raft(1).term();
    net.crash(2);
    assert_eq!(net.raft(2).hard().vote, Some(MemberId(1)));
    assert_eq!(net.raft(2).term(), term);
}

/// Raft 5.4.1: a candidate whose log misses what may be committed does not get the vote.
#[test]
fn a_member_that_is_behind_is_not_elected() {
    let mut net = Net::led();
    net.isolate(3);
    net.propose(1, b"one");
    net.settle();
    net.heal();
    net.isolate(1);
    // 2 is ahead of 3, and hears at once that an election is due.
    net.pass(1000);
    net.raft(3).campaign();
    assert_eq!(net.elected(), 2);
    net.pass(500);
    assert_eq!(net.texts(3), ["one"]);
}

/// N2: a member that was cut off must neither raise terms meanwhile nor depose the leader when it is back (PreVote).
#[test]
fn a_member_that_was_cut_off_does_not_disturb() {
    let mut net = Net::led();
    let term = net.raft(1).term();
    net.isolate(3);
    net.pass(20_000);
    assert_eq!(net.raft(3).term(), term);
    net.heal();
    net.pass(5_000);
    assert_eq!(net.leaders(), [1]);
    assert_eq!(net.raft(1).term(), term);
}

/// A leader that hears nobody must step down before clients believe it for long (CheckQuorum); one that hears half may stay.
#[test]
fn a_leader_without_a_majority_steps_down() {
    let mut net = Net::led();
    net.isolate(2);
    net.pass(5_000);
    assert_eq!(net.leaders(), [1]);
    net.isolate(1);
    net.pass(2_500);
    assert!(!net.raft(1).is_leader());
    net.heal();
    net.isolate(1);
    assert_ne!(net.elected(), 1);
}

/// A one-way cut: who is heard but hears nobody must not keep the cluster from having a leader.
#[test]
fn a_leader_that_hears_nobody_makes_room() {
    let mut net = Net::led();
    net.cut.extend([(2, 1), (3, 1)]);
    net.pass(5_000);
    let leaders = net.leaders();
    assert!(leaders == [2] || leaders == [3], "{leaders:?}");
}

/// A candidate of a newer term that comes back frees itself, else it would never follow again.
#[test]
fn a_member_of_a_newer_term_is_taken_back() {
    let mut net = Net::led();
    net.isolate(3);
    net.raft(3).elect(false);
    net.settle();
    assert!(net.raft(3).term() > net.raft(1).term());
    net.heal();
    let leader = net.elected();
    net.pass(3_000);
    assert_eq!(net.raft(3).leader(), Some(MemberId(leader)));
    assert_eq!(net.raft(3).term(), net.raft(leader).term());
}

/// A leader whose process is gone is replaced at once, not after its silence.
#[test]
fn a_refused_connection_begins_an_election_at_once() {
    let mut net = Net::led();
    net.pass(500);
    net.isolate(1);
    let now = net.now;
    net.raft(2).on_unreachable(MemberId(1), now);
    net.raft(3).on_unreachable(MemberId(1), now);
    net.pass(250);
    let mut leaders = net.leaders();
    leaders.retain(|id| *id != 1);
    assert_eq!(leaders.len(), 1);
}

/// N6: a message with a term of the future moves the term; one of the past, or of a stranger, does nothing.
#[test]
fn strangers_and_the_past_change_nothing() {
    let mut net = Net::led();
    let before = net.raft(2).clone();
    let now = net.now;
    for body in [
        Body::VoteAnswer {
            ballot: message::Ballot::Real,
            granted: true,
        },
        Body::Appended { matched: Index(99) },
        Body::Rejected {
            previous: Index(9),
            hint: Mark::default(),
        },
        Body::Lead,
        Body::ReadIndexAnswer {
            context: 1,
            index: Index(1),
        },
    ] {
        let term = before.term();
        let message = Message {
            term: Term(term.0 - 1),
            body: body.clone(),
        };
        net.raft(2).on_message(MemberId(9), message, now);
        net.raft(2)
            .on_message(MemberId(9), Message { term, body }, now);
        assert_eq!(*net.raft(2), before);
    }
}
