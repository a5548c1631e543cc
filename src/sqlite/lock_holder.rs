//! Who holds a lock on a file, for the log.

use std::path::Path;

#[cfg(target_os = "linux")]
use crate::sqlite::file::FileId;

/// How often the list of locks is read before nobody is taken to hold one. Linux gives it a page at a time and counts its place in
/// lines: where locks go between two pages, as many lines are left out.
#[cfg(target_os = "linux")]
const READINGS: u32 = 4;

/// Returns the program that holds a lock on the database that keeps everybody else out, as `python3 (process 123)`. `None` where
/// nobody does, or where it can't be seen from here.
#[cfg(target_os = "linux")]
pub fn of(database: &Path) -> Option<String> {
    let file = FileId::of(database)?;
    let process = (0..READINGS).find_map(|_| {
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| holder(line, file))
    })?;
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    // A process may call itself anything.
    let name: String = name
        .trim_end()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    Some(match name.as_str() {
        "" => format!("process {process}"),
        name => format!("{name} (process {process})"),
    })
}

/// Nothing tells of locks here.
#[cfg(not(target_os = "linux"))]
pub fn of(_: &Path) -> Option<String> {
    None
}

/// The process of a line of `/proc/locks`, where that is a lock for writing on this file.
#[cfg(target_os = "linux")]
fn holder(line: &str, file: FileId) -> Option<u32> {
    // `1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF`; one that waits has an arrow after its number.
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (kind, _, access) = (fields.next()?, fields.next()?, fields.next()?);
    let process = fields.next()?.parse().ok()?;
    let mut place = fields.next()?.split(':');
    let (major, minor) = (place.next()?, place.next()?);
    let number = |text| u32::from_str_radix(text, 16).ok();
    let device = rustix::fs::makedev(number(major)?, number(minor)?);
    let same = place.next()?.parse() == Ok(file.inode) && device == file.device;
    (matches!(kind, "POSIX" | "OFDLCK") && access == "WRITE" && same).then_some(process)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_lock_for_writing_on_the_file_names_its_process() {
        let file = FileId {
            device: rustix::fs::makedev(0xfd, 1),
            inode: 77,
            born: 0,
        };
        let of = |line: &str| holder(line, file);
        assert_eq!(
            of("3: POSIX  ADVISORY  WRITE 3568 fd:01:77 1073741824 1073742335"),
            Some(3568)
        );
        for other in [
            "3: POSIX  ADVISORY  READ 3568 fd:01:77 1073741826 1073742335",
            "3: -> POSIX  ADVISORY  WRITE 3568 fd:01:77 1073741826 1073742335",
            "3: POSIX  ADVISORY  WRITE 3568 fd:01:78 0 EOF",
            "3: POSIX  ADVISORY  WRITE 3568 fd:02:77 0 EOF",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
