# SPDX-License-Identifier: Apache-2.0
"""Completion as bash, zsh and fish themselves do it: commands, options, values, jobs, models."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from fake import JOB, job, page
from terminal import Terminal

CASES = [
    ("didictl sub", ["submit"]),
    ("didictl model re", ["rescan"]),
    ("didictl jobs --lim", ["--limit"]),
    ("didictl pull --for", ["--format"]),
    ("didictl pull --format pe", ["peft", "peft-exact"]),
    ("didictl -o j", ["json", "jsonl"]),
    ("didictl --host http://127.0.0.1:9 mod", ["model"]),
    ("didictl model ls --state rea", ["ready"]),
    ("didictl completion z", ["zsh"]),
    ("didictl watch 01h", [JOB]),
    ("didictl model show fam", ["family/base"]),
    ("didictl submit --base fam", ["family/base"]),
]
# Names that a shell must take as they are, or not at all.
EVIL = ["family/$(touch trap)", "family/`touch trap`", "family/*", "family/;touch trap"]


@pytest.fixture
def shell(call, fake, didictl, environment, tmp_path):
    """shell(name) -> the script's path and an environment in which didictl is found."""
    fake.on("GET", "/v1/jobs", page([job()]))
    fake.on("GET", "/v1/models", page([{"name": "family/base", "state": "ready"}]))

    def prepare(name):
        if not shutil.which(name):
            pytest.skip(f"there is no {name}")
        script = tmp_path / f"completion.{name}"
        script.write_text(call("completion", name).stdout)
        path = f"{pathlib.Path(didictl).parent}:{os.environ['PATH']}"
        return script, {**environment, "PATH": path}

    return prepare


def bash_offers(script, line, environment):
    words = line.split(" ")
    asked = (f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
             "_didictl; printf '%s\\n' \"${COMPREPLY[@]}\"")
    done = subprocess.run(["bash", "-uc", asked], capture_output=True, text=True, check=True,
                          env=environment)
    assert not done.stderr
    return done.stdout.split("\n")[:-1]


def fish_offers(script, line, environment):
    done = subprocess.run(["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"],
                          capture_output=True, text=True, check=True, env=environment)
    assert not done.stderr, done.stderr
    return [offer.split("\t")[0] for offer in done.stdout.splitlines()]


class Zsh:
    """A zsh that is typed to; completions are listed by Ctrl-D, as _main_complete gives them."""

    def __init__(self, script, environment):
        self.terminal = Terminal(["zsh", "-f", "-i"], {**environment, "TERM_OF_TEST": "dumb",
                                                       "PS1": "%# "}, 200)
        self.press("PS1='%# '; unsetopt zle_bracketed_paste prompt_cr prompt_sp list_ambiguous; "
                   "setopt no_beep; LISTMAX=0; autoload -Uz compinit; compinit -D; "
                   f"source {script}; zstyle ':completion:*' insert-tab false; "
                   "print READY$((1+1))\r")
        self.terminal.wait_for("READY2\r?\n")

    def press(self, text):
        self.terminal.press(text.encode())

    def offers(self, line, offered):
        """Waits until all that is offered stands on the screen after Tab; then the line goes."""
        seen = len(self.terminal.shown)
        self.press(line + "\t")
        text = self.terminal.wait_for(*map(re.escape, offered), after=seen, without_escapes=True)
        self.press("\x15print DO$((2*7))NE\r")
        self.terminal.wait_for("DO14NE\r?\n", after=seen)
        return text


@pytest.mark.parametrize("line, offered", CASES)
def test_bash(shell, line, offered):
    script, environment = shell("bash")
    assert bash_offers(script, line, environment) == offered


@pytest.mark.parametrize("line, offered", CASES)
def test_fish(shell, line, offered):
    script, environment = shell("fish")
    assert sorted(fish_offers(script, line, environment)) == sorted(offered)


def test_zsh(shell):
    script, environment = shell("zsh")
    zsh = Zsh(script, environment)
    try:
        for line, offered in CASES:
            zsh.offers(line, offered)
    finally:
        zsh.terminal.__exit__()


@pytest.mark.parametrize("name", ["bash", "fish", "zsh"])
def test_names_are_never_run(shell, fake, tmp_path, name, monkeypatch):
    script, environment = shell(name)
    fake.on("GET", "/v1/models", page([{"name": model, "state": "ready"}
                                       for model in (*EVIL, "family/base")]))
    monkeypatch.chdir(tmp_path)
    line = "didictl model show fam"
    if name == "zsh":
        zsh = Zsh(script, environment)
        zsh.offers(line, ["family/"])
        zsh.terminal.__exit__()
    else:
        offers = {"bash": bash_offers, "fish": fish_offers}[name](script, line, environment)
        assert "family/base" in offers
    assert not (tmp_path / "trap").exists()
