//! The numbers and lists of messages between members, little-endian.

use super::{Answer, BadMessage, Ballot, Question};
use crate::limits::QUESTIONS_A_MESSAGE_MAX;
use crate::raft::log::Mark;
use crate::types::{Index, LeaseId, Term};

/// Terms and indexes end here: counting on from a peer's number never overflows.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

/// Writes what every message is made of.
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn mark(&mut self, mark: Mark) {
        self.u64(mark.index.0);
        self.u64(mark.term.0);
    }

    pub(super) fn head(&mut self, kind: u8, term: Term) {
        self.0.push(kind);
        self.u64(term.0);
    }
}

/// Reads it again, from bytes that anybody may have sent.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], BadMessage> {
        let (now, later) = self.0.split_first_chunk().ok_or(BadMessage::Malformed)?;
        self.0 = later;
        Ok(*now)
    }

    pub(super) fn u8(&mut self) -> Result<u8, BadMessage> {
        Ok(self.take::<1>()?[0])
    }

    pub(super) fn u64(&mut self) -> Result<u64, BadMessage> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// A term or an index.
    pub(super) fn number(&mut self) -> Result<u64, BadMessage> {
        let number = self.u64()?;
        match number <= NUMBER_MAX {
            true => Ok(number),
            false => Err(BadMessage::Absurd),
        }
    }

    pub(super) fn mark(&mut self) -> Result<Mark, BadMessage> {
        Ok(Mark {
            index: Index(self.number()?),
            term: Term(self.number()?),
        })
    }

    pub(super) fn bool(&mut self) -> Result<bool, BadMessage> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadMessage::Malformed),
        }
    }

    pub(super) fn ballot(&mut self) -> Result<Ballot, BadMessage> {
        Ok(match self.bool()? {
            false => Ballot::Pre,
            true => Ballot::Real,
        })
    }

    pub(super) fn question(&mut self) -> Result<Question, BadMessage> {
        Ok(Question {
            number: self.u64()?,
            renews: self.bool()?,
            lease: LeaseId(self.u64()?.cast_signed()),
        })
    }

    pub(super) fn answer(&mut self) -> Result<Answer, BadMessage> {
        Ok(Answer {
            number: self.u64()?,
            ttl: self.u64()?.cast_signed(),
            granted: self.u64()?.cast_signed(),
            index: Index(self.number()?),
        })
    }

    /// What is left, as a list that is neither empty nor too long.
    pub(super) fn all<T>(
        &mut self,
        one: impl Fn(&mut Self) -> Result<T, BadMessage>,
    ) -> Result<Vec<T>, BadMessage> {
        let mut list = vec![one(self)?];
        while !self.0.is_empty() {
            if list.len() == QUESTIONS_A_MESSAGE_MAX {
                return Err(BadMessage::Malformed);
            }
            list.push(one(self)?);
        }
        Ok(list)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }
}
