use std::borrow::Cow;
use std::fmt;

/// gRPC's status codes, by their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are gRPC's own")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// All codes, by number.
    pub const ALL: [Code; 17] = [
        Code::Ok,
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The code of a `grpc-status` value; anything that is not a known number is `Unknown`, as the specification asks.
    pub fn from_wire(value: &[u8]) -> Code {
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<usize>().ok());
        number
            .and_then(|number| Code::ALL.get(number).copied())
            .unwrap_or(Code::Unknown)
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What kind of end.
    pub code: Code,
    /// For the reader; UTF-8, percent-encoded on the wire.
    pub message: Cow<'static, str>,
}

impl Status {
    /// Success, without a message.
    pub const OK: Status = Status {
        code: Code::Ok,
        message: Cow::Borrowed(""),
    };

    /// A status with its text.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "code {} ({:?}): {}",
            self.code as u8, self.code, self.message
        )
    }
}

/// Appends `message` as a `grpc-message` value: what is not printable ASCII, and `%`, as `%XX`.
pub fn percent_encode(message: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in message.as_bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
}

/// Reads a `grpc-message` value. What is not a valid escape stays as it is; bytes that are not UTF-8 are replaced.
pub fn percent_decode(value: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes)
        .unwrap_or_else(|invalid| String::from_utf8_lossy(invalid.as_bytes()).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_survives_the_wire() {
        for message in [
            "",
            "plain text",
            "100 % of it",
            "línea\nnew\u{1F600}",
            "%25 %zz %",
        ] {
            let mut wire = Vec::new();
            percent_encode(message, &mut wire);
            assert!(wire.iter().all(|byte| (b' '..=b'~').contains(byte)));
            assert_eq!(percent_decode(&wire), message);
        }
    }

    #[test]
    fn broken_escapes_are_kept_as_they_are() {
        assert_eq!(percent_decode(b"50% off %4"), "50% off %4");
        assert_eq!(percent_decode(b"%zz%41"), "%zzA");
    }

    #[test]
    fn codes_are_read_by_their_number() {
        for code in Code::ALL {
            assert_eq!(Code::from_wire((code as u8).to_string().as_bytes()), code);
        }
        for odd in [&b"17"[..], b"-1", b"", b"x"] {
            assert_eq!(Code::from_wire(odd), Code::Unknown);
        }
    }
}
