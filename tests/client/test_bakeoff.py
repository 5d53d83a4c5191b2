# SPDX-License-Identifier: Apache-2.0
"""bakeoff: asked for and followed on a real daemon; the table and the plot at every width."""

import json
import re

import pytest

from fake import JOB
from terminal import Terminal, lines_of

TASKS = ("hiragana", "latin")
FLAGS = ["--base", "base"] + [word for name in TASKS for word in ("--task", f"{name}=tasks/{name}")]


def row(label, role, ratio, kept, state="succeeded", detail=None):
    """A row as the contract has it."""
    return {"label": label, "role": role, "method": label, "method_options": {}, "job": JOB,
            "job_exists": False, "state": state, "progress": 1, "relative_error": ratio and 0.5,
            "bytes": ratio and int(1000 * ratio), "ratio": ratio, "kept": kept, "scores": {},
            "worst": kept and {"task": "a", "kept": kept - 0.1}, "seconds": ratio and 1.5,
            "cosine": ratio and 0.7, "length": 0.8,
            "error": detail and {"type": "urn:x", "title": "No", "detail": detail}}


ROWS = [row("average", "method", 1.02, 0.45),
        row("ties, combine sum, scale 0.3", "method", 1.02, 0.5),
        row("individuals", "method", 4.08, 1.0), row("base", "base", None, 0.3),
        row("cat", "method", None, None, "refused", "method 'cat' needs Gram matrices"),
        row("didi, survey", "survey", None, None), row("didi 1.02x", "didi", 1.01, 0.99)]
BAKEOFF = {"id": JOB, "name": "fonts", "state": "succeeded", "base": "base", "tasks": ["a", "b"],
           "scored": True, "cancel_requested": False, "model_bytes": 1000, "members": 7,
           "members_ended": 7, "error": None, "created_at": "2025-03-01T12:00:00.000Z",
           "updated_at": "2025-03-01T12:00:00.000Z", "finished_at": "2025-03-01T12:00:00.000Z",
           "request": {}, "rows": ROWS, "verdict": {"measure": "kept", "note": "", "ahead": []}}


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_table_and_plot_fit_the_terminal(fake, didictl, environment, columns):
    fake.on("GET", f"/v1/bakeoffs/{JOB}", BAKEOFF)
    with Terminal([didictl, "bakeoff", "show", JOB], environment, columns) as terminal:
        lines = lines_of(terminal.end())
    assert all(len(line) <= columns for line in lines), lines
    text = "\n".join(lines)
    assert re.search(r"^average +1\.02x +0\.45 +0\.35 +0\.5", text, re.M)
    assert re.search(r"^base +- +0\.3", text, re.M) and "survey" not in text
    assert ("needs Gram" in text) == (columns > 80) and "refused" in text
    assert "ahead of didi at their bytes: none" in text
    plot = lines[lines.index("kept"):]
    body = "".join(line.partition("│")[2] for line in plot[1:])
    assert "•" in body and "D" in "".join(plot) and "4.08" not in "".join(plot)


def test_what_is_ahead_and_what_is_not_scored_are_said(fake, call):
    ahead = [{"label": "twin", "what": "worst", "by": 0.0125}]
    fake.on("GET", f"/v1/bakeoffs/{JOB}", BAKEOFF | {"verdict": {"ahead": ahead}})
    assert "twin, worst task by 0.0125" in call("bakeoff", "show", JOB).stdout
    fake.on("GET", f"/v1/bakeoffs/{JOB}", BAKEOFF | {"scored": False})
    said = call("bakeoff", "show", JOB).stdout
    assert "cannot be compared" in said and "KEPT" not in said and "COSINE" in said


def test_a_failure_is_the_exit_code(fake, call):
    failed = {"type": "urn:x", "title": "No", "detail": "no method gave a result"}
    fake.on("GET", f"/v1/bakeoffs/{JOB}", BAKEOFF | {"state": "failed", "error": failed})
    assert "no method gave a result" in call("bakeoff", "wait", JOB, status=3).stderr


def test_words_are_checked(fake, call):
    assert "26 characters" in call("bakeoff", "show", "x", status=2).stderr
    assert "26 characters" in call("bakeoff", "rm", "../x", status=2).stderr
    assert "no base or no tasks" in call("bakeoff", "run", status=2).stderr
    fake.on("GET", "/v1/bakeoffs", {"data": [], "has_more": False, "next": None})
    assert "there are no bake-offs" in call("bakeoff", "show", "@latest", status=1).stderr


class TestWithADaemon:
    """The whole way."""

    @pytest.fixture
    def host(self, start_daemon, family):
        return start_daemon(family).url

    def test_the_life_of_a_bakeoff(self, call, tmp_path):
        spec = tmp_path / "models.yaml"
        spec.write_text("base: base\ntasks:\n- {name: latin, model: tasks/latin}\n"
                        "methods:\n- average\n- {method: ties, label: trimmed}\n")
        done = call("bakeoff", "run", str(spec), "--task", "mnist=tasks/mnist", "--wait")
        assert re.search(r"^trimmed +1\.0", done.stdout, re.M)
        assert re.search(r"^didi 1\.0", done.stdout, re.M)
        first = call("bakeoff", "ls", "-o", "name").stdout.strip()
        shown = json.loads(call("bakeoff", "show", "@latest", "-o", "json").stdout)
        assert shown["id"] == first and shown["tasks"] == ["latin", "mnist"]
        second = call("bakeoff", "run", *FLAGS, "--method", "average", "--set",
                      "keep_artifacts=true").stdout.strip()
        assert "cancel it first" in call("bakeoff", "rm", second, status=1).stderr
        call("bakeoff", "cancel", second)
        call("bakeoff", "wait", second, status=3)
        call("bakeoff", "rm", first, second)
        assert call("bakeoff", "ls", "-o", "name").stdout == ""
        said = call("bakeoff", "run", *FLAGS, "--method", "tess", status=1).stderr
        assert "/methods/0/method" in said and "ties" in said
