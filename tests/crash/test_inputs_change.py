# SPDX-License-Identifier: Apache-2.0
"""Inputs that are cut, replaced or gone at a known moment of a merge: the job says which file."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
import service_client as client
from test_kill import specification

LATIN = pathlib.Path("tasks", "latin", "model.safetensors")
BASE = pathlib.Path("base", "model.safetensors")
STOPS_SECONDS = 60
# The stage, and the pass through a point of it where the process stands still: each layer leaves a
# snapshot in each of its rows.
MOMENTS = {"digest": "digest:2", "decompose": "layer:5", "pursue": "layer:45",
           "refine": "layer:60", "publish": "write:2"}


@pytest.fixture(scope="session")
def family(demo_family):
    """With as many layers as the moments count."""
    return demo_family


def cut(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)


def empty(path):
    with open(path, "r+b") as file:
        file.truncate(0)


def replace(path):
    shutil.copy(path.parents[1] / "mnist" / path.name, path.with_suffix(".new"))
    path.with_suffix(".new").rename(path)


def remove(path):
    path.unlink()


CHANGES = {"cut": (cut, LATIN), "empty": (empty, BASE), "replaced": (replace, LATIN),
           "gone": (remove, BASE)}


def wait_stopped(process):
    stat = pathlib.Path("/proc", str(process.pid), "stat")
    deadline = time.monotonic() + STOPS_SECONDS
    while (state := stat.read_text().rsplit(")", 1)[1].split()[0]) != "T":
        assert state in "RSD" and time.monotonic() < deadline, state
        time.sleep(0.01)


def stages(daemon, job):
    events = client.call(daemon, "GET", f"/v1/jobs/{job}/events?limit=500")["data"]
    return [event["stage"] for event in events if event["kind"] == "stage"]


@pytest.mark.parametrize("stage,change", [
    ("digest", "cut"), ("digest", "empty"), ("digest", "replaced"), ("decompose", "cut"),
    ("decompose", "gone"), ("pursue", "empty"), ("pursue", "replaced"), ("refine", "cut"),
    ("refine", "gone"), ("publish", "empty"), ("publish", "replaced")])
def test_the_job_fails_and_names_the_file(start_daemon, family, tmp_path, stage, change):
    models, state = tmp_path / "models", tmp_path / "state"
    shutil.copytree(family, models)
    act, victim = CHANGES[change]
    daemon = start_daemon(models, "--workers", "2", state=state,
                          environment={"DIDI_FAULT": f"{MOMENTS[stage]}:STOP"})
    with concurrent.futures.ThreadPoolExecutor() as threads:
        asked = threads.submit(client.submit, daemon, specification(family, "joint"), "key")
        wait_stopped(daemon.process)
        act(models / victim)
        daemon.process.send_signal(signal.SIGCONT)
        job = asked.result()
    shown = client.wait_finished(daemon, job)
    seen = stages(daemon, job)[-1]
    assert seen == stage or (stage, seen) == ("digest", "decompose"), "names are looked at next"
    assert shown["state"] == "failed", shown
    assert shown["error"]["type"].endswith(":input-changed"), shown
    assert shown["error"]["subject"].startswith(str(victim))
    assert not (state / "jobs" / job / "artifacts").exists()
    if change == "cut":
        shutil.copy(family / victim, models / victim)
        assert retried(daemon, job)["state"] == "succeeded", daemon.log()
    assert daemon.stop() == 0


def retried(daemon, job):
    """At first what earlier attempts left is of other files."""
    for _ in range(2):
        client.call(daemon, "POST", f"/v1/jobs/{job}/retry")
        shown = client.wait_finished(daemon, job)
        if shown["state"] == "succeeded":
            break
    return shown


def test_a_merge_in_the_foreground_says_it_too(didid, family, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(family, models)
    (tmp_path / "merge.json").write_text(json.dumps(specification(family, "joint")))
    with subprocess.Popen([didid, "run", tmp_path / "merge.json", "--models", models, "--out",
                           tmp_path / "out"], stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "DIDI_FAULT": "layer:2:STOP"}) as process:
        wait_stopped(process)
        empty(models / LATIN)
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "latin/model.safetensors" in said, said
    assert not (tmp_path / "out").exists()
