//! The flags of settings, as the command line needs them.

use super::arguments::variable;
use super::declaration::{HelpDefault, Takes};
use super::setting::Setting;

/// The flag of a setting.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The setting's key in the file.
    pub key: &'static str,
    /// Without dashes.
    pub name: &'static str,
    /// The variable that stands in for it.
    pub variable: String,
    /// What it does, in a line, with its default.
    pub short: String,
    /// The same and more, where there is more to say.
    pub long: Option<String>,
    /// The group it stands in.
    pub heading: Option<&'static str>,
    pub value_name: &'static str,
    pub takes: Takes,
}

impl Flag {
    /// The flag of this setting, where it has one; `unset` holds what it is without.
    pub(super) fn of<C: 'static>(setting: &Setting<C>, unset: &C) -> Option<Self> {
        let attributes = setting.attributes;
        let name = attributes.flag?.strip_prefix("--")?;
        let mut paragraphs = paragraphs(&setting.doc).into_iter();
        let first = paragraphs.next()?;
        let mut short = first.trim_end_matches('.').to_owned();
        let mut further: Vec<String> = paragraphs.collect();
        let default = |default: &str| format!("[default: {default}]");
        match (attributes.help_default, setting.written(unset)) {
            (Some(HelpDefault::Below(words)), _) => further.push(default(words)),
            (Some(HelpDefault::Beside(words)), _) => short += &format!(" {}", default(words)),
            (None, Some(value)) => short += &format!(" {}", default(&value.plain())),
            (None, None) => {
                let otherwise = attributes.otherwise.unwrap_or("none");
                short += &format!(" {}", default(otherwise));
            }
        }
        let long = (!further.is_empty()).then(|| format!("{short}\n\n{}", further.join("\n\n")));
        Some(Self {
            key: setting.key,
            name,
            variable: variable(name),
            short,
            long,
            heading: attributes.heading,
            value_name: attributes.value_name,
            takes: attributes.takes,
        })
    }
}

/// The paragraphs of a documentation, each on one line.
fn paragraphs(doc: &str) -> Vec<String> {
    let lines: Vec<&str> = doc.lines().map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty());
    paragraphs.map(|lines| lines.join(" ")).collect()
}
