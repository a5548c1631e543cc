"""Writers of other languages and versions. Each runs statements on a file in a process of its own, and says of each what came of it."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
from harness import TARGET, Skipped  # noqa: E402

HERE = Path(__file__).resolve().parent
WORK = TARGET / "writers"
# sqlite3 of npm brings its SQLite as source: the oldest is of December 2013.
OLD = {"3.8.2": ("sqlite3@2.2.0", "sqlite-autoconf-3080200"), "3.8.6": ("sqlite3@3.0.0", "sqlite-autoconf-3080600")}
BETTER_SQLITE3 = "better-sqlite3@12"
# Debian's libxerial-sqlite-jdbc-java.
JDBC, JNI = Path("/usr/share/java/sqlite-jdbc.jar"), Path("/usr/lib/x86_64-linux-gnu/jni")


class Python:
    """The standard library's sqlite3."""

    def __init__(self):
        self.version = version_of(run([sys.executable, "-c", "import sqlite3; print(sqlite3.sqlite_version)"]))

    def outcomes(self, database, statements):
        return run([sys.executable, HERE / "writer.py", database], json.dumps(statements))


class Shell:
    """The sqlite3 shell."""

    def __init__(self, program):
        self.program = program
        self.version = version_of(run([program, "--version"]))

    def outcomes(self, database, statements):
        # Where a foreign key fails a statement at its end, whether its rowid stays depends on there being any trigger.
        told = "" if any("foreign_keys" in sql for sql in statements) else "SELECT changes(), last_insert_rowid();"
        script = "".join(f"{sql};\n{told}\n" for sql in statements)
        done = subprocess.run([self.program, "-batch", database], input=script, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr + (f"\nended by signal {-done.returncode}" if done.returncode < 0 else "")


class Node:
    """better-sqlite3."""

    def __init__(self):
        need("node", "npm")
        folder = WORK / "node"
        if not (folder / "node_modules/better-sqlite3/build").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_text("{}")
            # Where its host of built files can't be reached, it is built with the headers of Node that are installed.
            built = {**os.environ, "npm_config_nodedir": str(Path(shutil.which("node")).resolve().parent.parent)}
            attempt(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", BETTER_SQLITE3], cwd=folder, env=built)
        self.environment = {**os.environ, "NODE_PATH": str(folder / "node_modules")}
        self.version = version_of(self._run(":memory:", ["SELECT sqlite_version()"], "version"))

    def _run(self, *arguments):
        database, statements, *more = arguments
        return run(["node", HERE / "writer.cjs", database, *more], json.dumps(statements), env=self.environment)

    def outcomes(self, database, statements):
        return self._run(database, statements)


class Java:
    """sqlite-jdbc. One virtual machine runs all histories: to start one, and have it compile, takes seconds."""

    def __init__(self):
        need("java")
        if not JDBC.exists():
            raise Skipped("the Debian package libxerial-sqlite-jdbc-java is not installed")
        command = ["java", "-XX:TieredStopAtLevel=1", f"-Djava.library.path={JNI}", f"-Dorg.sqlite.lib.path={JNI}", "-cp", JDBC, HERE / "Writer.java"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        self.version = version_of(self._answers(":memory:", [])[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def outcomes(self, database, statements):
        return "\n".join(self._answers(database, statements)[1:])

    def _answers(self, database, statements):
        self.process.stdin.write("\n".join([str(database), *statements]) + "\n\n")
        self.process.stdin.flush()
        answers = list(iter(lambda: self.process.stdout.readline().rstrip("\n"), ""))
        # It says why on stderr, and is gone.
        assert len(answers) == len(statements) + 1, f"it ended: {self.process.poll()}"
        return answers


def old_shell(version):
    """The shell of an old SQLite that a package still brings, built from it."""
    need("npm", "cc")
    package, source = OLD[version]
    work = WORK / version
    program = work / source / "sqlite3"
    if not program.exists():
        work.mkdir(parents=True, exist_ok=True)
        attempt(["npm", "pack", "--silent", package], cwd=work)
        (archive,) = work.glob("sqlite3-*.tgz")
        for part in (archive, work / f"package/deps/{source}.tar.gz"):
            with tarfile.open(part) as opened:
                opened.extractall(work, filter="data")
        attempt(["cc", "-O1", "-w", "-DSQLITE_THREADSAFE=0", "-o", program, "shell.c", "sqlite3.c", "-ldl", "-lm"], cwd=work / source)
    return Shell(program)


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skipped(f"there is no {program}")


def attempt(command, **more):
    """What needs a registry or a compiler, and may not be to be had."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if done.returncode:
        raise Skipped(f"{command[0]} failed: {(done.stderr or done.stdout)[-300:]}")


def run(command, given="", **more):
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{command}: {done.stdout[-500:]}{done.stderr[-2000:]}"
    return done.stdout


def version_of(text):
    return tuple(int(part) for part in text.split()[0].split(".")[:3])
