use crate::hpack::Fields;

/// Which of the three header blocks of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Request,
    Response,
    Trailers,
}

/// A header block that is valid HPACK and not a valid message (RFC 9113, 8.1.1): a stream error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadMessage(
    /// What is wrong with it.
    pub(super) &'static str,
);

/// What framing needs to know of a valid header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Facts {
    pub(super) content_length: Option<u64>,
    /// A response with a 1xx status: the real one follows.
    pub(super) is_interim: bool,
}

/// Checks names, values, pseudo-header fields and the fields that HTTP/2 forbids.
pub(super) fn check(fields: &Fields, kind: BlockKind) -> Result<Facts, BadMessage> {
    let mut facts = Facts::default();
    let mut pseudo = Pseudo::default();
    let mut has_regular = false;
    for (name, value) in fields.iter() {
        if !value.iter().all(|&byte| is_value_byte(byte)) {
            return Err(BadMessage("control character in a field value"));
        }
        if let Some(pseudo_name) = name.strip_prefix(b":") {
            if has_regular {
                return Err(BadMessage("pseudo-header field after a regular one"));
            }
            facts.is_interim |= pseudo.take(pseudo_name, value, kind)?;
            continue;
        }
        has_regular = true;
        if name.is_empty() || !name.iter().all(|&byte| is_name_byte(byte)) {
            return Err(BadMessage(
                "field name with a character that is not allowed",
            ));
        }
        match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => {
                return Err(BadMessage("connection-specific field"));
            }
            b"te" if value != b"trailers" => return Err(BadMessage("TE other than trailers")),
            b"content-length" => {
                let length =
                    content_length(value).ok_or(BadMessage("content-length is not a number"))?;
                if facts.content_length.is_some_and(|known| known != length) {
                    return Err(BadMessage("two values of content-length"));
                }
                facts.content_length = Some(length);
            }
            _ => {}
        }
    }
    pseudo.check(kind)?;
    Ok(facts)
}

#[derive(Default)]
struct Pseudo {
    method: bool,
    scheme: bool,
    path: bool,
    authority: bool,
    status: bool,
}

impl Pseudo {
    /// True for an interim status.
    fn take(&mut self, name: &[u8], value: &[u8], kind: BlockKind) -> Result<bool, BadMessage> {
        let seen = match (kind, name) {
            (BlockKind::Request, b"method") => &mut self.method,
            (BlockKind::Request, b"scheme") => &mut self.scheme,
            (BlockKind::Request, b"path") if value.is_empty() => {
                return Err(BadMessage("empty :path"));
            }
            (BlockKind::Request, b"path") => &mut self.path,
            (BlockKind::Request, b"authority") => &mut self.authority,
            (BlockKind::Response, b"status") => &mut self.status,
            _ => return Err(BadMessage("unknown or misplaced pseudo-header field")),
        };
        if std::mem::replace(seen, true) {
            return Err(BadMessage("pseudo-header field twice"));
        }
        Ok(self.status && value.starts_with(b"1"))
    }

    fn check(&self, kind: BlockKind) -> Result<(), BadMessage> {
        let is_complete = match kind {
            BlockKind::Request => self.method && self.scheme && self.path,
            BlockKind::Response => self.status,
            BlockKind::Trailers => true,
        };
        if is_complete {
            Ok(())
        } else {
            Err(BadMessage("pseudo-header field missing"))
        }
    }
}

/// Lower case token characters (RFC 9110, 5.6.2; RFC 9113, 8.2.1).
fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'^' | b'`' | b'|' | b'~')
}

fn is_value_byte(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

fn content_length(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::{Decoder, encode};

    fn check_all(list: &[(&str, &str)], kind: BlockKind) -> Result<Facts, BadMessage> {
        let mut block = Vec::new();
        for (name, value) in list {
            encode::literal(&mut block, name.as_bytes(), value.as_bytes());
        }
        let mut fields = Fields::default();
        Decoder::new(0)
            .decode(&block, &mut fields, 1 << 16, 100)
            .unwrap();
        check(&fields, kind)
    }

    fn request(extra: &[(&str, &str)]) -> Result<Facts, BadMessage> {
        let mut list = vec![(":method", "POST"), (":scheme", "http"), (":path", "/")];
        list.extend(extra);
        check_all(&list, BlockKind::Request)
    }

    #[test]
    fn requests_of_honest_clients_are_taken() {
        let facts = request(&[
            (":authority", "h"),
            ("te", "trailers"),
            ("content-length", "12"),
            ("x", "a\tb\u{fc}"),
        ]);
        assert_eq!(facts.unwrap().content_length, Some(12));
    }

    #[test]
    fn malformed_requests_are_refused() {
        for extra in [
            &[("Upper", "x")][..],
            &[("a b", "x")],
            &[("", "x")],
            &[("x", "a\nb")],
            &[(":unknown", "x")],
            &[(":status", "200")],
            &[(":path", "/twice")],
            &[("x", "y"), (":authority", "h")],
            &[("connection", "keep-alive")],
            &[("transfer-encoding", "chunked")],
            &[("te", "gzip")],
            &[("content-length", "1"), ("content-length", "2")],
            &[("content-length", "-1")],
        ] {
            assert!(request(extra).is_err(), "{extra:?}");
        }
        for missing in 0..3 {
            let mut list = vec![(":method", "POST"), (":scheme", "http"), (":path", "/")];
            list.remove(missing);
            assert!(check_all(&list, BlockKind::Request).is_err());
        }
        let empty_path = [(":method", "GET"), (":scheme", "http"), (":path", "")];
        assert!(check_all(&empty_path, BlockKind::Request).is_err());
        assert!(check_all(&[(":path", "/")], BlockKind::Trailers).is_err());
        assert!(check_all(&[("x", "y")], BlockKind::Response).is_err());
    }
}
