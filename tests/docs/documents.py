# SPDX-License-Identifier: Apache-2.0
"""Fenced blocks of documents: what they are, and whether printed output is what a document shows.

A block says its language behind the fence. A comment in the line before may say more, in
a man page behind a semicolon, where all blocks are commands or all are settings:

  <!-- not run: REASON -->   its commands are parsed, not run
  <!-- fails with N -->      the last command ends with this status
  <!-- file: NAME -->        the block is saved under this name in the scratch directory
  <!-- figures within N % --> how far they may be off, where another processor's rounding moves them
  <!-- demo begins -->       what ./run demo prints
"""

import itertools
import pathlib
import re
import subprocess
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(\s*)```(\S*)\s*$")
MARK = re.compile(r"^\s*(?:<!--|;) (?:(not run|file): (.+?)|(fails with) (\d+)"
                  r"|(figures within) (\d+) %|(demo) (begins))"
                  r"(?: -->)?\s*$")

RELATIVE = 0.05  # how far a figure may be from the one in the document
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
# words that are never the same: identifiers, digests, times, durations, bars, ports
PASSING = [re.compile(pattern) for pattern in (
    r"[0-9a-z]{26}", r"[0-9a-f]{16}|[0-9a-f]{64}", r"\d{4}-\d\d-\d\dT[\d:.]+Z", r"\d+:\d\d(:\d\d)?",
    r"\d+[smhd]", r"#+", r"http://127\.0\.0\.1:\d+")]


@dataclass
class Block:
    """A fenced block; `line` is that of its first line of text, counted from 1."""
    path: pathlib.Path
    line: int
    language: str
    lines: list = field(default_factory=list)
    mark: str = ""
    word: str = ""

    @property
    def text(self):
        return "\n".join(self.lines) + "\n"

    @property
    def relative(self):
        """How far its figures may be off, in parts of each."""
        return int(self.word) / 100 if self.mark == "figures within" else RELATIVE

    @property
    def place(self):
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks(path):
    """The fenced blocks of a document, in order."""
    found, block, before, indent = [], None, "", 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence = FENCE.match(line)
        if fence and block is None:
            mark = MARK.match(before)
            word, value = (part for part in mark.groups() if part) if mark else ("", "")
            language = manual_language(path) if path.suffix == ".scd" else fence[2]
            block, indent = Block(path, number + 1, language, [], word, value), len(fence[1])
        elif fence:
            found.append(block)
            block = None
        elif block is not None:
            block.lines.append(line[indent:].replace("\\\\", "\\") if path.suffix == ".scd"
                               else line[indent:])
        before = line
    assert block is None, f"{path}: the fence of line {block.line - 1} is not closed"
    return found


def manual_language(path):
    """What the blocks of a man page are: settings where it is of a file of settings."""
    return "conf" if path.name.endswith(".conf.5.scd") else "sh"


def complete(text):
    """Whether Bash takes this as whole commands."""
    if text.rstrip().endswith("\\"):
        return False
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    return done.returncode == 0 and not done.stderr


@dataclass
class Command:
    """A command and what the document shows of its output; None where it shows nothing.
    `first` and `end` are where that output lies among the block's lines."""
    text: str
    output: list | None = None
    first: int = 0
    end: int = 0


def commands(block):
    """The commands of a block of language sh or console."""
    console = block.language == "console"
    found, at = [], 0
    lines = block.lines
    while at < len(lines):
        line = lines[at]
        if console and not line.startswith("$ "):
            found[-1].output.append(line)
            at += 1
            found[-1].end = at
            continue
        if not console and not line.strip():
            at += 1
            continue
        text = line[2:] if console else line
        at += 1
        while not complete(text + "\n"):
            assert at < len(lines), f"{block.place}: no whole command: {text}"
            text += "\n" + lines[at]
            at += 1
        found.append(Command(text, [] if console else None, at, at))
    return found


def matches(wanted, printed, relative=RELATIVE):
    """Whether lines are those of the document. There `...` stands for any words of a line, alone in
    a line for any lines; figures may be a little off; identifiers, digests and times are any."""
    def is_same(word, other):
        return same_word(word, other, relative)
    wanted = [words(line) for line in wanted if line.strip()]
    printed = [words(line) for line in printed if line.strip()]
    return aligned(wanted, printed, lambda line: line == ["..."],
                   lambda line, other: aligned(line, other, lambda word: word == "...", is_same))


def words(line):
    """What stands between blanks, or between quotation marks."""
    return [word for word in re.split(r'\s+|(?=")|(?<=")', line) if word]


def aligned(wanted, found, is_any, is_same):
    """Whether two sequences are alike, where some of the first stand for any number."""
    reached = {0}
    for item in wanted:
        if is_any(item):
            reached = set(range(min(reached), len(found) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(found) and is_same(item, found[at])}
        if not reached:
            return False
    return len(found) in reached


def same_word(wanted, found, relative=RELATIVE):
    if wanted == found:
        return True
    if "..." in wanted:
        pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
        return re.fullmatch(pattern, found) is not None
    if any(kind.fullmatch(wanted) and kind.fullmatch(found) for kind in PASSING):
        return True
    if NUMBER.split(wanted) != NUMBER.split(found):
        return False
    return all(near(*pair, relative)
               for pair in zip(NUMBER.findall(wanted), NUMBER.findall(found)))


def near(wanted, found, relative):
    """Two figures, the second a little off at most: in parts of the first, or in its last digit."""
    one, other = (float(text.replace(",", "")) for text in (wanted, found))
    digits = len(wanted.partition(".")[2].partition("e")[0])
    small = 2 * 10 ** -digits if digits else 0
    return abs(one - other) <= max(relative * abs(one), small)


def headings(path):
    """The anchors of a document's headings, as GitHub makes them."""
    anchors, seen = set(), {}
    for line in outside_fences(path):
        heading = re.match(r"^#{1,6}\s+(.*?)\s*#*$", line)
        if heading:
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            anchors.add(f"{slug}-{count}" if count else slug)
    return anchors


def outside_fences(path):
    """The lines of a document that are not code; those of code are blank."""
    inside = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if FENCE.match(line):
            inside = not inside
            yield ""
        else:
            yield "" if inside else line


def sections(path):
    """(heading, its lines) of a document, code and all."""
    current, heading = [], ""
    code = path.read_text(encoding="utf-8").splitlines()
    for line, shown in itertools.zip_longest(code, outside_fences(path), fillvalue=""):
        if shown.startswith("#"):
            yield heading, current
            current, heading = [], shown.lstrip("# ")
        current.append(line)
    yield heading, current
