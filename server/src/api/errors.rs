//! THE table of etcd's gRPC codes and texts. Clients tell errors apart by them, so both are
//! contract.

use basalt_engine::replica::Refused;
use basalt_net::grpc::{Code, Status};
use basalt_pb::hot::Malformed;

macro_rules! table {
    ($($name:ident => $code:ident, $text:literal;)*) => {
        /// What a client is told. Named as in etcd's client library.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the texts in the table say it")]
        pub enum Error {
            $($name,)*
            /// The request's bytes are not the message of its method.
            Undecodable(Malformed),
        }

        impl Error {
            /// Code and text as they go to the client.
            #[must_use]
            pub fn status(self) -> Status {
                match self {
                    $(Error::$name => Status::new(Code::$code, $text),)*
                    Error::Undecodable(why) => {
                        let text = format!("grpc: error unmarshalling request: proto: {why}");
                        Status::new(Code::Internal, text)
                    }
                }
            }
        }
    };
}

table! {
    EmptyKey => InvalidArgument, "etcdserver: key is not provided";
    KeyNotFound => InvalidArgument, "etcdserver: key not found";
    ValueProvided => InvalidArgument, "etcdserver: value is provided";
    LeaseProvided => InvalidArgument, "etcdserver: lease is provided";
    TooManyOps => InvalidArgument, "etcdserver: too many operations in txn request";
    DuplicateKey => InvalidArgument, "etcdserver: duplicate key given in txn request";
    InvalidClientApiVersion => InvalidArgument, "etcdserver: invalid client api version";
    InvalidSortOption => InvalidArgument, "etcdserver: invalid sort option";
    RequestTooLarge => InvalidArgument, "etcdserver: request is too large";
    WrongDowngradeVersionFormat => InvalidArgument,
        "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTargetVersion => InvalidArgument,
        "etcdserver: invalid downgrade target version";
    // etcd's own process dies of it (etcd-facts 22.1).
    UnknownAlarmAction => InvalidArgument, "etcdserver: unknown alarm action";

    MemberBadUrls => InvalidArgument, "etcdserver: given member URLs are invalid";

    MemberNotFound => NotFound, "etcdserver: member not found";
    LeaseExists => FailedPrecondition, "etcdserver: lease already exists";
    LeaseTtlTooLarge => OutOfRange, "etcdserver: too large lease TTL";
    LeaseNotFound => NotFound, "etcdserver: requested lease not found";
    UnknownService => NotFound, "unknown service";

    NoSpace => ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    TooManyRequests => ResourceExhausted, "etcdserver: too many requests";

    NotSupportedForLearner => FailedPrecondition, "etcdserver: rpc not supported for learner";
    MemberExists => FailedPrecondition, "etcdserver: member ID already exist";
    PeerUrlExists => FailedPrecondition, "etcdserver: Peer URLs already exists";
    MemberNotEnoughStarted => FailedPrecondition,
        "etcdserver: re-configuration failed due to not enough started members";
    MemberNotLearner => FailedPrecondition, "etcdserver: can only promote a learner member";
    LearnerNotReady => FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners => FailedPrecondition, "etcdserver: too many learner members in cluster";
    NotLeader => FailedPrecondition, "etcdserver: not leader";
    BadLeaderTransferee => FailedPrecondition, "etcdserver: bad leader transferee";
    ClusterVersionUnavailable => FailedPrecondition,
        "etcdserver: cluster version not found during downgrade";

    Compacted => OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FutureRev => OutOfRange, "etcdserver: mvcc: required revision is a future revision";

    StreamSortOrder => Unimplemented, "RangeStream does not support custom sort orders";
    StreamFilters => Unimplemented, "RangeStream does not support revision filters";
    DowngradeUnsupported => Unimplemented,
        "etcdserver: downgrade of this release is not supported yet";

    // etcd waits for ever, and cannot compact meanwhile.
    SnapshotNotRead => Aborted, "etcdserver: the snapshot was not read for 60 s";

    NoLeader => Unavailable, "etcdserver: no leader";
    LeaderChanged => Unavailable, "etcdserver: leader changed";
    Stopped => Unavailable, "etcdserver: server stopped";
    Timeout => Unavailable, "etcdserver: request timed out";
    TimeoutLeaderFailed => Unavailable,
        "etcdserver: request timed out, possibly due to previous leader failure";
    Unhealthy => Unavailable, "etcdserver: unhealthy cluster";

    Corrupt => DataLoss, "etcdserver: corrupt cluster";

    TimeoutTransfer => Unknown,
        "etcdserver: request timed out, leader transfer took too long";
    UnknownMethod => Unknown, "etcdserver: unknown method";
    // No word of etcd's: its process ends here. The member says where and why in its log.
    DiskFailed => Unavailable, "etcdserver: server stopped: a write of the log failed";
}

impl From<Malformed> for Error {
    fn from(why: Malformed) -> Self {
        Error::Undecodable(why)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoSpace => Error::NoSpace,
            Refused::CorruptCluster => Error::Corrupt,
            Refused::LeaseNotFound => Error::LeaseNotFound,
            Refused::LeaseExists => Error::LeaseExists,
            Refused::LeaseTtlTooLarge => Error::LeaseTtlTooLarge,
            Refused::KeyNotFound => Error::KeyNotFound,
            Refused::Compacted => Error::Compacted,
            Refused::FutureRevision => Error::FutureRev,
            Refused::UnknownAlarmAction => Error::UnknownAlarmAction,
            Refused::Malformed => Error::Undecodable(Malformed::Truncated),
            Refused::TooManyRequests => Error::TooManyRequests,
            Refused::NoLeader => Error::NoLeader,
            Refused::LeaderChanged => Error::LeaderChanged,
            Refused::NotLeader => Error::NotLeader,
            Refused::BadTransferee => Error::BadLeaderTransferee,
            Refused::Timeout => Error::Timeout,
            Refused::TimeoutLeaderFailed => Error::TimeoutLeaderFailed,
            Refused::TimeoutTransfer => Error::TimeoutTransfer,
            Refused::Stopped => Error::Stopped,
            Refused::MemberNotFound => Error::MemberNotFound,
            Refused::MemberExists => Error::MemberExists,
            Refused::PeerUrlExists => Error::PeerUrlExists,
            Refused::MemberNotLearner => Error::MemberNotLearner,
            Refused::LearnerNotReady => Error::LearnerNotReady,
            Refused::DiskFailed => Error::DiskFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [ERR-1] Clients compare the text, so a change of one is a change of contract.
    #[test]
    fn errors_carry_etcds_codes_and_texts() {
        let status = Error::from(Refused::Compacted).status();
        assert_eq!(status.code, Code::OutOfRange);
        assert_eq!(
            status.message,
            "etcdserver: mvcc: required revision has been compacted"
        );
        let status = Error::from(Malformed::Truncated).status();
        assert_eq!(status.code, Code::Internal);
        assert!(
            status
                .message
                .starts_with("grpc: error unmarshalling request: ")
        );
    }
}
