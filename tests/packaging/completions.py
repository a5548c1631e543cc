#!/usr/bin/env python3
"""Completions as they come in the shells themselves: bash, fish and zsh, where each is installed."""

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
from harness import BINARY, PATIENCE, Skipped, Tests, place

tests = Tests()
test = tests.test


def shell(name):
    found = shutil.which(name)
    if not found:
        raise Skipped(f"{name} is not installed")
    return found


def script(name):
    return subprocess.run([BINARY, "completions", name], check=True, stdout=subprocess.PIPE, text=True).stdout


@contextlib.contextmanager
def directory():
    """A place with a database and nothing else that could be offered."""
    with place() as here:
        (here / "orders.db").touch()
        yield here


def in_bash(line):
    words = line.split(" ")
    typed = " ".join(f"'{word}'" for word in words)
    ask = f'COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; COMP_LINE="{line}"; COMP_POINT={len(line)}\n'
    ask += f'_walcast walcast "{words[-1]}" "{words[-2]}"; printf "%s\\n" "${{COMPREPLY[@]}}"\n'
    # Where it offers nothing, bash offers names of files by itself.
    ask += f'[[ ${{#COMPREPLY[@]}} == 0 && $(complete -p walcast) == *" -o default"* ]] && compgen -f -- "{words[-1]}"'
    with directory() as here:
        done = subprocess.run([shell("bash"), "--norc", "-c", f"{script('bash')}\n{ask}"], cwd=here, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=PATIENCE)
    return set(done.stdout.split())


def in_fish(line):
    with directory() as here:
        (here / "walcast.fish").write_text(script("fish"))
        ask = f"source walcast.fish; rm walcast.fish; complete -C '{line}'"
        environment = {**os.environ, "HOME": str(here), "XDG_CONFIG_HOME": str(here / ".config")}
        done = subprocess.run([shell("fish"), "--no-config", "-c", ask], cwd=here, env=environment, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    return {offered.split("\t")[0] for offered in done.stdout.splitlines()}


def in_zsh(line):
    """zsh completes on a terminal only: it is asked on one for the list of what is possible."""
    program = shell("zsh")
    with directory() as here, place() as functions:
        (functions / "_walcast").write_text(script("zsh"))
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(here)
            os.execve(program, [program, "-f", "-i"], {"PATH": os.environ["PATH"], "HOME": str(functions), "TERM": "dumb"})
        try:
            said = Said(terminal)
            # One to a line, with the words that are described beside others; and a word of our own that says the list is complete.
            # The prompt comes once the line editor has the terminal; what is typed before would not be its.
            said.type("stty -echo cols 250 rows 200; unsetopt zle_bracketed_paste; setopt no_list_packed; LISTMAX=1000\n"
                      f"fpath=({functions} $fpath); autoload -U compinit; compinit -u -D; zstyle ':completion:*' verbose no\n"
                      "finished() { print -r -- END\"\"ED }; zle -N finished; bindkey '^X' finished; bindkey '^D' list-choices\n"
                      "PS1=READ\"\"'Y '\n")
            said.until("READY")
            return said.after(f"{line}\x04\x18").split("ENDED")[0].split()
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(terminal)


class Said:
    """What a program on a terminal has printed."""

    def __init__(self, terminal):
        self.terminal = terminal
        self.text = ""

    def type(self, text):
        os.write(self.terminal, text.encode())

    def until(self, word):
        end = time.monotonic() + PATIENCE
        while word not in self.text:
            assert time.monotonic() < end, f"no {word} in {self.text!r}"
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.text += os.read(self.terminal, 65536).decode(errors="replace")

    def after(self, typed):
        self.text = ""
        self.type(typed)
        self.until("ENDED")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)


LINES = {
    "walcast ": ({"check", "completions", "feeds", "serve", "tail", "token"}, set()),
    "walcast or": ({"orders.db"}, {"serve"}),
    "walcast --log-level ": ({"debug", "info"}, {"orders.db", "serve"}),
    "walcast serve or": ({"orders.db"}, {"tail"}),
    "walcast serve --watch ": ({"auto", "notify", "poll"}, {"orders.db"}),
    "walcast tail --since ": ({"earliest", "now"}, {"orders.db"}),
    "walcast tail --e": ({"--epoch"}, {"--watch"}),
    "walcast completions ": ({"bash", "fish", "zsh"}, {"orders.db"}),
    "walcast token ": ({"add", "list", "revoke"}, {"serve"}),
    "walcast token add --exp": ({"--expires"}, {"--epoch"}),
    "walcast orders.db --wat": ({"--watch"}, {"--epoch"}),
    "walcast emit --db ": ({"orders.db"}, {"serve"}),
}


def completes(ask):
    wrong = []
    for line, (offered, left_out) in LINES.items():
        found = set(ask(line))
        if offered - found:
            wrong.append(f"{line!r} lacks {sorted(offered - found)}, has {sorted(found)[:12]}")
        if left_out & found:
            wrong.append(f"{line!r} has {sorted(left_out & found)}")
    assert not wrong, "\n".join(wrong)


@test
def bash_completes():
    completes(in_bash)


@test
def fish_completes():
    completes(in_fish)


@test
def zsh_completes():
    completes(in_zsh)


if __name__ == "__main__":
    tests.main()
