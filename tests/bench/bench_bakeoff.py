# SPDX-License-Identifier: Apache-2.0
"""A bake-off of every method through a daemon, scored on all test images: the larger suite where it
is given, else the demo family. Its table is the README's."""

import json
import os
import pathlib
import pwd
import subprocess
import sys
import time

import common
import service

SECONDS_AT_MOST = 600
# to one model in 16 bits, where didid is measured: small ones, and just below those of others
SIZES = [0.15, 0.2, 0.3, 0.5, 0.72, 1.0, 1.25, 1.5, 1.6, 2.0]
SCORER = """#!{python}
import json
import sys

sys.path[:0] = {folders!r}
import artifacts
import evaluate

directory, task = sys.argv[1:]
suite = evaluate.Suite({suite!r})
print(json.dumps({{"score": suite.accuracy(task, artifacts.read_model(directory))}}))
"""


def write_scorer(path, suite):
    folders = [str(common.FAMILY.parent), str(common.FAMILY.parents[2] / "docs")]
    path.write_text(SCORER.format(python=sys.executable, folders=folders, suite=str(suite)),
                    encoding="utf-8")
    path.chmod(0o755)


def measure(arguments, scratch):
    suite = pathlib.Path(arguments.glyph8 or common.FAMILY).resolve()
    scorer, state, written = scratch / "score.py", scratch / "state", scratch / "bakeoff.json"
    write_scorer(scorer, suite)
    state.mkdir()
    written.write_text(json.dumps({"base": "base", "sizes": SIZES, "tasks": [
        {"name": task.name, "model": f"tasks/{task.name}"}
        for task in sorted((suite / "tasks").iterdir())]}), encoding="utf-8")
    with service.Daemon(arguments.build / "daemon" / "didid", state, suite, "--workers",
                        str(arguments.workers), "--scorer", str(scorer), "--scorer-user",
                        pwd.getpwuid(os.geteuid()).pw_name,
                        environment={"OPENBLAS_NUM_THREADS": "1"}) as daemon:  # as many score
        began = time.monotonic()
        subprocess.run([arguments.build / "client" / "didictl", "--host", daemon.url, "bakeoff",
                        "run", written, "--wait"], check=True, stderr=subprocess.DEVNULL)
        seconds = time.monotonic() - began
    return common.verdict(f"bake-off of {suite.name}, seconds", f"{seconds:.0f}", SECONDS_AT_MOST,
                          seconds <= SECONDS_AT_MOST)
