"""Daemons that are measured with TLS and without, and nginx that speaks it for one."""

import contextlib
import shutil
import socket
import sqlite3
import ssl
import subprocess
import time
from pathlib import Path

from daemon import Daemon, raise_descriptor_limit, source
from rows import COLUMNS

# How clients come to the daemon's WebSockets.
PLAIN, TLS, DEFLATE, NGINX = "plain", "TLS", "TLS and deflate", "nginx"
FEEDS = 'compression = "on"\n[feeds.remediation]\ntruncate = { details = 100000 }\n'


def key_pair(here):
    """A certificate for this machine that it has signed itself, and its key (ECDSA, P-256)."""
    cert, key = here / "cert.pem", here / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *curve, *names, "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    return cert, key


def client():
    """Speaks TLS with whoever holds any key: it proves nothing, for what a client does to believe is not measured."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Server(Daemon):
    """A daemon on a new file, with the stock feed."""

    def __init__(self, walcast, how):
        super().__init__(walcast)
        self.how = how
        self.here.chmod(0o755)
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            db.execute("PRAGMA journal_mode = wal")
            db.execute(f"CREATE TABLE remediation_events(id INTEGER PRIMARY KEY AUTOINCREMENT, {', '.join(COLUMNS)})")
        self.pair = key_pair(self.here)
        lines = FEEDS
        if how in (TLS, DEFLATE):
            lines += '[tls]\ncert = "{}"\nkey = "{}"\n'.format(*self.pair)
        self.start(lines)
        if how != PLAIN:
            self.client = client()

    def subscribe(self, number):
        """A socket that has its upgrade."""
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if self.how == DEFLATE else ""
        stream, head = self.upgraded("/ws/remediation", offer, source(number))
        assert (b"permessage-deflate" in head) == (self.how == DEFLATE), head
        return stream


class BehindNginx(Server):
    """A daemon without TLS, and nginx before it as docs/proxies.md has it, which speaks TLS."""

    def __init__(self, walcast):
        super().__init__(walcast, NGINX)
        self.daemon_port = self.port
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        assert program, "nginx is not installed (Debian: nginx-light)"
        config = self.here / "nginx.conf"
        config.write_text(self.configuration())
        self.nginx = subprocess.Popen([program, "-p", self.here, "-e", self.here / "nginx.log", "-c", config], stdin=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while not self.accepts():
            assert self.nginx.poll() is None and time.monotonic() < end, (self.here / "nginx.log").read_text()
            time.sleep(0.01)

    def configuration(self):
        folders = "".join(f"{kind}_temp_path {self.here}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        cert, key = self.pair
        # Clients come from two hundred addresses, and so does nginx to the daemon: one has not enough ports for all. Each takes two
        # descriptors of a worker, which may have as many as this process; `reuseport` spreads clients evenly over the two.
        return f"""daemon off; pid {self.here}/nginx.pid; error_log {self.here}/nginx.log;
worker_processes 2;
events {{ worker_connections {raise_descriptor_limit()}; }}
http {{
access_log off;
{folders}
upstream walcast {{ server 127.0.0.1:{self.daemon_port}; keepalive 16; }}
map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
server {{
    listen 127.0.0.1:{self.port} ssl backlog=4096 reuseport;
    ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:walcast:10m;
    location / {{
        proxy_pass http://walcast; proxy_http_version 1.1; proxy_bind $remote_addr;
        proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
        proxy_buffering off; proxy_read_timeout 75s; proxy_send_timeout 75s;
    }}
}}
}}
"""

    def accepts(self):
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def processes(self):
        """The daemon, nginx and its workers."""
        workers = Path(f"/proc/{self.nginx.pid}/task/{self.nginx.pid}/children").read_text().split()
        return [self.process.pid, self.nginx.pid, *map(int, workers)]

    def __exit__(self, *error):
        self.nginx.terminate()
        self.nginx.wait()
        super().__exit__(*error)


def started(walcast, how):
    return BehindNginx(walcast) if how == NGINX else Server(walcast, how)
