//! Tags, varints and lengths: proto3's wire form, read from a slice and appended to a vector.

use super::Malformed;

/// How deep messages and unknown groups may nest, together; as in prost.
pub(super) const RECURSION_MAX: u32 = 100;

/// The wire types of protobuf by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WireType {
    /// A varint.
    Varint = 0,
    /// Eight bytes, little-endian.
    Fixed64 = 1,
    /// A varint length and as many bytes.
    Len = 2,
    /// The beginning of a group (proto2; only ever skipped).
    StartGroup = 3,
    /// The end of a group.
    EndGroup = 4,
    /// Four bytes, little-endian.
    Fixed32 = 5,
}

/// A reading position in a message. After an error it is of no further use.
#[derive(Clone, Copy, Debug)]
pub struct Wire<'a> {
    rest: &'a [u8],
    /// How many levels may still be entered below this message.
    budget: u32,
    /// Whether a known field with a wire type that is not its own is an error, as in prost. Go
    /// takes it for an unknown field, and so does everything but the comparison with prost.
    strict: bool,
}

impl<'a> Wire<'a> {
    /// Reads a message that is not inside another.
    pub fn new(bytes: &'a [u8]) -> Self {
        Wire {
            rest: bytes,
            budget: RECURSION_MAX,
            strict: false,
        }
    }

    /// Refuses known fields of a wrong wire type, as prost does.
    pub(super) fn strict(bytes: &'a [u8]) -> Self {
        let strict = true;
        Wire {
            strict,
            ..Wire::new(bytes)
        }
    }

    /// Reads a message embedded in this one, with one level less to go.
    pub(super) fn nested(&self, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let budget = self.budget.checked_sub(1).ok_or(Malformed::TooDeep)?;
        Ok(Wire {
            rest: bytes,
            budget,
            strict: self.strict,
        })
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Number and wire type of the next field; `None` at the end.
    ///
    /// # Errors
    /// `IllegalTag`, `Truncated` or `Overflow`.
    #[inline]
    pub fn tag(&mut self) -> Result<Option<(u32, WireType)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let key = u32::try_from(key).map_err(|_| Malformed::IllegalTag)?;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Len,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return Err(Malformed::IllegalTag),
        };
        if key >> 3 == 0 {
            return Err(Malformed::IllegalTag);
        }
        Ok(Some((key >> 3, wire_type)))
    }

    /// The value of a varint field: uint64, or an int64 or enum after a cast, which is how prost
    /// and Go cut it too.
    ///
    /// # Errors
    /// `Truncated` or `Overflow`.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    /// A bool field: anything but 0 is true.
    ///
    /// # Errors
    /// As [`Wire::varint`].
    #[inline]
    pub fn boolean(&mut self) -> Result<bool, Malformed> {
        Ok(self.varint()? != 0)
    }

    /// A bytes field or the body of an embedded message.
    ///
    /// # Errors
    /// `Truncated` or `Overflow`.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.varint()?;
        let len = usize::try_from(len).map_err(|_| Malformed::Truncated)?;
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Passes over a field that is unknown, or known with another wire type.
    ///
    /// # Errors
    /// `Truncated`, `Overflow`, `IllegalTag` or `Group`.
    pub fn skip(&mut self, field: (u32, WireType)) -> Result<(), Malformed> {
        self.skip_within(field, self.budget)
    }

    /// As [`Wire::skip`]; a strict reading refuses the fields that are `known`.
    pub(super) fn skip_unless(
        &mut self,
        known: bool,
        (field, wire_type): (u32, WireType),
    ) -> Result<(), Malformed> {
        if self.strict && known {
            let wire_type = wire_type as u8;
            return Err(Malformed::WireType { field, wire_type });
        }
        self.skip((field, wire_type))
    }

    fn skip_within(
        &mut self,
        (number, wire_type): (u32, WireType),
        budget: u32,
    ) -> Result<(), Malformed> {
        let Some(below) = budget.checked_sub(1) else {
            return Err(Malformed::Group);
        };
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.advance(8),
            WireType::Fixed32 => self.advance(4),
            WireType::Len => self.bytes().map(drop),
            WireType::EndGroup => Err(Malformed::Group),
            WireType::StartGroup => loop {
                match self.tag()?.ok_or(Malformed::Truncated)? {
                    (end, WireType::EndGroup) if end == number => return Ok(()),
                    (_, WireType::EndGroup) => return Err(Malformed::Group),
                    inner => self.skip_within(inner, below)?,
                }
            },
        }
    }

    fn advance(&mut self, count: usize) -> Result<(), Malformed> {
        self.rest = self.rest.get(count..).ok_or(Malformed::Truncated)?;
        Ok(())
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte has room for one bit of the 64.
            if i == 9 && *byte > 1 {
                return Err(Malformed::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(Malformed::Truncated)
    }
}

/// Bytes of `value` as a varint: 1 to 10.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Bytes of an int64 field with its tag; 0 for the value 0, which is not on the wire. `field` is at
/// most 15.
#[inline]
pub const fn int_field_len(value: i64) -> usize {
    if value == 0 {
        0
    } else {
        1 + varint_len(value as u64)
    }
}

/// Bytes of a bytes field with its tag; 0 for an empty one, which is not on the wire. `field` is at
/// most 15.
#[inline]
pub const fn bytes_field_len(len: usize) -> usize {
    if len == 0 {
        0
    } else {
        1 + varint_len(len as u64) + len
    }
}

/// Appends `value` in as few bytes as there can be.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    if value < 0x80 {
        out.push(value as u8);
        return;
    }
    // One append for all of them, so that the vector's capacity is checked once.
    let mut bytes = [0; 10];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    out.extend_from_slice(&bytes[..=len]);
}

/// Appends a field's number and wire type.
#[inline]
pub fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: WireType) {
    put_varint(out, u64::from(field) << 3 | wire_type as u64);
}

/// Appends an int64 or enum field unless it is 0.
#[inline]
pub fn put_int_field(out: &mut Vec<u8>, field: u32, value: i64) {
    put_uint_field(out, field, value as u64);
}

/// Appends a uint64 field unless it is 0.
#[inline]
pub fn put_uint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_tag(out, field, WireType::Varint);
        put_varint(out, value);
    }
}

/// Appends a bool field unless it is false.
#[inline]
pub fn put_bool_field(out: &mut Vec<u8>, field: u32, value: bool) {
    put_uint_field(out, field, u64::from(value));
}

/// Appends a bytes or string field unless it is empty.
#[inline]
pub fn put_bytes_field(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        put_nested(out, field, value);
    }
}

/// Appends an embedded message that is encoded already; also when it is empty, as presence counts.
#[inline]
pub fn put_nested(out: &mut Vec<u8>, field: u32, body: &[u8]) {
    put_tag(out, field, WireType::Len);
    put_varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// Where an embedded message of unknown length begins; goes back into [`end_nested`].
#[derive(Debug)]
#[must_use]
pub struct Mark {
    /// First byte of the body. The length's first byte stands right before it.
    body: usize,
}

/// Begins an embedded message whose length is not known yet: what is appended until [`end_nested`]
/// is its body.
#[inline]
pub fn begin_nested(out: &mut Vec<u8>, field: u32) -> Mark {
    put_tag(out, field, WireType::Len);
    // Most embedded messages are short. A longer one is moved by the length's further bytes at the
    // end.
    out.push(0);
    Mark { body: out.len() }
}

/// Ends the embedded message that `mark` began. Inner ones must have ended before.
#[inline]
pub fn end_nested(out: &mut Vec<u8>, mark: Mark) {
    assert!(mark.body <= out.len());
    let len = out.len() - mark.body;
    if len < 0x80 {
        out[mark.body - 1] = len as u8;
        return;
    }
    let more = varint_len(len as u64) - 1;
    out.resize(out.len() + more, 0);
    out.copy_within(mark.body..mark.body + len, mark.body + more);
    let mut rest = len;
    for byte in &mut out[mark.body - 1..mark.body + more] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[mark.body + more - 1] &= 0x7f;
}
