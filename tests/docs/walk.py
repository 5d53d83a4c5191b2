# SPDX-License-Identifier: Apache-2.0
"""Runs a document: its commands in order in one shell, its files beside them."""

import os

import pytest

from documents import blocks, commands, matches

# Nothing is looked up, nothing is told to anybody, no settings of who runs the tests are read.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1",
               "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error",
               "DIDI_CONFIG": "/dev/null", "PYTHONWARNINGS": "ignore"}
WRITE = "DIDI_DOCS_WRITE"  # in the environment: documents get what was printed


def programs(folder, **places):
    """A folder for PATH with these programs under these names."""
    folder.mkdir(exist_ok=True)
    for name, place in places.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {place} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


def replaced(text, words):
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def run(shell, path):
    """Runs all that is not marked `not run`; where output is shown, it must be what is printed."""
    shown = {}
    try:
        for block in blocks(path):
            if block.mark == "file":
                (shell.folder / block.word).write_text(replaced(block.text, shell.words),
                                                       encoding="utf-8")
            elif block.language in ("sh", "console") and block.mark != "not run":
                run_block(shell, block, shown)
    finally:
        if os.environ.get(WRITE):
            write(path, shown)


def run_block(shell, block, shown):
    """Notes in `shown` what is printed where the document has other."""
    found = commands(block)
    for command in found:
        wanted = int(block.word) if block.mark == "fails with" and command is found[-1] else 0
        status, printed = shell.run(command.text)
        assert status == wanted, "\n".join([f"{block.place}: {command.text}", *printed[-40:]])
        if command.output is None or matches(command.output, printed, block.relative):
            continue
        shown[block.line + command.first, block.line + command.end] = printed
        if not os.environ.get(WRITE):
            pytest.fail("\n".join([f"{block.place}: {command.text}", "the document shows:",
                                   *command.output, "printed was:", *printed]), pytrace=False)


def write(path, shown):
    lines = path.read_text(encoding="utf-8").splitlines()
    for (first, end), printed in sorted(shown.items(), reverse=True):
        while printed and not printed[-1].strip():
            printed.pop()
        lines[first - 1:end - 1] = [line.rstrip() for line in printed]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
