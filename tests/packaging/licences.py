#!/usr/bin/env python3
"""Reads what the packages say of the licences of what is in the program."""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
from harness import ROOT, Tests

tests = Tests()
test = tests.test


def printed():
    return subprocess.run([ROOT / "packaging/licences"], check=True, stdout=subprocess.PIPE, text=True).stdout


@test
def what_the_page_carries_is_there_with_its_text():
    text = printed()
    vendored = sorted((ROOT / "web/dashboard/vendor").iterdir())
    assert vendored
    for directory in vendored:
        assert (directory / "README.md").read_text().splitlines()[0].removeprefix("# ") in text, directory
        assert (directory / "LICENSE").read_text().strip() in text, directory


@test
def every_crate_the_program_is_linked_from_is_there():
    text = printed()
    tree = ["cargo", "tree", "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]
    lines = subprocess.run(tree, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    crates = {tuple(line.split()[:2]) for line in lines if not line.startswith("walcast ")}
    assert len(crates) > 50
    missing = [name for name, version in crates if not re.search(rf"^{re.escape(name)} {re.escape(version[1:])} ", text, re.MULTILINE)]
    assert not missing, missing


@test
def what_has_no_text_is_in_no_program_for_linux():
    *_, named_only = printed().split("These bring no text of their own")
    names = re.findall(r"^([\w-]+) [\d.]+\S* ", named_only, re.MULTILINE)
    tree = ["cargo", "tree", "--target", "x86_64-unknown-linux-gnu", "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]
    lines = subprocess.run(tree, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert not {line.split()[0] for line in lines} & set(names)


@test
def the_client_brings_no_package_of_others():
    package = (ROOT / "web/client/package.json").read_text()
    assert '"dependencies"' not in package and "bundledDependencies" not in package
    sources = "".join(file.read_text() for file in (ROOT / "web/client/src").glob("*.ts"))
    assert not re.search(r'from "(?!\.)', sources), "the bundle would carry it, and its licence has to be said"


if __name__ == "__main__":
    tests.main()
