//! Opening a database by URI, which can say what no flag does.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};

/// Opens a connection that only reads, with `parameters` of SQLite's URIs (<https://sqlite.org/uri.html>), e.g.
/// `immutable=1`.
pub fn open_by_uri(path: &Path, parameters: &str) -> rusqlite::Result<Connection> {
    // Slashes too: two of them at the beginning would be the name of a machine.
    let path = percent_encode(path.as_os_str().as_bytes(), NON_ALPHANUMERIC);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{path}?{parameters}"), flags)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn every_path_is_one() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            &b"plain.db"[..],
            b"a b?c#d%20&e=f.db",
            b"\xff\xe4.db",
            b"+'\".db",
        ] {
            let path = directory.path().join(OsStr::from_bytes(name));
            let made = Connection::open(&path).unwrap();
            made.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (7)")
                .unwrap();
            let read = |path: &Path| {
                let connection = open_by_uri(path, "immutable=1").unwrap();
                let value = connection.query_row("SELECT a FROM t", [], |row| row.get(0));
                value.unwrap_or(0)
            };
            let twice = [b"/", path.as_os_str().as_bytes()].concat();
            let (once, twice) = (read(&path), read(Path::new(OsStr::from_bytes(&twice))));
            assert_eq!((once, twice), (7, 7), "{}", path.display());
        }
    }
}
