# SPDX-License-Identifier: Apache-2.0
"""./run demo prints what the tutorial shows, and leaves behind what it says it leaves."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

import walk
from documents import ROOT, blocks, matches

RUN_SECONDS = 300
STOP_SECONDS = 30
CURVE = 0.25  # points of a curve lie elsewhere on it on another processor


def demo(didid, *arguments):
    build = pathlib.Path(didid).resolve().parents[1]
    done = subprocess.run([sys.executable, ROOT / "tests/demo/demo.py", build, *arguments],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=RUN_SECONDS, check=False,
                          env={**os.environ, **walk.ENVIRONMENT, "COLUMNS": "100"})
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_the_tutorial_shows_what_it_prints(didid):
    tutorial = ROOT / "docs" / "tutorial.md"
    block, = [block for block in blocks(tutorial) if block.mark == "demo"]
    printed = [line.rstrip() for line in demo(didid).splitlines()]
    if os.environ.get(walk.WRITE):
        first = block.line
        walk.write(tutorial, {(first, first + len(block.lines)): printed})
    else:
        assert matches(block.lines, printed, CURVE), "\n".join(printed)


def test_it_leaves_the_daemon_when_asked(didid):
    printed = demo(didid, "--keep")
    address = re.search(r"^the dashboard\s+(\S+)/ui/$", printed, re.MULTILINE)[1]
    process, scratch = re.search(r"kill (\d+); rm -r (\S+)$", printed, re.MULTILINE).groups()
    try:
        with urllib.request.urlopen(f"{address}/v1/jobs", timeout=30) as answer:
            assert b"succeeded" in answer.read()
        with urllib.request.urlopen(f"{address}/ui/", timeout=30) as answer:
            assert answer.headers.get_content_type() == "text/html"
    finally:
        os.kill(int(process), signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while pathlib.Path(f"/proc/{process}/exe").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        subprocess.run(["rm", "-r", scratch], check=True)
    assert not pathlib.Path(f"/proc/{process}/exe").exists()
