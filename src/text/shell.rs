//! Words as a shell takes them, for commands that are printed to be pasted.

use std::borrow::Cow;

/// Returns the word as it is typed into a shell: as it is where that is plain, else in single quotes.
pub fn typed(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_read_otherwise_is_quoted() {
        assert_eq!(typed("/var/lib/a-b.db"), "/var/lib/a-b.db");
        assert_eq!(typed("it's here"), r"'it'\''s here'");
        assert_eq!(typed("$HOME"), "'$HOME'");
        assert_eq!(typed("zażółć"), "'zażółć'");
        assert_eq!(typed(""), "''");
    }
}
