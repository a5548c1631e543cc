//! Where a database lies: its path, the links on the way, and their directories.

use std::path::{Path, PathBuf};

use crate::sqlite::file::{FileId, directory_of};

/// As many links in a row as the kernel follows.
pub(super) const MAX_LINKS: usize = 40;

/// The directories that the places lie in, each once, and which directories these are; `None` where it is not there.
pub(super) fn directories(places: &[PathBuf]) -> Vec<(PathBuf, Option<FileId>)> {
    let mut paths: Vec<PathBuf> = places
        .iter()
        .map(|path| directory_of(path).to_owned())
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
        .into_iter()
        .map(|path| {
            let id = FileId::of(&path);
            (path, id)
        })
        .collect()
}

/// The path as given, what each link on the way points to (there or not: a writer may be about to make it), and the
/// real file, where links to directories make that another path still.
pub(super) fn places(database: &Path) -> Vec<PathBuf> {
    let mut places = vec![database.to_owned()];
    let mut last = database.to_owned();
    while places.len() <= MAX_LINKS
        && let Ok(target) = std::fs::read_link(&last)
    {
        last = directory_of(&last).join(target);
        places.push(last.clone());
    }
    if let Ok(real) = std::fs::canonicalize(database)
        && std::path::absolute(&last).ok().as_deref() != Some(&real)
    {
        places.push(real);
    }
    places
}
