//! Which file it is.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// Which file a path names at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
    /// Nanoseconds since 1970; 0 where the file system keeps no birth time. Tells a reused inode number.
    pub born: u64,
}

impl FileId {
    /// The file behind `path`, through symbolic links; `None` where there is none.
    pub fn of(path: &Path) -> Option<FileId> {
        let meta = std::fs::metadata(path).ok()?;
        Some(FileId::from(&meta))
    }
}

impl From<&Metadata> for FileId {
    fn from(meta: &Metadata) -> FileId {
        let born = meta.created().ok();
        let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        FileId {
            device: meta.dev(),
            inode: meta.ino(),
            born: born.map_or(0, |since_1970| since_1970.as_nanos() as u64),
        }
    }
}
