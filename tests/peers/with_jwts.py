#!/usr/bin/env python3
"""PyJWT and jose as the manual has them: the daemon takes the tokens they make, and gives each its own rows.

Run with a Python that has PyJWT; `node` finds jose beside this file.
"""

import json
import os
import pathlib
import sqlite3
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "docs"))

from harness import PATIENCE, Daemon, Documentation, Tests, place  # noqa: E402

tests = Tests()
test = tests.test
PAGE = "docs/access.md"
documentation = Documentation(PAGE)


def keys(here):
    """A pair of keys, made by the commands of the manual."""
    for command in ["openssl genpkey -algorithm ed25519 -out private.pem", "openssl pkey -in private.pem -pubout -out jwt.pem"]:
        assert f"`{command}`" in documentation.text(PAGE), f"{command} is not in {PAGE}"
        subprocess.run(command, shell=True, check=True, cwd=here, capture_output=True, timeout=PATIENCE)


def daemon(here):
    """One that takes the tokens, on orders of two customers."""
    keys(here)
    (here / "revoked.toml").write_text(documentation.snippet(PAGE, "toml", "issued_before"))
    (here / "revoked.toml").chmod(0o644)
    (here / "jwt.pem").chmod(0o644)
    text = documentation.snippet(PAGE, "toml", "[auth.jwt]").replace("/etc/walcast", str(here))
    (here / "walcast.toml").write_text(f'database = "{here}/events.db"\n{text}')
    with sqlite3.connect(here / "events.db") as db:
        db.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT)")
        db.execute("INSERT INTO orders(customer) VALUES ('acme'), ('globex'), ('acme')")
    db.close()
    return Daemon(here, "--config", "walcast.toml")


def reads_its_own_rows(walcast, mint):
    for customer, ids in [("acme", [3, 1]), ("globex", [2]), ("nobody", [])]:
        status, text = walcast.get("/api/feeds/orders/events", {"Authorization": f"Bearer {mint(customer)}"})
        assert status == 200, text
        assert [item["id"] for item in json.loads(text)["items"]] == ids, text
    cut = mint("acme")[:-4] + "AAAA"
    assert walcast.get("/api/feeds/orders/events", {"Authorization": f"Bearer {cut}"})[0] == 401


@test
def pyjwt():
    names = {}
    exec(documentation.snippet(PAGE, "python", "jwt.encode"), names)
    with place() as here, daemon(here) as walcast:
        before = os.getcwd()
        os.chdir(here)
        try:
            reads_its_own_rows(walcast, lambda customer: names["feed_token"]("bob", customer))
        finally:
            os.chdir(before)


@test
def jose():
    script = documentation.snippet(PAGE, "js", "SignJWT") + '\nconsole.log(await feedToken("bob", process.argv[2]));\n'
    with place() as here, daemon(here) as walcast:
        # Beside its packages, or it would not find them.
        file = HERE / f".mint-{os.getpid()}.mjs"
        file.write_text(script)
        try:

            def mint(customer):
                done = subprocess.run(["node", file, customer], check=True, cwd=here, capture_output=True, text=True, timeout=PATIENCE)
                return done.stdout.strip()

            reads_its_own_rows(walcast, mint)
        finally:
            file.unlink()


if __name__ == "__main__":
    tests.main()
