//! What flags and `WALCAST_*` variables say, before anybody judges it.

use std::collections::BTreeMap;

use super::layers::ValueSource;

/// The raw settings of the daemon. Each is a flag, a `WALCAST_*` variable, a key of the file or a default, in this order.
#[derive(Debug, Clone, Default)]
pub struct ServeArgs {
    /// The database that was named to be served as it is.
    pub file: Option<String>,
    /// The configuration file.
    pub config: Option<String>,
    /// Open the dashboard in a browser once it is served.
    pub open: bool,
    /// What was said of settings, by key.
    said: BTreeMap<String, Said>,
}

#[derive(Debug, Clone)]
pub(super) struct Said {
    pub texts: Vec<String>,
    pub place: ValueSource,
}

const DATABASE: &str = "database";

impl ServeArgs {
    /// As if this FILE had been named, and nothing else.
    pub fn of_file(file: &str) -> Self {
        let mut args = Self::default();
        args.name_file(file);
        args
    }

    /// As if this configuration had been named, and nothing else.
    pub fn of_config(file: &str) -> Self {
        Self {
            config: Some(file.to_owned()),
            ..Self::default()
        }
    }

    /// Names the database to be served as it is. It goes before `WALCAST_DB`.
    pub fn name_file(&mut self, file: &str) {
        self.file = Some(file.to_owned());
        self.say(DATABASE, &[file], ValueSource::Flag("FILE".to_owned()));
    }

    /// Names no database, neither by FILE nor by its flag or variable.
    pub fn forget_database(&mut self) {
        self.file = None;
        self.said.remove(DATABASE);
    }

    /// Returns whether the flag for the database was given.
    pub fn names_database(&self) -> bool {
        let said = self.said.get(DATABASE);
        said.is_some_and(|said| matches!(said.place, ValueSource::Flag(_)))
    }

    /// As if `--anonymous` had been given, unless something is said of it on the command line.
    pub fn serve_anyone_unless_said(&mut self) {
        if self.texts("auth.anonymous").is_empty() {
            self.say_by_flag("auth.anonymous", "anonymous", &["true"]);
        }
    }

    /// Notes what the flag `name` (without dashes) of the setting `key` was given.
    pub fn say_by_flag(&mut self, key: &str, name: &str, texts: &[&str]) {
        self.say(key, texts, ValueSource::Flag(format!("--{name}")));
    }

    /// Notes what the variable for the flag `name` of the setting `key` holds. An empty one counts as unset: that is how
    /// shells and unit files clear it.
    pub fn say_by_variable(&mut self, key: &str, name: &str, texts: &[&str]) {
        if texts != [""] {
            self.say(key, texts, ValueSource::Environment(variable(name)));
        }
    }

    fn say(&mut self, key: &str, texts: &[&str], place: ValueSource) {
        let texts = texts.iter().copied().map(str::to_owned).collect();
        self.said.insert(key.to_owned(), Said { texts, place });
    }

    /// Returns what was given for the setting `key`: nothing, a text, or several where it takes them.
    pub fn texts(&self, key: &str) -> &[String] {
        self.said(key).map_or(&[], |said| &said.texts)
    }

    pub(super) fn said(&self, key: &str) -> Option<&Said> {
        self.said.get(key)
    }
}

/// The variable that stands in for the flag `name`, which is without dashes.
pub(super) fn variable(name: &str) -> String {
    format!("WALCAST_{}", name.to_uppercase().replace('-', "_"))
}
