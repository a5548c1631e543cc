//! Where and how SQLite can be made to fail, in words that the daemon under test and the test share.

use std::str::FromStr;

use rusqlite::ffi;

/// A call that SQLite makes of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Place {
    OpenDatabase,
    OpenWal,
    OpenJournal,
    Access,
    Delete,
    FullPath,
    ReadDatabase,
    ReadWal,
    ReadJournal,
    WriteDatabase,
    WriteWal,
    WriteJournal,
    Truncate,
    Sync,
    Size,
    Lock,
    Unlock,
    CheckReserved,
    ShmMap,
    ShmLock,
}

impl Place {
    pub const ALL: [Place; 20] = [
        Place::OpenDatabase,
        Place::OpenWal,
        Place::OpenJournal,
        Place::Access,
        Place::Delete,
        Place::FullPath,
        Place::ReadDatabase,
        Place::ReadWal,
        Place::ReadJournal,
        Place::WriteDatabase,
        Place::WriteWal,
        Place::WriteJournal,
        Place::Truncate,
        Place::Sync,
        Place::Size,
        Place::Lock,
        Place::Unlock,
        Place::CheckReserved,
        Place::ShmMap,
        Place::ShmLock,
    ];

    /// What SQLite calls an I/O error at this place.
    pub fn io_error(self) -> i32 {
        match self {
            Place::OpenDatabase | Place::OpenWal | Place::OpenJournal | Place::FullPath => {
                ffi::SQLITE_CANTOPEN
            }
            Place::Access => ffi::SQLITE_IOERR_ACCESS,
            Place::Delete => ffi::SQLITE_IOERR_DELETE,
            Place::ReadDatabase | Place::ReadWal | Place::ReadJournal => ffi::SQLITE_IOERR_READ,
            Place::WriteDatabase | Place::WriteWal | Place::WriteJournal => ffi::SQLITE_IOERR_WRITE,
            Place::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
            Place::Sync => ffi::SQLITE_IOERR_FSYNC,
            Place::Size => ffi::SQLITE_IOERR_FSTAT,
            Place::Lock => ffi::SQLITE_IOERR_LOCK,
            Place::Unlock => ffi::SQLITE_IOERR_UNLOCK,
            Place::CheckReserved => ffi::SQLITE_IOERR_CHECKRESERVEDLOCK,
            Place::ShmMap => ffi::SQLITE_IOERR_SHMMAP,
            Place::ShmLock => ffi::SQLITE_IOERR_SHMLOCK,
        }
    }
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// With the I/O error of its place.
    Io,
    /// Somebody holds a lock.
    Busy,
    /// No space is left.
    Full,
    NoMemory,
    /// Nothing is read: the buffer holds zeros, as beyond the end of a file that was cut.
    ShortRead,
    /// It works, but takes two seconds.
    Slow,
}

impl Fault {
    pub const ALL: [Fault; 6] = [
        Fault::Io,
        Fault::Busy,
        Fault::Full,
        Fault::NoMemory,
        Fault::ShortRead,
        Fault::Slow,
    ];
}

/// `Place` and `Fault` are written as in the source.
fn named<T: std::fmt::Debug + Copy>(all: &[T], name: &str) -> Result<T, String> {
    let found = all.iter().find(|item| format!("{item:?}") == name);
    found
        .copied()
        .ok_or_else(|| format!("nothing is called {name:?}"))
}

/// Calls at a place that are to fail: after `passed` more that work, `failing` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    pub place: Place,
    pub fault: Fault,
    pub passed: u64,
    pub failing: u64,
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Order {
            place,
            fault,
            passed,
            failing,
        } = self;
        write!(f, "{place:?} {fault:?} {passed} {failing}")
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Order, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [place, fault, passed, failing] = words[..] else {
            return Err(format!("not four words: {text:?}"));
        };
        let number = |word: &str| word.parse().map_err(|e| format!("{word:?}: {e}"));
        Ok(Order {
            place: named(&Place::ALL, place)?,
            fault: named(&Fault::ALL, fault)?,
            passed: number(passed)?,
            failing: number(failing)?,
        })
    }
}
