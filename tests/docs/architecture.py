#!/usr/bin/env python3
"""Holds the code against the map in ARCHITECTURE.md: what is in src/ stands in it, imports go down, and paths it names exist.

tests/docs/architecture.py [WORD...]   only tests whose name contains one of the words
"""

import re

from harness import ROOT, Tests

tests = Tests()
test = tests.test
SOURCE = ROOT / "src"
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
# A top-level item of src/ as the map has it: a folder with a slash, or a file with its ending.
NAME = re.compile(r"`(\w+)(?:/|\.rs)`")


def floors():
    """The floor of each folder and file of src/, as the map says."""
    found = {}
    for line in TEXT.splitlines():
        if row := re.match(r"\| (\d+) \| ([^|]+) \|", line):
            for name in NAME.findall(row[2]):
                assert name not in found, f"{name} stands twice in the map"
                found[name] = int(row[1])
    return found


def imports():
    """What each folder and file at the top of src/ names of the others."""
    found = {}
    for file in sorted(SOURCE.rglob("*.rs")):
        top = file.relative_to(SOURCE).parts[0].removesuffix(".rs")
        if top in ("main", "lib") or file.stem in ("tests", "fixture"):
            continue
        code = re.sub(r"//.*", "", file.read_text())
        code = re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", code)[0]
        names = re.findall(r"\bcrate::(\w+)", code)
        for group in re.findall(r"\bcrate::\{([^}]*)\}", code):
            names += re.findall(r"(?:^|,)\s*(\w+)", group)
        for name in names:
            if name != top:
                found.setdefault((top, name), str(file.relative_to(ROOT)))
    return found


@test
def everything_stands_in_the_map():
    there = {path.name.removesuffix(".rs") for path in SOURCE.iterdir() if path.is_dir() or path.suffix == ".rs"}
    known = set(floors())
    assert there == known, f"not in the map: {there - known}; in the map alone: {known - there}"


@test
def imports_go_down():
    floor = floors()
    found = {edge: file for edge, file in imports().items() if edge[1] in floor}
    up = {edge for edge in found if floor[edge[0]] < floor[edge[1]]}
    up |= {edge for edge in found if floor[edge[0]] == floor[edge[1]] and edge[::-1] in found and edge < edge[::-1]}
    up = {f"{a} → {b} ({found[a, b]})" for a, b in up}
    assert not up, f"imports that do not go down: {up}"


@test
def a_floor_has_no_circle():
    floor = floors()
    beside = {}
    for a, b in imports():
        if floor.get(a) == floor.get(b):
            beside.setdefault(a, set()).add(b)
    while beside:
        grounded = {a for a, under in beside.items() if not under & set(beside)}
        assert grounded, f"a circle among {sorted(beside)}"
        beside = {a: under for a, under in beside.items() if a not in grounded}


@test
def every_path_exists():
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w.-]+\.(?:rs|md|toml|py))`", TEXT))
    missing = {path for path in named if not (SOURCE / path).exists() and not (ROOT / path).exists()}
    assert not missing, f"ARCHITECTURE.md names {missing}, which are not there"


if __name__ == "__main__":
    tests.main()
