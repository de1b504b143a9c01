//! Which protocol is this connection: HTTP/2 by prior knowledge, HTTP/1.1 or another member, from the first bytes alone.

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a member's hello begins with (docs/FORMAT.md); no HTTP method does.
const PEER: &[u8] = b"BSLT";

/// What the first bytes of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// The first bytes are those of the preface, which is still part of what HTTP/2 must read.
    Http2,
    /// The first bytes are those of a member's hello, which is still part of what its link must read.
    Peer,
    /// Anything else: HTTP/1.1 words the refusal if it is not HTTP at all.
    Http1,
    /// All bytes so far could still become one of the others.
    Undecided,
}

/// `head` is everything received so far.
///
/// `PRI ` is enough to decide: no HTTP/1 method begins so, and a wrong rest is HTTP/2's to refuse.
pub fn sniff(head: &[u8]) -> Sniffed {
    for (decisive, sniffed) in [(&PREFACE[..4], Sniffed::Http2), (PEER, Sniffed::Peer)] {
        if head.starts_with(decisive) {
            return sniffed;
        }
        if decisive.starts_with(head) {
            return Sniffed::Undecided;
        }
    }
    Sniffed::Http1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bytes_decide_and_fewer_wait_only_while_both_are_possible() {
        for (head, expected) in [
            (&b""[..], Sniffed::Undecided),
            (b"P", Sniffed::Undecided),
            (b"PRI", Sniffed::Undecided),
            (b"PRI ", Sniffed::Http2),
            (PREFACE, Sniffed::Http2),
            (b"PU", Sniffed::Http1),
            (b"BSL", Sniffed::Undecided),
            (b"BSLTpe", Sniffed::Peer),
            (b"BIND", Sniffed::Http1),
            (b"G", Sniffed::Http1),
            (b"\x16\x03\x01", Sniffed::Http1),
        ] {
            assert_eq!(sniff(head), expected, "{head:?}");
        }
    }
}
