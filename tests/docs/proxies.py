#!/usr/bin/env python3
"""Runs the proxies of docs/proxies.md and docs/access.md before a daemon, configured as they say.

tests/docs/proxies.py [WORD...]   only tests whose name contains one of the words; a proxy that is missing counts as skipped
"""

import contextlib
import http.client
import http.server
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import threading

from harness import BINARY, PATIENCE, Daemon, Documentation, Skipped, Tests, WebSocket, free_port, place, wait_until
from snippets import insert

tests = Tests()
test = tests.test
PAGE, ACCESS = "docs/proxies.md", "docs/access.md"
documentation, access = Documentation(PAGE), Documentation(ACCESS)
NAME = "console.example.com"
HIDDEN = ["/metrics", "/metrics?x", "/metrics/", "//metrics", "///metrics", "/%6detrics", "/./metrics", "/x/../metrics", "/METRICS"]


def configuration(language, containing, changes):
    """A snippet, on other addresses than it names; each of them has to be there."""
    return changed(documentation.snippet(PAGE, language, containing), changes)


def changed(text, changes):
    for old, new in changes.items():
        assert old in text, f"{old} is not in\n{text}"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def running(here, port, *command):
    """The proxy, from when it listens."""
    log = here / "proxy.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, "HOME": str(here)})

    def listens():
        assert process.poll() is None, f"{command[0]} ended: {log.read_text()}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True

    try:
        wait_until(f"{command[0]} listens", listens)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def program(name):
    if not (found := shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")):
        raise Skipped(f"there is no {name}")
    return found


@contextlib.contextmanager
def daemon(here):
    # Others than this one may own the proxy's workers.
    here.chmod(0o755)
    with Daemon(here, "--allow-host", NAME, "--trusted-proxy", "127.0.0.1") as started:
        yield started


def asked(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.putrequest("GET", path, skip_host=True)
    for name, value in {"Host": f"{NAME}:{port}", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection, connection.getresponse()


def serves_its_pages_and_hides_metrics(walcast, port, prefix="", scheme="http"):
    """All that a proxy is for: pages of its own origin, both kinds of streams, rows as they come, and no metrics."""
    origin = f"{scheme}://{NAME}:{port}"
    for path in ["/", "/dashboard/app.js", "/api/feeds", "/api/feeds/remediation/events", "/healthz"]:
        connection, answer = asked(port, prefix + path, Origin=origin)
        assert answer.status == 200, f"{path}: {answer.status} {answer.read()}"
        connection.close()
    host = f"{NAME}:{port}"
    for other in [f"{scheme}://{NAME}", "https://evil.example", "http://localhost:5173"]:
        with WebSocket(port, prefix + "/ws/remediation", host, other) as refused:
            assert refused.status == 403, f"{other}: {refused.head}"
    connection, stream = asked(port, prefix + "/sse/remediation?since=now", Origin=origin)
    with WebSocket(port, prefix + "/ws/remediation?since=now", host, origin) as client:
        assert client.status == 101, client.head
        assert client.frame()["type"] == "hello"
        assert client.frame()["type"] == "live"
        event_of(stream, "live")
        for name in ["first", "second"]:
            insert(walcast.database, name)
            assert client.frame()["event"]["alertname"] == name
            event_of(stream, name)
    connection.close()
    for path in HIDDEN:
        connection, answer = asked(port, prefix + path)
        text = answer.read().decode()
        assert answer.status in (301, 308, 400, 403, 404) and "walcast_" not in text, f"{path}: {answer.status} {text}"
        connection.close()


def event_of(stream, word):
    """Reads a stream of events up to a line with the word."""
    while line := stream.readline().decode():
        if word in line:
            return
    raise AssertionError(f"the stream ended before {word}")


def nginx_before(here, walcast, port, server):
    upstream = configuration("nginx", "upstream walcast", {"127.0.0.1:8010": f"127.0.0.1:{walcast.port}"})
    return nginx_with(here, port, server(upstream))


def nginx_with(here, port, sites):
    folders = "".join(f"{kind}_temp_path {here}/{kind};\n" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    (here / "nginx.conf").write_text(
        f"daemon off; pid {here}/nginx.pid; error_log {here}/error.log;\nevents {{ worker_connections 64; }}\n"
        f"http {{ access_log off;\n{folders}{sites}\n}}\n"
    )
    return running(here, port, program("nginx"), "-p", here, "-e", here / "error.log", "-c", here / "nginx.conf")


@test
def nginx():
    port = free_port()
    with place() as here, daemon(here) as walcast:
        with nginx_before(here, walcast, port, lambda site: site.replace("listen 443 ssl", f"listen 127.0.0.1:{port}")):
            serves_its_pages_and_hides_metrics(walcast, port)


@test
def nginx_below_a_path():
    port = free_port()
    location = documentation.snippet(PAGE, "nginx", "location /live/")

    def server(site):
        upstream = site[: site.index("server {")]
        return f"{upstream} server {{ listen 127.0.0.1:{port}; {location} }}"

    with place() as here, daemon(here) as walcast, nginx_before(here, walcast, port, server):
        serves_its_pages_and_hides_metrics(walcast, port, "/live")


def caddy_with(here, port, site):
    (here / "Caddyfile").write_text(f"{{\n    admin off\n    auto_https off\n    grace_period 1s\n}}\n{site}")
    return running(here, port, program("caddy"), "run", "--adapter", "caddyfile", "--config", here / "Caddyfile")


@test
def caddy():
    port = free_port()
    with place() as here, daemon(here) as walcast:
        changes = {f"{NAME} {{": f"http://{NAME}:{port} {{\n    bind 127.0.0.1", "127.0.0.1:8010": f"127.0.0.1:{walcast.port}"}
        site = configuration("caddy", "reverse_proxy", changes)
        with caddy_with(here, port, site):
            serves_its_pages_and_hides_metrics(walcast, port)


@test
def haproxy():
    port = free_port()
    with place() as here, daemon(here) as walcast:
        changes = {"bind :443 ssl crt /etc/haproxy/console.pem": f"bind 127.0.0.1:{port}", "127.0.0.1:8010": f"127.0.0.1:{walcast.port}"}
        (here / "haproxy.cfg").write_text(configuration("haproxy", "backend walcast", changes))
        with running(here, port, program("haproxy"), "-db", "-f", here / "haproxy.cfg"):
            serves_its_pages_and_hides_metrics(walcast, port)


@test
def apache():
    port = free_port()
    with place() as here, daemon(here) as walcast:
        modules = "".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
            for name in ["mpm_event", "authz_core", "proxy", "proxy_http"]
        )
        user = "User www-data\nGroup www-data\n" if os.getuid() == 0 else ""
        changes = {"*:443": f"127.0.0.1:{port}", "127.0.0.1:8010": f"127.0.0.1:{walcast.port}"}
        (here / "apache.conf").write_text(
            f"ServerRoot {here}\nPidFile {here}/apache.pid\nErrorLog {here}/error.log\nServerName localhost\nDefaultRuntimeDir {here}\n"
            f"{modules}{user}Listen 127.0.0.1:{port}\n{configuration('apache', 'ProxyPass', changes)}"
        )
        with running(here, port, program("apache2"), "-DFOREGROUND", "-f", here / "apache.conf"):
            serves_its_pages_and_hides_metrics(walcast, port)


def certificate(here):
    """A certificate for `localhost`, and an authority that vouches for it."""
    new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
    leaf = "-addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
    for request in [
        f"req -x509 {new} -subj /CN=authority -keyout ca.key -out ca.pem",
        f"req -x509 {new} -CA ca.pem -CAkey ca.key -subj /CN=localhost {leaf} -keyout server.key -out server.pem",
    ]:
        subprocess.run([program("openssl"), *request.split()], cwd=here, check=True, capture_output=True, timeout=PATIENCE)
    # Its workers may be another user's.
    (here / "server.key").chmod(0o644)


@contextlib.contextmanager
def tailed(here, url, *arguments):
    """What `walcast tail` prints of a feed, line by line."""
    command = [BINARY, "tail", url, "--ca", here / "ca.pem", *arguments]
    with open(here / "tail.log", "wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdout.close()


def is_followed_over_tls(here, walcast, port):
    """`walcast tail` has rows from behind the proxy's certificate, and no row where nobody vouches for that."""
    url = f"wss://localhost:{port}/ws/remediation"
    insert(walcast.database, "before")
    with tailed(here, url, "--since", "earliest") as lines:
        assert json.loads(lines.readline())["alertname"] == "before"
        for name in ["first", "second"]:
            insert(walcast.database, name)
            assert json.loads(lines.readline())["alertname"] == name
    # Without `--ca`, by the system's own authorities.
    strange = [BINARY, "tail", url, "--since", "earliest"]
    refused = subprocess.run(strange, capture_output=True, text=True, timeout=PATIENCE)
    assert refused.returncode == 1 and not refused.stdout, refused
    assert "certificate" in refused.stderr, refused.stderr


@test
def nginx_over_tls():
    port = free_port()

    def server(site):
        certified = {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "# ssl_certificate …;": "ssl_certificate server.pem; ssl_certificate_key server.key; #",
        }
        return changed(site, certified)

    with place() as here, daemon(here) as walcast:
        certificate(here)
        with nginx_before(here, walcast, port, server):
            is_followed_over_tls(here, walcast, port)


@test
def caddy_over_tls():
    port = free_port()
    with place() as here, daemon(here) as walcast:
        certificate(here)
        changes = {
            f"{NAME} {{": f"https://localhost:{port} {{\n    bind 127.0.0.1\n    tls {here}/server.pem {here}/server.key",
            "127.0.0.1:8010": f"127.0.0.1:{walcast.port}",
        }
        with caddy_with(here, port, configuration("caddy", "reverse_proxy", changes)):
            is_followed_over_tls(here, walcast, port)


class Doorman(http.server.BaseHTTPRequestHandler):
    """What oauth2-proxy does: answers who a session belongs to."""

    def do_GET(self):
        user = {"session=1": ("alice", "acme"), "session=2": ("bob", "globex")}.get(self.headers.get("Cookie"))
        self.send_response(200 if user else 401)
        if user:
            self.send_header("X-Auth-User", user[0])
            self.send_header("X-Tenant", user[1])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def doorman():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Doorman) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextlib.contextmanager
def behind_a_proxy_that_authenticates(here):
    """Orders of two customers, served as docs/access.md says."""
    here.chmod(0o755)
    text = access.snippet(ACCESS, "toml", "[auth.proxy]")
    (here / "walcast.toml").write_text(f'database = "{here}/events.db"\nhosts = ["{NAME}"]\n{text}')
    with contextlib.closing(sqlite3.connect(here / "events.db")) as db, db:
        db.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT)")
        db.execute("INSERT INTO orders(customer) VALUES ('acme'), ('globex'), ('acme')")
    with Daemon(here, "--config", "walcast.toml") as started:
        yield started


def keeps_customers_apart(walcast, port):
    path = "/api/feeds/orders/events"
    forged = {"X-Auth-User": "eve", "X-Tenant": "globex", "Authorization": "Bearer x"}
    for more in [{}, forged]:
        for session, ids in [("session=1", [3, 1]), ("session=2", [2])]:
            connection, answer = asked(port, path, Cookie=session, **more)
            text = answer.read().decode()
            assert answer.status == 200, f"{answer.status} {text}"
            assert [item["id"] for item in json.loads(text)["items"]] == ids, text
            connection.close()
        for cookies in [{}, {"Cookie": "session=3"}]:
            connection, answer = asked(port, path, **cookies, **more)
            assert answer.status == 401, f"{answer.status} {answer.read()}"
            connection.close()
    host = f"{NAME}:{port}"
    with WebSocket(port, "/ws/orders?since=earliest", host, f"http://{host}", {"Cookie": "session=1", **forged}) as client:
        assert client.status == 101, client.head
        frames = [client.frame() for _ in range(4)]
        assert [frame["type"] for frame in frames] == ["hello", "orders_event", "orders_event", "live"], frames
        assert [frame["event"]["id"] for frame in frames[1:3]] == [1, 3]
        with contextlib.closing(sqlite3.connect(walcast.database, timeout=PATIENCE)) as db, db:
            db.execute("INSERT INTO orders(customer) VALUES ('globex'), ('acme')")
        assert client.frame()["event"]["id"] == 5
    # Past the proxy the headers are nobody's: its address is trusted here, so the daemon's own test shows that.
    with WebSocket(port, "/ws/orders", host, f"http://{host}") as refused:
        assert refused.status == 401, refused.head


@test
def nginx_that_authenticates():
    port = free_port()
    with place() as here, doorman() as door, behind_a_proxy_that_authenticates(here) as walcast:
        changes = {"127.0.0.1:8010": f"127.0.0.1:{walcast.port}", "listen 443 ssl": f"listen 127.0.0.1:{port}", "127.0.0.1:4180": door}
        site = changed(access.snippet(ACCESS, "nginx", "auth_request"), changes)
        with nginx_with(here, port, site):
            keeps_customers_apart(walcast, port)


@test
def caddy_that_authenticates():
    port = free_port()
    with place() as here, doorman() as door, behind_a_proxy_that_authenticates(here) as walcast:
        changes = {
            f"{NAME} {{": f"http://{NAME}:{port} {{\n    bind 127.0.0.1",
            "127.0.0.1:8010": f"127.0.0.1:{walcast.port}",
            "127.0.0.1:4180": door,
        }
        with caddy_with(here, port, changed(access.snippet(ACCESS, "caddy", "forward_auth"), changes)):
            keeps_customers_apart(walcast, port)


if __name__ == "__main__":
    tests.main()
