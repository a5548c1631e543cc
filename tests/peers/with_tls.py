#!/usr/bin/env python3
"""OpenSSL, curl and httpx against a daemon that speaks TLS: what is agreed on and what refused, and HTTP/2 as others speak it.

Run with a Python that has httpx[http2].
"""

import asyncio
import contextlib
import json
import pathlib
import shutil
import sqlite3
import ssl
import subprocess
import sys

import httpx

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "docs"))

from harness import PATIENCE, Daemon, Skipped, Tests, place  # noqa: E402

tests = Tests()
test = tests.test
HISTORY, STREAM = "/api/feeds/remediation/events", "/sse/remediation"
# OpenSSL offers nothing weak of itself; so it does, and it is the daemon that refuses it.
WEAK = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"


class Secure(Daemon):
    """A daemon that speaks TLS, with a certificate that only `ca` vouches for."""

    scheme = "https"

    def __init__(self, here):
        subprocess.run([HERE / "authority", here], check=True)
        self.ca = here / "ca.pem"
        self.context = ssl.create_default_context(cafile=self.ca)
        super().__init__(here, "--tls-cert", here / "cert.pem", "--tls-key", here / "key.pem")

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def insert(self, *details):
        with contextlib.closing(sqlite3.connect(self.database, timeout=PATIENCE)) as db, db:
            rows = [("now", text) for text in details]
            db.executemany("INSERT INTO remediation_events(ts, details) VALUES (?, ?)", rows)


@contextlib.contextmanager
def secure():
    with place() as here, Secure(here) as walcast:
        yield walcast


def curl(walcast, *arguments):
    command = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE), "--cacert", walcast.ca, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE)


@test
def curl_agrees_on_the_protocol():
    with secure() as walcast:
        walcast.insert("one")
        for option, version in [("--http2", "2"), ("--http1.1", "1.1")]:
            said = curl(walcast, option, "--write-out", "\n%{http_version} %{ssl_verify_result} %{http_code}", walcast.url + HISTORY)
            body, _, figures = said.stdout.rpartition("\n")
            assert figures == f"{version} 0 200", said
            assert json.loads(body)["items"][0]["details"] == "one"
        many = curl(walcast, "--http2", "--parallel", "--parallel-immediate", *[walcast.url + "/api/feeds"] * 30)
        assert many.stdout.count('"remediation"') >= 30, many
        stranger = subprocess.run(["curl", "--silent", walcast.url], capture_output=True, timeout=PATIENCE)
        assert stranger.returncode == 60, "a certificate was believed that nobody vouches for"


@test
def curl_follows_events_over_http_2():
    with secure() as walcast:
        command = ["curl", "--silent", "--no-buffer", "--http2", "--cacert", walcast.ca, f"{walcast.url}{STREAM}?since=earliest"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                seen = iter(process.stdout.readline, "")
                assert any(line.startswith("event: live") for line in seen)
                for text in ("first", "second"):
                    walcast.insert(text)
                    assert any(text in line for line in seen)
            finally:
                process.kill()


@test
def httpx_shares_a_connection():
    with secure() as walcast:
        walcast.insert(*(f"row {number}" for number in range(300)))

        async def all_of_it():
            limits = httpx.Limits(max_connections=1)
            async with httpx.AsyncClient(http2=True, verify=walcast.context, limits=limits, timeout=PATIENCE) as client:
                history = await client.get(f"{walcast.url}{HISTORY}?limit=300")
                assert history.http_version == "HTTP/2" and history.headers["content-encoding"] == "gzip", history
                assert [item["details"] for item in history.json()["items"]] == [f"row {number}" for number in reversed(range(300))]
                async with contextlib.AsyncExitStack() as stack:
                    opened = [client.stream("GET", f"{walcast.url}{STREAM}?since=298") for _ in range(20)]
                    streams = [await stack.enter_async_context(one) for one in opened]
                    assert {stream.http_version for stream in streams} == {"HTTP/2"}
                    lines = [stream.aiter_lines() for stream in streams]
                    for each in lines:
                        assert await ids_until(each, "event: live") == [299, 300]
                    await asyncio.to_thread(walcast.insert, "the last")
                    for each in lines:
                        assert await ids_until(each, "the last") == [301]
                    # The page is had beside all of them.
                    page = await client.get(walcast.url)
                    assert page.status_code == 200 and page.http_version == "HTTP/2"

        asyncio.run(all_of_it())


async def ids_until(lines, text):
    """The ids of the rows up to a line that holds the text."""
    ids = []
    async for line in lines:
        if line.startswith("data: ") and "event" in (data := json.loads(line[6:])):
            ids.append(data["event"]["id"])
        if text in line:
            return ids
    raise AssertionError(f"the stream ended without {text}")


def openssl(walcast, *arguments, says="", until=None):
    """What `openssl s_client` prints, and whether it was content. Its input stays open until it has printed something."""
    if not shutil.which("openssl"):
        raise Skipped("there is no openssl")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{walcast.port}", "-servername", "localhost", "-CAfile", walcast.ca, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        process.stdin.write(says.encode())
        process.stdin.flush()
        printed = b""
        if until:
            while until.encode() not in printed and (part := process.stdout.read1()):
                printed += part
        rest, _ = process.communicate(timeout=PATIENCE)
        return (printed + rest).decode(errors="replace"), process.returncode == 0
    finally:
        process.kill()
        process.wait()


def was_refused(said):
    """An alert came, and nothing was agreed on."""
    return "SSL alert number" in said and "Cipher is (NONE)" in said


def is_well(walcast):
    """The daemon answers others as ever."""
    assert curl(walcast, walcast.url + "/healthz").returncode == 0


@test
def openssl_is_refused_what_is_old():
    with secure() as walcast:
        for version, name in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")]:
            said, content = openssl(walcast, version)
            assert content and f"New, {name}" in said and "Verify return code: 0 (ok)" in said, said
            assert "Compression: NONE" in said
        for version in ["-tls1", "-tls1_1"]:
            said, content = openssl(walcast, version, "-cipher", WEAK)
            assert not content and was_refused(said), said
        is_well(walcast)


@test
def openssl_is_refused_what_is_weak():
    with secure() as walcast:
        listed = subprocess.run(["openssl", "ciphers", "-tls1_2", "-s", f"{WEAK}"], check=True, capture_output=True, text=True).stdout.strip()
        taken = []
        for cipher in listed.split(":"):
            said, content = openssl(walcast, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
            if content:
                taken.append(cipher)
            else:
                assert was_refused(said), (cipher, said)
        # With an ECDSA key; forward secrecy and authenticated encryption, nothing else.
        assert set(taken) == {
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        }, taken
        assert len(listed.split(":")) > 50, listed
        is_well(walcast)


@test
def openssl_may_not_renegotiate():
    with secure() as walcast:
        # A line with an R asks for it.
        said, content = openssl(walcast, "-tls1_2", says="R\n", until="RENEGOTIATING")
        assert "RENEGOTIATING" in said and not content and "no renegotiation" in said, said
        is_well(walcast)


@test
def openssl_agrees_on_a_protocol_inside():
    with secure() as walcast:
        for offered, agreed in [("h2", "h2"), ("http/1.1", "http/1.1"), ("http/1.1,h2", "h2"), ("smtp,http/1.1", "http/1.1")]:
            said, content = openssl(walcast, "-alpn", offered)
            assert content and f"ALPN protocol: {agreed}\n" in said, said
        said, content = openssl(walcast, "-alpn", "smtp")
        assert not content and "alert no application protocol" in said, said


@test
def openssl_resumes_and_sends_nothing_early():
    question = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with secure() as walcast:
        kept, early = walcast.place / "session", walcast.place / "early"
        early.write_text(question)
        for version in ["-tls1_2", "-tls1_3"]:
            said, _ = openssl(walcast, version, "-ign_eof", "-sess_out", kept, says=question)
            assert " 200 OK" in said and "New, " in said, said
            said, _ = openssl(walcast, version, "-ign_eof", "-sess_in", kept, says=question)
            assert " 200 OK" in said and "Reused, " in said, said
        said, _ = openssl(walcast, "-tls1_3", "-ign_eof", "-sess_in", kept, "-early_data", early, says=question)
        assert "Early data was accepted" not in said and said.count(" 200 OK") == 1, said


@test
def a_restart_forgets_sessions_and_shakes_hands_in_full():
    question = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with secure() as walcast:
        kept = walcast.place / "session"
        openssl(walcast, "-tls1_3", "-ign_eof", "-sess_out", kept, says=question)
        walcast.stop()
        walcast.start()
        said, _ = openssl(walcast, "-tls1_3", "-ign_eof", "-sess_in", kept, says=question)
        assert " 200 OK" in said and "New, " in said, said


if __name__ == "__main__":
    tests.main()
