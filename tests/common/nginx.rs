//! nginx as a process of a test's own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// An nginx; ended with the value.
pub struct Nginx {
    process: Child,
}

impl Nginx {
    /// Runs one that keeps everything in `directory`, with `site` in its `http` block; `None`, said aloud, where there is none.
    pub fn start(directory: &Path, site: &str) -> Option<Nginx> {
        let place = directory.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
            .concat();
        let configuration = format!(
            "daemon off; worker_processes 1; pid {place}/nginx.pid; error_log {place}/error.log;\n\
             events {{ worker_connections 64; }}\nhttp {{ access_log off;\n{temporary}{site}}}\n"
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, configuration).expect("a file can be written");
        let process = Command::new("nginx")
            .arg("-e")
            .arg(directory.join("error.log"))
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(directory)
            .stdin(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            println!("SKIPPED: nginx is not installed");
            return None;
        };
        Some(Nginx { process })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let id = libc::pid_t::try_from(self.process.id()).expect("a process id fits");
        // Asked, it ends its worker, too.
        // SAFETY: a plain system call; the child has not been waited for, so the id is still its own.
        unsafe { libc::kill(id, libc::SIGTERM) };
        let _ = self.process.wait();
    }
}
