//! A member as etcd's JSON: in configuration entries, under `/members`, in the members bucket.

use super::Member;
use crate::types::MemberId;

/// The JSON is not a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a member's JSON cannot be read at byte {at}")]
pub struct BadJson {
    /// Where reading stopped.
    pub at: usize,
}

impl Member {
    /// Appends the member's JSON. `promoting` adds the mark of a promotion's configuration entry.
    pub fn write_json(&self, out: &mut String, promoting: bool) {
        out.push_str("{\"id\":");
        out.push_str(&self.id.0.to_string());
        out.push_str(",\"peerURLs\":");
        write_list(out, &self.peer_urls);
        if self.is_learner {
            out.push_str(",\"isLearner\":true");
        }
        if !self.name.is_empty() {
            out.push_str(",\"name\":");
            write_string(out, &self.name);
        }
        if !self.client_urls.is_empty() {
            out.push_str(",\"clientURLs\":");
            write_list(out, &self.client_urls);
        }
        if promoting {
            out.push_str(",\"isPromote\":true");
        }
        out.push('}');
    }

    /// Reads a member; unknown names are passed over.
    ///
    /// # Errors
    /// The text is not a JSON object, or a known name has a value of another kind.
    pub fn read_json(text: &str) -> Result<Self, BadJson> {
        let mut reader = Reader { text, at: 0 };
        let mut member = Member::default();
        reader.object(&mut |reader, name| {
            match name {
                "id" => member.id = MemberId(reader.number()?),
                "peerURLs" => member.peer_urls = reader.strings()?,
                "isLearner" => member.is_learner = reader.boolean()?,
                "name" => member.name = reader.string()?,
                "clientURLs" => member.client_urls = reader.strings()?,
                _ => reader.skip(NESTING_MAX)?,
            }
            Ok(())
        })?;
        reader.blanks();
        if reader.at < text.len() {
            return Err(reader.bad());
        }
        Ok(member)
    }
}

fn write_list(out: &mut String, items: &[String]) {
    out.push('[');
    for (slot, item) in items.iter().enumerate() {
        if slot > 0 {
            out.push(',');
        }
        write_string(out, item);
    }
    out.push(']');
}

/// Escapes what Go's encoder escapes, so that equal members make equal bytes.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// How deep an unknown value may nest.
const NESTING_MAX: u32 = 8;

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn bad(&self) -> BadJson {
        BadJson { at: self.at }
    }

    fn peek(&mut self) -> Option<u8> {
        self.blanks();
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|b| b" \t\r\n".contains(b)).count();
    }

    fn take(&mut self, wanted: u8) -> Result<(), BadJson> {
        if self.peek() != Some(wanted) {
            return Err(self.bad());
        }
        self.at += 1;
        Ok(())
    }

    /// Whether the list goes on (a comma) or ends (`close`); `first`: nothing was read yet.
    fn goes_on(&mut self, close: u8, first: bool) -> Result<bool, BadJson> {
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        if !first {
            self.take(b',')?;
        }
        Ok(true)
    }

    fn object(
        &mut self,
        field: &mut dyn FnMut(&mut Self, &str) -> Result<(), BadJson>,
    ) -> Result<(), BadJson> {
        self.take(b'{')?;
        let mut first = true;
        while self.goes_on(b'}', first)? {
            first = false;
            let name = self.string()?;
            self.take(b':')?;
            field(self, &name)?;
        }
        Ok(())
    }

    fn strings(&mut self) -> Result<Vec<String>, BadJson> {
        let mut items = Vec::new();
        if self.word("null") {
            return Ok(items);
        }
        self.take(b'[')?;
        while self.goes_on(b']', items.is_empty())? {
            items.push(self.string()?);
        }
        Ok(items)
    }

    fn word(&mut self, word: &str) -> bool {
        self.blanks();
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn boolean(&mut self) -> Result<bool, BadJson> {
        if self.word("true") {
            Ok(true)
        } else if self.word("false") {
            Ok(false)
        } else {
            Err(self.bad())
        }
    }

    fn number(&mut self) -> Result<u64, BadJson> {
        self.blanks();
        let rest = &self.text[self.at..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value = rest[..digits].parse().map_err(|_| self.bad())?;
        self.at += digits;
        Ok(value)
    }

    fn string(&mut self) -> Result<String, BadJson> {
        self.take(b'"')?;
        let mut out = String::new();
        loop {
            let mut chars = self.text[self.at..].chars();
            let c = chars.next().ok_or_else(|| self.bad())?;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(out),
                '\\' => out.push(self.escape()?),
                '\0'..='\u{1f}' => return Err(self.bad()),
                _ => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, BadJson> {
        let bad = self.bad();
        let c = self.text.as_bytes().get(self.at).copied().ok_or(bad)?;
        self.at += 1;
        Ok(match c {
            b'"' | b'\\' | b'/' => char::from(c),
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let unit = self.unit()?;
                // A surrogate pair is two escapes; half of one means nothing.
                match unit {
                    0xd800..0xdc00 if self.text[self.at..].starts_with("\\u") => {
                        self.at += 2;
                        let low = self.unit()?;
                        let pair = char::decode_utf16([unit, low]).next();
                        pair.and_then(Result::ok)
                            .unwrap_or(char::REPLACEMENT_CHARACTER)
                    }
                    _ => char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            _ => return Err(bad),
        })
    }

    fn unit(&mut self) -> Result<u16, BadJson> {
        let bad = self.bad();
        let digits = self.text.get(self.at..self.at + 4).ok_or(bad)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad);
        }
        self.at += 4;
        u16::from_str_radix(digits, 16).map_err(|_| bad)
    }

    fn skip(&mut self, depth: u32) -> Result<(), BadJson> {
        let below = depth.checked_sub(1).ok_or_else(|| self.bad())?;
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.object(&mut |reader, _| reader.skip(below)),
            Some(b'[') => {
                self.at += 1;
                let mut first = true;
                while self.goes_on(b']', first)? {
                    first = false;
                    self.skip(below)?;
                }
                Ok(())
            }
            Some(b't' | b'f') => self.boolean().map(drop),
            Some(b'n') if self.word("null") => Ok(()),
            Some(b'-' | b'0'..=b'9') => {
                let rest = &self.text.as_bytes()[self.at..];
                let part = |b: &&u8| b"+-.eE0123456789".contains(b);
                self.at += rest.iter().take_while(part).count();
                Ok(())
            }
            _ => Err(self.bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(member: &Member) -> String {
        let mut out = String::new();
        member.write_json(&mut out, false);
        out
    }

    /// The bytes stand in the log and under /members, where other programs compare them.
    #[test]
    fn a_member_is_written_as_etcd_writes_it() {
        let mut member = Member {
            id: MemberId(0xf492_7a4b_c576_a057),
            peer_urls: vec!["http://127.0.0.1:34791".to_owned()],
            ..Member::default()
        };
        let bare = r#"{"id":17623282757708193879,"peerURLs":["http://127.0.0.1:34791"]}"#;
        assert_eq!(json(&member), bare);
        member.is_learner = true;
        member.name = "a<b\"\u{1}".to_owned();
        member.client_urls = vec!["http://c:1".to_owned(), "unix://d".to_owned()];
        let full = r#"{"id":17623282757708193879,"peerURLs":["http://127.0.0.1:34791"],"isLearner":true,"name":"a\u003cb\"\u0001","clientURLs":["http://c:1","unix://d"]}"#;
        assert_eq!(json(&member), full);
        assert_eq!(Member::read_json(full), Ok(member));
    }

    /// Members that a later or another program wrote carry more than we know.
    #[test]
    fn unknown_names_and_blanks_are_passed_over() {
        let text = r#" { "x" : [1, {"y": null}, -2.5e3, true] , "id" : 7,"peerURLs":null, "isPromote":true } "#;
        let member = Member::read_json(text).expect("a member");
        assert_eq!(member.id, MemberId(7));
        assert!(member.peer_urls.is_empty());
    }

    /// Escapes must come back as what they stand for.
    #[test]
    fn escapes_are_read() {
        let member = Member::read_json(r#"{"name":"\ud83d\ude00\/\u00e9\n"}"#).expect("a member");
        assert_eq!(member.name, "😀/é\n");
    }

    /// Damaged context must stop the member and not add one with guessed addresses.
    #[test]
    fn broken_json_is_refused() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"id":-1}"#,
            r#"{"id":"7"}"#,
            r#"{"name":"a}"#,
            "{} x",
            r#"{"name":"\u12"}"#,
        ] {
            assert!(Member::read_json(text).is_err(), "{text}");
        }
        let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(99), "]".repeat(99));
        assert!(Member::read_json(&deep).is_err());
    }
}
