# SPDX-License-Identifier: Apache-2.0
"""What operations.md quotes under "When something goes wrong" is what the programs print."""

import functools
import re

import pytest

from documents import ROOT

BEGIN = "## When something goes wrong\n"
ROW = re.compile(r"^\| (.+?) \| .+ \| .+ \|$", re.MULTILINE)
STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
JOINED = re.compile(r'"((?:[^"\\\n]|\\.)*)"\s*(?:PRI\w+\s*)?"')
CONVERSION = re.compile(r"%[-+ 0#]*[\d*]*(?:\.[\d*]+)?(?:ll|l|z|j|h)?[a-zA-Z]")


def quoted():
    """The first cells of the section's tables."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.split(BEGIN)[1].split("\n## ")[0]
    cells = ROW.findall(section)
    return [cell for cell in cells if not cell.startswith(("what is", "---"))]


@functools.cache
def strings():
    """All strings of the sources, adjacent ones joined, what is filled in written as ?."""
    found = []
    for folder in ("src", "daemon", "client", "proto"):
        for path in sorted((ROOT / folder).rglob("*.[ch]")):
            text, before = path.read_text(encoding="utf-8"), None
            while text != before:
                before, text = text, JOINED.sub(r'"\1', text)
            found += [CONVERSION.sub("?", string).replace(r"\"", '"')
                      for string in STRING.findall(text)]
    return found


def test_there_are_symptoms():
    assert len(quoted()) > 25


@pytest.mark.parametrize("cell", quoted())
def test_messages_are_those_of_the_programs(cell):
    message = re.search(r"`([^`]+)`", cell)
    if not message:
        assert "while" in cell, "a symptom is a message, or something seen"
        return
    # A word in capitals is filled in by the program, or stands in the string as it is.
    words = re.split(r"(\b[A-Z]+\b)", message[1])
    pattern = "".join(rf"(?:\?+|{word})" if word.isupper() else re.escape(word)
                      for word in words)
    assert any(re.search(pattern, string) for string in strings()), message[1]
