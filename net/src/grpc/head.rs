//! What a request's header block says: checked once a block, kept with the call.

use super::{Code, Metadata, Method, Status, percent_encode, timeout};
use crate::hpack::{Fields, encode};
use std::time::Duration;

/// A request's header block, understood.
#[derive(Debug)]
pub struct Head {
    pub(super) path: Vec<u8>,
    pub(super) meta: Metadata,
    pub(super) timeout: Option<Duration>,
    pub(super) verdict: Verdict,
    pub(super) is_gzip: bool,
    /// The answer's header block; `None` is the plain one.
    pub(super) answer: Option<Vec<u8>>,
}

/// What is to be done with the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    OneRequest,
    ServerStreaming,
    ManyRequests,
    /// Answered at once, with this HTTP status.
    Refuse(u16, Status),
    /// Another content type; answered when the request has ended.
    NotGrpc(Status),
}

impl Default for Head {
    fn default() -> Head {
        Head {
            path: Vec::new(),
            meta: Metadata::default(),
            timeout: None,
            verdict: Verdict::OneRequest,
            is_gzip: false,
            answer: None,
        }
    }
}

/// `:status 200` and `content-type: application/grpc`, as literals that no table learns.
pub(super) const ANSWER_HEADERS: &[u8] = b"\x88\x0f\x10\x10application/grpc";
/// `grpc-status: 0` and an empty `grpc-message`, which grpc-go sends too.
pub(super) const OK_TRAILERS: &[u8] = b"\x00\x0bgrpc-status\x010\x00\x0cgrpc-message\x00";

const CONTENT_TYPE: &[u8] = b"application/grpc";

/// What of the header block decides, in the order grpc-go looks at it.
#[derive(Default)]
struct Seen<'a> {
    authorities: usize,
    hosts: usize,
    method: &'a [u8],
    path: &'a [u8],
    content_type: &'a [u8],
    subtype: Option<&'a [u8]>,
    encoding: &'a [u8],
    /// A malformed timeout or binary value; the last one found is told.
    malformed: Option<String>,
}

impl Head {
    /// Overwrites everything. `lookup` says what is served at a path.
    pub(super) fn read(&mut self, fields: &Fields, lookup: impl FnOnce(&[u8]) -> Method) {
        self.meta.clear();
        self.timeout = None;
        let mut seen = Seen::default();
        for (name, value) in fields.iter() {
            self.take_field(name, value, &mut seen);
        }
        self.path.clear();
        self.path.extend_from_slice(seen.path);
        self.is_gzip = seen.encoding == b"gzip";
        self.answer = answer_headers(seen.subtype.unwrap_or_default(), self.is_gzip);
        self.verdict = verdict(&seen, lookup);
    }

    fn take_field<'a>(&mut self, name: &'a [u8], value: &'a [u8], seen: &mut Seen<'a>) {
        match name {
            b":method" => seen.method = value,
            b":path" => seen.path = value,
            b":scheme" | b"te" | b"grpc-message-type" | b"grpc-message" | b"grpc-status" => {}
            b"grpc-encoding" => seen.encoding = value,
            b"grpc-timeout" => match timeout::parse(value) {
                Ok(timeout) => self.timeout = Some(timeout),
                Err(text) => seen.malformed = Some(format!("malformed grpc-timeout: {text}")),
            },
            b"content-type" => match subtype(value) {
                Some(subtype) => {
                    seen.subtype = Some(subtype);
                    self.meta.push(name, value);
                }
                None => seen.content_type = value,
            },
            _ => {
                seen.authorities += usize::from(name == b":authority");
                seen.hosts += usize::from(name == b"host");
                self.take_metadata(name, value, seen);
            }
        }
    }

    fn take_metadata(&mut self, name: &[u8], value: &[u8], seen: &mut Seen<'_>) {
        if !name.ends_with(b"-bin") {
            self.meta.push(name, value);
            return;
        }
        let mut decoded = Vec::with_capacity(value.len());
        match super::metadata::decode_base64(value, &mut decoded) {
            Ok(()) => self.meta.push(name, &decoded),
            Err(at) => {
                let (value, name) = (super::quote(value), super::quote(name));
                seen.malformed = Some(format!(
                    "malformed binary metadata {value} in header {name}: illegal base64 data at input byte {at}"
                ));
            }
        }
    }

    /// Bytes kept; a head that has become large is not kept for reuse.
    pub(super) fn bytes(&self) -> usize {
        self.path.capacity() + self.meta.bytes()
    }
}

fn verdict(seen: &Seen<'_>, lookup: impl FnOnce(&[u8]) -> Method) -> Verdict {
    let internal = |http, text: String| Verdict::Refuse(http, Status::new(Code::Internal, text));
    if seen.authorities > 1 || seen.hosts > 1 {
        let (authorities, hosts) = (seen.authorities, seen.hosts);
        return internal(
            400,
            format!(
                "num values of :authority: {authorities}, num values of host: {hosts}, both must only have 1 value \
                 as per HTTP/2 spec"
            ),
        );
    }
    if seen.subtype.is_none() {
        let content_type = super::quote(seen.content_type);
        let text = format!("invalid gRPC request content-type {content_type}");
        return Verdict::NotGrpc(Status::new(Code::InvalidArgument, text));
    }
    if let Some(text) = &seen.malformed {
        return internal(400, text.clone());
    }
    if seen.authorities + seen.hosts == 0 {
        return internal(400, "no host or :authority header present".to_string());
    }
    if seen.method != b"POST" {
        let method = super::quote(seen.method);
        return internal(
            405,
            format!("Received a HEADERS frame with :method {method} which should be POST"),
        );
    }
    let kind = match lookup(seen.path) {
        Method::OneRequest => Verdict::OneRequest,
        Method::ServerStreaming => Verdict::ServerStreaming,
        Method::ManyRequests => Verdict::ManyRequests,
        Method::Unknown(status) => return Verdict::Refuse(200, status),
    };
    match seen.encoding {
        b"" | b"identity" | b"gzip" => kind,
        other => Verdict::Refuse(200, no_decompressor(other)),
    }
}

/// The refusal of a message coded in a way that is not served.
pub(super) fn no_decompressor(encoding: &[u8]) -> Status {
    let encoding = super::quote(encoding);
    Status::new(
        Code::Unimplemented,
        format!("grpc: Decompressor is not installed for grpc-encoding {encoding}"),
    )
}

/// What follows `application/grpc+` or `;`; `None` when it is another type.
fn subtype(content_type: &[u8]) -> Option<&[u8]> {
    match content_type.strip_prefix(CONTENT_TYPE)? {
        [] => Some(b""),
        [b'+' | b';', subtype @ ..] => Some(subtype),
        _ => None,
    }
}

fn answer_headers(subtype: &[u8], is_gzip: bool) -> Option<Vec<u8>> {
    if subtype.is_empty() && !is_gzip {
        return None;
    }
    let mut content_type = CONTENT_TYPE.to_vec();
    if !subtype.is_empty() {
        content_type.push(b'+');
        content_type.extend_from_slice(subtype);
    }
    let mut block = Vec::new();
    encode::literal(&mut block, b":status", b"200");
    encode::literal(&mut block, b"content-type", &content_type);
    if is_gzip {
        encode::literal(&mut block, b"grpc-encoding", b"gzip");
    }
    Some(block)
}

/// Appends `grpc-status` and `grpc-message`.
pub(super) fn put_status(block: &mut Vec<u8>, status: &Status) {
    encode::literal(
        block,
        b"grpc-status",
        (status.code as u8).to_string().as_bytes(),
    );
    let mut message = Vec::with_capacity(status.message.len());
    percent_encode(&status.message, &mut message);
    encode::literal(block, b"grpc-message", &message);
}

/// The header block of an answer that is only trailers.
pub(super) fn trailers_only(http_status: u16, status: &Status) -> Vec<u8> {
    let mut block = Vec::new();
    encode::literal(&mut block, b":status", http_status.to_string().as_bytes());
    encode::literal(&mut block, b"content-type", CONTENT_TYPE);
    put_status(&mut block, status);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::Decoder;

    const HONEST: [(&str, &str); 6] = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/p.S/M"),
        (":authority", "h"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];

    fn read(change: &[(&str, Option<&str>)]) -> Head {
        let mut block = Vec::new();
        let mut put = |name: &str, value: &str| {
            encode::literal(&mut block, name.as_bytes(), value.as_bytes())
        };
        for (name, value) in HONEST {
            match change.iter().find(|(changed, _)| *changed == name) {
                None => put(name, value),
                Some((_, Some(value))) => put(name, value),
                Some((_, None)) => {}
            }
        }
        for (name, value) in change {
            if let (Some(value), false) = (value, HONEST.iter().any(|(known, _)| known == name)) {
                put(name, value);
            }
        }
        let mut fields = Fields::default();
        Decoder::new(0)
            .decode(&block, &mut fields, 1 << 16, 100)
            .unwrap();
        let mut head = Head::default();
        head.read(&fields, |path| match path {
            b"/p.S/M" => Method::OneRequest,
            _ => Method::Unknown(Status::new(Code::Unimplemented, "unknown service p.X")),
        });
        head
    }

    fn refusal(change: &[(&str, Option<&str>)]) -> (u16, Code, String) {
        match read(change).verdict {
            Verdict::Refuse(http, status) => (http, status.code, status.message.into_owned()),
            Verdict::NotGrpc(status) => (415, status.code, status.message.into_owned()),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn honest_request_is_taken_with_its_metadata() {
        let head = read(&[
            ("token", Some("t")),
            ("x-bin", Some("AQI")),
            ("grpc-timeout", Some("2S")),
        ]);
        assert_eq!(head.verdict, Verdict::OneRequest);
        assert_eq!(head.path, b"/p.S/M");
        assert_eq!(head.timeout, Some(Duration::from_secs(2)));
        assert_eq!(head.meta.get("token"), Some(&b"t"[..]));
        assert_eq!(head.meta.get("x-bin"), Some(&[1, 2][..]));
        assert_eq!(head.meta.get("te"), None);
        assert_eq!(head.answer, None);
    }

    #[test]
    fn refusals_are_worded_as_grpc_go_does() {
        let content_type = refusal(&[("content-type", Some("text/\"plain\""))]);
        let expected = "invalid gRPC request content-type \"text/\\\"plain\\\"\"";
        assert_eq!(
            content_type,
            (415, Code::InvalidArgument, expected.to_string())
        );
        assert_eq!(
            refusal(&[("content-type", None)]).2,
            "invalid gRPC request content-type \"\""
        );
        assert_eq!(
            refusal(&[("content-type", Some("application/grpcx"))]).0,
            415
        );
        let method = refusal(&[(":method", Some("GET"))]);
        let expected = "Received a HEADERS frame with :method \"GET\" which should be POST";
        assert_eq!(method, (405, Code::Internal, expected.to_string()));
        let timeout = refusal(&[("grpc-timeout", Some("1x"))]);
        let expected = "malformed grpc-timeout: transport: timeout unit is not recognized: \"1x\"";
        assert_eq!(timeout, (400, Code::Internal, expected.to_string()));
        assert_eq!(
            refusal(&[(":authority", None)]).2,
            "no host or :authority header present"
        );
        assert_eq!(refusal(&[("x-bin", Some("!"))]).1, Code::Internal);
        let path = refusal(&[(":path", Some("/p.X/M"))]);
        assert_eq!(
            path,
            (200, Code::Unimplemented, "unknown service p.X".to_string())
        );
        let encoding = refusal(&[("grpc-encoding", Some("zstd"))]);
        let expected = "grpc: Decompressor is not installed for grpc-encoding \"zstd\"";
        assert_eq!(encoding, (200, Code::Unimplemented, expected.to_string()));
    }

    #[test]
    fn subtype_and_gzip_come_back_in_the_answer() {
        let head = read(&[
            ("content-type", Some("application/grpc+proto")),
            ("grpc-encoding", Some("gzip")),
        ]);
        let mut fields = Fields::default();
        let block = head.answer.unwrap();
        Decoder::new(0)
            .decode(&block, &mut fields, 1 << 16, 100)
            .unwrap();
        assert_eq!(fields.get(b":status"), Some(&b"200"[..]));
        assert_eq!(
            fields.get(b"content-type"),
            Some(&b"application/grpc+proto"[..])
        );
        assert_eq!(fields.get(b"grpc-encoding"), Some(&b"gzip"[..]));
    }

    #[test]
    fn constant_blocks_are_what_the_encoder_makes() {
        let mut block = Vec::new();
        encode::indexed(&mut block, 8);
        encode::literal(&mut block, b"content-type", CONTENT_TYPE);
        assert_eq!(block, ANSWER_HEADERS);
        block.clear();
        put_status(&mut block, &Status::OK);
        assert_eq!(block, OK_TRAILERS);
    }
}
