//! Markup by construction: what is not a literal of this program is escaped.

/// A page or a part of one. Every tag is closed, so that the whole is also well-formed XML.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup of our own, as it is.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Any text.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.0.push_str(&escaped(text));
        self
    }

    /// A tag with one text inside.
    pub(super) fn element(&mut self, tag: &'static str, text: &str) -> &mut Self {
        self.open(tag, &[]).text(text).close(tag)
    }

    /// The begin of a tag.
    pub(super) fn open(
        &mut self,
        tag: &'static str,
        attributes: &[(&'static str, &str)],
    ) -> &mut Self {
        self.0.push('<');
        self.0.push_str(tag);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.0.push_str(&escaped(value));
            self.0.push('"');
        }
        self.0.push('>');
        self
    }

    /// Its end.
    pub(super) fn close(&mut self, tag: &'static str) -> &mut Self {
        self.0.push_str("</");
        self.0.push_str(tag);
        self.0.push('>');
        self
    }

    /// A link relative to the page: each part of the path is encoded.
    pub(super) fn link(&mut self, path: &[&str], text: &str) -> &mut Self {
        let target: Vec<String> = path.iter().map(|part| encoded(part)).collect();
        self.open("a", &[("href", &target.join("/"))])
            .text(text)
            .close("a")
    }

    /// A picture that `chart` has drawn, which escapes for itself.
    pub(super) fn picture(&mut self, picture: &super::chart::Picture) -> &mut Self {
        self.0.push_str(&picture.inline());
        self
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// Text for an element or a quoted attribute. Control characters, which XML cannot hold, become blanks.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// One part of a URL's path.
fn encoded(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_never_becomes_markup() {
        let mut html = Html::default();
        html.open("p", &[("title", "\"><script>")])
            .text("<b>&'\u{0}")
            .close("p");
        assert_eq!(
            html.into_string(),
            "<p title=\"&quot;&gt;&lt;script&gt;\">&lt;b&gt;&amp;&#39; </p>"
        );
    }

    #[test]
    fn a_folder_name_cannot_leave_its_link() {
        let mut html = Html::default();
        html.link(&["a b\"/..", "summary.md"], "it");
        assert_eq!(
            html.into_string(),
            "<a href=\"a%20b%22%2F../summary.md\">it</a>"
        );
    }
}
