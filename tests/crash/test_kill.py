# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random instants: no accepted job lost, nothing half-written, equal results, and each
change told to who wants to know."""

import http.client
import json
import signal
import sqlite3
import subprocess
import time

import pytest

import service_client as client
from receiver import Receiver
from told import check_told, wait_sent

VARIANTS = {
    "differentiable": {"ranks": {"allocator": "differentiable", "steps": 400},
                       "refine": {"optimizer": "adam", "steps": 300}},
    "joint": {"ranks": {"allocator": "joint"},
              "refine": {"optimizer": "als", "steps": 60, "tolerance": 0}},
    "pursuit": {"refine": {"optimizer": "adam", "steps": 600}},
    "auto": {"budget": {"bytes_ratio": 0.2}, "output": {"dtype": "auto"},
             "refine": {"optimizer": "adam", "steps": 400}},
    # several passes: the first allocations miss the error asked for
    "max_error": {"budget": {"max_error": 0.05}, "output": {"dtype": "int8"},
                  "refine": {"optimizer": "als", "steps": 100, "tolerance": 0}},
    # of a size of their own
    "average": {"method": "average"},
    "task_arithmetic": {"method": "task_arithmetic", "output": {"dtype": "int8"}},
    "emr": {"method": "emr", "output": {"dtype": "int4"}},
    "mmer": {"method": "mmer"},
    "twin": {"method": "twin", "output": {"dtype": "int8"}},  # factors beside a shared delta
}
EXPORTED_TASK = "mnist"


def specification(family, variant):
    tasks = json.loads((family / "suite.json").read_text())["tasks"]
    budget = {} if "method" in VARIANTS[variant] else {"budget": 1.24}
    return {"name": variant, "base": "base", **budget, "output": {"dtype": "bf16"},
            "tasks": [{"name": task["name"], "model": f"tasks/{task['name']}"} for task in tasks],
            **VARIANTS[variant]}


def model_digests(models):
    """Name -> digest of all files of the task that is exported."""
    return {path.name: client.digest(path) for path in (models / EXPORTED_TASK).iterdir()}


def reference(didid, family, directory, variants=tuple(VARIANTS)):
    """Artifacts and one export of each variant, made without interruption."""
    found = {}
    for variant in variants:
        written = directory / f"{variant}.json"
        written.write_text(json.dumps(specification(family, variant)))
        out = directory / variant
        subprocess.run([didid, "run", written, "--models", family, "--out", out,
                        "--export", "full"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        found[variant] = (client.artifact_digests(out), model_digests(out / "models"))
    return found


POINTS = {"submit": 3, "claim": 3, "finish": 3, "commit": 60, "committed": 60, "migrate": 4,
          "layer": 60, "publish": 2, "published": 2, "pwrite": 200, "fsync": 60, "rename": 60,
          "send": 20, "answer": 20, "answered": 20}


def killed_at_a_point(daemon):
    """True when the daemon has ended as by kill -9."""
    return daemon.process.poll() == -signal.SIGKILL


def start_again(daemon, chooser, tally):
    """Starts a killed daemon, every second time with a point that ends it; the point or None."""
    point = chooser.choice(sorted(POINTS)) if chooser.random() < 0.5 else None
    if point is not None:
        daemon.environment["DIDI_FAULT"] = f"{point}:{chooser.randint(1, POINTS[point])}:KILL"
    try:
        daemon.start()
    except RuntimeError:
        assert point is not None and killed_at_a_point(daemon), daemon.log()
        tally[point] = tally.get(point, 0) + 1
        del daemon.environment["DIDI_FAULT"]
        daemon.start()
        return None
    daemon.environment.pop("DIDI_FAULT", None)
    return point


class Ledger:
    """What was accepted, and under which key."""

    def __init__(self, family):
        self.family, self.accepted, self.count = family, {}, 0

    def submit(self, daemon, chooser):
        """A lost connection leaves the key open: the next call asks again with it."""
        variant = chooser.choice(sorted(VARIANTS))
        key = f"key-{self.count}-{variant}"
        job = client.submit(daemon, specification(self.family, variant), key)
        self.count += 1
        assert self.accepted.setdefault(job, variant) == variant
        return job


def work_and_kill(daemon, ledger, chooser, point=None):
    """Submits, asks for exports, and kills at an instant that falls anywhere in it, unless the
    daemon has come to its point before."""
    instant = time.monotonic() + chooser.uniform(0.0, 1.2)
    try:
        while time.monotonic() < instant:
            known = client.jobs(daemon)
            if sum(job["state"] in ("queued", "running") for job in known.values()) < 3:
                ledger.submit(daemon, chooser)
            for job in known.values():
                if job["state"] == "succeeded":
                    client.call(daemon, "POST", f"/v1/jobs/{job['id']}/exports",
                                {"format": "full", "tasks": [EXPORTED_TASK]})
            time.sleep(chooser.uniform(0.0, 0.05))
    except (OSError, http.client.HTTPException, ValueError):
        if point is not None:
            daemon.process.wait(10)
        if point is None or not killed_at_a_point(daemon):
            assert daemon.process.poll() is None, daemon.log()
            raise
    if point is not None and killed_at_a_point(daemon):
        return True
    assert daemon.process.poll() is None, daemon.log()
    daemon.process.kill()
    daemon.process.wait()
    return False


def check_disk(state, ledger):
    """What a killed daemon leaves: a sound database, and artifacts whole or absent."""
    database = sqlite3.connect(f"file:{state / 'didid.db'}?mode=ro", uri=True)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    states = dict(database.execute("SELECT id, state FROM jobs"))
    holes = database.execute(
        "SELECT job_id FROM events GROUP BY job_id HAVING count(*) <> max(number)").fetchall()
    database.close()
    assert not holes
    assert set(ledger.accepted) <= set(states), "an accepted job was lost"
    for job, job_state in states.items():
        published = state / "jobs" / job / "artifacts"
        if published.exists():
            client.check_whole(published)
        assert job_state != "succeeded" or published.exists()
        model = state / "jobs" / job / "exports" / "models" / EXPORTED_TASK
        assert not model.exists() or {path.name for path in model.iterdir()} == {
            "README.md", "model.safetensors"}
        assert job_state in ("queued", "running", "succeeded")


def check_results(daemon, state, ledger, expected):
    for job, variant in ledger.accepted.items():
        shown = client.wait_finished(daemon, job)
        assert shown["state"] == "succeeded", (shown, daemon.log())
        published = state / "jobs" / job
        client.check_whole(published / "artifacts")
        assert client.artifact_digests(published / "artifacts") == expected[variant][0], variant
        assert sorted(path.name for path in published.iterdir()) in (
            ["artifacts"], ["artifacts", "exports"])


def check_exports(daemon, state, ledger, expected):
    for job, variant in ledger.accepted.items():
        path = f"/v1/jobs/{job}/exports"
        client.call(daemon, "POST", path, {"format": "full", "tasks": [EXPORTED_TASK]})
        deadline = time.monotonic() + 60
        while True:
            row, = client.call(daemon, "GET", path)["data"]
            if row["state"] in client.FINISHED or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        assert row["state"] == "succeeded", row
        assert model_digests(state / "jobs" / job / "exports" / "models") == expected[variant][1]


def test_killed_at_random_instants(request, start_daemon, didid, family, tmp_path):
    kills, chooser = client.kills_and_chooser(request.config)
    references = tmp_path / "reference"
    references.mkdir()
    expected = reference(didid, family, references)
    ledger, state = Ledger(family), tmp_path / "state"
    point, tally = None, {}
    with Receiver() as receiver:
        daemon = start_daemon(family, "--webhook-private", "1", state=state)
        hook = client.call(daemon, "POST", "/v1/webhooks", {"url": receiver.url})
        for _ in range(kills):
            where = point if work_and_kill(daemon, ledger, chooser, point) else "at random"
            tally[where] = tally.get(where, 0) + 1
            check_disk(state, ledger)
            point = start_again(daemon, chooser, tally)
        daemon.stop()
        daemon.start()
        check_results(daemon, state, ledger, expected)
        check_exports(daemon, state, ledger, expected)
        wait_sent(daemon, hook["id"])
        assert daemon.stop() == 0
        check_disk(state, ledger)
        told = check_told(state, receiver, hook, ledger.accepted)
    print("killed", json.dumps(tally, sort_keys=True))
    print(f"{len(ledger.accepted)} jobs, all equal to their uninterrupted runs; "
          f"{len(told)} events, all told")


def points(daemon, job):
    """Telemetry so far: a figure for each layer that was finished, in every pass."""
    events = client.call(daemon, "GET", f"/v1/jobs/{job}/events?limit=1000")["data"]
    return [event for event in events if event["kind"] == "point"]


@pytest.mark.parametrize("variant", ["auto", "max_error"])
def test_bytes_and_errors_asked_for_survive_kills_in_any_pass(request, start_daemon, didid, family,
                                                              tmp_path, variant):
    expected = reference(didid, family, tmp_path, [variant])[variant][0]
    _, chooser = client.kills_and_chooser(request.config)
    state, kills, seen = tmp_path / "state", 0, 0
    daemon = start_daemon(family, "--workers", "1", state=state)
    job = client.submit(daemon, specification(family, variant), "one")
    while True:
        shown = client.call(daemon, "GET", f"/v1/jobs/{job}")
        now = len(points(daemon, job))
        if shown["state"] in client.FINISHED:
            break
        if now > seen + 6:  # something is finished that the next process can go on from
            time.sleep(chooser.uniform(0, 0.1))
            daemon.process.kill()
            daemon.process.wait()
            kills += 1
            daemon.start()
            seen = len(points(daemon, job))
        time.sleep(0.01)
    assert shown["state"] == "succeeded", (shown, daemon.log())
    print(f"{kills} kills of {variant}")
    assert kills >= 2, "it was over too soon to be killed"
    assert client.artifact_digests(state / "jobs" / job / "artifacts") == expected
    if variant == "max_error":
        assert 0.0485 <= shown["result"]["error"]["relative"] <= 0.05


def test_a_terminated_daemon_goes_on_from_finished_layers(start_daemon, didid, family, tmp_path):
    references = tmp_path / "reference"
    references.mkdir()
    expected = reference(didid, family, references, ["pursuit"])
    state = tmp_path / "state"
    daemon = start_daemon(family, "--workers", "1", state=state)
    job = client.submit(daemon, specification(family, "pursuit"), "one")
    client.wait_state(daemon, job, "running")
    time.sleep(0.4)
    assert daemon.stop() == 0, daemon.log()
    daemon.start()
    shown = client.wait_finished(daemon, job)
    assert shown["state"] == "succeeded"
    assert shown["attempt"] == 1, "a clean stop costs no attempt"
    published = state / "jobs" / job / "artifacts"
    assert client.artifact_digests(published) == expected["pursuit"][0]
