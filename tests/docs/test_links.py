# SPDX-License-Identifier: Apache-2.0
"""Links, names of files and sections, and figures of the documents are what they point at."""

import functools
import re

import pytest

from documents import ROOT, headings, outside_fences, sections

LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w/.$*])((?:src|docs|tests|daemon|client|proto|sql|systemd)/"
                  r"[\w./*-]*[\w*])")
EXAMPLE = re.compile(r"[A-Z]{3,}|half_average")  # of a name that stands for any
SECTION = re.compile(r"([\w/]+\.md)(?:\]\([^)]*\))?,? (?:section )?(\d+)\b")
FIGURE = re.compile(r"\d\.\d|\d ?(?:MB|GB|GiB|ms|%|Gflop)\b|\d [sx]\b")
PROPER = re.compile(r"Apache-2\.0|SQLite [\d.]+|OpenBLAS [\d.]+")  # figures that nobody measures
COMMAND = re.compile(r"`[^`]*(?:\./run|didictl|didid|DIDI_\w+=|python3?|perf)[^`]*`|^\$ |"
                     r"tests/\w+/\w+\.py", re.MULTILINE)
MEASURED = ("README.md", "docs/performance.md", "docs/faq.md", "docs/experiments.md")


def pages():
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


@functools.cache
def anchors(path):
    return headings(path)


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page):
    broken = []
    text = re.sub(r"<!--.*?-->", "", "\n".join(outside_fences(ROOT / page)), flags=re.DOTALL)
    for line in text.splitlines():
        for target in LINK.findall(line):
            if "://" in target or target.startswith("mailto:"):
                continue
            file, _, anchor = target.partition("#")
            place = (ROOT / page).parent / file if file else ROOT / page
            if not place.exists() or (anchor and anchor not in anchors(place.resolve())):
                broken.append(target)
    assert not broken, broken


@pytest.mark.parametrize("page", pages())
def test_files_that_are_named_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"https?://\S+|<!--.*?-->", "", text, flags=re.DOTALL)
    dead = sorted({name for name in PATH.findall(text) if not EXAMPLE.search(name)
                   and not any(ROOT.glob(name)) and not any(ROOT.glob(name + ".*"))
                   and not any(ROOT.glob(name + "*"))})
    assert not dead, dead


def test_sections_that_are_named_exist():
    dead = []
    for folder in ("src", "daemon", "client", "proto", "docs", "tests", "."):
        for path in (ROOT / folder).glob("*" if folder == "." else "**/*"):
            if path.suffix not in (".md", ".c", ".h", ".py", ".scd", ".yaml"):
                continue
            for file, number in SECTION.findall(path.read_text(encoding="utf-8")):
                found = [place for place in (path.parent / file, ROOT / file, ROOT / "docs" / file)
                         if place.exists()]
                if not found or not any(re.match(rf"#+ {number}\. ", line)
                                        for line in outside_fences(found[0])):
                    dead.append(f"{path.relative_to(ROOT)}: {file}, {number}")
    assert not dead, "\n".join(dead)


@pytest.mark.parametrize("page", MEASURED)
def test_figures_name_their_command(page):
    """In the same section."""
    parts = [(heading, PROPER.sub("", "\n".join(lines)))
             for heading, lines in sections(ROOT / page)]
    bare = [heading for heading, text in parts if FIGURE.search(text) and not COMMAND.search(text)]
    assert not bare, bare
