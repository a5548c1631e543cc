//! Receivers that are reached by TLS.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{Daemon, directory, wait_until};
use crate::setup::{failures, state, wait_for_state, with_sink};

/// Takes posts by TLS, and writes the ids that end them into a file, one a line. The port is chosen by the system, and
/// written into another file.
const SERVER: &str = r#"
import http.server, os, ssl, sys
folder = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        with open(f"{folder}/ids", "a") as ids:
            ids.write(self.headers["webhook-id"] + "\n")
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
with open(f"{folder}/port.new", "w") as port:
    port.write(str(server.server_port))
os.rename(f"{folder}/port.new", f"{folder}/port")
server.serve_forever()
"#;

struct TlsServer {
    child: Child,
    port: u16,
}

impl TlsServer {
    /// One whose certificate for `localhost` the authority `ca.pem` of the directory vouches for.
    fn start(directory: &Path) -> TlsServer {
        let openssl = |arguments: &str| {
            let made = Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(directory)
                .output()
                .expect("openssl is installed");
            assert!(
                made.status.success(),
                "{}",
                String::from_utf8_lossy(&made.stderr)
            );
        };
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30";
        openssl(&format!(
            "req -x509 {new} -subj /CN=authority -keyout ca.key -out ca.pem"
        ));
        openssl(&format!(
            "req {new} -x509 -CA ca.pem -CAkey ca.key -subj /CN=localhost -addext subjectAltName=DNS:localhost \
             -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.pem"
        ));
        let child = Command::new("python3")
            .args(["-c", SERVER])
            .arg(directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("python3 is installed");
        let mut server = TlsServer { child, port: 0 };
        wait_until("it listens", || {
            let port = std::fs::read_to_string(directory.join("port")).unwrap_or_default();
            server.port = port.parse().unwrap_or_default();
            server.port != 0
        });
        server
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/hook", self.port)
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn rows_go_by_tls_to_whom_an_authority_vouches_for() {
    let directory = directory();
    let server = TlsServer::start(directory.path());
    let ca = directory.path().join("ca.pem");
    let keys = format!(
        "ca = {:?}\nsince = \"earliest\"",
        ca.to_str().expect("the path is text")
    );
    let daemon = with_sink(Daemon::on_new_file(), &server.url(), &keys).start();
    let id = daemon.database().insert("x");
    let wanted = format!("{}:{id}\n", daemon.epoch());
    wait_until("the row came", || {
        let ids = std::fs::read_to_string(directory.path().join("ids"));
        ids.is_ok_and(|ids| ids == wanted)
    });
}

#[test]
fn the_system_s_authorities_are_those_of_ssl_cert_file() {
    let directory = directory();
    let server = TlsServer::start(directory.path());
    let settings = with_sink(Daemon::on_new_file(), &server.url(), "since = \"earliest\"");
    let daemon = settings
        .variable("SSL_CERT_FILE", directory.path().join("ca.pem"))
        .start();
    daemon.database().insert("x");
    wait_until("the row came", || directory.path().join("ids").exists());
}

#[test]
fn nothing_goes_to_whom_nobody_vouches_for() {
    let (ours, theirs) = (directory(), directory());
    let server = TlsServer::start(theirs.path());
    let _other = TlsServer::start(ours.path());
    let ca = ours.path().join("ca.pem");
    let keys = format!("ca = {:?}", ca.to_str().expect("the path is text"));
    let daemon = with_sink(Daemon::on_new_file(), &server.url(), &keys).start();
    wait_for_state(&daemon, "live");
    daemon.database().insert("x");
    wait_for_state(&daemon, "failing");
    let told = state(&daemon);
    let trouble = told["trouble"].as_str().expect("it says why");
    assert!(
        trouble.contains("TLS: invalid peer certificate"),
        "{trouble}"
    );
    assert!(failures(&daemon, "tls") >= 1.0);
    assert!(!theirs.path().join("ids").exists());
}
