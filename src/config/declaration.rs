//! What is said of a setting beside its key, its field and its default.

use super::setting::{Field, Setting};
use super::written::WrittenValue;

/// A value as it is read from a layer, or what is wrong with it and how to mend it.
pub(super) type Read<T> = Box<dyn Fn(&WrittenValue) -> Result<T, String>>;

/// A value as it is written in a file; `None` where it has none.
pub(super) type Write<T> = Box<dyn Fn(&T) -> Option<WrittenValue>>;

/// What a setting of this kind takes and means, and how it can be given.
pub(super) struct Declaration<T> {
    read: Read<T>,
    write: Write<T>,
    required: Option<&'static str>,
    attributes: Attributes,
}

/// What does not depend on the type of a setting's value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub takes: Takes,
    pub value_name: &'static str,
    pub flag: Option<&'static str>,
    pub heading: Option<&'static str>,
    /// Whether a reload applies it.
    pub live: bool,
    /// What holds where it has no value; `None`: nothing that needs to be told.
    pub otherwise: Option<&'static str>,
    pub help_default: Option<HelpDefault>,
}

/// What help says of a default that depends on something.
#[derive(Debug, Clone, Copy)]
pub(super) enum HelpDefault {
    /// Behind what the flag does.
    Beside(&'static str),
    /// In a paragraph of the long help alone.
    Below(&'static str),
}

/// What the flag of a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Some text.
    Text,
    /// The path of a file.
    File,
    /// The path of a directory.
    Directory,
    /// Texts: the flag may be repeated, and its variable holds several, separated by commas.
    Texts,
    /// The same with paths of files.
    Files,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Some text; these are offered.
    Offered(&'static [&'static str]),
    /// `true` or `false`; the flag alone means `true`.
    Truth,
}

impl<T: 'static> Declaration<T> {
    /// A kind of value: how it is read and written, and what a flag calls it.
    pub(super) fn new(
        value_name: &'static str,
        read: impl Fn(&WrittenValue) -> Result<T, String> + 'static,
        write: impl Fn(&T) -> WrittenValue + 'static,
    ) -> Self {
        Self::perhaps(value_name, read, move |value| Some(write(value)))
    }

    /// As [`Self::new`], where some values can't be written: those of a setting of which nothing is said.
    pub(super) fn perhaps(
        value_name: &'static str,
        read: impl Fn(&WrittenValue) -> Result<T, String> + 'static,
        write: impl Fn(&T) -> Option<WrittenValue> + 'static,
    ) -> Self {
        Self {
            read: Box::new(read),
            write: Box::new(write),
            required: None,
            attributes: Attributes {
                takes: Takes::Text,
                value_name,
                flag: None,
                heading: None,
                live: false,
                otherwise: None,
                help_default: None,
            },
        }
    }

    /// A value that may be missing. `otherwise` says what holds then.
    pub(super) fn optional(self, otherwise: &'static str) -> Declaration<Option<T>> {
        let Self { read, write, .. } = self;
        Declaration {
            read: Box::new(move |written| read(written).map(Some)),
            write: Box::new(move |value| value.as_ref().and_then(&write)),
            required: self.required,
            attributes: self.attributes,
        }
        .otherwise(otherwise)
    }

    /// The same kind, whose values are read in another way.
    pub(super) fn read_by(
        self,
        read: impl Fn(&WrittenValue) -> Result<T, String> + 'static,
    ) -> Self {
        let read = Box::new(read);
        Self { read, ..self }
    }

    /// It has to be said, wherever the table is there that it stands in. `example` is a line that says it.
    pub(super) fn required(self, example: &'static str) -> Self {
        let read = self.read;
        Self {
            required: Some(example),
            // What else is empty can be left out.
            read: Box::new(move |written| match written {
                WrittenValue::Text(text) if text.is_empty() => {
                    Err(format!("is empty; write {example}"))
                }
                written => read(written),
            }),
            ..self
        }
    }

    /// What holds where it has no value.
    pub(super) fn otherwise(mut self, otherwise: &'static str) -> Self {
        self.attributes.otherwise = Some(otherwise);
        self
    }

    pub(super) fn takes(mut self, takes: Takes) -> Self {
        self.attributes.takes = takes;
        self
    }

    /// The setting has this flag, written with its dashes, and the variable that follows from it.
    pub(super) fn flag(mut self, flag: &'static str) -> Self {
        self.attributes.flag = Some(flag);
        self
    }

    /// What help calls the value of the flag, where the kind's own name says too little.
    pub(super) fn called(mut self, value_name: &'static str) -> Self {
        self.attributes.value_name = value_name;
        self
    }

    /// The heading of help under which the flag stands.
    pub(super) fn under(mut self, heading: &'static str) -> Self {
        self.attributes.heading = Some(heading);
        self
    }

    /// What help says of a default that depends on something.
    pub(super) fn help_default(mut self, default: HelpDefault) -> Self {
        self.attributes.help_default = Some(default);
        self
    }

    /// A reload applies it; other settings are read at start alone.
    pub(super) fn live(mut self) -> Self {
        self.attributes.live = true;
        self
    }
}

impl<T: 'static> Declaration<Vec<T>> {
    /// Nothing in the list is as good as nothing said. `otherwise` says what holds then.
    pub(super) fn unless_empty(self, otherwise: &'static str) -> Self {
        let write = self.write;
        let write = move |items: &Vec<T>| write(items).filter(|_| !items.is_empty());
        Self {
            write: Box::new(write),
            ..self
        }
        .otherwise(otherwise)
    }
}

impl<T: Clone + PartialEq + 'static> Declaration<T> {
    /// The setting that this declares: its `key`, the lines of its documentation, and the field of `C` that holds its
    /// value.
    pub(super) fn at<C: 'static>(
        self,
        key: &'static str,
        doc: &[&str],
        get: fn(&C) -> &T,
        get_mut: fn(&mut C) -> &mut T,
    ) -> Setting<C> {
        Setting {
            key,
            doc: doc.concat(),
            attributes: self.attributes,
            needs: None,
            value: Box::new(Field {
                get,
                get_mut,
                read: self.read,
                write: self.write,
                required: self.required,
            }),
        }
    }
}
