//! SQLite's VFS for Unix, failing where it was told to.
//!
//! Everything is done by the real VFS. Its files are given other methods, which ask [`fault`] first; where the real
//! methods are is kept in a word behind the file that SQLite makes room for.
//!
//! Why the unsafe code here is sound: SQLite calls these functions, with arguments that its interface says are valid for
//! the call, and they pass them on as they came to the real VFS, whose functions are called with the same promise. `REAL`
//! is set before the VFS is registered, so before any call, and lives as long as the process. A file's `pMethods` are
//! ours only once [`open`] has written the word behind it, for which `szOsFile` makes room.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "all of them pass a call on; the proof above is that of each"
)]

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use rusqlite::ffi;
use rusqlite::ffi::{sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

use super::places::{Fault, Order, Place};

/// What [`Fault::Slow`] adds to a call.
pub const SLOW: Duration = Duration::from_secs(2);
/// Stands for a fault that is no error.
const NONE: c_int = ffi::SQLITE_OK;

/// The calls at one place, and which of them fail.
struct Site {
    calls: AtomicU64,
    /// Those from `first` on, before `end`.
    first: AtomicU64,
    end: AtomicU64,
    code: AtomicI32,
    fired: AtomicU64,
}

static SITES: [Site; Place::ALL.len()] = [const {
    Site {
        calls: AtomicU64::new(0),
        first: AtomicU64::new(0),
        end: AtomicU64::new(0),
        code: AtomicI32::new(NONE),
        fired: AtomicU64::new(0),
    }
}; Place::ALL.len()];

static REAL: AtomicPtr<sqlite3_vfs> = AtomicPtr::new(std::ptr::null_mut());

/// Has calls fail from now on.
pub fn arm(order: Order) {
    let site = &SITES[order.place as usize];
    let code = match order.fault {
        Fault::Io => order.place.io_error(),
        Fault::Busy => ffi::SQLITE_BUSY,
        Fault::Full => ffi::SQLITE_FULL,
        Fault::NoMemory => ffi::SQLITE_IOERR_NOMEM,
        Fault::ShortRead => ffi::SQLITE_IOERR_SHORT_READ,
        Fault::Slow => NONE,
    };
    site.end.store(0, SeqCst);
    site.code.store(code, SeqCst);
    site.fired.store(0, SeqCst);
    let first = site.calls.load(SeqCst) + 1 + order.passed;
    site.first.store(first, SeqCst);
    site.end.store(first.saturating_add(order.failing), SeqCst);
}

/// Has everything work again; gives how many calls failed.
pub fn disarm() -> u64 {
    let fired = SITES.iter().map(|site| {
        site.end.store(0, SeqCst);
        site.fired.swap(0, SeqCst)
    });
    fired.sum()
}

/// Counts a call, and gives the code it is to fail with.
fn fault(place: Place) -> Option<c_int> {
    let site = &SITES[place as usize];
    let call = site.calls.fetch_add(1, SeqCst) + 1;
    if call < site.first.load(SeqCst) || call >= site.end.load(SeqCst) {
        return None;
    }
    site.fired.fetch_add(1, SeqCst);
    match site.code.load(SeqCst) {
        NONE => {
            std::thread::sleep(SLOW);
            None
        }
        code => Some(code),
    }
}

/// Registers the VFS under the name `faulty`, for all connections that name no other where it is the `default`.
pub fn register(default: bool) {
    // SAFETY: SQLite's list of VFSs always has a default, which lives as long as the process and is a plain C struct.
    // The copy is leaked, so it lives as long too; it is registered once, before any connection is opened.
    unsafe {
        let real = ffi::sqlite3_vfs_find(std::ptr::null());
        assert!(!real.is_null(), "SQLite has a VFS");
        assert!(REAL.swap(real, SeqCst).is_null(), "registered twice");
        let size = usize::try_from((*real).szOsFile).expect("a size is positive");
        assert_eq!(size % align_of::<*const sqlite3_io_methods>(), 0);
        let word = c_int::try_from(size_of::<*const sqlite3_io_methods>()).expect("it is 8");
        let faulty = Box::leak(Box::new(sqlite3_vfs {
            szOsFile: (*real).szOsFile + word,
            pNext: std::ptr::null_mut(),
            zName: c"faulty".as_ptr(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_path),
            ..*real
        }));
        let code = ffi::sqlite3_vfs_register(faulty, c_int::from(default));
        assert_eq!(code, ffi::SQLITE_OK, "the VFS can be registered");
    }
}

/// Which of a database's files it is.
const DATABASE: u8 = 0;
const WAL: u8 = 1;
const JOURNAL: u8 = 2;

const fn at(kind: u8, places: [Place; 3]) -> Place {
    places[kind as usize]
}

/// Has a call fail where that is due.
macro_rules! may_fail {
    ($place:expr) => {
        if let Some(code) = fault($place) {
            return code;
        }
    };
}

// SAFETY of every function below: SQLite calls them as its VFS interface says, so all pointers are what that interface
// promises: `file` was opened by `open`, buffers are as long as said, and names are C strings. They are handed on
// unchanged to the real VFS, which is the one the struct was copied from.

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let methods = match flags {
        _ if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 => {
            may_fail!(Place::OpenDatabase);
            &METHODS[usize::from(DATABASE)]
        }
        _ if flags & ffi::SQLITE_OPEN_WAL != 0 => {
            may_fail!(Place::OpenWal);
            &METHODS[usize::from(WAL)]
        }
        _ if flags & ffi::SQLITE_OPEN_MAIN_JOURNAL != 0 => {
            may_fail!(Place::OpenJournal);
            &METHODS[usize::from(JOURNAL)]
        }
        // Temporary files are nobody's data.
        _ => return unsafe { real_open(name, file, flags, out) },
    };
    unsafe {
        let code = real_open(name, file, flags, out);
        if code == ffi::SQLITE_OK && !(*file).pMethods.is_null() {
            *word_behind(file) = (*file).pMethods;
            (*file).pMethods = methods;
        }
        code
    }
}

unsafe fn real_open(
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    unsafe {
        let real = REAL.load(SeqCst);
        (*file).pMethods = std::ptr::null();
        (*real).xOpen.expect("a VFS opens")(real, name, file, flags, out)
    }
}

/// The word that [`register`] had SQLite add to each file.
unsafe fn word_behind(file: *mut sqlite3_file) -> *mut *const sqlite3_io_methods {
    unsafe {
        let size = (*REAL.load(SeqCst)).szOsFile;
        file.byte_offset(size as isize).cast()
    }
}

unsafe fn real(file: *mut sqlite3_file) -> &'static sqlite3_io_methods {
    unsafe { &**word_behind(file) }
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    may_fail!(Place::Delete);
    unsafe {
        let real = REAL.load(SeqCst);
        (*real).xDelete.expect("a VFS deletes")(real, name, sync)
    }
}

unsafe extern "C" fn access(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    may_fail!(Place::Access);
    unsafe {
        let real = REAL.load(SeqCst);
        (*real).xAccess.expect("a VFS looks")(real, name, flags, out)
    }
}

unsafe extern "C" fn full_path(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    may_fail!(Place::FullPath);
    unsafe {
        let real = REAL.load(SeqCst);
        (*real).xFullPathname.expect("a VFS knows paths")(real, name, length, out)
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    unsafe { real(file).xClose.expect("files are closed")(file) }
}

unsafe extern "C" fn read<const KIND: u8>(
    file: *mut sqlite3_file,
    buffer: *mut c_void,
    length: c_int,
    offset: i64,
) -> c_int {
    let place = at(
        KIND,
        [Place::ReadDatabase, Place::ReadWal, Place::ReadJournal],
    );
    if let Some(code) = fault(place) {
        if code == ffi::SQLITE_IOERR_SHORT_READ {
            unsafe { buffer.write_bytes(0, usize::try_from(length).unwrap_or(0)) };
        }
        return code;
    }
    unsafe { real(file).xRead.expect("files are read")(file, buffer, length, offset) }
}

unsafe extern "C" fn write<const KIND: u8>(
    file: *mut sqlite3_file,
    buffer: *const c_void,
    length: c_int,
    offset: i64,
) -> c_int {
    may_fail!(at(
        KIND,
        [Place::WriteDatabase, Place::WriteWal, Place::WriteJournal]
    ));
    unsafe { real(file).xWrite.expect("files are written")(file, buffer, length, offset) }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: i64) -> c_int {
    may_fail!(Place::Truncate);
    unsafe { real(file).xTruncate.expect("files are cut")(file, size) }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    may_fail!(Place::Sync);
    unsafe { real(file).xSync.expect("files are synced")(file, flags) }
}

unsafe extern "C" fn size(file: *mut sqlite3_file, out: *mut i64) -> c_int {
    may_fail!(Place::Size);
    unsafe { real(file).xFileSize.expect("files have a size")(file, out) }
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    may_fail!(Place::Lock);
    unsafe { real(file).xLock.expect("files are locked")(file, level) }
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // The lock goes, whatever is said: one that stayed would be another fault than that of a call.
    let code = unsafe { real(file).xUnlock.expect("files are unlocked")(file, level) };
    may_fail!(Place::Unlock);
    code
}

unsafe extern "C" fn check_reserved(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    may_fail!(Place::CheckReserved);
    unsafe { real(file).xCheckReservedLock.expect("locks are seen")(file, out) }
}

unsafe extern "C" fn control(file: *mut sqlite3_file, what: c_int, with: *mut c_void) -> c_int {
    unsafe { real(file).xFileControl.expect("files have controls")(file, what, with) }
}

unsafe extern "C" fn sector(file: *mut sqlite3_file) -> c_int {
    unsafe { real(file).xSectorSize.expect("files have sectors")(file) }
}

unsafe extern "C" fn device(file: *mut sqlite3_file) -> c_int {
    unsafe {
        real(file)
            .xDeviceCharacteristics
            .expect("files have a device")(file)
    }
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    if let Some(code) = fault(Place::ShmMap) {
        unsafe { *out = std::ptr::null_mut() };
        return code;
    }
    unsafe { real(file).xShmMap.expect("-shm is mapped")(file, region, size, extend, out) }
}

unsafe extern "C" fn shm_lock(
    file: *mut sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    let unlocks = flags & ffi::SQLITE_SHM_UNLOCK != 0;
    if !unlocks {
        may_fail!(Place::ShmLock);
    }
    unsafe { real(file).xShmLock.expect("-shm is locked")(file, offset, count, flags) }
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    unsafe { real(file).xShmBarrier.expect("-shm has barriers")(file) }
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    unsafe { real(file).xShmUnmap.expect("-shm is unmapped")(file, delete) }
}

unsafe extern "C" fn fetch(
    file: *mut sqlite3_file,
    offset: i64,
    length: c_int,
    out: *mut *mut c_void,
) -> c_int {
    unsafe { real(file).xFetch.expect("files are mapped")(file, offset, length, out) }
}

unsafe extern "C" fn unfetch(file: *mut sqlite3_file, offset: i64, page: *mut c_void) -> c_int {
    unsafe { real(file).xUnfetch.expect("files are unmapped")(file, offset, page) }
}

const fn methods<const KIND: u8>() -> sqlite3_io_methods {
    sqlite3_io_methods {
        iVersion: 3,
        xClose: Some(close),
        xRead: Some(read::<KIND>),
        xWrite: Some(write::<KIND>),
        xTruncate: Some(truncate),
        xSync: Some(sync),
        xFileSize: Some(size),
        xLock: Some(lock),
        xUnlock: Some(unlock),
        xCheckReservedLock: Some(check_reserved),
        xFileControl: Some(control),
        xSectorSize: Some(sector),
        xDeviceCharacteristics: Some(device),
        xShmMap: Some(shm_map),
        xShmLock: Some(shm_lock),
        xShmBarrier: Some(shm_barrier),
        xShmUnmap: Some(shm_unmap),
        xFetch: Some(fetch),
        xUnfetch: Some(unfetch),
    }
}

static METHODS: [sqlite3_io_methods; 3] = [
    methods::<DATABASE>(),
    methods::<WAL>(),
    methods::<JOURNAL>(),
];
