# SPDX-License-Identifier: Apache-2.0
"""Functions and variables of C files, as universal-ctags finds them."""

import functools
import json
import shutil
import subprocess

import pytest

import sources


def ctags(kinds, paths):
    """Tags of C files as dictionaries; skips the test where ctags is not installed."""
    if shutil.which("ctags") is None:
        pytest.skip("universal-ctags is not installed")
    if not paths:
        return []
    listed = subprocess.run(
        ["ctags", "--output-format=json", f"--kinds-C={kinds}", "--fields=+nefS", "--languages=C",
         "--langmap=C:.c.h", "-o", "-", *map(str, paths)],
        cwd=sources.ROOT, capture_output=True, check=True)
    return [json.loads(line) for line in listed.stdout.splitlines()]


@functools.lru_cache(maxsize=None)
def functions():
    """Functions defined anywhere, those of headers too."""
    return ctags("f", sources.with_suffix(".c", ".h"))


def parameters(signature):
    """How many parameters "(int a, int (*f)(int, int))" names."""
    inside = signature.strip()[1:-1].strip()
    depth = 0
    count = 0 if inside in ("", "void") else 1
    for character in inside:
        depth += (character in "([{") - (character in ")]}")
        count += character == "," and depth == 0
    return count


def home_of(definitions):
    """The file of each function that other files can call: (name, path, static) of all. A name
    that several files define, as programs do main, has none, nor has what tests/fault stands in
    for: the C library's."""
    homes = {}
    for name, path, static in definitions:
        if not static and path.endswith(".c") and not path.startswith("tests/fault/"):
            homes.setdefault(name, set()).add(path)
    return {name: paths.pop() for name, paths in homes.items() if len(paths) == 1}
