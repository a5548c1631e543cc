//! Clients that mean harm, or are badly written, until an era is over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use crate::common::http::{UPGRADE, head};
use crate::common::random::Random;
use crate::common::{STOCK_FEED, STOCK_HISTORY, STOCK_SSE, wait};

/// They must not use up what one address may have open.
const AT_ONCE: usize = 24;

pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    address: SocketAddr,
    over: &'scope AtomicBool,
    seed: u64,
) {
    scope.spawn(move || {
        let mut random = Random::new(seed ^ 0x5eed);
        let mut open = Vec::new();
        while !over.load(Ordering::Relaxed) {
            // The daemon may be down, or refuse: that is what they deserve.
            if let Ok(stream) = misbehave(address, &mut random) {
                open.push(stream);
            }
            if open.len() >= AT_ONCE {
                open.remove(random.below(AT_ONCE));
            }
            wait::pause();
        }
    });
}

/// One thing that one of them does. What is left of it stays open for a while.
fn misbehave(address: SocketAddr, random: &mut Random) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    let rare = format!(
        "{}={}",
        random.pick(&["tenant", "details", "action"]),
        random.seed()
    );
    match random.below(9) {
        // A replay that nothing matches, and gone.
        0 => request(
            &mut stream,
            &format!("{STOCK_FEED}?last=10000&{rare}"),
            &UPGRADE,
        )?,
        1 => request(
            &mut stream,
            &format!("{STOCK_FEED}?since=0&{rare}"),
            &UPGRADE,
        )?,
        // One that takes nothing.
        2 => request(&mut stream, &format!("{STOCK_FEED}?since=0"), &UPGRADE)?,
        3 => request(&mut stream, &format!("{STOCK_SSE}?since=0"), &[])?,
        // A history that nobody waits for, another one asked for behind it.
        4 => {
            for _ in 0..2 {
                request(
                    &mut stream,
                    &format!("{STOCK_HISTORY}?limit=500&{rare}"),
                    &[],
                )?;
            }
        }
        // Half a request, and none.
        5 => stream.write_all(b"GET /ws/remediation HTTP/1.1\r\nHost: ")?,
        6 => {}
        // Anything.
        7 => {
            let bytes: Vec<u8> = (0..200).map(|_| random.below(256) as u8).collect();
            stream.write_all(&bytes)?;
        }
        // A subscriber that sends what is no frame, or too much.
        _ => {
            request(&mut stream, STOCK_FEED, &UPGRADE)?;
            let _ = stream.read(&mut [0; 512])?;
            let bytes: Vec<u8> = (0..random.pick(&[7, 9_000]))
                .map(|_| random.below(256) as u8)
                .collect();
            stream.write_all(&bytes)?;
        }
    }
    Ok(stream)
}

fn request(stream: &mut TcpStream, path: &str, headers: &[(&str, &str)]) -> std::io::Result<()> {
    stream.write_all(head("GET", path, "localhost", headers).as_bytes())
}
