/// HTTP/2's error codes (RFC 9113, 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the RFC's own")]
pub enum ErrorCode {
    NoError,
    ProtocolError,
    InternalError,
    FlowControlError,
    SettingsTimeout,
    StreamClosed,
    FrameSizeError,
    RefusedStream,
    Cancel,
    CompressionError,
    ConnectError,
    EnhanceYourCalm,
    InadequateSecurity,
    Http11Required,
    /// A number the RFC does not know; it has no special meaning.
    Other(u32),
}

const KNOWN: [ErrorCode; 14] = [
    ErrorCode::NoError,
    ErrorCode::ProtocolError,
    ErrorCode::InternalError,
    ErrorCode::FlowControlError,
    ErrorCode::SettingsTimeout,
    ErrorCode::StreamClosed,
    ErrorCode::FrameSizeError,
    ErrorCode::RefusedStream,
    ErrorCode::Cancel,
    ErrorCode::CompressionError,
    ErrorCode::ConnectError,
    ErrorCode::EnhanceYourCalm,
    ErrorCode::InadequateSecurity,
    ErrorCode::Http11Required,
];

impl ErrorCode {
    /// The code with this number.
    pub fn from_wire(number: u32) -> ErrorCode {
        KNOWN
            .get(number as usize)
            .copied()
            .unwrap_or(ErrorCode::Other(number))
    }

    /// Its number.
    pub fn to_wire(self) -> u32 {
        match self {
            ErrorCode::Other(number) => number,
            known => KNOWN.iter().position(|&code| code == known).unwrap_or(0) as u32,
        }
    }
}

/// Why a connection ends, and what its GOAWAY says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// The code of the GOAWAY.
    pub code: ErrorCode,
    /// Its debug data.
    pub text: &'static str,
}

impl Reason {
    pub(super) const fn new(code: ErrorCode, text: &'static str) -> Reason {
        Reason { code, text }
    }

    pub(super) const fn protocol(text: &'static str) -> Reason {
        Reason::new(ErrorCode::ProtocolError, text)
    }

    pub(super) const fn frame_size(text: &'static str) -> Reason {
        Reason::new(ErrorCode::FrameSizeError, text)
    }

    pub(super) const fn calm(text: &'static str) -> Reason {
        Reason::new(ErrorCode::EnhanceYourCalm, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_rfc() {
        assert_eq!(ErrorCode::StreamClosed.to_wire(), 0x5);
        assert_eq!(ErrorCode::EnhanceYourCalm.to_wire(), 0xb);
        for number in [0, 1, 7, 13, 14, 0xffff_ffff] {
            assert_eq!(ErrorCode::from_wire(number).to_wire(), number);
        }
    }
}
