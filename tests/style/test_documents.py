# SPDX-License-Identifier: Apache-2.0
"""Documents agree with what they are about."""

import re
import subprocess
import sys

import pytest

import sources

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def test_the_page_of_the_interface_is_up_to_date():
    pytest.importorskip("yaml")
    script = sources.ROOT / "docs" / "generate_api.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True)


def test_links_lead_somewhere():
    broken = []
    for path in sources.with_suffix(".md"):
        for target in LINK.findall(sources.text(path)):
            if "://" not in target and not (sources.ROOT / path.parent / target).exists():
                broken.append(f"{path}: {target}")
    assert not broken, "\n".join(broken)


def test_words_of_run_are_documented():
    words = re.search(r"^(demo \|[^)]*)\)", sources.text("run"), re.MULTILINE).group(1).split(" | ")
    text = subprocess.run(["sh", "run", "help"], cwd=sources.ROOT, capture_output=True, text=True,
                          check=True).stdout
    missing = [word for word in (*words, "test") if not re.search(rf"^  {word}\b", text, re.M)]
    assert not missing, missing


def test_the_build_knows_every_test_file():
    build = sources.text("tests/meson.build")
    lost = [path for path in sources.files()
            if path.match("tests/e2e/test_*.py") and f"'{path.name}'" not in build]
    assert not lost, lost
