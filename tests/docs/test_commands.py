# SPDX-License-Identifier: Apache-2.0
"""Every command of the documents runs, in order, and prints what they show. With DIDI_DOCS_WRITE=1
the documents get what was printed instead."""

import json
import re
import subprocess

import pytest

import walk
from documents import ROOT, blocks, commands, outside_fences

# document -> the fixture that has what it begins with
DOCUMENTS = {
    "README.md": "alone",
    "docs/tutorial.md": "tutorial",
    "docs/faq.md": "served",
    "docs/operations.md": "served",
    "docs/hooks.md": "served",
    "docs/webhooks.md": "served",
    "docs/methods.md": "served",
    "docs/exports.md": "served",
    "docs/scoring.md": "scored",
    "docs/bakeoff.md": "scored",
    "docs/model_directories.md": "served",
    "docs/s3.md": "stored",
    "docs/examples/curl.md": "served",
    "docs/didictl.1.scd": "glyphs",
    "docs/didid.8.scd": "glyphs",
    "docs/didid-package.5.scd": "glyphs",
}
# document -> the test that runs it where other programs are
ELSEWHERE = {"docs/examples/mlflow/README.md": "tests/registries/test_example.py",
             "docs/cluster.md": "tests/cluster/test_document.py"}
LANGUAGES = ("sh", "console", "python", "json", "yaml", "conf", "nft", "c", "text")


def checked():
    """All pages that people read; api.md is made by a program."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    pages += (ROOT / "docs").glob("*.scd")
    return sorted(page for page in pages if page.name != "api.md")


ALL = [block for page in checked() for block in blocks(page)]


def name(block):
    return block.place


@pytest.mark.parametrize("block", ALL, ids=name)
def test_blocks_are_what_they_say(block):
    assert block.language in LANGUAGES, "a fence says what it holds: " + ", ".join(LANGUAGES)
    if block.language in ("sh", "console"):
        assert commands(block)
    elif block.language == "python":
        compile(block.text, block.place, "exec")
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "yaml":
        pytest.importorskip("yaml").safe_load(block.text)


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "conf"], ids=name)
def test_settings_are_those_of_the_daemon(block, didid):
    known = subprocess.run([didid, "--help"], capture_output=True, text=True, check=True).stdout
    for line in block.lines:
        if line.strip() and not line.startswith("#"):
            key, equals, _ = line.partition(" = ")
            assert equals and f"--{key.replace('_', '-')} " in known, line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_run(document, request):
    walk.run(request.getfixturevalue(DOCUMENTS[document]), ROOT / document)


@pytest.mark.parametrize("page", checked(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_stand_between_fences(page):
    """Not merely indented, where nobody would run them."""
    bare = [line for line in outside_fences(page)
            if re.match(r"    (?:\w+=\$\()?(?:didictl|didid|curl|python3?|\./run) ", line)]
    assert not bare, bare


def test_commands_that_do_not_run_say_why():
    silent = [block.place for block in ALL if block.mark == "not run" and len(block.word) < 8]
    assert not silent, silent


def test_pages_with_commands_are_run():
    """Here or elsewhere, or none of their commands is meant to run."""
    assert all((ROOT / test).exists() for test in ELSEWHERE.values())
    lost = sorted({str(block.path.relative_to(ROOT)) for block in ALL
                   if block.language in ("sh", "console") and block.mark != "not run"}
                  - DOCUMENTS.keys() - ELSEWHERE.keys())
    assert not lost, lost
