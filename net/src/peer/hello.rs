use super::PeerId;

/// What both ends of a connection say first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) cluster: u64,
    pub(super) from: PeerId,
    /// Whom the dialing end means to reach, and the other end's answer.
    pub(super) to: PeerId,
    /// Drawn by the process when it starts: another one means that the earlier process, and its connections, are gone.
    pub(super) session: u64,
    pub(super) release: Release,
    pub(super) verdict: Verdict,
}

/// A software version as major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release(pub [u16; 3]);

/// What the accepting end answers to a hello. The dialing end says `Welcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Frames may follow.
    Welcome,
    /// It is of another cluster.
    OtherCluster,
    /// It is another member than the one that was meant.
    OtherMember,
    /// The caller was removed from the cluster for good.
    Removed,
    /// It does not speak the caller's format.
    OtherFormat,
    /// Too many callers that are no members.
    Full,
}

/// Not a hello that this release understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHello {
    #[error("the first bytes are no hello")]
    Magic,
    #[error("the hello's checksum is wrong")]
    Checksum,
    #[error("format {0} is not spoken here")]
    Format(u16),
    #[error("the hello says nothing that is known")]
    Content,
}

impl Hello {
    pub(super) fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut out = [0; HELLO_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        out[10] = self.verdict.code();
        for (place, value) in [self.cluster, self.from.0, self.to.0, self.session]
            .into_iter()
            .enumerate()
        {
            out[16 + 8 * place..24 + 8 * place].copy_from_slice(&value.to_le_bytes());
        }
        for (place, part) in self.release.0.into_iter().enumerate() {
            out[48 + 2 * place..50 + 2 * place].copy_from_slice(&part.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out[..CHECKSUM_AT]);
        out[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Magic, checksum and format stay where they are in every later format.
    pub(super) fn read(bytes: &[u8; HELLO_BYTES]) -> Result<Hello, BadHello> {
        if bytes[..8] != *MAGIC {
            return Err(BadHello::Magic);
        }
        let word = |at: usize| u64::from_le_bytes(array(bytes, at));
        let half = |at: usize| u16::from_le_bytes(array(bytes, at));
        let checksum = u32::from_le_bytes(array(bytes, CHECKSUM_AT));
        if checksum != crc32c::crc32c(&bytes[..CHECKSUM_AT]) {
            return Err(BadHello::Checksum);
        }
        if half(8) != FORMAT {
            return Err(BadHello::Format(half(8)));
        }
        let from = PeerId(word(24));
        if from == PeerId(0) {
            return Err(BadHello::Content);
        }
        Ok(Hello {
            cluster: word(16),
            from,
            to: PeerId(word(32)),
            session: word(40),
            release: Release([half(48), half(50), half(52)]),
            verdict: Verdict::of(bytes[10]).ok_or(BadHello::Content)?,
        })
    }
}

impl Verdict {
    const ALL: [Verdict; 6] = [
        Verdict::Welcome,
        Verdict::OtherCluster,
        Verdict::OtherMember,
        Verdict::Removed,
        Verdict::OtherFormat,
        Verdict::Full,
    ];

    fn code(self) -> u8 {
        self as u8
    }

    fn of(code: u8) -> Option<Verdict> {
        Verdict::ALL.get(usize::from(code)).copied()
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("the slice has the array's length")
}

/// The first four bytes tell a peer from HTTP.
pub(super) const MAGIC: &[u8; 8] = b"BSLTpeer";
pub(super) const FORMAT: u16 = 1;
pub(super) const HELLO_BYTES: usize = 64;
const CHECKSUM_AT: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            cluster: 0xc575_5497_7896_bf9c,
            from: PeerId(7),
            to: PeerId(9),
            session: 11,
            release: Release([0, 2, 3]),
            verdict: Verdict::Removed,
        }
    }

    #[test]
    fn a_hello_comes_back_as_it_was_said() {
        assert_eq!(Hello::read(&hello().encode()), Ok(hello()));
        for (place, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(Verdict::of(verdict.code()), Some(verdict));
            assert_eq!(usize::from(verdict.code()), place);
        }
    }

    /// A flipped bit must not make another member, cluster or verdict of it.
    #[test]
    fn a_hello_with_any_changed_byte_is_refused() {
        let good = hello().encode();
        for at in 0..good.len() {
            let mut bad = good;
            bad[at] ^= 0x10;
            assert!(Hello::read(&bad).is_err(), "byte {at}");
        }
    }

    /// A later release must hear that its format is the matter, not that its bytes are broken.
    #[test]
    fn another_format_is_told_from_damage() {
        let mut later = hello().encode();
        later[8] = 2;
        let checksum = crc32c::crc32c(&later[..CHECKSUM_AT]);
        later[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Hello::read(&later), Err(BadHello::Format(2)));
    }
}
