#!/usr/bin/env python3
"""Makes the release archive for this machine's processor and uses what is in it.

tests/packaging/release.py   WALCAST_ARCHIVE names an archive that is there already, instead
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
import harness
from harness import ROOT, Daemon, Skipped, Tests, WebSocket, place
from snippets import insert

tests = Tests()
test = tests.test
made = os.environ.get("WALCAST_ARCHIVE")
# What any Linux of the last ten years has: CentOS 7 is of 2014.
OLDEST_GLIBC = (2, 17)


def archive():
    global made
    if not made:
        if platform.system() != "Linux":
            raise Skipped("archives are for Linux")
        done = subprocess.run([ROOT / "packaging/release"], check=True, stdout=subprocess.PIPE, text=True)
        made = done.stdout.splitlines()[-1]
    return Path(made)


def unpacked(here):
    with tarfile.open(archive()) as packed:
        packed.extractall(here)
    (tree,) = here.iterdir()
    return tree


@test
def its_checksum_is_beside_it():
    digest, name = Path(f"{archive()}.sha256").read_text().split()
    assert name == archive().name
    assert digest == hashlib.sha256(archive().read_bytes()).hexdigest()


@test
def all_that_belongs_to_it_is_in_it():
    with place() as here:
        tree = unpacked(here)
        for file in ["LICENSE-MIT", "LICENSE-APACHE", "README.md", "systemd/walcast.service", "systemd/install", "docs/operations.md"]:
            assert (tree / file).is_file(), file
        assert "uPlot" in (tree / "LICENSES-THIRD-PARTY").read_text()
        for file in ["walcast.1", "walcast-tail.1", "walcast.bash", "_walcast", "walcast.fish"]:
            assert (tree / "manual" / file).is_file(), file


@test
def the_program_needs_no_newer_library():
    with place() as here:
        program = (unpacked(here) / "walcast").read_bytes()
    needed = {tuple(map(int, number.split(b"."))) for number in re.findall(rb"GLIBC_(\d+\.\d+)", program)}
    assert needed and max(needed) <= OLDEST_GLIBC, needed


@test
def the_program_serves_rows():
    with place() as here:
        tree = unpacked(here)
        harness.BINARY = tree / "walcast"
        version = subprocess.run([harness.BINARY, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
        assert version in tree.name
        with Daemon(here) as daemon, WebSocket(daemon.port, "/ws/remediation?since=now") as socket:
            assert (socket.frame()["type"], socket.frame()["type"]) == ("hello", "live")
            insert(daemon.database, "DiskFull")
            assert socket.frame()["event"]["alertname"] == "DiskFull"


if __name__ == "__main__":
    tests.main()
