use super::*;

/// Two members at one address, or a removed one that comes back, would break the cluster for good.
#[test]
fn changes_that_the_member_list_cannot_take_are_refused_and_leave_no_trace() {
    let mut rig = Rig::new();
    let member = |id: u64, url: &str, is_learner: bool| crate::member::Member {
        id: MemberId(id),
        peer_urls: match url {
            "" => Vec::new(),
            url => vec![url.to_owned()],
        },
        is_learner,
        ..Default::default()
    };
    let set = |id, url, is_learner| MemberChange::Set(member(id, url, is_learner));
    let update = |id, url| MemberChange::PeerUrls(member(id, url, false));
    let steps = [
        (set(1, "http://p:1", false), Ok(())),
        (set(2, "http://p:2", true), Ok(())),
        (set(1, "http://p:9", false), Err(Refused::MemberExists)),
        (set(3, "http://p:2", false), Err(Refused::PeerUrlExists)),
        (update(2, "http://p:1"), Err(Refused::PeerUrlExists)),
        (update(2, "http://p:2"), Ok(())),
        (update(3, "http://p:3"), Err(Refused::MemberNotFound)),
        (set(1, "", false), Err(Refused::MemberNotLearner)),
        (set(3, "", false), Err(Refused::MemberNotFound)),
        (set(2, "", false), Ok(())),
        (
            MemberChange::Remove(MemberId(3)),
            Err(Refused::MemberNotFound),
        ),
        (MemberChange::Remove(MemberId(2)), Ok(())),
        (set(2, "http://p:2", false), Err(Refused::MemberNotFound)),
        (
            MemberChange::Remove(MemberId(2)),
            Err(Refused::MemberNotFound),
        ),
    ];
    for (place, (change, expected)) in steps.into_iter().enumerate() {
        let before = rig.machine.members().clone();
        let index = Index(place as u64 + 1);
        let applied = rig.machine.apply_member_change(index, Term(1), change);
        assert_eq!(applied, expected, "step {place}");
        assert_eq!(rig.machine.applied().0, index);
        if expected.is_err() {
            assert_eq!(*rig.machine.members(), before, "step {place}");
        }
    }
}
