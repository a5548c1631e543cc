#!/usr/bin/env python3
"""Does what the README and the manual show: every snippet is run by a test here, or named with the test that runs it.

tests/docs/snippets.py [WORD...]   only tests whose name contains one of the words; WALCAST_BIN names the daemon
"""

import contextlib
import http.server
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import ssl
import subprocess
import threading

from harness import BINARY, PATIENCE, ROOT, TABLE, Daemon, Documentation, Relay, Skipped, Tests, WebSocket, place, wait_until

tests = Tests()
test = tests.test
README, OUTBOX, HUB, RECIPES = "README.md", "docs/outbox.md", "docs/your-own-hub.md", "docs/recipes.md"
CAPTURE, COMPRESSION = "docs/capture.md", "docs/compression.md"
MANUALS = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "docs").glob("*.md"))
documentation = Documentation(README, "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "python/README.md", "web/client/README.md", *MANUALS)
snippet = documentation.snippet

# Snippets that other tests run, or that can't be run: the file, words of the snippet, and by what or why not.
ELSEWHERE = [
    ("docs/capture.md", "django.db", "tests/writers/migrations.py"),
    ("docs/capture.md", "alembic", "tests/writers/migrations.py"),
    ("docs/capture.md", "prisma migrate", "tests/writers/npm_migrations.py"),
    ("docs/capture.md", "externalTables", "tests/writers/npm_migrations.py"),
    ("docs/capture.md", "drizzle-kit generate", "tests/writers/npm_migrations.py"),
    ("docs/capture.md", "tablesFilter", "tests/writers/npm_migrations.py"),
    (README, "┌───", "a drawing"),
    (README, "cargo run --release        #", "first_run, with the program that cargo makes"),
    (README, "npm --prefix examples/react-console start", "web/client/tests/browser/examples.test.ts"),
    (README, "tests/run", "this runs it"),
    ("ARCHITECTURE.md", "commit ─▶ wake", "a drawing"),
    ("CONTRIBUTING.md", ".ci/run", "this is a part of it"),
    ("CONTRIBUTING.md", "tests/run docs", "this runs it"),
    (README, "packaging/build-deb", "tests/service/run"),
    ("docs/operations.md", "packaging/build-deb", "tests/service/run"),
    ("docs/operations.md", "packaging/release", "tests/packaging/release.py"),
    ("docs/operations.md", "packaging/container", "tests/packaging/container.py"),
    ("docs/operations.md", "sudo systemd/install", "tests/service/run"),
    ("docs/operations.md", "systemctl", "tests/service/run"),
    ("docs/operations.md", "usermod -aG walcast WRITER", "tests/service/run"),
    ("docs/operations.md", "chmod 2770", "tests/service/run"),
    ("docs/operations.md", "ListenStream=", "tests/service/run"),
    ("docs/operations.md", "SupplementaryGroups=app", "tests/service/run"),
    ("docs/operations.md", "connection{peer=192.0.2.17}", "tests/protocol/log.rs"),
    ("docs/operations.md", "connection{id=7", "tests/protocol/log.rs"),
    ("docs/operations.md", "replicas:", "a configuration of Litestream"),
    ("docs/operations.md", "scrape_configs:", "a configuration of Prometheus"),
    ("docs/access.md", "tokens =", "tests/access"),
    ("docs/access.md", "walcast token add", "tests/access"),
    ("docs/access.md", "anonymous = {", "tests/access"),
    ("docs/access.md", "[auth.jwt]", "tests/access/jwt.rs"),
    ("docs/access.md", "issued_before", "tests/access/jwt.rs"),
    ("docs/access.md", "[auth.mtls]", "tests/tls/mtls.rs"),
    ("docs/access.md", "[[client]]", "tests/tls/mtls.rs"),
    ("docs/access.md", "[auth.proxy]", "tests/access/proxy.rs"),
    ("docs/access.md", "jwt.encode", "tests/peers/with_jwts.py"),
    ("docs/access.md", "SignJWT", "tests/peers/with_jwts.py"),
    ("docs/access.md", "auth_request", "tests/docs/proxies.py"),
    ("docs/access.md", "forward_auth", "tests/docs/proxies.py"),
    ("README.md", "walcast edge --upstream ws://10.0.0.5", "tests/edge"),
    ("docs/edges.md", "walcast edge", "tests/edge"),
    ("docs/edges.md", "walcast token add", "tests/edge/access.rs"),
    ("docs/edges.md", "[edge]", "tests/edge/outages.rs"),
    ("docs/edges.md", "reverse_proxy", "tests/docs/edges.py"),
    ("docs/edges.md", "origin (Frankfurt)", "a drawing of what tests/docs/edges.py starts"),
    ("docs/edges.md", '{"type":"table"', "tests/edge/whole_rows.rs"),
    ("docs/edges.md", '{"type":"change"', "tests/edge/whole_rows.rs"),
    ("docs/webhooks.md", "[sinks.billing]", "tests/peers/with_webhooks.py"),
    ("docs/webhooks.md", "whsec_", "tests/peers/with_webhooks.py"),
    ("docs/webhooks.md", "orders_event", "tests/peers/with_webhooks.py"),
    ("docs/webhooks.md", "reached = {}", "tests/peers/with_webhooks.py"),
    ("docs/webhooks.md", "orders.clear()", "tests/peers/with_webhooks.py"),
    ("docs/webhooks.md", "new Webhook(", "tests/peers/with_webhooks.py"),
    ("docs/tls.md", "[tls]", "tests/tls"),
    ("docs/tls.md", "RENEWED_LINEAGE", "a hook of certbot"),
    ("docs/tls.md", "LoadCredential=", "units of systemd"),
    ("docs/tls.md", "PathChanged=", "units of systemd"),
    ("docs/nats.md", "[publish]", "tests/publish"),
    ("docs/nats.md", "[edge]", "tests/publish/edges.rs"),
    ("docs/nats.md", "$JS.API.STREAM.INFO", "tests/publish/refusals.rs"),
    ("docs/nats.md", "started", "tests/publish/delivery.rs"),
    ("docs/proxies.md", "proxy_pass", "tests/docs/proxies.py"),
    ("docs/proxies.md", "reverse_proxy", "tests/docs/proxies.py"),
    ("docs/proxies.md", "http-no-delay", "tests/docs/proxies.py"),
    ("docs/proxies.md", "ProxyPass", "tests/docs/proxies.py"),
    ("docs/proxies.md", "loadBalancer", "Debian has no Traefik"),
    ("docs/proxies.md", "upgrade_configs", "Debian has no Envoy"),
    ("docs/your-own-hub.md", "+const BASE", "walcast_takes_over_from_a_hub"),
    ("docs/your-own-hub.md", "useState(null)", "what not to do"),
    ("docs/your-own-hub.md", "useRemediationWebSocket(", "web/client/tests/react.test.tsx"),
    ("docs/recipes.md", "npm --prefix examples/recipes/", "tests/recipes"),
    ("docs/recipes.md", "http.server 8080", "tests/recipes/light.test.mjs"),
    ("docs/recipes.md", "walcast token add console", "tests/recipes/frameworks.test.mjs"),
    ("docs/performance.md", "benches/run", "half an hour of measuring"),
    ("docs/packages.md", "benches/run", "minutes of measuring"),
    ("python/README.md", "async with aio.subscribe", "python/tests/test_daemon.py"),
    ("python/README.md", "aio.connect(", "python/tests/test_connection.py"),
    ("python/README.md", "feed.position", "python/tests/test_daemon.py"),
    ("python/README.md", "walcast.subscribe_table(", "python/tests/test_table.py"),
    ("python/README.md", "walcast.subscribe(", "python/tests/test_daemon.py"),
    ("web/client/README.md", "npm pack", "web/client/tests/pack/pack.test.ts"),
    ("web/client/README.md", "subscribeTable", "web/client/tests/table.test.ts"),
    ("web/client/README.md", "subscribe", "web/client/tests/daemon.test.ts"),
    ("web/client/README.md", "useFeed", "web/client/tests/react.test.tsx"),
]


# --- writers and readers


@contextlib.contextmanager
def opened(database):
    db = sqlite3.connect(database, timeout=PATIENCE)
    try:
        with db:
            yield db
    finally:
        db.close()


def insert(database, *alertnames):
    with opened(database) as db:
        db.execute(TABLE)
        rows = [("2026-01-01T00:00:00Z", name, "acme", "restart", "success", "details") for name in alertnames]
        db.executemany("INSERT INTO remediation_events(ts,alertname,tenant,action,status,details) VALUES (?,?,?,?,?,?)", rows)


class Node:
    """A script as a browser would run it; `lines` are what it printed."""

    def __init__(self, script):
        # Node 20 has the browser's WebSocket behind this flag; later ones without.
        command = ["node", "--experimental-websocket", "--no-warnings", "--input-type=module", "-e", script]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.lines = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        self.lines.extend(line.rstrip("\n") for line in iter(self.process.stdout.readline, ""))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def at(port, text):
    return text.replace("127.0.0.1:8010", f"127.0.0.1:{port}")


def commands(text, port):
    """The lines of a shell snippet without their remarks, for the program that was built and this port."""
    lines = [re.sub(r"\s+# .*", "", line) for line in text.splitlines()]
    built = [re.sub(r"^(cargo run --release --|walcast)(?= )", str(BINARY), line) for line in lines]
    return [at(port, line) for line in built if line]


# --- the README


@test
def first_run():
    """The first command makes the database; the next two show rows and write them."""
    watch, write = snippet(README, "sh", " emit ").splitlines()
    with place() as here, Daemon(here, database="walcast.db") as daemon:
        assert sqlite3.connect(daemon.database).execute("SELECT count(*) FROM remediation_events").fetchone() == (0,)
        (watch,), (write,) = commands(watch, daemon.port), commands(write, daemon.port)
        with open(here / "seen", "w") as out:
            tail = subprocess.Popen(watch, shell=True, stdout=out, cwd=here, start_new_session=True)
        try:
            wait_until("tail has subscribed", lambda: json.loads(daemon.get("/api/feeds")[1])["feeds"][0]["subscribers"] == 1)
            subprocess.run(write, shell=True, check=True, cwd=here, timeout=PATIENCE, stdout=subprocess.DEVNULL)
            wait_until("tail has shown 20 rows", lambda: len((here / "seen").read_text().splitlines()) == 20)
        finally:
            os.killpg(tail.pid, signal.SIGTERM)
            tail.wait()


@test
def any_other_database():
    """Each of the commands serves it, and says on a terminal what the README shows."""
    serve = snippet(README, "sh", "cargo run --release -- app.db")
    says = without_version(snippet(README, "text", "serves app.db")).splitlines()
    for command in commands(serve, 8010):
        with place() as here:
            with contextlib.closing(sqlite3.connect(here / "app.db")) as db, db:
                db.executescript("PRAGMA journal_mode = wal; CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT)")
                db.execute("INSERT INTO orders VALUES (4711, 'tea')")
            environment = {**os.environ, "WALCAST_LISTEN": "127.0.0.1:0", "WALCAST_STATE_DIR": str(here / "state")}
            screen, terminal = pty.openpty()
            # A shell that hands over to the daemon, so that the signal reaches it.
            daemon = subprocess.Popen(f"exec {command}", shell=True, cwd=here, env=environment, stdin=subprocess.DEVNULL, stderr=terminal)
            os.close(terminal)
            try:
                said = ""
                while "walcast tail" not in said or not said.endswith("\n"):
                    said += os.read(screen, 4096).decode()
                port = re.search(r"http://127\.0\.0\.1:(\d+)", said)[1]
                lines = without_version(said).replace(f":{port}", ":8010").splitlines()
                # The port's number may be longer, and so the column that it stands in.
                assert [line.split() for line in lines if line] == [line.split() for line in says if line], said
            finally:
                daemon.terminate()
                assert daemon.wait(PATIENCE) == 0
                os.close(screen)


def without_version(text):
    return re.sub(r"walcast \d+\.\d+\.\d+", "walcast", text)


@test
def a_writer_of_its_own():
    code = snippet(README, "python", "def record(")
    with place() as here, Daemon(here, database="walcast.db") as daemon, WebSocket(daemon.port, "/ws/remediation?since=now") as socket:
        assert socket.frame()["type"] == "hello"
        assert socket.frame()["type"] == "live"
        call = 'record("DiskFull", "acme", "rotate", "success", "freed 3 GiB")'
        subprocess.run(["python3", "-c", code + call], cwd=here, check=True, timeout=PATIENCE)
        assert socket.frame()["event"]["alertname"] == "DiskFull"


@test
def the_simplest_subscription():
    code = snippet(README, "js", "new WebSocket(\"ws://127.0.0.1:8010/ws/remediation\").onmessage")
    with place() as here, Daemon(here) as daemon, Node(at(daemon.port, code)) as node:
        wait_until("it has subscribed", lambda: json.loads(daemon.get("/api/feeds")[1])["feeds"][0]["subscribers"] == 1)
        insert(daemon.database, "DiskFull")
        wait_until("it has printed the row", lambda: any("DiskFull" in line for line in node.lines))


def missing_nothing(port):
    """The subscription that remembers where it was, with something to show rows in."""
    shown = 'const show = (row) => console.log(row.alertname), clear = () => console.log("clear");\n'
    return Node(shown + at(port, snippet(README, "js", "setTimeout(connect")))


@test
def the_subscription_that_misses_nothing_over_a_restart():
    with place() as here, Daemon(here) as daemon, missing_nothing(daemon.port) as node:
        wait_until("it has subscribed", lambda: json.loads(daemon.get("/api/feeds")[1])["feeds"][0]["subscribers"] == 1)
        insert(daemon.database, "first")
        wait_until("it shows the first row", lambda: node.lines == ["first"])
        daemon.stop()
        insert(daemon.database, "second", "third")
        daemon.start()
        wait_until("it shows the others", lambda: node.lines == ["first", "second", "third"])


@test
def the_subscription_that_misses_nothing_where_the_history_changes_and_links_die():
    """It is told of the other history, and loses the link before the first row of it, several times."""
    old, new = [f"old {n}" for n in range(1, 101)], [f"new {n}" for n in range(1, 201)]
    with place() as here, Daemon(here) as daemon:
        relay = Relay(daemon.port)
        with missing_nothing(relay.port) as node:
            wait_until("it has subscribed", lambda: json.loads(daemon.get("/api/feeds")[1])["feeds"][0]["subscribers"] == 1)
            insert(daemon.database, *old)
            wait_until("it shows the old history", lambda: node.lines == old)
            daemon.stop()
            relay.cuts = 2
            for file in here.glob("events.db*"):
                file.unlink()
            insert(daemon.database, *new)
            daemon.start()
            wait_until("it shows the last row of the new history", lambda: node.lines[-1] == new[-1])
            after = node.lines[len(old) :]
            begins = len(after) - 1 - after[::-1].index("clear")
            assert after[begins + 1 :] == new, f"{len(after) - begins - 1} of {len(new)} rows"
            assert relay.cuts == 0
        relay.close()


@test
def server_sent_events():
    address = re.search(r"`curl -N (\S+?)(?: .*)?`", (ROOT / README).read_text())[1]
    with place() as here, Daemon(here) as daemon:
        insert(daemon.database, "DiskFull")
        curl = subprocess.Popen(["curl", "-sN", at(daemon.port, address.strip("'\""))], stdout=subprocess.PIPE, text=True)
        try:
            assert next(line for line in curl.stdout if "DiskFull" in line).startswith("data:")
        finally:
            curl.kill()
            curl.wait()
            curl.stdout.close()


@test
def a_message_of_the_protocol():
    shown = json.loads(snippet(README, "json", '"remediation_event"'))
    with place() as here, Daemon(here) as daemon:
        insert(daemon.database, "DiskFull")
        with WebSocket(daemon.port, "/ws/remediation?since=earliest") as socket:
            hello, row = socket.frame(), socket.frame()
    assert (list(row), list(row["event"])) == (list(shown), list(shown["event"]))
    told = re.search(r"`(\{\"type\":\"hello\".*?\})`", (ROOT / README).read_text())[1]
    assert list(json.loads(told)) == list(hello)


@test
def feeds_of_other_tables():
    text = snippet(README, "toml", "[feeds.audit]")
    with place() as here:
        (here / "walcast.toml").write_text(text.replace("/var/lib/shop/shop.db", str(here / "shop.db")))
        with opened(here / "shop.db") as db:
            db.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY, card_number TEXT, items TEXT)")
            db.execute("CREATE TABLE audit_log(seq INTEGER PRIMARY KEY, payload TEXT)")
        with Daemon(here, "--config", "walcast.toml") as daemon:
            with opened(here / "shop.db") as db:
                db.execute("INSERT INTO orders(card_number, items) VALUES ('4000', '[1]')")
                db.execute("INSERT INTO audit_log(payload) VALUES (?)", ["x" * 3000])
            with WebSocket(daemon.port, "/ws/orders?last=1") as socket:
                socket.frame()
                assert socket.frame() == {"type": "orders_event", "event": {"id": 1, "items": [1]}}
            with WebSocket(daemon.port, "/live/audit?last=1") as socket:
                socket.frame()
                assert socket.frame() == {"type": "audit", "entry": {"seq": 1, "payload": "x" * 2000}}
            assert json.loads(daemon.get("/audit/history")[1])["total"] == 1


@test
def examples_that_need_nothing():
    """The writer of the examples; its pages have tests of their own."""
    line = next(s for s in documentation.all if "examples/writer.py" in s.text and s.file == README).text.splitlines()[0]
    with place() as here, Daemon(here, database="walcast.db") as daemon:
        (command,) = commands(line.replace("examples/", f"{ROOT}/examples/"), daemon.port)
        subprocess.run(command + " -n 3 -i 0", shell=True, check=True, cwd=here, timeout=PATIENCE, stdout=subprocess.DEVNULL)
        assert json.loads(daemon.get("/ops/remediate/history")[1])["total"] == 3


# --- the manual


@test
def an_outbox_tells_of_updates_and_deletes():
    with place() as here:
        (here / "walcast.toml").write_text(snippet(OUTBOX, "toml", "orders_outbox"))
        with opened(here / "shop.db") as db:
            db.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, state TEXT)")
            db.executescript(snippet(OUTBOX, "sql", "CREATE TRIGGER orders_created"))
        with Daemon(here, "--config", "walcast.toml") as daemon, WebSocket(daemon.port, "/ws/orders?since=now") as socket:
            assert (socket.frame()["type"], socket.frame()["type"]) == ("hello", "live")
            with opened(here / "shop.db") as db:
                db.execute("INSERT INTO orders(customer, state) VALUES ('acme', 'new')")
                db.execute("UPDATE orders SET state = 'paid'")
            with opened(here / "shop.db") as db:
                db.execute("DELETE FROM orders")
            told = [socket.frame()["event"] for _ in range(3)]
            prune = re.search(r"`(DELETE FROM orders_outbox.*?)`", (ROOT / OUTBOX).read_text(), re.S)[1]
            with opened(here / "shop.db") as db:
                db.execute("UPDATE orders_outbox SET at = '2020-01-01T00:00:00.000Z'")
                db.execute(prune)
                assert db.execute("SELECT seq FROM orders_outbox").fetchall() == [(3,)]
    order = {"id": 1, "customer": "acme", "state": "new"}
    assert [(event["seq"], event["op"], event["id"], event["row"]) for event in told] == [
        (1, "created", 1, order),
        (2, "updated", 1, order | {"state": "paid"}),
        (3, "deleted", 1, order | {"state": "paid"}),
    ]


@test
def a_table_is_captured_as_the_manual_says():
    with place() as here:
        database = here / "shop.db"
        with opened(database) as db:
            db.execute("CREATE TABLE orders(uuid TEXT PRIMARY KEY, tenant TEXT)")
        for text in (snippet(CAPTURE, "sh", "capture install --db shop.db orders --filter"), snippet(CAPTURE, "sh", "orders_capture.sql")):
            for line in text.splitlines():
                line = line.replace("walcast", str(BINARY), 1)
                done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=PATIENCE, cwd=here)
                assert done.returncode == 0, (line, done.stderr)
        assert "DROP TRIGGER" in (here / "orders_uncapture.sql").read_text()
        for toml in (snippet(README, "toml", "capture_filters"), snippet(CAPTURE, "toml", "capture_filters")):
            (here / "walcast.toml").write_text(toml)
            done = subprocess.run([BINARY, "config", "--config", "walcast.toml"], capture_output=True, text=True, timeout=PATIENCE, cwd=here)
            assert 'capture_filters = ["tenant"]' in done.stdout, done.stderr


@test
def compression_is_set_as_the_manual_shows():
    with place() as here:
        (here / "walcast.toml").write_text(snippet(COMPRESSION, "toml", "compress_above"))
        done = subprocess.run([BINARY, "config", "--config", "walcast.toml"], capture_output=True, text=True, timeout=PATIENCE, cwd=here)
        assert 'compression = "auto"' in done.stdout and 'compression = "off"' in done.stdout, done


@test
def walcast_takes_over_from_a_hub():
    """Beside a service that has the file open, and sets nothing: what its console asks for is answered as before."""
    with place() as here:
        database = here / "remediation.db"
        insert(database, "before")
        service = sqlite3.connect(database, timeout=PATIENCE)
        (check,) = commands(snippet(HUB, "sh", "walcast check").replace("/srv/app/remediation.db", str(database)), 0)
        done = subprocess.run(check + " --listen 127.0.0.1:0", shell=True, capture_output=True, text=True, timeout=PATIENCE, cwd=here)
        assert done.returncode == 0, done.stdout + done.stderr
        serve = snippet(HUB, "sh", "walcast serve")
        assert serve == "walcast serve --db /srv/app/remediation.db --listen 127.0.0.1:8011\n"
        with Daemon(here, database="remediation.db") as daemon, WebSocket(daemon.port, "/ws/remediation") as console:
            wait_until("it has subscribed", lambda: json.loads(daemon.get("/api/feeds")[1])["feeds"][0]["subscribers"] == 1)
            with service:
                service.execute("INSERT INTO remediation_events(ts, alertname) VALUES ('2026-01-01T00:00:00Z', 'after')")
            message = console.frame()
            assert (message["type"], message["event"]["alertname"]) == ("remediation_event", "after")
            status, text = daemon.get("/ops/remediate/history?limit=50&offset=0&page=1&_=1700000000", {"X-User-Roles": "admin"})
            assert (status, json.loads(text)["total"]) == (200, 2), text
        service.close()


@test
def the_commands_of_the_manual():
    """Those that ask and change nothing, on a configuration of one's own."""
    with place() as here:
        (here / "walcast.toml").write_text(f'database = "{here}/events.db"\nstate_dir = "{here}/state"\nlisten = ["127.0.0.1:0"]\n')
        insert(here / "events.db", "DiskFull")
        for line in snippet("docs/operations.md", "sh", "walcast check --config").splitlines():
            if line.startswith("walcast "):
                (command,) = commands(line.replace("/etc/walcast/walcast.toml", str(here / "walcast.toml")), 0)
                done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=PATIENCE, cwd=here)
                assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@test
def the_known_hosts_of_the_manual():
    # With certificates they are tests/tls's.
    for text in [s for s in documentation.all if s.language == "toml" and "hosts =" in s.text and "[tls]" not in s.text]:
        documentation.asked.add(text)
        with place() as here:
            insert(here / "events.db", "DiskFull")
            (here / "walcast.toml").write_text(f'database = "{here}/events.db"\n{text.text}')
            with Daemon(here, "--config", "walcast.toml") as daemon:
                assert daemon.get("/api/feeds", {"Host": "console.example.com"})[0] == 200, text
                assert daemon.get("/api/feeds", {"Host": "evil.example.com"})[0] == 421, text


@test
def the_certificate_of_the_manual():
    with place() as here:
        command = snippet("docs/tls.md", "sh", "openssl req")
        subprocess.run(command, shell=True, check=True, capture_output=True, timeout=PATIENCE, cwd=here)
        with DaemonOverTls(here, "--tls-cert", "cert.pem", "--tls-key", "key.pem") as daemon:
            for host in ["localhost", "127.0.0.1"]:
                feeds = [BINARY, "feeds", f"https://{host}:{daemon.port}", "--ca", "cert.pem"]
                done = subprocess.run(feeds, capture_output=True, text=True, timeout=PATIENCE, cwd=here)
                assert done.returncode == 0, f"{host}: {done.stdout}{done.stderr}"


class DaemonOverTls(Daemon):
    """One that is asked over TLS, by whoever believes its `cert.pem`."""

    scheme = "https"

    def start(self):
        self.context = ssl.create_default_context(cafile=str(self.place / "cert.pem"))
        super().start()


class Site(http.server.BaseHTTPRequestHandler):
    """A page that shows rows with a script of the manual, and takes what it shows."""

    script, shown = "", []

    def do_GET(self):
        body = f"<!doctype html><script>{self.script}</script>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.shown.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@test
def an_event_source_that_comes_back_after_a_502():
    chromium = shutil.which("chromium")
    if not chromium:
        raise Skipped("there is no chromium")
    with place() as here, Daemon(here) as daemon, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        relay = Relay(daemon.port)
        feed = f"http://127.0.0.1:{relay.port}/sse/remediation?since=earliest"
        shows = f"follow('{feed}', (row) => fetch('/', {{ method: 'POST', body: row.alertname }}));"
        Site.script, Site.shown = snippet("docs/proxies.md", "js", "new EventSource(address)") + shows, []
        threading.Thread(target=site.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={here}/chromium"]
        page = f"http://127.0.0.1:{site.server_address[1]}/"
        browser = subprocess.Popen([chromium, *options, page], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            insert(daemon.database, "first")
            wait_until("it shows the first row", lambda: Site.shown == ["first"])
            relay.refuses = 2
            daemon.stop()
            insert(daemon.database, "second")
            daemon.start()
            wait_until("it shows the second row", lambda: Site.shown == ["first", "second"])
            assert relay.refuses == 0
        finally:
            browser.terminate()
            browser.wait()
            site.shutdown()
            relay.close()


@test
def the_python_client_is_installed():
    """From a checkout, as its README says, and subscribes as it says."""
    install = snippet("python/README.md", "sh", "pip install ./python").split("#")[0].strip()
    first = snippet("python/README.md", "python", "for row in walcast.subscribe(")
    with place() as here, Daemon(here) as daemon:
        insert(daemon.database, "DiskFull")
        subprocess.run(["python3", "-m", "venv", here / "venv"], check=True, timeout=10 * PATIENCE)
        # The sources are copied, for a build leaves files beside them.
        shutil.copytree(ROOT / "python", here / "python", ignore=shutil.ignore_patterns("dist", ".*_cache"))
        subprocess.run(f"{here}/venv/bin/{install} --quiet --disable-pip-version-check", shell=True, check=True, cwd=here, timeout=10 * PATIENCE)
        code = at(daemon.port, first).replace("import walcast", "import walcast, sys") + "\n    sys.exit()"
        done = subprocess.run([here / "venv/bin/python", "-c", code], check=True, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == "1 DiskFull\n"


@test
def recipes_are_shown_as_they_are():
    """What tests/recipes runs is what the page of the recipes shows."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "examples/recipes"], cwd=ROOT, check=True, capture_output=True, text=True)
    files = [(ROOT / name).read_text() for name in listed.stdout.split()]
    for one in documentation.all:
        if one.file == RECIPES and one.language != "sh":
            assert any(one.text in text for text in files), f"no file of examples/recipes has this: {one.text.splitlines()[0]}"
            documentation.asked.add(one)


@test
def files_that_are_linked_are_there():
    for file in [README, *MANUALS]:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / file).read_text()):
            if "://" not in link:
                assert ((ROOT / file).parent / link).exists(), f"{file}: {link}"


# The last one: the others have said by now which snippets they run.
@test
def every_snippet_is_run():
    def is_known(one):
        return one in documentation.asked or any(one.file == file and words in one.text for file, words, _ in ELSEWHERE)

    if len(documentation.asked) > 3:
        unknown = [f"{one}: {one.text.splitlines()[0]}" for one in documentation.all if not is_known(one)]
        assert not unknown, "no test runs these:\n" + "\n".join(unknown)


if __name__ == "__main__":
    tests.main()
