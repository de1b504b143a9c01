use std::borrow::Cow;

/// One request, whole: the body is complete and within the configured bound, chunked framing already undone.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method as sent, such as `GET`; methods are case-sensitive.
    pub method: &'a str,
    /// The target as sent: `/health?serializable=true`, `*`, or an absolute URI from a proxy.
    pub target: &'a str,
    /// Headers in the order of the wire; names as the client wrote them.
    pub headers: &'a [httparse::Header<'a>],
    /// Empty when the request has none.
    pub body: &'a [u8],
    /// The tag of the listener that it came by.
    pub tag: u32,
}

impl<'a> Request<'a> {
    /// The path without the query; the authority of an absolute URI is cut off.
    pub fn path(&self) -> &'a str {
        let origin = origin_form(self.target);
        origin.split_once('?').map_or(origin, |(path, _)| path)
    }

    /// The values of one query parameter, in order. They are not percent-decoded: no path of etcd needs it.
    pub fn query_values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let query = origin_form(self.target)
            .split_once('?')
            .map_or("", |(_, query)| query);
        query.split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }

    /// The first header of that name, compared without case; `None` also when it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let header = self
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    }
}

fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        _ => target,
    }
}

/// One whole answer. `Date`, `Content-Length` and `Connection` are added when it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code, 200 to 599.
    pub status: u16,
    /// Written in this order; neither names nor values may hold CR or LF.
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// Left out on the wire for HEAD, where only its length is told.
    pub body: Vec<u8>,
    /// Close the connection after this answer.
    pub close: bool,
}

impl Response {
    /// An answer with a body of the given content type.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        let headers = vec![(Cow::Borrowed("Content-Type"), Cow::Borrowed(content_type))];
        Response {
            status,
            headers,
            body: body.into(),
            close: false,
        }
    }

    /// The same with one header more.
    pub fn with(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Response {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How Go's server refuses what it cannot frame: plain words and the end of the connection.
    pub(super) fn refusal(status: u16) -> Response {
        let body = format!("{status} {}", reason(status));
        Response {
            close: true,
            ..Response::new(status, "text/plain; charset=utf-8", body)
        }
    }

    /// Appends head and body. `head_only` is for HEAD, `close` adds `Connection: close`.
    pub(super) fn write(&self, out: &mut Vec<u8>, date: &HttpDate, head_only: bool, close: bool) {
        assert!(
            (200..600).contains(&self.status),
            "a handler answered status {}",
            self.status
        );
        out.extend_from_slice(
            format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)).as_bytes(),
        );
        for (name, value) in &self.headers {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(&date.0);
        out.extend_from_slice(b"\r\n");
        if self.status != 204 && self.status != 304 {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        if close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !head_only {
            out.extend_from_slice(&self.body);
        }
    }
}

/// The reason phrases of the codes that etcd's HTTP side uses.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// The text of a `Date` header, made once a second by whoever owns the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// `unix_seconds` counts from 1970, leap seconds left out; years 1970 to 9999.
    pub fn new(unix_seconds: u64) -> HttpDate {
        let days = unix_seconds / 86_400;
        let second_of_day = unix_seconds % 86_400;
        let (year, month, day) = civil(days);
        let weekday = DAYS[((days + 4) % 7) as usize];
        let month = MONTHS[month - 1];
        let (hour, minute, second) = (
            second_of_day / 3600,
            second_of_day / 60 % 60,
            second_of_day % 60,
        );
        let text =
            format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
        HttpDate(
            text.into_bytes()
                .try_into()
                .expect("every field has a fixed width up to the year 9999"),
        )
    }
}

/// Year, month (1 to 12) and day of month of a day counted from 1970, by counting whole years and months.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(400) || (year.is_multiple_of(4) && !year.is_multiple_of(100))
    };
    let mut year = 1970;
    while days >= if is_leap(year) { 366 } else { 365 } {
        days -= if is_leap(year) { 366 } else { 365 };
        year += 1;
    }
    let mut month = 1;
    loop {
        let length = match month {
            2 if is_leap(year) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if days < length {
            return (year, month, days + 1);
        }
        days -= length;
        month += 1;
    }
}

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
