use super::*;

fn mark(index: u64, term: u64) -> Mark {
    Mark {
        index: Index(index),
        term: Term(term),
    }
}

fn runs(first: u64, terms: &[u64]) -> Runs {
    let mut runs = Runs::builder();
    for (at, term) in terms.iter().enumerate() {
        runs.push(&Run {
            kind: RunKind::Normal,
            term: Term(*term),
            first: Index(first + at as u64),
            count: 1,
            bytes: &[1, 0, 0, 0, 7],
        });
    }
    runs.finish()
}

fn append(previous: Mark, runs: Runs) -> Body {
    let commit = Index(3);
    Body::Append {
        previous,
        commit,
        runs,
    }
}

fn bodies() -> Vec<Body> {
    vec![
        Body::Vote {
            ballot: Ballot::Pre,
            last: mark(7, 5),
            by_transfer: false,
        },
        Body::Vote {
            ballot: Ballot::Real,
            last: mark(7, 5),
            by_transfer: true,
        },
        Body::VoteAnswer {
            ballot: Ballot::Real,
            granted: true,
        },
        Body::Heartbeat {
            commit: Index(4),
            round: u64::MAX,
        },
        Body::HeartbeatAnswer {
            round: 8,
            commit: Index(4),
        },
        append(mark(4, 2), runs(5, &[2, 6, 6])),
        append(mark(0, 0), Runs::default()),
        Body::Appended { matched: Index(9) },
        Body::Rejected {
            previous: Index(9),
            hint: mark(3, 1),
        },
        Body::Lead,
        Body::ReadIndex { context: 77 },
        Body::ReadIndexAnswer {
            context: 77,
            index: Index(12),
        },
        Body::Propose {
            sequence: 3,
            kind: RunKind::Normal,
            entries: Bytes::from_static(&[1, 0, 0, 0, 7, 0, 0, 0, 0]),
        },
        Body::Ask {
            questions: vec![question(1, true), question(u64::MAX, false)],
        },
        Body::Answer {
            answers: vec![answer(1, 60), answer(u64::MAX, -1)],
        },
        Body::Offer { at: mark(40, 6) },
        Body::Fetch {
            at: Index(40),
            file: 2,
            offset: 8192,
        },
        Body::Part {
            at: Index(40),
            file: 2,
            offset: 8192,
            total: 8195,
            bytes: Bytes::from_static(&[1, 2, 3]),
        },
        Body::PromotionRefused {
            request: RequestId(u64::MAX),
        },
    ]
}

fn question(number: u64, renews: bool) -> Question {
    Question {
        number,
        renews,
        lease: LeaseId(-7),
    }
}

fn answer(number: u64, ttl: i64) -> Answer {
    Answer {
        number,
        ttl,
        granted: 60,
        index: Index(9),
    }
}

fn encoded(body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    let term = Term(6);
    Message { term, body }.encode(&mut bytes);
    bytes
}

/// With a checksum that fits, so that what lies behind it is looked at.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Members of one release must understand each other.
#[test]
fn every_message_survives_the_wire() {
    for body in bodies() {
        let bytes = encoded(body.clone());
        assert_eq!(
            Message::decode(&bytes),
            Ok(Message {
                term: Term(6),
                body
            })
        );
    }
}

/// N5: a flipped bit, a cut and bytes too many are refused, whatever the message.
#[test]
fn damaged_messages_are_refused() {
    for body in bodies() {
        let bytes = encoded(body);
        for cut in 0..bytes.len() {
            assert!(Message::decode(&bytes[..cut]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Message::decode(&flipped).is_err());
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(Message::decode(&sealed(longer)).is_err());
    }
}

/// N6: what a member with a right checksum and wrong intentions sends.
#[test]
fn entries_that_no_leader_sends_are_refused() {
    let bad = [
        append(mark(4, 2), runs(6, &[2])),
        append(mark(4, 2), runs(5, &[1])),
        append(mark(4, 2), runs(5, &[7])),
        append(mark(4, 7), Runs::default()),
        append(mark(1 << 62, 2), runs((1 << 62) + 1, &[2])),
        Body::Appended {
            matched: Index(u64::MAX),
        },
        Body::Propose {
            sequence: 1,
            kind: RunKind::Normal,
            entries: Bytes::new(),
        },
        Body::Propose {
            sequence: 1,
            kind: RunKind::ConfChange,
            entries: Bytes::from_static(&[0; 8]),
        },
        Body::Propose {
            sequence: 1,
            kind: RunKind::Normal,
            entries: Bytes::from_static(&[2, 0, 0, 0, 7]),
        },
    ];
    for body in bad {
        assert!(Message::decode(&encoded(body.clone())).is_err(), "{body:?}");
    }
}

/// The fuzz target's own assertions, on what a fuzzer would need long to find.
#[test]
fn seeds_of_the_fuzz_target_hold() {
    for body in bodies() {
        let bytes = encoded(body);
        for at in 4..bytes.len() {
            let mut changed = bytes[4..].to_vec();
            changed[at - 4] ^= 0x81;
            fuzz::raft_message(&changed);
        }
        fuzz::raft_message(&bytes[4..]);
    }
}

/// Neither an empty list nor one that would keep a leader busy for long is a message.
#[test]
fn lists_of_questions_are_bounded() {
    let ask = |count| {
        let questions = vec![question(1, true); count];
        Message::decode(&encoded(Body::Ask { questions }))
    };
    assert_eq!(ask(0), Err(BadMessage::Malformed));
    assert!(ask(QUESTIONS_A_MESSAGE_MAX).is_ok());
    assert_eq!(ask(QUESTIONS_A_MESSAGE_MAX + 1), Err(BadMessage::Malformed));
}
