//! How settings are declared: each once, as an entry of [`settings!`]. What flags, variables and file come to, `--help`,
//! `walcast config`, the errors for unknown keys, and what a reload applies all follow from the entry.
//!
//! # How to add a setting
//! Add an entry to the section it belongs to (`limits.rs`, `access.rs`, `auth.rs`, `log.rs` and so on, [`super::Config`] for
//! the top of the file, `feeds.rs` for what each feed has):
//!
//! ```text
//! /// How long a client may accept no byte before it is closed.      documentation of the field, and `--help`
//! "write_timeout" write_timeout: Duration                            key in the file, field and type
//!     = Duration::from_secs(30),                                     default
//!     time().flag("--write-timeout").under(LIMITS).live();           what it means and takes, its flag, and (live) what a
//! ```                                                                reload applies
//!
//! What values mean, and their range, is said by the functions of `kinds.rs`; one for a new kind of value goes there. The
//! variable follows from the flag: `--write-timeout` is `WALCAST_WRITE_TIMEOUT`. Then name the key in the table of README.md
//! and in `systemd/walcast.example.toml`: a test tells where it is missing. A rule over several settings goes into
//! `resolve.rs`.
//!
//! A table of the file that may be missing, such as `[auth.jwt]`, is a struct of settings of its own that another names
//! under `optional`; so are keys that mean something only beside another, such as those beside `capture`. What has to be
//! said where the table is there is `required`.

use super::declaration::{Attributes, Read, Write};
use super::layers::{Layers, ValueSource};
use super::written::WrittenValue;

/// One setting, whatever the type of its value; `C` holds the value.
pub(super) struct Setting<C> {
    /// Dotted, as `log.level`.
    pub key: &'static str,
    /// Lines of documentation, each with the blank that begins it.
    pub doc: String,
    pub attributes: Attributes,
    /// The key without which it means nothing: that of a table around it, or its own or another beside it.
    pub needs: Option<&'static str>,
    pub value: Box<dyn Value<C>>,
}

impl<C: 'static> Setting<C> {
    /// Takes what the layers say, or leaves the value as it is. `prefix` stands before the key.
    pub(super) fn resolve(&self, layers: &mut Layers<'_>, prefix: &str, into: &mut C) {
        let key = format!("{prefix}{}", self.key);
        let place = self.value.resolve(layers, prefix, &key, into);
        layers.places.insert(key, place);
    }

    /// The value as it is written in a file.
    pub(super) fn written(&self, values: &C) -> Option<WrittenValue> {
        self.value.written(values)
    }

    /// Returns whether it could be said where `values` hold: whether what it needs is there.
    pub(super) fn is_there(&self, values: &C) -> bool {
        self.value.is_there(values)
    }

    pub(super) fn differs(&self, one: &C, other: &C) -> bool {
        self.value.differs(one, other)
    }

    pub(super) fn copy(&self, from: &C, to: &mut C) {
        self.value.copy(from, to);
    }

    /// The same setting of what `C` is a part of.
    pub(super) fn within<D: 'static>(
        self,
        get: fn(&D) -> &C,
        get_mut: fn(&mut D) -> &mut C,
    ) -> Setting<D> {
        let inner = self.value;
        Setting {
            key: self.key,
            doc: self.doc,
            attributes: self.attributes,
            needs: self.needs,
            value: Box::new(Part {
                get,
                get_mut,
                inner,
            }),
        }
    }

    /// The same setting of what has `C` only where the file has the key `needs`. It is read at start alone: some of what
    /// stands there can't be applied where the rest of it is new.
    pub(super) fn within_optional<D: 'static>(
        self,
        needs: &'static str,
        get: fn(&D) -> &Option<C>,
        get_mut: fn(&mut D) -> &mut Option<C>,
        unset: fn() -> C,
    ) -> Setting<D> {
        let inner = self.value;
        let in_table = self.key.strip_prefix(needs);
        Setting {
            key: self.key,
            doc: self.doc,
            attributes: Attributes {
                live: false,
                ..self.attributes
            },
            needs: Some(needs),
            value: Box::new(OptionalPart {
                needs,
                stands: match in_table {
                    Some("") => Stands::ForItself,
                    Some(rest) if rest.starts_with('.') => Stands::InTable,
                    _ => Stands::Beside,
                },
                get,
                get_mut,
                unset,
                inner,
            }),
        }
    }
}

/// The value of one setting in `C`, whatever its type.
pub(super) trait Value<C> {
    /// Takes what the layers say of `key`, which stands below `prefix`, and returns where that was.
    fn resolve(
        &self,
        layers: &mut Layers<'_>,
        prefix: &str,
        key: &str,
        into: &mut C,
    ) -> ValueSource;
    fn written(&self, values: &C) -> Option<WrittenValue>;
    fn is_there(&self, values: &C) -> bool;
    fn differs(&self, one: &C, other: &C) -> bool;
    fn copy(&self, from: &C, to: &mut C);
}

/// A value that is a field of `C`.
pub(super) struct Field<C, T> {
    pub get: fn(&C) -> &T,
    pub get_mut: fn(&mut C) -> &mut T,
    pub read: Read<T>,
    pub write: Write<T>,
    pub required: Option<&'static str>,
}

impl<C, T: Clone + PartialEq> Value<C> for Field<C, T> {
    fn resolve(&self, layers: &mut Layers<'_>, _: &str, key: &str, into: &mut C) -> ValueSource {
        if let Some(example) = self.required
            && !layers.is_said(key)
        {
            let place = layers.place(key);
            layers.problem(&place, &format!("{key}: is missing; write {example}"));
        }
        match layers.said(key, &self.read) {
            Some((place, value)) => {
                *(self.get_mut)(into) = value;
                place
            }
            None => ValueSource::Default,
        }
    }

    fn written(&self, values: &C) -> Option<WrittenValue> {
        (self.write)((self.get)(values))
    }

    fn is_there(&self, _: &C) -> bool {
        true
    }

    fn differs(&self, one: &C, other: &C) -> bool {
        (self.get)(one) != (self.get)(other)
    }

    fn copy(&self, from: &C, to: &mut C) {
        (self.get_mut)(to).clone_from((self.get)(from));
    }
}

/// A value of a part of `D`.
struct Part<C, D> {
    get: fn(&D) -> &C,
    get_mut: fn(&mut D) -> &mut C,
    inner: Box<dyn Value<C>>,
}

impl<C, D> Value<D> for Part<C, D> {
    fn resolve(
        &self,
        layers: &mut Layers<'_>,
        prefix: &str,
        key: &str,
        into: &mut D,
    ) -> ValueSource {
        self.inner
            .resolve(layers, prefix, key, (self.get_mut)(into))
    }

    fn written(&self, values: &D) -> Option<WrittenValue> {
        self.inner.written((self.get)(values))
    }

    fn is_there(&self, values: &D) -> bool {
        self.inner.is_there((self.get)(values))
    }

    fn differs(&self, one: &D, other: &D) -> bool {
        self.inner.differs((self.get)(one), (self.get)(other))
    }

    fn copy(&self, from: &D, to: &mut D) {
        self.inner.copy((self.get)(from), (self.get_mut)(to));
    }
}

/// A value of a part that `D` has only where the file has a key.
struct OptionalPart<C, D> {
    /// The key.
    needs: &'static str,
    stands: Stands,
    get: fn(&D) -> &Option<C>,
    get_mut: fn(&mut D) -> &mut Option<C>,
    unset: fn() -> C,
    inner: Box<dyn Value<C>>,
}

/// Where a setting stands, seen from the key that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// The key is its own.
    ForItself,
    Beside,
    /// The key is that of a table, and it is a key of that.
    InTable,
}

impl<C, D> Value<D> for OptionalPart<C, D> {
    fn resolve(
        &self,
        layers: &mut Layers<'_>,
        prefix: &str,
        key: &str,
        into: &mut D,
    ) -> ValueSource {
        let node = layers.node(&format!("{prefix}{}", self.needs));
        let is_there = node.is_some_and(|node| match self.stands {
            Stands::InTable => matches!(node.value, WrittenValue::Table(_)),
            Stands::ForItself | Stands::Beside => true,
        });
        if !is_there {
            return ValueSource::Default;
        }
        let part = (self.get_mut)(into).get_or_insert_with(self.unset);
        self.inner.resolve(layers, prefix, key, part)
    }

    fn written(&self, values: &D) -> Option<WrittenValue> {
        let part = (self.get)(values).as_ref()?;
        self.inner.written(part)
    }

    fn is_there(&self, values: &D) -> bool {
        let part = (self.get)(values).as_ref();
        self.stands == Stands::ForItself || part.is_some_and(|part| self.inner.is_there(part))
    }

    fn differs(&self, one: &D, other: &D) -> bool {
        match ((self.get)(one), (self.get)(other)) {
            (Some(one), Some(other)) => self.inner.differs(one, other),
            (one, other) => one.is_some() != other.is_some(),
        }
    }

    fn copy(&self, from: &D, to: &mut D) {
        match (self.get)(from) {
            None => *(self.get_mut)(to) = None,
            Some(part) => {
                let to = (self.get_mut)(to).get_or_insert_with(self.unset);
                self.inner.copy(part, to);
            }
        }
    }
}

/// Makes a struct of settings from one entry for each, see the documentation of this module. Where one value may be given
/// under two keys, `"a" | "b"`, each has a meaning of its own. After the entries may come
/// - `parts`, which are such structs themselves;
/// - `optional`, the same where they need a key that the file may be without: the field is an `Option`;
/// - `others`, fields that are no settings.
///
/// The struct has
/// - `unset`: each setting as it is where nothing is said of it; defaults may depend on its arguments. What is required
///   is empty;
/// - `settings`: what is declared, in the order of the entries, those of the parts last.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(($context:ident: $context_type:ty))? {
            $(
                $(#[doc = $doc:literal])+
                $key:literal $(| $other_key:literal)? $field:ident: $type:ty = $default:expr,
                    $declaration:expr $(, $other_declaration:expr)?;
            )*
        }
        $(parts { $($(#[$part_meta:meta])* $part:ident: $part_type:ident,)* })?
        $(optional { $($(#[$optional_meta:meta])* $needs:literal $optional:ident: $optional_type:ident,)* })?
        $(others { $($(#[$other_meta:meta])* $other:ident: $other_type:ty = $other_default:expr;)* })?
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
            $($($(#[$part_meta])* pub $part: $part_type,)*)?
            $($($(#[$optional_meta])* pub $optional: Option<$optional_type>,)*)?
            $($($(#[$other_meta])* pub $other: $other_type,)*)?
        }

        impl $name {
            /// What holds where nothing is said.
            pub(in crate::config) fn unset($($context: $context_type)?) -> Self {
                Self {
                    $($field: $default,)*
                    $($($part: $part_type::unset(),)*)?
                    $($($optional: None,)*)?
                    $($($other: $other_default,)*)?
                }
            }

            /// The settings it holds, in the order in which they are declared.
            pub(in crate::config) fn settings() -> Vec<$crate::config::setting::Setting<Self>> {
                #[allow(unused_mut, reason = "only structs with parts add to it")]
                let mut settings = vec![$(
                    $declaration.at(
                        $key,
                        &[$(concat!($doc, "\n")),+],
                        |values: &Self| &values.$field,
                        |values: &mut Self| &mut values.$field,
                    ),
                    $($other_declaration.at(
                        $other_key,
                        &[],
                        |values: &Self| &values.$field,
                        |values: &mut Self| &mut values.$field,
                    ),)?
                )*];
                $($(settings.extend($part_type::settings().into_iter().map(|setting| setting.within(
                    |values: &Self| &values.$part,
                    |values: &mut Self| &mut values.$part,
                )));)*)?
                $($(settings.extend($optional_type::settings().into_iter().map(|setting| setting.within_optional(
                    $needs,
                    |values: &Self| &values.$optional,
                    |values: &mut Self| &mut values.$optional,
                    $optional_type::unset,
                )));)*)?
                settings
            }
        }
    };
}

pub(super) use settings;
