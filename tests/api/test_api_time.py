# SPDX-License-Identifier: Apache-2.0
"""How long jobs are expected to take: that it is told, never how well."""

import sqlite3
import time

from wire import Wire, specification

HELD_LATE = {"refine": {"optimizer": "adam", "steps": 100000, "tolerance": 0},
             "output": {"dtype": "bf16"}}


def estimate(wire, **fields):
    answer = wire.post("/v1/jobs?dry_run=true", specification(**fields))
    assert answer.status == 200, answer.body
    return answer.json()["seconds_estimate"]


def four():
    return [{"name": name, "model": f"tasks/{name}"}
            for name in ("hiragana", "latin", "mnist", "orient")]


def until(what, seconds=60):
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_plans_learn_from_jobs(start_daemon, family):
    daemon = start_daemon(family)
    wire = Wire(daemon.url)
    assert estimate(wire) is None
    job = wire.submit(specification())
    assert job["eta_seconds"] is None  # it waits
    ended = wire.wait(job["id"], "succeeded")
    assert ended["eta_seconds"] is None
    assert wire.get("/v1/jobs").json()["data"][0]["eta_seconds"] is None
    seconds = until(lambda: estimate(wire))
    assert seconds > 0
    assert estimate(wire, tasks=four()) > seconds  # more work, by the same measure
    # What was not measured is not known: another method, another kind of job.
    assert wire.post("/v1/jobs?dry_run=true", {
        "base": "base", "tasks": four(), "method": "average"}).json()["seconds_estimate"] is None
    assert estimate(wire, survey=True) is None
    survey = wire.submit(specification(survey=True))["id"]
    wire.wait(survey, "succeeded")
    assert until(lambda: estimate(wire, survey=True)) > 0
    again = {"from_job": survey, "budget": 1.0}
    plan = wire.post("/v1/jobs?dry_run=true", again).json()
    assert plan["seconds_estimate"] is None
    wire.wait(wire.submit(again)["id"], "succeeded")
    until(lambda: wire.post("/v1/jobs?dry_run=true", again).json()["seconds_estimate"])
    daemon.stop()
    daemon.start()
    assert estimate(Wire(daemon.url)) == seconds  # it is kept


def expect(state, job, seconds):
    database = sqlite3.connect(state / "didid.db")
    database.execute("UPDATE jobs SET ends_ms = ? WHERE id = ?",
                     (int((time.time() + seconds) * 1000), job))
    database.commit()
    database.close()


def test_running_jobs_tell_when_they_will_end(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    wire = Wire(start_daemon(family, state=state).url)
    wire.wait(wire.submit(specification())["id"], "succeeded")
    until(lambda: estimate(wire))
    job = wire.submit(specification(**HELD_LATE))["id"]
    left = until(lambda: wire.job(job)["eta_seconds"])
    assert left > 0
    row = wire.get("/v1/jobs?state=running").json()["data"][0]
    assert row["eta_seconds"] >= 0
    running = wire.get("/v1/status").json()["running"][0]
    assert running["id"] == job and running["eta_seconds"] >= 0
    expect(state, job, 1000)
    left = wire.job(job)["eta_seconds"]
    until(lambda: wire.job(job)["eta_seconds"] < left)  # nothing but time goes by
    wire.post(f"/v1/jobs/{job}/cancel")
    assert wire.wait(job, "cancelled")["eta_seconds"] is None
