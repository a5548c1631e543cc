//! A line between two programs that is slow, or cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::wait::pause;

/// What is passed on at a time; between two there is a pause of the harness, so that some hundred KiB go in a second.
const AT_ONCE: usize = 2048;

/// Passes connections on to an address, slowly. Connections that run when it is dropped end with the process.
pub struct Line {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    passed: AtomicUsize,
    is_cut: AtomicBool,
}

impl Line {
    pub fn slow_to(target: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::<State>::default();
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target) else {
                    continue;
                };
                if accepting.is_cut.load(Ordering::Relaxed) {
                    continue;
                }
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let ends = (from.try_clone(), to.try_clone());
                    if let (Ok(from), Ok(to)) = ends {
                        let state = Arc::clone(&accepting);
                        std::thread::spawn(move || pass_on(from, to, &state));
                    }
                }
            }
        });
        Line { address, state }
    }

    /// Bytes that went over it, in both directions.
    pub fn passed(&self) -> usize {
        self.state.passed.load(Ordering::Relaxed)
    }

    /// Nothing more goes over it: connections stay open, and new ones are closed at once.
    pub fn cut(&self) {
        self.state.is_cut.store(true, Ordering::Relaxed);
    }

    /// New connections are passed on again; those that were cut end.
    pub fn mend(&self) {
        self.state.is_cut.store(false, Ordering::Relaxed);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut buffer = [0; AT_ONCE];
    // So that a cut is noticed while nothing comes.
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    let mut was_cut = false;
    loop {
        if state.is_cut.load(Ordering::Relaxed) {
            was_cut = true;
            pause();
            continue;
        }
        if was_cut {
            break;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => {
                if to.write_all(&buffer[..bytes]).is_err() {
                    break;
                }
                state.passed.fetch_add(bytes, Ordering::Relaxed);
                pause();
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}
