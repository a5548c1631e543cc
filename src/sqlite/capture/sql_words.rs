//! Statements as SQLite keeps them in its schema, cut into words: enough to find the parts of an index, and whether a trigger
//! fires after the change.

/// A word, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl Word<'_> {
    /// Returns whether this is the keyword; a quoted name never is.
    pub(super) fn is(self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }

    fn end(self) -> usize {
        self.start + self.text.len()
    }

    /// The name that the word can stand for, quotes taken off; `None` for numbers, strings and signs.
    pub(super) fn name(self) -> Option<String> {
        let inner = |open: char, close: char| {
            let inner = self.text.strip_prefix(open)?.strip_suffix(close)?;
            Some(inner.replace(&format!("{close}{close}"), &close.to_string()))
        };
        let first = self.text.chars().next()?;
        match first {
            '"' => inner('"', '"'),
            '`' => inner('`', '`'),
            '[' => inner('[', ']'),
            _ if is_letter(first) && !first.is_ascii_digit() => Some(self.text.to_owned()),
            _ => None,
        }
    }
}

/// A column's default as the schema tells it, as an expression that means the same anywhere: a name is a text there, not a
/// column, whether it is in quotes or not.
pub(super) fn default_value(told: &str) -> String {
    const CONSTANTS: [&str; 6] = [
        "NULL",
        "TRUE",
        "FALSE",
        "CURRENT_TIME",
        "CURRENT_DATE",
        "CURRENT_TIMESTAMP",
    ];
    let words = words(told);
    let name = words.first().filter(|_| words.len() == 1);
    match name.and_then(|word| word.name().map(|name| (word, name))) {
        Some((word, name)) if !CONSTANTS.iter().any(|constant| word.is(constant)) => {
            format!("'{}'", name.replace('\'', "''"))
        }
        _ => format!("({told})"),
    }
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// The words of a statement, comments left out.
pub(super) fn words(sql: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start = 0;
    while let Some(first) = sql[start..].chars().next() {
        let rest = &sql[start..];
        let length = match first {
            '\'' | '"' | '`' => quoted(rest, first),
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            c if is_letter(c) => rest.find(|c| !is_letter(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let text = &rest[..length];
        if !first.is_whitespace() && !text.starts_with("--") && !text.starts_with("/*") {
            words.push(Word { text, start });
        }
        start += length;
    }
    words
}

/// The length of what is in quotes, a doubled quote standing for one.
fn quoted(text: &str, quote: char) -> usize {
    let mut rest = text[1..].char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        if c == quote && rest.next_if(|(_, next)| *next == quote).is_none() {
            return at + 2;
        }
    }
    text.len()
}

/// What a `CREATE INDEX` says between its parentheses, item by item without `ASC` and `DESC`, and after its `WHERE`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IndexParts<'a> {
    pub(super) items: Vec<&'a str>,
    pub(super) predicate: Option<&'a str>,
}

/// Returns the parts of a `CREATE INDEX`; `None` for anything else.
pub(super) fn index_parts(sql: &str) -> Option<IndexParts<'_>> {
    let words = words(sql);
    let on = words.iter().position(|word| word.is("on"))?;
    let open = on + words[on..].iter().position(|word| word.text == "(")?;
    let mut depth = 0_usize;
    let mut items = Vec::new();
    let mut first = open + 1;
    for (at, word) in words.iter().enumerate().skip(open) {
        match word.text {
            "(" => depth += 1,
            ")" if depth > 1 => depth -= 1,
            "," if depth == 1 => {
                items.push(item(sql, &words[first..at])?);
                first = at + 1;
            }
            ")" => {
                items.push(item(sql, &words[first..at])?);
                let filtered = words.get(at + 1).filter(|word| word.is("where"));
                let predicate = filtered.map(|word| sql[word.end()..].trim());
                return Some(IndexParts { items, predicate });
            }
            _ => {}
        }
    }
    None
}

fn item<'a>(sql: &'a str, words: &[Word<'a>]) -> Option<&'a str> {
    let last = words.last()?;
    let words = match last.is("asc") || last.is("desc") {
        true => &words[..words.len() - 1],
        false => words,
    };
    Some(&sql[words.first()?.start..words.last()?.end()])
}

/// Returns whether a trigger fires after the change that makes it fire.
pub(super) fn fires_after(trigger: &str) -> bool {
    let words = words(trigger);
    let keyword = words.iter().position(|word| word.is("trigger"));
    // Behind the name, which may itself be a keyword.
    let behind = keyword.and_then(|at| words.get(at + 2));
    behind.is_some_and(|word| word.is("after"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_taken_apart() {
        let parts = index_parts(
            "CREATE UNIQUE INDEX \"on (\" ON t(a DESC, lower(b, '),') COLLATE NOCASE ASC /* ) */, \"c d\") WHERE a > 0 -- x\n AND b",
        );
        let parts = parts.unwrap();
        assert_eq!(
            parts.items,
            ["a", "lower(b, '),') COLLATE NOCASE", "\"c d\""]
        );
        assert_eq!(parts.predicate, Some("a > 0 -- x\n AND b"));
        assert_eq!(
            index_parts("CREATE INDEX i ON t(a)").unwrap().predicate,
            None
        );
        assert_eq!(index_parts("CREATE TABLE t(a)"), None);
    }

    #[test]
    fn names_are_read_in_every_quote() {
        let named = |sql: &str| {
            words(sql)
                .iter()
                .filter_map(|w| w.name())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            named("\"a\"\"b\" [c d] `e` f 'g' 7 + é"),
            ["a\"b", "c d", "e", "f", "é"]
        );
    }

    #[test]
    fn a_trigger_says_when_it_fires() {
        assert!(fires_after(
            "CREATE TRIGGER \"before\" AFTER INSERT ON t BEGIN SELECT 1; END"
        ));
        assert!(fires_after(
            "CREATE TRIGGER after after INSERT ON t BEGIN SELECT 1; END"
        ));
        for other in ["after BEFORE INSERT", "x INSERT", "x BEFORE DELETE"] {
            let sql = format!("CREATE TRIGGER {other} ON t BEGIN SELECT 1; END");
            assert!(!fires_after(&sql), "{sql}");
        }
    }
}
