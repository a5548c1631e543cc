//! Where the database is, or will be, and whether it can be looked at.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::report::{self, Report};
use crate::commands::named_file::nearest_file;
use crate::sqlite::file::{companion, directory_of};

/// Where the database is, or will be.
pub(super) struct DatabasePlace {
    /// As it was configured.
    pub given: PathBuf,
    /// Behind all symbolic links, as far as there is something.
    pub real: PathBuf,
    pub directory: PathBuf,
    pub exists: bool,
}

impl DatabasePlace {
    pub(super) fn of(database: &Path) -> DatabasePlace {
        // A link to a file that is not there yet still says where the file will be.
        let target = match std::fs::read_link(database) {
            Ok(target) => directory_of(database).join(target),
            Err(_) => database.to_owned(),
        };
        let real = std::fs::canonicalize(database).or_else(|_| {
            let name = target.file_name().unwrap_or_default();
            std::fs::canonicalize(directory_of(&target)).map(|directory| directory.join(name))
        });
        let real = real.unwrap_or(target);
        DatabasePlace {
            given: database.to_owned(),
            directory: directory_of(&real).to_owned(),
            exists: real.exists(),
            real,
        }
    }

    /// The file's companion, e.g. `-wal`.
    pub(super) fn companion(&self, suffix: &str) -> PathBuf {
        companion(&self.real, suffix)
    }

    /// Says where it is; `false` where there is nothing to look into.
    pub(super) fn report(&self, report: &mut Report) -> bool {
        let shown = match std::fs::read_link(&self.given) {
            Ok(_) => format!(
                "{}, a link to {}",
                self.given.display(),
                self.real.display()
            ),
            Err(_) => self.real.display().to_string(),
        };
        match self.look_up_directory().and_then(|()| self.look_up_file()) {
            Ok(Some(bytes)) => report.ok("database", format!("{shown}, {}", report::size(bytes))),
            Ok(None) => {
                let text = format!("{shown} does not exist yet; it is served as soon as it does");
                match nearest_file(&self.real) {
                    Some(file) => {
                        let step = format!("did you mean {}?", file.display());
                        report.warn("database", text, &[step]);
                    }
                    None => report.note("database", text),
                }
            }
            Err(Problem { what, remedy }) => {
                report.problem("database", shown + &what, &[remedy]);
                return false;
            }
        }
        true
    }

    fn look_up_directory(&self) -> Result<(), Problem> {
        match std::fs::metadata(&self.directory) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(Problem {
                what: format!(": {} is not a directory", self.directory.display()),
                remedy: "name a file in a directory with --db or `database`".to_owned(),
            }),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(Problem {
                what: ": its directory does not exist".to_owned(),
                remedy: format!("mkdir -p {}", report::quoted(&self.directory)),
            }),
            Err(e) => Err(Problem {
                what: format!(": its directory can't be looked up ({e})"),
                remedy: format!(
                    "let this user search it: chmod o+x, or a shared group, on {} and every directory above it",
                    report::quoted(&self.directory)
                ),
            }),
        }
    }

    /// How large the file is; `None` where there is none yet.
    fn look_up_file(&self) -> Result<Option<u64>, Problem> {
        match std::fs::metadata(&self.real) {
            Ok(meta) if meta.is_dir() => Err(Problem {
                what: " is a directory".to_owned(),
                remedy: "name a file with --db or `database`".to_owned(),
            }),
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Problem {
                what: format!(" can't be looked up ({e})"),
                remedy: format!(
                    "let this user search {} (chmod, or a shared group)",
                    report::quoted(&self.directory)
                ),
            }),
        }
    }
}

/// What is wrong, in words that follow the name of the file, and how to mend it.
struct Problem {
    what: String,
    remedy: String,
}
