# SPDX-License-Identifier: Apache-2.0
"""The files of the repository and what they include: what the style tests look at."""

import functools
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
SKIPPED = (".git", ".cache", "__pycache__")
LOCAL_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
FOREIGN_INCLUDE = re.compile(r"^\s*#\s*include\s+<([^>]+)>", re.MULTILINE)


def walk():
    """Every file below the root but build trees: for copies of the sources without git."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not any(part in SKIPPED or part.startswith("build") or
                                      part.startswith(".venv") for part in parts):
            yield path.relative_to(ROOT)


@functools.lru_cache(maxsize=None)
def files():
    """Tracked files, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        return tuple(walk())
    names = listed.stdout.decode().split("\0")
    return tuple(pathlib.Path(name) for name in names if name and (ROOT / name).is_file())


@functools.lru_cache(maxsize=None)
def text(path):
    """A file's text, or None when it is not text."""
    raw = (ROOT / path).read_bytes()
    if b"\0" in raw[:4096]:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def with_suffix(*suffixes):
    return [path for path in files() if path.suffix in suffixes]


def product():
    """C sources and headers of what is installed."""
    return [path for path in with_suffix(".c", ".h")
            if path.parts[0] in ("src", "proto", "daemon", "client")]


def local_includes(path):
    return LOCAL_INCLUDE.findall(text(path) or "")


def foreign_includes(path):
    return FOREIGN_INCLUDE.findall(text(path) or "")


def code_words(path):
    """Identifiers of a C file outside comments and strings."""
    return re.findall(r"[A-Za-z_]\w*", NOT_CODE.sub(" ", text(path) or ""))


def report(problems):
    """Fails with all problems."""
    rest = [str(problem) for problem in problems]
    assert not rest, "\n" + "\n".join(rest)
