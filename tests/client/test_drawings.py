# SPDX-License-Identifier: Apache-2.0
"""frontier, ranks and similarity as they are drawn on terminals, and as tables elsewhere."""

import json
import re

import pytest

from fake import JOB
from terminal import Terminal, lines_of

TASKS = [f"task{number}" for number in range(6)]
FRONTIER = {
    "points": [{"budget": 1 + step / 10, "error": 1 / (1 + step), "kind": "spectra"}
               for step in range(20)],
    "chosen": {"budget": 1.24, "error": 0.6, "kind": "measured", "bytes": 100,
               "bytes_ratio": 0.5, "dtype": "auto"},
    "marks": [{"name": name, "budget": budget, "unit": "parameters", "error": 2 - budget,
               "bytes": 1, "bytes_ratio": budget / 3}
              for name, budget in (("S", 1.24), ("M", 1.4), ("L", 1.9))],
    "precisions": {}, "dtype": "bf16", "curve": [],
}
RANKS = {"tasks": TASKS, "layers": [
    {"tensor": f"layers.{layer}.a_rather_long_name.weight", "shared": 8 * layer,
     "experts": [task * layer for task in range(6)], "dense": [False] * 5 + [True],
     "errors": [task / 10 for task in range(6)]} for layer in range(4)]}
SIMILARITY = {"tasks": TASKS, "cosine": [[1 if i == j else (i + j) / 20 for j in range(6)]
                                         for i in range(6)],
              "explained_by_shared": [0.5] * 6, "layers": []}


@pytest.fixture
def drawn(fake, didictl, environment):
    """drawn(columns, *words, **environment) -> the lines on a terminal of this width."""
    fake.on("GET", f"/v1/jobs/{JOB}/frontier", FRONTIER)
    fake.on("GET", f"/v1/jobs/{JOB}/ranks", RANKS)
    fake.on("GET", f"/v1/jobs/{JOB}/similarity", SIMILARITY)

    def show(columns, *words, **more):
        with Terminal([didictl, *words], {**environment, **more}, columns) as terminal:
            lines = lines_of(terminal.end())
        assert all(len(line) <= columns for line in lines), lines
        return lines

    return show


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_frontier_has_its_marks(drawn, columns):
    lines = drawn(columns, "frontier", JOB)
    plot = lines[lines.index("relative error"):]
    body = "".join(line.partition("│")[2] for line in plot)
    assert body.count("•") >= 7 and all(mark in body for mark in "SML")
    assert re.search("^ +└─{16,}$", "\n".join(plot), re.M)
    table = "\n".join(lines)
    assert re.search(r"1\.2400 +0\.76000 +budget S$", table, re.M)
    assert re.search(r"1\.2400 +0\.60000 +this job", table, re.M)


def test_budgets_that_count_bytes_are_drawn_against_bytes(fake, drawn, call):
    """With dtype auto S, M and L are bytes: on the curve of parameters they have no place."""
    curve = [{"bytes": 100 * step, "bytes_ratio": step / 10, "error": 1 / step}
             for step in range(1, 11)]
    marks = [mark | {"unit": "bytes_ratio_16bit"} for mark in FRONTIER["marks"]]
    fake.on("GET", f"/v1/jobs/{JOB}/frontier",
            FRONTIER | {"dtype": "auto", "curve": curve, "marks": marks})
    said = call("frontier", JOB).stdout
    assert "OF THE BASE'S BYTES" in said and "PARAMETERS" not in said
    assert re.search(r"auto +0\.4133 +1 B +0\.76000 +budget S$", said, re.M)
    body = "".join(re.split("[│┤]", line)[-1] for line in drawn(80, "frontier", JOB)
                   if re.search("[│┤]", line))
    assert all(mark in body for mark in "SMLO•")


def test_ascii_drawings_without_a_locale(drawn):
    for words in (["frontier", JOB], ["ranks", JOB], ["similarity", JOB]):
        text = "\n".join(drawn(60, *words, LC_ALL="C", LANG=""))
        assert text.isascii()
    assert re.search(r"^ +\+-{16,}$", "\n".join(drawn(60, "frontier", JOB, LC_ALL="C")), re.M)
    assert re.search("## +", "\n".join(drawn(60, "ranks", JOB, LC_ALL="C")))


def test_ranks_as_shaded_table_or_map(drawn):
    wide = drawn(120, "ranks", JOB)
    assert re.search(r"layers\.3\S+ +█ 24 +0 +░ 3 +░ 6 +▒ 9 +▒ 12 +dense$", "\n".join(wide), re.M)
    narrow = drawn(46, "ranks", JOB)
    assert re.search(r"^ +0  1  2  3  4  5  6$", narrow[0])
    assert re.match(r"layers\.3.*… ██    ░░ ░░ ▒▒ ▒▒ - ?$", narrow[4])
    assert "██ is 24" in narrow and any("0 shared" in line for line in narrow)
    errors = drawn(200, "ranks", JOB, "--errors")
    assert re.search("█ 0.5$", "\n".join(errors), re.M)


def test_similarity_as_shaded_table_or_map(drawn):
    wide = "\n".join(drawn(120, "similarity", JOB))
    assert re.search(r"^task0 +█ 1\.000 +░ 0\.050", wide, re.M) and "BY SHARED" in wide
    narrow = drawn(40, "similarity", JOB)
    assert any(re.match("task4 +▒▒ ▒▒ ▓▓ ▓▓ - +██$", line) for line in narrow), narrow


def test_in_a_pipe_nothing_is_drawn(drawn, call):
    drawn(80, "ranks", JOB)
    assert re.search(r"layers\.3\S+ +24 +0 +3 +6 +9 +12 +dense$", call("ranks", JOB).stdout, re.M)
    assert re.search(r"^task0 +1\.000 +0\.050", call("similarity", JOB).stdout, re.M)
    for words, document in (("frontier", FRONTIER), ("ranks", RANKS), ("similarity", SIMILARITY)):
        assert json.loads(call(words, JOB, "-o", "json").stdout) == document
