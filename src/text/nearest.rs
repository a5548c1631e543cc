//! The right name for one that was mistyped.

/// Half of the letters right is a typing error; fewer is another word, and a guess would mislead.
const ALIKE: f64 = 0.5;

/// Returns the known name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let likeness =
        |known: &str| strsim::normalized_damerau_levenshtein(&name, &known.to_lowercase());
    let rated = known.into_iter().map(|known| (likeness(known), known));
    let best = rated.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(likeness, _)| *likeness >= ALIKE)
        .map(|(_, known)| known)
}

/// ` (did you mean "…"?)` where there is a name that was probably meant; else nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |known| format!(" (did you mean \"{known}\"?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_told_from_another_word() {
        let known = ["orders", "customers"];
        assert_eq!(nearest("Ordres", known), Some("orders"));
        assert_eq!(nearest("x", known), None);
        assert_eq!(did_you_mean("order", known), " (did you mean \"orders\"?)");
        assert_eq!(did_you_mean("order", []), "");
    }
}
