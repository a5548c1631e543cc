//! The few system calls that the standard library does not offer: epoll, inotify, clocks, limits.
//! The only file with `unsafe`; each block says why its call is sound.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn check(result: i64) -> io::Result<i64> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn clock_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec for the call to fill.
    check(i64::from(unsafe { libc::clock_gettime(clock, &mut now) }))?;
    Ok(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

/// Nanoseconds of `CLOCK_MONOTONIC`: the same clock in every process of the machine, Python's `time.monotonic_ns` too.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC).unwrap_or_default() // can't fail: the clock exists on every Linux
}

/// Nanoseconds of processor time, user and system, that the process has used in all its threads.
///
/// # Errors
/// When there is no such process.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: `clock` is a valid clockid_t for the call to fill.
    let code = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    clock_ns(clock)
}

/// Writes out what all files still have in memory: else the disk would do it in the middle of a measurement.
pub fn flush_disks() {
    // SAFETY: the call takes nothing and can't fail.
    unsafe { libc::sync() };
}

/// Asks the process to end, by SIGTERM.
pub fn terminate(pid: u32) {
    // SAFETY: the call takes plain integers.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}

/// Lets the child that `command` starts end with this process, however that ends.
pub fn end_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only `prctl` runs, which is a bare system call with plain integers.
    unsafe {
        command.pre_exec(|| {
            check(i64::from(libc::prctl(
                libc::PR_SET_PDEATHSIG,
                libc::SIGTERM as u64,
                0,
                0,
                0,
            )))
            .map(drop)
        });
    }
}

/// Nanoseconds of processor time of this process and of all children it has waited for.
pub fn own_cpu_ns() -> u64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN]
        .into_iter()
        .map(usage_ns)
        .sum()
}

fn usage_ns(who: i32) -> u64 {
    // SAFETY: an rusage is plain numbers, for which zero is valid, and the call fills it.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(who, &mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime]
        .map(|time| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000)
        .iter()
        .sum()
}

/// Lets sleeps of this thread end within a microsecond of their time; the default slack of 50 µs spoils sleeps of 20 µs.
pub fn set_timer_slack_1us() {
    // SAFETY: the call takes plain integers and changes this thread's timers only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_u64, 0, 0, 0) };
}

/// Gives way to other threads: `level` is added to this thread's niceness alone.
pub fn be_nice(level: i32) {
    // SAFETY: plain integers; on Linux `PRIO_PROCESS` with 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, level) };
}

/// The same for all threads of another process, and those that it starts.
///
/// # Errors
/// When there is no such process.
pub fn be_nice_as(pid: u32, level: i32) -> io::Result<()> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        if let Some(id) = thread?.file_name().to_str().and_then(|id| id.parse().ok()) {
            // SAFETY: plain integers.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, id, level) };
        }
    }
    Ok(())
}

/// Raises the descriptor limit to the hard limit, for this process and those it starts; returns it.
///
/// # Errors
/// When the system refuses.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit for the calls to fill and to read.
    unsafe {
        check(i64::from(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit)))?;
        limit.rlim_cur = limit.rlim_max;
        check(i64::from(libc::setrlimit(libc::RLIMIT_NOFILE, &limit)))?;
    }
    Ok(limit.rlim_cur)
}

/// Whether `fd` becomes readable, or its other end closes, within `time`.
pub fn readable_within(fd: RawFd, time: Duration) -> bool {
    let mut entry = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let time = timespec(time);
    // SAFETY: one valid pollfd and a valid timespec, and no signal mask.
    unsafe { libc::ppoll(&mut entry, 1, &time, std::ptr::null()) > 0 }
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

pub use libc::epoll_event as Event;

/// The room that one wait fills.
pub fn event_buffer() -> Vec<Event> {
    vec![Event { events: 0, u64: 0 }; 1024]
}

/// An epoll instance.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// # Errors
    /// When descriptors have run out.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes a flag; what it returns is a descriptor that nobody else owns.
        unsafe {
            let fd = check(i64::from(libc::epoll_create1(libc::EPOLL_CLOEXEC)))?;
            Ok(Self(OwnedFd::from_raw_fd(fd as RawFd)))
        }
    }

    /// Reports `interest` (of `libc::EPOLL*`) in `fd` as `token`.
    ///
    /// # Errors
    /// When `fd` is there already or can't be waited for.
    pub fn add(&self, fd: &impl AsRawFd, token: u64, interest: i32) -> io::Result<()> {
        let mut event = Event {
            events: interest as u32,
            u64: token,
        };
        // SAFETY: `event` is valid for the call to read.
        let result = unsafe {
            libc::epoll_ctl(
                self.0.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                fd.as_raw_fd(),
                &mut event,
            )
        };
        check(i64::from(result)).map(drop)
    }

    /// Reports nothing of `fd` any more.
    ///
    /// # Errors
    /// When `fd` was not added.
    pub fn remove(&self, fd: &impl AsRawFd) -> io::Result<()> {
        let none = std::ptr::null_mut();
        // SAFETY: removal reads no event.
        let result = unsafe {
            libc::epoll_ctl(
                self.0.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                fd.as_raw_fd(),
                none,
            )
        };
        check(i64::from(result)).map(drop)
    }

    /// What has happened, waiting up to `time` (with the precision of `epoll_pwait2`: nanoseconds) when nothing has.
    ///
    /// # Errors
    /// When the kernel is older than 5.11.
    pub fn wait<'a>(&self, room: &'a mut [Event], time: Duration) -> io::Result<&'a [Event]> {
        let time = timespec(time);
        let none = std::ptr::null::<libc::sigset_t>();
        // SAFETY: `room` is writable for its length, `time` is valid, and there is no signal mask.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                room.as_mut_ptr(),
                room.len() as i32,
                &time,
                none,
                0,
            )
        };
        match check(result) {
            Ok(count) => Ok(&room[..count as usize]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(error) => Err(error),
        }
    }
}

/// A watch for writes to the files of one directory.
pub struct DirectoryWatch {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl DirectoryWatch {
    /// # Errors
    /// When the directory can't be watched.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        // SAFETY: the first call takes flags and returns a descriptor that nobody else owns; `path` is a valid C string.
        unsafe {
            let raw = check(i64::from(libc::inotify_init1(
                libc::IN_NONBLOCK | libc::IN_CLOEXEC,
            )))? as RawFd;
            let fd = OwnedFd::from_raw_fd(raw);
            check(i64::from(libc::inotify_add_watch(
                raw,
                path.as_ptr(),
                libc::IN_MODIFY | libc::IN_CREATE,
            )))?;
            Ok(Self {
                fd,
                buffer: vec![0; 16 * 1024],
            })
        }
    }

    /// Takes all events that wait; whether one of them was of a file whose name ends in `suffix`.
    pub fn drain(&mut self, suffix: &str) -> bool {
        let mut seen = false;
        loop {
            // SAFETY: `buffer` is writable for its length.
            let read = unsafe {
                libc::read(
                    self.fd.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                )
            };
            let Ok(length @ 1..) = usize::try_from(read) else {
                return seen;
            };
            let mut events = &self.buffer[..length];
            while let Some((name, rest)) = split_event(events) {
                seen |= name.ends_with(suffix.as_bytes());
                events = rest;
            }
        }
    }
}

impl AsRawFd for DirectoryWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The name in the first event, and what follows it. An event is 16 bytes, the last four of them the length of its name.
fn split_event(events: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_ne_bytes(events.get(12..16)?.try_into().ok()?) as usize;
    let name = events.get(16..16 + length)?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(length);
    Some((&name[..end], &events[16 + length..]))
}
