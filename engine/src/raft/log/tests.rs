use super::*;

fn framed(entries: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(&(entry.len() as u32).to_le_bytes());
        bytes.extend_from_slice(entry.as_bytes());
    }
    bytes
}

fn run(term: u64, first: u64, count: u32, bytes: &[u8]) -> Run<'_> {
    Run {
        kind: RunKind::Normal,
        term: Term(term),
        first: Index(first),
        count,
        bytes,
    }
}

fn append(log: &mut Log, term: u64, entries: &[&str]) -> Index {
    let count = entries.len() as u32;
    log.append(RunKind::Normal, Term(term), count, framed(entries))
}

fn make_durable(log: &mut Log) {
    while let Some(last) = log.next_to_stage().map(|run| run.last()) {
        log.on_staged(last);
    }
    log.on_durable(log.last().index);
}

fn apply_all(log: &mut Log) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    while let Some(entry) = log.next_to_apply() {
        let text = String::from_utf8_lossy(entry.bytes).into_owned();
        seen.push((entry.at.index.0, text));
        log.on_applied();
    }
    seen
}

/// R1: neither commitment without durability nor durability without commitment applies an entry.
#[test]
fn an_entry_is_applied_only_when_committed_and_durable_here() {
    let mut log = Log::new(Mark::default());
    append(&mut log, 1, &["a", "b"]);
    log.commit_to(Index(2));
    assert!(log.next_to_apply().is_none());

    let mut log = Log::new(Mark::default());
    append(&mut log, 1, &["a", "b"]);
    make_durable(&mut log);
    assert!(log.next_to_apply().is_none());
    log.commit_to(Index(1));
    assert_eq!(apply_all(&mut log), [(1, "a".to_owned())]);
}

/// A commit mark may fall inside a run; application goes on there.
#[test]
fn application_goes_on_in_the_middle_of_a_run() {
    let mut log = Log::new(Mark::default());
    append(&mut log, 1, &["a", "", "c"]);
    append(&mut log, 2, &["d"]);
    make_durable(&mut log);
    log.commit_to(Index(2));
    assert_eq!(apply_all(&mut log).len(), 2);
    log.release();
    assert_eq!(log.term_at(Index(1)), Some(Term(1)));
    log.commit_to(Index(4));
    let rest = [(3, "c".to_owned()), (4, "d".to_owned())];
    assert_eq!(apply_all(&mut log), rest);
    log.release();
    assert_eq!(log.applied(), log.last());
    assert!(log.take_spent().is_some_and(|bytes| bytes.is_empty()));
}

/// Runs reach the disk in order and once each.
#[test]
fn runs_are_staged_in_order() {
    let mut log = Log::new(Mark {
        index: Index(7),
        term: Term(1),
    });
    assert_eq!(append(&mut log, 1, &["a", "b"]), Index(8));
    assert_eq!(append(&mut log, 1, &["c"]), Index(10));
    assert_eq!(log.next_to_stage().map(|run| run.first), Some(Index(8)));
    log.on_staged(Index(9));
    assert_eq!(log.next_to_stage().map(|run| run.first), Some(Index(10)));
    log.on_staged(Index(10));
    assert_eq!(log.next_to_stage(), None);
}

/// A later run of an index replaces it and all that follows, also from the middle of a run.
#[test]
fn a_restored_run_replaces_the_suffix() {
    let mut log = Log::new(Mark::default());
    log.restore(run(1, 1, 3, &framed(&["a", "b", "c"])))
        .expect("first");
    log.restore(run(2, 3, 1, &framed(&["C"])))
        .expect("replaces 3");
    log.restore(run(2, 4, 1, &framed(&["d"]))).expect("follows");
    log.commit_to(Index(4));
    let texts: Vec<String> = apply_all(&mut log)
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(texts, ["a", "b", "C", "d"]);
    assert_eq!(
        log.restore(run(3, 4, 1, &framed(&["x"]))),
        Err(BadRun(Index(4)))
    );
}

/// A damaged or foreign log must be named and not be applied.
#[test]
fn gaps_and_wrong_counts_are_refused() {
    let mut log = Log::new(Mark::default());
    let bytes = framed(&["a", "b"]);
    assert!(log.restore(run(1, 2, 2, &bytes)).is_err());
    assert!(log.restore(run(1, 1, 1, &bytes)).is_err());
    assert!(
        log.restore(run(1, 1, 2, &bytes[..bytes.len() - 1]))
            .is_err()
    );
    assert!(log.restore(run(1, 1, 2, &bytes)).is_ok());
}

/// A member whose checkpoint ends with an entry of a newer term would refuse to start: behind it the disk still has the rest of
/// the suffix that was replaced.
#[test]
fn what_was_replaced_behind_a_checkpoint_is_left_out() {
    let mut log = Log::new(Mark {
        index: Index(12),
        term: Term(4),
    });
    let one = framed(&["x"]);
    assert_eq!(log.restore(run(2, 13, 1, &one)), Ok(()));
    assert_eq!(log.restore(run(3, 14, 1, &one)), Ok(()));
    assert_eq!(log.last().index, Index(12));
    assert_eq!(log.cut_from(Index(13)), Ok(()));
    assert_eq!(log.restore(run(4, 13, 1, &one)), Ok(()));
    assert_eq!(log.last().index, Index(13));
}
