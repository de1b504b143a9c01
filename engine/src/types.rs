//! The numbers of the engine, each with a type of its own so that two of them cannot be swapped in silence.

use core::fmt;

/// A Raft term: counts elections, never goes back. 0 is before the first election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// A position in the Raft log. The first entry has index 1; 0 stands before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Term {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Index {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The position before this one; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The position `count` entries further on.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

/// A revision of the store: `main` counts transactions, `sub` the changes inside one, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Transaction: the first write of a fresh store makes 2.
    pub main: i64,
    /// Change inside the transaction, from 0, in the order of execution.
    pub sub: i64,
}

impl Revision {
    /// The revision of change `sub` in transaction `main`.
    #[must_use]
    pub const fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }
}

/// A member's id: the first eight bytes of a SHA-1 digest, big-endian; never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// The cluster's id: the first eight bytes of a SHA-1 digest over the first members, big-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

/// A client lease; 0 is no lease, negative ids are legal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// The id of one proposal: top 16 bits from the member, 48 bits count up from the process's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a crash must not take from Raft. `commit` may lag; term and vote may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term this member has heard of.
    pub term: Term,
    /// Whom it voted for in `term`.
    pub vote: Option<MemberId>,
    /// Highest entry known committed when this was written.
    pub commit: Index,
}

/// What the entries of a run are to Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RunKind {
    /// Commands; an entry of length 0 is a new leader's empty one.
    Normal = 0,
    /// One change of the configuration. Such a run holds exactly one entry.
    ConfChange = 1,
}

/// Consecutive entries of one kind and one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// What the entries are.
    pub kind: RunKind,
    /// The term of every entry.
    pub term: Term,
    /// The index of the first entry.
    pub first: Index,
    /// How many entries, at least 1.
    pub count: u32,
    /// `count` times: length as u32 little-endian, then as many bytes.
    pub bytes: &'a [u8],
}

impl Run<'_> {
    /// The index of the last entry.
    #[must_use]
    pub fn last(&self) -> Index {
        assert!(self.count > 0);
        Index(self.first.0 + u64::from(self.count) - 1)
    }
}

/// Where an answer goes. The engine carries it and never looks inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    /// The network loop that asked.
    pub net_loop: u32,
    /// The connection's slot in that loop.
    pub conn: u32,
    /// Tells the slot's users apart.
    pub generation: u32,
    /// The call on the connection.
    pub stream: u32,
}

/// A point in time or a span, in milliseconds. Points count from a start the caller chose and only ever grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The point `span` later, or the last representable one.
    #[must_use]
    pub fn plus(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span since `earlier`; 0 if that lies ahead.
    #[must_use]
    pub fn since(self, earlier: Millis) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

/// Ids are printed as etcd prints them: lower hex without leading zeros.
impl fmt::Display for MemberId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:x}", self.0)
    }
}

/// Ids are printed as etcd prints them: lower hex without leading zeros.
impl fmt::Display for ClusterId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:x}", self.0)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Revisions compare by transaction first, then by the change inside it.
    #[test]
    fn revisions_order_by_main_then_sub() {
        assert!(Revision::new(2, 9) < Revision::new(3, 0));
        assert!(Revision::new(3, 0) < Revision::new(3, 1));
    }

    /// Logs and the members list print ids without leading zeros.
    #[test]
    fn ids_print_as_lower_hex_without_leading_zeros() {
        assert_eq!(MemberId(0x0abc).to_string(), "abc");
    }
}
