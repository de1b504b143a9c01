use super::*;
use crate::limits::ALARMS_MAX;
use crate::member::Member;

/// A client that raises alarms for ever fills neither the memory nor the checkpoint's description,
/// and does not keep the members' own alarms out.
#[test]
fn alarms_of_unknown_members_are_bounded() {
    let mut rig = Rig::new();
    rig.machine.members.set(Member {
        id: MemberId(0xa),
        ..Member::default()
    });
    let mut ask = |member_id, alarm| {
        let request = pb::AlarmRequest {
            action: 1,
            member_id,
            alarm,
        };
        let answer: Result<pb::AlarmResponse, Refused> = rig.ask(field::ALARM, &request);
        answer.map(|answer| answer.alarms.len())
    };
    let mut refused = 0;
    for n in 0..2 * ALARMS_MAX as u64 {
        refused += u64::from(ask(1000 + n, 2) == Err(Refused::TooManyRequests));
    }
    assert_eq!(refused, ALARMS_MAX as u64);
    assert_eq!(ask(0xa, 77), Err(Refused::TooManyRequests));
    assert_eq!(ask(0xa, pb::AlarmType::Nospace as i32), Ok(1));
    // Raised again, an alarm answers as ever.
    assert_eq!(ask(1000, 2), Ok(1));
    assert_eq!(rig.machine.alarms().iter().count(), ALARMS_MAX + 1);
}
