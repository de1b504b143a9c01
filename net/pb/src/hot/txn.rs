//! Transactions: validated once as a whole, then walked by iterators that cannot fail.

use super::Malformed;
use super::request::{DeleteRangeRequest, PutRequest, RangeRequest};
use super::wire::Wire;
use super::wire::WireType::{Len, Varint};

/// How deep transactions may nest, the outermost one included. etcd bounds it by its limit of
/// operations only.
pub const TXN_DEPTH_MAX: u32 = 32;

/// `etcdserverpb.TxnRequest`: a view of bytes whose whole nested structure is known to be well
/// formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest<'a> {
    bytes: &'a [u8],
    compares: Span,
    success: Span,
    failure: Span,
    success_kinds: Kinds,
    failure_kinds: Kinds,
    may_span: bool,
}

/// From where to where in the message the fields of one list stand, other fields between them
/// included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
    count: usize,
}

/// Which kinds of operations a branch may hold, learnt when it was validated, so that nobody reads it again only to
/// find that there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// Of an inner transaction nothing is known.
    const ANY: Self = Self(u8::MAX);

    fn add(&mut self, op: &RequestOp<'_>) {
        self.0 |= match op {
            RequestOp::None => Self::NONE,
            RequestOp::Range(_) => Self::RANGE,
            RequestOp::Put(_) => Self::PUT,
            RequestOp::DeleteRange(_) => Self::DELETE_RANGE,
            RequestOp::Txn(_) => Self::TXN,
        };
    }

    /// False if no operation is a transaction.
    pub fn may_have_txn(self) -> bool {
        self.0 & Self::TXN != 0
    }

    /// False if no operation is a deletion.
    pub fn may_have_delete_range(self) -> bool {
        self.0 & Self::DELETE_RANGE != 0
    }

    /// False if all operations are ranges.
    pub fn may_have_other_than_range(self) -> bool {
        self.0 & !Self::RANGE != 0
    }

    const NONE: u8 = 1;
    const RANGE: u8 = 2;
    const PUT: u8 = 4;
    const DELETE_RANGE: u8 = 8;
    const TXN: u8 = 16;
}

const COMPARE: u32 = 1;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 3;

impl<'a> TxnRequest<'a> {
    /// Reads a whole message and checks everything inside it.
    ///
    /// # Errors
    /// Any kind.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read_from(Wire::new(bytes), bytes, TXN_DEPTH_MAX, true)
    }

    /// `depth`: how many levels of transactions may still be entered, this one included. Without
    /// `check` the operations are not looked into.
    pub(super) fn read_from(
        mut wire: Wire<'a>,
        bytes: &'a [u8],
        depth: u32,
        check: bool,
    ) -> Result<Self, Malformed> {
        let below = depth.checked_sub(1).ok_or(Malformed::TooDeep)?;
        let kinds = if check { Kinds::default() } else { Kinds::ANY };
        let mut r = TxnRequest {
            bytes,
            success_kinds: kinds,
            failure_kinds: kinds,
            may_span: !check,
            ..TxnRequest::default()
        };
        loop {
            let start = bytes.len() - wire.remaining();
            let Some(field) = wire.tag()? else {
                return Ok(r);
            };
            let span = match field {
                (COMPARE, Len) => &mut r.compares,
                (SUCCESS, Len) => &mut r.success,
                (FAILURE, Len) => &mut r.failure,
                _ => {
                    wire.skip_unless(field.0 <= FAILURE, field)?;
                    continue;
                }
            };
            let body = wire.bytes()?;
            if span.count == 0 {
                span.start = start;
            }
            span.count += 1;
            span.end = bytes.len() - wire.remaining();
            if !check {
                continue;
            }
            let nested = wire.nested(body)?;
            let kinds = match field.0 {
                COMPARE => {
                    r.may_span |= !Compare::read_from(nested)?.range_end.is_empty();
                    continue;
                }
                SUCCESS => &mut r.success_kinds,
                _ => &mut r.failure_kinds,
            };
            let op = RequestOp::read_from(nested, below, true)?;
            kinds.add(&op);
            r.may_span |= op.may_span();
        }
    }

    /// The bytes that were read.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// False if every comparison, range and deletion, those of inner transactions too, names a single key.
    pub fn may_span(&self) -> bool {
        self.may_span
    }

    /// The comparisons, all of which must hold.
    pub fn compares(&self) -> Compares<'a> {
        Compares(Items::new(self.bytes, COMPARE, self.compares))
    }

    /// The operations if all comparisons hold.
    pub fn success(&self) -> RequestOps<'a> {
        let items = Items::new(self.bytes, SUCCESS, self.success);
        RequestOps(items, self.success_kinds)
    }

    /// The operations if a comparison does not hold.
    pub fn failure(&self) -> RequestOps<'a> {
        let items = Items::new(self.bytes, FAILURE, self.failure);
        RequestOps(items, self.failure_kinds)
    }
}

/// `etcdserverpb.Compare`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's fields by etcd's names")]
pub struct Compare<'a> {
    /// A number of `CompareResult`, or one without a name.
    pub result: i32,
    /// A number of `CompareTarget`, or one without a name. It need not agree with `operand`.
    pub target: i32,
    pub key: &'a [u8],
    pub operand: Target<'a>,
    pub range_end: &'a [u8],
}

/// The union of [`Compare`]: what to compare with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's fields by etcd's names")]
pub enum Target<'a> {
    #[default]
    None,
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(&'a [u8]),
    Lease(i64),
}

impl<'a> Compare<'a> {
    fn read_from(mut wire: Wire<'a>) -> Result<Self, Malformed> {
        let mut r = Compare::default();
        while let Some(field) = wire.tag()? {
            match field {
                (1, Varint) => r.result = wire.varint()? as i32,
                (2, Varint) => r.target = wire.varint()? as i32,
                (3, Len) => r.key = wire.bytes()?,
                (4, Varint) => r.operand = Target::Version(wire.varint()? as i64),
                (5, Varint) => r.operand = Target::CreateRevision(wire.varint()? as i64),
                (6, Varint) => r.operand = Target::ModRevision(wire.varint()? as i64),
                (7, Len) => r.operand = Target::Value(wire.bytes()?),
                (8, Varint) => r.operand = Target::Lease(wire.varint()? as i64),
                (64, Len) => r.range_end = wire.bytes()?,
                (number, _) => wire.skip_unless(number <= 8 || number == 64, field)?,
            }
        }
        Ok(r)
    }
}

/// `etcdserverpb.RequestOp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's names")]
#[allow(clippy::large_enum_variant, reason = "lives on the stack only")]
pub enum RequestOp<'a> {
    /// No request, or one of a kind that this release does not know.
    #[default]
    None,
    Range(RangeRequest<'a>),
    Put(PutRequest<'a>),
    DeleteRange(DeleteRangeRequest<'a>),
    Txn(TxnRequest<'a>),
}

impl<'a> RequestOp<'a> {
    fn may_span(&self) -> bool {
        match self {
            RequestOp::None | RequestOp::Put(_) => false,
            RequestOp::Range(range) => !range.range_end.is_empty(),
            RequestOp::DeleteRange(range) => !range.range_end.is_empty(),
            RequestOp::Txn(txn) => txn.may_span,
        }
    }

    /// `depth` and `check` as in [`TxnRequest::read_from`].
    fn read_from(mut wire: Wire<'a>, depth: u32, check: bool) -> Result<Self, Malformed> {
        let mut r = RequestOp::None;
        while let Some(field) = wire.tag()? {
            if field.0 > 4 || field.1 != Len {
                wire.skip_unless(field.0 <= 4, field)?;
                continue;
            }
            let body = wire.bytes()?;
            if r != RequestOp::None {
                return Err(Malformed::Split);
            }
            let inner = wire.nested(body)?;
            r = match field.0 {
                1 => RequestOp::Range(RangeRequest::read_from(inner)?),
                2 => RequestOp::Put(PutRequest::read_from(inner)?),
                3 => RequestOp::DeleteRange(DeleteRangeRequest::read_from(inner)?),
                _ => RequestOp::Txn(TxnRequest::read_from(inner, body, depth, check)?),
            };
        }
        Ok(r)
    }
}

/// The bodies of one list of a transaction.
#[derive(Clone, Copy, Debug)]
struct Items<'a> {
    wire: Wire<'a>,
    number: u32,
    left: usize,
}

impl<'a> Items<'a> {
    fn new(bytes: &'a [u8], number: u32, span: Span) -> Self {
        Items {
            wire: Wire::new(&bytes[span.start..span.end]),
            number,
            left: span.count,
        }
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        loop {
            let field = self.wire.tag().expect(VALIDATED).expect(VALIDATED);
            if field == (self.number, Len) {
                self.left -= 1;
                return Some(self.wire.bytes().expect(VALIDATED));
            }
            self.wire.skip(field).expect(VALIDATED);
        }
    }
}

const VALIDATED: &str = "TxnRequest::read has read these bytes before";

/// Iterator over the comparisons of a transaction; knows its length.
#[derive(Clone, Copy, Debug)]
pub struct Compares<'a>(Items<'a>);

impl<'a> Iterator for Compares<'a> {
    type Item = Compare<'a>;

    fn next(&mut self) -> Option<Compare<'a>> {
        let body = self.0.next()?;
        Some(Compare::read_from(Wire::new(body)).expect(VALIDATED))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.left, Some(self.0.left))
    }
}

impl ExactSizeIterator for Compares<'_> {}

/// Iterator over the operations of one branch; knows its length.
#[derive(Clone, Copy, Debug)]
pub struct RequestOps<'a>(Items<'a>, Kinds);

impl RequestOps<'_> {
    /// What the branch may hold, those already iterated over included.
    pub fn kinds(&self) -> Kinds {
        self.1
    }
}

impl<'a> Iterator for RequestOps<'a> {
    type Item = RequestOp<'a>;

    fn next(&mut self) -> Option<RequestOp<'a>> {
        let body = self.0.next()?;
        // Depth and content were checked from the outermost transaction on, so one level is all
        // that is looked at here.
        Some(RequestOp::read_from(Wire::new(body), 1, false).expect(VALIDATED))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.left, Some(self.0.left))
    }
}

impl ExactSizeIterator for RequestOps<'_> {}
