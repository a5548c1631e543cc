//! Ctrl-C for the commands: ends them in order, so that no open database is left behind.

use std::io;

/// Calls `act`, on a thread of its own, at the first SIGINT, SIGTERM or SIGHUP; a second one ends the process at once,
/// with exit code 0. Call it before any other thread is started: only threads started later leave the signals to it.
pub(crate) fn on_interrupt(act: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let signals = block_signals()?;
    let wait = move || {
        wait_for(&signals);
        act();
        wait_for(&signals);
        std::process::exit(0);
    };
    std::thread::Builder::new()
        .name("walcast-signal".into())
        .spawn(wait)
        .map(drop)
}

fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: a sigset_t is plain memory that sigemptyset initialises before anything reads it; the calls take pointers
    // to this live local and keep none of them.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&mut set, signal);
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) {
            0 => Ok(set),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn wait_for(signals: &libc::sigset_t) {
    let mut signal = 0;
    // SAFETY: both pointers are to live values. It fails only for a set without valid signals, which this is not.
    unsafe { libc::sigwait(signals, &mut signal) };
}
