//! Texts in columns: how many cells of a terminal they take, and what makes them take a given number.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Returns how many cells of a terminal the text takes, which must hold no control characters.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text and spaces after it, together `wide` cells; the text alone where it is wider.
pub fn padded(text: &str, wide: usize) -> String {
    let spaces = wide.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(spaces))
}

/// The text where it takes no more than `wide` cells, else its beginning and an ellipsis, which do.
pub fn cut(text: &str, wide: usize) -> String {
    if width(text) <= wide {
        return text.to_owned();
    }
    let mut left = wide.saturating_sub(1);
    let fits = |c: &char| {
        let needed = c.width().unwrap_or_default();
        let fits = needed <= left;
        left = left.saturating_sub(needed);
        fits
    };
    let mut shown: String = text.chars().take_while(fits).collect();
    shown.push('…');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_to_cells() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("日本語テキスト", 6), "日本…");
        assert_eq!(width("e\u{301}日"), 3);
    }

    #[test]
    fn what_is_one_character_to_people_is_measured_as_one() {
        // A flag, a family joined by U+200D, a heart made an emoji, Hangul in single letters.
        for (text, cells) in [
            ("🇩🇪", 2),
            ("👩\u{200d}👩\u{200d}👧", 2),
            ("❤\u{fe0f}", 2),
            ("\u{1112}\u{1161}\u{11ab}", 2),
        ] {
            assert_eq!(width(text), cells, "{text}");
            assert_eq!(padded(text, 5), format!("{text}{}", " ".repeat(5 - cells)));
        }
    }
}
