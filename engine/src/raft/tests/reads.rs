use super::*;

impl Net {
    fn reads(&mut self, id: u64) -> Vec<(u64, Index)> {
        self.raft(id).take_reads()
    }
}

/// C2: a read is confirmed by a majority, on the leader and on a follower, at the newest committed index.
#[test]
fn a_majority_confirms_a_read() {
    let mut net = Net::led();
    let index = net.propose(1, b"one");
    net.settle();
    net.raft(1).ask_read(7);
    net.raft(3).ask_read(8);
    net.settle();
    assert_eq!(net.reads(1), [(7, index)]);
    assert_eq!(net.reads(3), [(8, index)]);
}

/// M17: a leader that was replaced without knowing it must not answer a read.
#[test]
fn a_replaced_leader_confirms_nothing() {
    let mut net = Net::led();
    net.pass(100);
    net.isolate(1);
    let other = net.elected();
    net.propose(other, b"one");
    net.settle();
    net.raft(1).ask_read(7);
    net.pass(5_000);
    net.heal();
    net.pass(1_000);
    assert!(net.reads(1).is_empty());
}

/// M17: an answer to a question that was asked before is no confirmation of this one.
#[test]
fn answers_from_before_the_question_do_not_confirm() {
    let mut net = Net::led();
    net.raft(1).ask_read(1);
    net.settle();
    assert_eq!(net.reads(1).len(), 1);
    net.isolate(1);
    net.raft(1).ask_read(2);
    net.settle();
    // The answer to the first round once more.
    let now = net.now;
    let (term, commit) = (net.raft(1).term(), Index(1));
    let body = Body::HeartbeatAnswer { round: 1, commit };
    net.raft(1)
        .on_message(MemberId(2), Message { term, body }, now);
    assert!(net.reads(1).is_empty());
}

/// A new leader may not know what the old one had acknowledged before an entry of its own is committed.
#[test]
fn a_new_leader_answers_no_read_before_its_first_entry_is_committed() {
    let mut net = Net::new(3);
    net.settle();
    net.node(1).disk_hangs = false;
    net.raft(1).campaign();
    for _ in 0..20 {
        net.step();
        if net.raft(1).is_leader() {
            break;
        }
    }
    net.node(2).disk_hangs = true;
    net.node(3).disk_hangs = true;
    net.raft(1).ask_read(1);
    net.settle();
    assert!(net.reads(1).is_empty());
    net.node(2).disk_hangs = false;
    net.settle();
    assert_eq!(net.reads(1).len(), 1);
}

/// Many questions cost one round, and one that is asked meanwhile waits for the next.
#[test]
fn questions_share_a_round() {
    let mut net = Net::led();
    for context in 0..10 {
        net.raft(1).ask_read(context);
    }
    net.raft(1).flush();
    net.raft(1).ask_read(10);
    net.settle();
    assert_eq!(net.reads(1).len(), 11);
}

/// A single member asks nobody.
#[test]
fn the_only_voter_confirms_its_reads_itself() {
    let mut net = Net::new(1);
    net.raft(1).campaign();
    net.settle();
    assert!(net.raft(1).free_read_index().is_some());
    net.raft(1).ask_read(1);
    net.settle();
    assert_eq!(net.reads(1).len(), 1);
}
