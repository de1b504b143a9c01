use super::*;

/// What one member proposes, all apply, in one order.
#[test]
fn proposals_reach_everybody() {
    let mut net = Net::led();
    for text in ["one", "two", "three"] {
        net.propose(1, text.as_bytes());
    }
    net.settle();
    for id in 1..=3 {
        assert_eq!(net.texts(id), ["one", "two", "three"]);
    }
    net.assert_agreement();
}

/// R1: neither the leader's disk nor a follower's is waited for alone, but a majority of disks is.
#[test]
fn an_entry_commits_when_a_majority_of_disks_holds_it() {
    let mut net = Net::led();
    net.node(1).disk_hangs = true;
    let index = net.propose(1, b"one").0;
    net.settle();
    // Two followers are a majority without the leader's own disk; applied is only what is durable here.
    assert_eq!(net.committed(1), index);
    assert!(net.texts(1).is_empty());
    assert_eq!(net.texts(2), ["one"]);
    net.node(2).disk_hangs = true;
    let index = net.propose(1, b"two").0;
    net.settle();
    assert_eq!(net.committed(1), index - 1);
    net.node(1).disk_hangs = false;
    net.settle();
    assert_eq!(net.committed(1), index);
}

/// A leader without a majority acknowledges nothing, and what it took is replaced by the next leader's.
#[test]
fn entries_of_a_deposed_leader_are_replaced() {
    let mut net = Net::led();
    net.isolate(1);
    let lost = net.propose(1, b"lost");
    net.settle();
    assert!(net.committed(1) < lost.0);
    let leader = net.elected();
    net.propose(leader, b"kept");
    net.settle();
    net.heal();
    net.pass(1_000);
    assert_eq!(net.raft(1).take_replaced(), Some(lost));
    for id in 1..=3 {
        assert_eq!(net.texts(id), ["kept"]);
    }
    net.assert_agreement();
}

/// A follower that missed much is found by conflict hints and brought up to date in few messages.
#[test]
fn a_follower_that_lags_catches_up() {
    let mut net = Net::led();
    net.isolate(3);
    for number in 0..500 {
        net.propose(1, format!("entry {number}").as_bytes());
        net.step();
    }
    net.settle();
    net.heal();
    net.pass(300);
    assert_eq!(net.texts(3).len(), 500);
    net.assert_agreement();
}

/// Logs with entries of many terms that were never committed must converge in about one question a term.
#[test]
fn diverging_logs_converge() {
    let mut net = Net::new(3);
    for round in 0..6 {
        let leader = net.elected();
        net.isolate(leader);
        for number in 0..5 {
            net.propose(leader, format!("{round} {number}").as_bytes());
        }
        net.settle();
        let next = net.elected();
        net.propose(next, format!("kept {round}").as_bytes());
        net.settle();
        net.heal();
    }
    net.pass(3_000);
    net.assert_agreement();
    let texts = net.texts(1);
    let kept = texts.iter().filter(|text| text.starts_with("kept"));
    assert_eq!(kept.count(), 6);
    assert_eq!(net.texts(2), texts);
    assert_eq!(net.texts(3), texts);
}

/// A message that is lost in the middle of a stream is found out by the next one, or by a heartbeat.
#[test]
fn a_lost_message_is_sent_again() {
    let mut net = Net::led();
    net.propose(1, b"one");
    net.cut.insert((1, 3));
    net.settle();
    net.heal();
    net.propose(1, b"two");
    net.settle();
    assert_eq!(net.texts(3), ["one", "two"]);
    net.propose(1, b"last");
    net.cut.insert((1, 3));
    net.settle();
    net.heal();
    net.pass(250);
    assert_eq!(net.texts(3), ["one", "two", "last"]);
}

/// Doubled and reordered messages change nothing.
#[test]
fn messages_may_come_twice_and_in_any_order() {
    let mut net = Net::led();
    for round in 0..50_u64 {
        net.propose(1, format!("entry {round}").as_bytes());
        for node in net.nodes.values_mut() {
            node.run(net.now);
        }
        for id in 1..=3 {
            let node = net.node(id);
            let (durable, mut out) = (node.durable, Vec::new());
            node.raft.outbox().take(durable, &mut out);
            for (at, (to, message)) in out.into_iter().enumerate() {
                net.queue.push_back((id, to.0, message.clone()));
                if (round + at as u64).is_multiple_of(2) {
                    net.queue.push_front((id, to.0, message));
                }
            }
        }
        let keep = net.queue.len() / 3;
        let mut late: Vec<_> = net.queue.drain(keep..).collect();
        net.step();
        late.reverse();
        net.queue.extend(late);
    }
    net.pass(500);
    for id in 1..=3 {
        assert_eq!(net.texts(id).len(), 50);
    }
    net.assert_agreement();
}

/// Raft, figure 8: an entry of an older term that a majority holds may still be replaced; only an own entry commits it.
#[test]
fn an_older_entry_is_not_committed_by_counting() {
    let mut raft = started(1, 3);
    raft.log_mut()
        .append(RunKind::Normal, Term(2), 1, framed(b"old"));
    raft.term = Term(3);
    raft.elect(false);
    let term = Term(4);
    let body = Body::VoteAnswer {
        ballot: message::Ballot::Real,
        granted: true,
    };
    raft.on_message(MemberId(2), Message { term, body }, Millis(0));
    assert!(raft.is_leader());
    while let Some(last) = raft.log().next_to_stage().map(|run| run.last()) {
        raft.log_mut().on_staged(last);
    }
    raft.on_durable(Index(5));
    for (matched, committed) in [(4, 3), (5, 5)] {
        let matched = Index(matched);
        let body = Body::Appended { matched };
        raft.on_message(MemberId(2), Message { term, body }, Millis(0));
        assert_eq!(raft.log().committed(), Index(committed));
    }
}

/// A crash takes what is not durable, and nothing that was acknowledged.
#[test]
fn a_power_cut_of_everybody_keeps_what_was_committed() {
    let mut net = Net::led();
    net.propose(1, b"kept");
    net.settle();
    for id in 1..=3 {
        net.node(id).disk_hangs = true;
    }
    net.propose(1, b"lost");
    net.settle();
    for id in 1..=3 {
        net.crash(id);
    }
    net.elected();
    net.pass(500);
    for id in 1..=3 {
        assert_eq!(net.texts(id), ["kept"]);
    }
}

/// D3 and R1: the acknowledgement of a follower names only what its disk holds.
#[test]
fn a_follower_acknowledges_only_what_is_durable() {
    let mut net = Net::led();
    net.node(2).disk_hangs = true;
    net.node(3).disk_hangs = true;
    let index = net.propose(1, b"one").0;
    net.settle();
    assert!(net.committed(1) < index);
    net.node(3).disk_hangs = false;
    net.settle();
    assert_eq!(net.committed(1), index);
}

/// N6: entries that contradict what is committed are not believed, whatever their sender says.
#[test]
fn committed_entries_are_never_replaced() {
    let mut net = Net::led();
    net.propose(1, b"kept");
    net.settle();
    let mut runs = message::Runs::builder();
    let bytes = framed(b"forged");
    let (first, term) = (Index(5), Term(90));
    runs.push(&crate::types::Run {
        kind: RunKind::Normal,
        term,
        first,
        count: 1,
        bytes: &bytes,
    });
    let body = Body::Append {
        previous: Mark {
            index: Index(4),
            term: Term(2),
        },
        commit: Index(5),
        runs: runs.finish(),
    };
    let now = net.now;
    let before = net.raft(2).log().clone();
    net.raft(2)
        .on_message(MemberId(3), Message { term, body }, now);
    assert_eq!(*net.raft(2).log(), before);
}

/// A follower whose disk hangs costs the leader a bounded amount of messages.
#[test]
fn a_follower_that_does_not_answer_is_sent_a_window_only() {
    let mut net = Net::led();
    net.cut.insert((3, 1));
    let large = vec![7; 1 << 20];
    for _ in 0..20 {
        net.propose(1, &large);
        net.settle();
    }
    let last = net.raft(3).log().last().index.0;
    assert!(last < net.committed(1) - 10, "{last}");
}
