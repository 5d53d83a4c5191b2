# SPDX-License-Identifier: Apache-2.0
"""Progress on terminals of all widths, on those that know less, and where there is none."""

import re
import shutil
import subprocess
import time

import pytest

from fake import JOB, Answer, event, job, page
from terminal import SECONDS, Terminal, lines_of

LOSSES = [1 / (1 + step) for step in range(40)]


@pytest.fixture
def running(fake):
    """A job that stays at 45 % until its end is asked for: call the result for that."""
    state = {"over": False}

    def tell(_):
        if state["over"]:
            return job(state="succeeded", progress=1, finished_at="2025-03-01T12:01:00.000Z")
        return job(progress=0.45, eta_seconds=75, last_event=len(LOSSES))

    def events(request):
        first = int(re.search(r"after=(\d+)", request.path)[1])
        if first >= len(LOSSES):
            time.sleep(0.05)  # not to be asked all the time
        return page([event(number + 1, stage="refine", loss=loss, relative_error=0.33123,
                           ratio=1.2381, ratio_target=1.24)
                     for number, loss in enumerate(LOSSES) if number >= first])

    fake.on("GET", f"/v1/jobs/{JOB}", tell)
    fake.on("GET", f"/v1/jobs/{JOB}/events", events)
    return lambda: state.update(over=True)


@pytest.fixture
def watched(didictl, environment):
    """watched(columns, *words, **environment) -> a Terminal that shows the job."""
    opened = []

    def start(columns, *words, **more):
        terminal = Terminal([didictl, *(words or ("watch", JOB))], {**environment, **more}, columns)
        opened.append(terminal)
        return terminal

    yield start
    for terminal in opened:
        terminal.__exit__()


@pytest.mark.parametrize("columns", [40, 52, 64, 80, 119, 120, 200])
def test_all_of_it_fits_the_width(running, watched, columns):
    terminal = watched(columns)
    terminal.wait_for("ETA 1:15", "1\\.238")
    running()
    text = terminal.end()
    drawn = [line for line in lines_of(text) if "didictl:" not in line and "100%" not in line]
    assert all(len(line) < columns for line in drawn), drawn
    whole = " ".join(drawn)
    assert re.search(r"refine +█+░+ +45%", whole) and "ETA 1:15" in whole
    assert re.search(r"loss 0\.025 [▁▂▃▄▅▆▇█]{6,} ", whole), whole
    assert re.search(r"1\.238(/| of )1\.24", whole)
    assert ("parameters 1.238 of 1.24" in whole) == (columns >= 64)
    assert text.rstrip().endswith("didictl: succeeded after 0:59")


def test_the_curve_falls_as_the_loss_does(running, watched):
    terminal = watched(80)
    text = terminal.wait_for("loss 0\\.025 [▁-█]{24}")
    curve = re.search("loss 0\\.025 ([▁-█]{24})", text)[1]
    assert curve[0] == "█" and curve[-1] == "▁" and sorted(curve, reverse=True) == list(curve)


def test_a_window_that_changes_is_drawn_anew_at_once(running, watched):
    terminal = watched(120)
    terminal.wait_for("parameters 1\\.238 of 1\\.24")
    for columns in (50, 40, 90, 30, 120):
        seen = len(terminal.shown)
        terminal.set_size(columns)
        text = terminal.wait_for("\r\x1b\\[J", "45%", "loss 0\\.025", after=seen)
        assert all(len(line) < columns for line in lines_of(text[text.index("\x1b[J"):])), text
    running()
    terminal.end()


@pytest.mark.parametrize("columns", [1, 2, 5, 9, 12, 20])
def test_terminals_too_narrow_for_anything(running, watched, columns):
    terminal = watched(columns)
    terminal.wait_for("\x1b\\[J")
    running()
    text = terminal.end()
    assert all(len(line) < max(columns, 2) for line in lines_of(text) if "didictl" not in line)


def test_without_a_locale_all_is_ascii(running, watched):
    terminal = watched(80, LC_ALL="C", LANG="")
    text = terminal.wait_for("ETA 1:15", "loss 0\\.025 [_.:=+*#-]{6,}")
    running()
    terminal.end()
    assert all(byte < 128 for byte in terminal.shown) and re.search(r"#+\.+", text)


def test_no_color_and_dumb_terminals(running, watched):
    plain = watched(80, NO_COLOR="1")
    plain.wait_for("ETA 1:15")
    dumb = watched(80, TERM_OF_TEST="dumb")
    dumb.wait_for("ETA 1:15")
    running()
    text = plain.end()
    assert "\x1b[J" in text and not re.search("\x1b\\[[0-9;]*m", text)
    shown = dumb.end()
    assert "\x1b" not in shown and shown.count("\r") == shown.count("\r\n")
    assert shown.startswith("refine      45%  loss 0.025  error 0.3312  parameters 1.238 of 1.24  "
                            "ETA 1:15\r\n")


def test_names_cannot_write_on_the_terminal(fake, watched):
    hostile = "x\x1b[2J\x07" * 100
    fake.on("GET", f"/v1/jobs/{JOB}", [job(stage=hostile), job(state="succeeded", stage=hostile)])
    fake.on("GET", f"/v1/jobs/{JOB}/events", page([]))
    text = watched(60).end()
    assert "\x1b[2J" not in text and "\x07" not in text
    assert all(len(line) < 60 for line in lines_of(text) if "didictl" not in line)


@pytest.mark.parametrize("words", [["watch", JOB], ["wait", JOB], ["submit", "-w", "-"]])
def test_ctrl_c_leaves_the_job_and_says_so(fake, running, watched, words):
    fake.on("POST", "/v1/jobs", Answer(job(state="queued"), 201))
    terminal = watched(200, *words)
    if words[0] == "submit":
        terminal.press(b'{"base": "b"}\n\x04')
    terminal.wait_for("ETA 1:15")
    terminal.press(b"\x03")
    text = terminal.end(130)
    last = lines_of(text)[-2:]
    assert last[0] == f"didictl: interrupted; job {JOB} goes on"
    assert last[1] == (f"next: didictl watch {JOB} shows its progress again, "
                       f"didictl cancel {JOB} stops it")
    assert not any(request.method == "POST" and "cancel" in request.path for request in fake.seen)


def test_in_a_pipe_there_are_lines_and_no_escapes(call, running, didictl, environment):
    process = subprocess.Popen([didictl, "watch", JOB], env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    first = process.stdout.readline()
    assert first == ("refine      45%  loss 0.025  error 0.3312  parameters 1.238 of 1.24  "
                     "ETA 1:15\n")
    running()
    rest, notes = process.communicate(timeout=SECONDS)
    assert "\x1b" not in rest + notes and rest.startswith("succeeded  100%")


class Pane:
    """didictl in tmux, which breaks lines anew when its window changes, as terminals do."""

    def __init__(self, name, command, environment, columns):
        self.base = ["tmux", "-L", name, "-f", "/dev/null"]
        self.environment = environment
        self.tmux("new-session", "-d", "-x", str(columns), "-y", "20", *command)

    def tmux(self, *words):
        return subprocess.run([*self.base, *words], env=self.environment, check=True,
                              capture_output=True, text=True).stdout

    def wait_for(self, told):
        deadline = time.monotonic() + SECONDS
        while not told(lines := self.tmux("capture-pane", "-p").strip("\n").split("\n")):
            assert time.monotonic() < deadline, lines
            time.sleep(0.05)
        return lines


@pytest.mark.skipif(not shutil.which("tmux"), reason="there is no tmux")
def test_no_rest_stays_when_the_window_changes(running, didictl, environment, tmp_path):
    pane = Pane(f"didictl-{tmp_path.name}-{time.time_ns()}", [didictl, "watch", JOB],
                {**environment, "TERM": "xterm"}, 120)
    try:
        for columns, count in [(120, 1), (60, 2), (40, 2), (33, 2), (90, 2), (200, 1), (50, 2)]:
            pane.tmux("resize-window", "-x", str(columns), "-y", "20")
            pane.wait_for(lambda lines, count=count, columns=columns: (
                len(lines) == count and lines[0].startswith("refine") and "45%" in lines[0]
                and max(map(len, lines)) in range(min(columns, 160) - 30, columns)))
    finally:
        pane.tmux("kill-server")


def status_of(**more):
    return {"version": "0.1.0", "uptime_seconds": 61, "ready": True, "warnings": [],
            "jobs": {"queued": 1, "running": 1, "succeeded": 4},
            "running": [{"id": JOB, "name": "n" * 90, "stage": "refine", "progress": 0.5,
                         "elapsed_seconds": 10, "eta_seconds": 10}],
            "workers": {"busy": 1, "total": 2}, "memory": {"used_bytes": 1, "limit_bytes": 2,
                                                           "resident_bytes": 3},
            "disk": {"free_bytes": 1, "size_bytes": 2, "database_bytes": 3}, "rates": {}} | more


def test_status_is_drawn_again_and_again(fake, watched):
    fake.on("GET", "/v1/status", [status_of(), status_of(version="0.2.0")])
    terminal = watched(70, "status", "--watch")
    first = terminal.wait_for("didid +0.1.0, up 1:01", "50%", "\x1b\\[J")
    assert first.startswith("\x1b[H") and all(len(line) <= 69 for line in lines_of(first))
    assert JOB in first and "…" in first
    terminal.wait_for("didid +0.2.0")
    seen = len(terminal.shown)
    terminal.set_size(60, 8)  # is shown at once, and what has no place is left out
    small = terminal.wait_for("\x1b\\[H([^\n]*\n){7}\x1b\\[J", after=seen)
    small = re.findall("\x1b\\[H((?:[^\n]*\n){7})\x1b\\[J", small)[-1]
    assert all(len(line) <= 59 for line in lines_of(small))
    terminal.press(b"\x03")
    assert lines_of(terminal.end(130))[-1] == "didictl: interrupted"


def test_status_in_a_pipe_and_on_dumb_terminals(fake, call, watched):
    fake.on("GET", "/v1/status", status_of())
    assert "\x1b" not in call("status").stdout
    dumb = watched(80, "status", "--watch", TERM_OF_TEST="dumb")
    dumb.wait_for("didid +0.1.0(.|\n)*didid +0.1.0")
    assert b"\x1b" not in dumb.shown
    dumb.interrupt()
    dumb.end(130)
