//! What comes from a database or a client, made fit to be printed or logged: it can neither move the cursor, nor turn a
//! line around, nor begin one.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;

/// Returns whether it is a control character, or one that changes the direction of what stands beside it or ends a line
/// (Unicode's Bidi_Control, U+2028 and U+2029).
fn harms(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text in one line; what could do harm is shown as an escape.
pub fn harmless(text: &str) -> Cow<'_, str> {
    replaced(text, |out, c| out.extend(c.escape_default()))
}

/// The same for a text of several lines, none of which somebody else could have begun.
pub fn harmless_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |out, c| match c {
        '\n' => out.push(c),
        '\t' => out.push(' '),
        c => out.extend(c.escape_default()),
    })
}

/// The same for JSON, which stays what it says. In strings what is below a space was escaped already: what there is of
/// it stands between tokens.
pub fn harmless_json(json: &str) -> Cow<'_, str> {
    replaced(json, |out, c| match c {
        '\0'..=' ' => out.push(' '),
        // Writing to a String can't fail. None of these is beyond U+FFFF.
        c => drop(write!(out, "\\u{:04x}", u32::from(c))),
    })
}

fn replaced(text: &str, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let Some(first) = text.find(harms) else {
        return Cow::Borrowed(text);
    };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        match harms(c) {
            true => escape(&mut out, c),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Writes lines of JSON, each handed over whole with its line break.
pub struct JsonLines<W>(pub W);

impl<W: io::Write> io::Write for JsonLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(bytes);
        let (line, end) = match text.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (&*text, ""),
        };
        self.0
            .write_all(format!("{}{end}", harmless_json(line)).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARMFUL: &str =
        "a\u{1b}[31m\r\n<0>b\u{7}\u{7f}\u{9b}2J\u{202e}\u{2066}\u{61c}\u{2028}é😀";

    #[test]
    fn nothing_harmful_is_left() {
        assert_eq!(
            harmless(HARMFUL),
            r"a\u{1b}[31m\r\n<0>b\u{7}\u{7f}\u{9b}2J\u{202e}\u{2066}\u{61c}\u{2028}é😀"
        );
        assert_eq!(harmless_lines("a\tb\n\u{1b}c\r\n"), "a b\n\\u{1b}c\\r\n");
        assert!(matches!(harmless("é😀 plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_stays_what_it_says() {
        let json = serde_json::json!({ HARMFUL: HARMFUL }).to_string();
        let spaced = json.replace(':', ":\r\n\t");
        let line = harmless_json(&spaced);
        assert!(!line.contains(harms), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read[HARMFUL], HARMFUL);
        let mut written = vec![];
        io::Write::write_all(&mut JsonLines(&mut written), b"{\"a\":\"\xc2\x9b\"}\n").unwrap();
        assert_eq!(written, b"{\"a\":\"\\u009b\"}\n");
    }
}
