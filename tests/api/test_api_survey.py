# SPDX-License-Identifier: Apache-2.0
"""Surveys as jobs, and the frontier of jobs that are not finished."""

import subprocess
import time

import pytest

from wire import HOLD, Wire, specification

# Ranks are found at once, and refinement goes on until it is cancelled.
HELD_LATE = {"refine": {"optimizer": "adam", "steps": 100000, "tolerance": 0},
             "output": {"dtype": "bf16"}}


def asked(**fields):
    document = {**specification(survey=True), **fields}
    del document["budget"]
    return document


def wait_for_event(wire, job_id, kind, seconds=60):
    """The first event of a kind."""
    after, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        page = wire.get(f"/v1/jobs/{job_id}/events?after={after}&wait=5&limit=1000").json()
        for event in page["data"]:
            if event["kind"] == kind:
                return event
        after = page["next"]
        assert page["state"] in ("queued", "running"), page
    raise AssertionError(f"no event {kind}")


@pytest.fixture(scope="module")
def surveyed(wire):
    job = wire.submit(asked(name="survey", labels={"kind": "survey"}))
    assert job["survey"] is True and job["specification"]["survey"] is True
    assert "budget" not in job["specification"]
    return wire.wait(job["id"], "succeeded")


def test_a_survey_has_a_frontier_and_no_more(wire, surveyed):
    path = f"/v1/jobs/{surveyed['id']}"
    assert surveyed["reusable"] and "result" not in surveyed
    names = [row["name"] for row in wire.get(path + "/artifacts").json()["data"]]
    assert names == ["manifest.json"]
    frontier = wire.get(path + "/frontier").json()
    assert frontier["chosen"] is None and frontier["dtype"] == "auto"
    assert [mark["name"] for mark in frontier["marks"]] == ["S", "M", "L"]
    assert len(frontier["curve"]) > 20
    assert wire.get(path + "/similarity").json()["explained_by_shared"] == [None, None]
    row = wire.get("/v1/jobs?label=kind%3Dsurvey").json()["data"][0]
    assert row["survey"] is True and row["result"] is None and row["budget"] is None
    kinds = [event["kind"] for event in wire.get(path + "/events?limit=1000").json()["data"]]
    stages = {event.get("stage") for event in wire.get(path + "/events?limit=1000").json()["data"]}
    assert kinds.count("frontier") == 1 and "refine" not in stages


def test_what_a_survey_cannot_do_is_said(wire, surveyed):
    path = f"/v1/jobs/{surveyed['id']}"
    for answer in (wire.get(path + "/ranks"), wire.post(path + "/exports", {"format": "full"}),
                   wire.get(path + "/artifacts/models/latin/model.safetensors")):
        assert answer.problem() == "no-result" and "survey" in answer.json()["detail"]
    assert wire.get(path + "/artifacts/shared.safetensors").problem() == "unknown-artifact"
    for extend in ({"remove": ["latin"]}, {"rebalance": True}):
        answer = wire.post("/v1/jobs", {"extend": {"job": surveyed["id"], **extend}})
        assert answer.problem() == "invalid-specification"
        assert answer.json()["pointer"] == "/extend/job" and "survey" in answer.json()["detail"]
    other = asked(method="average")
    answer = wire.post("/v1/jobs", other)
    assert (answer.problem(), answer.json()["pointer"]) == ("invalid-specification", "/survey")
    assert "average" in answer.json()["detail"]
    methods = {row["name"]: row for row in wire.get("/v1/methods").json()["methods"]}
    assert methods["didi"]["surveys"] and not methods["average"]["surveys"]


def test_a_point_of_the_curve_is_merged_from_the_survey(wire, surveyed):
    curve = wire.get(f"/v1/jobs/{surveyed['id']}/frontier").json()["curve"]
    point = min(curve, key=lambda at: abs(at["bytes_ratio"] - 0.5))
    job = wire.submit({"from_job": surveyed["id"], "budget": point["budget"]})
    assert job["survey"] is False and "survey" not in job["specification"]
    job = wire.wait(job["id"], "succeeded")
    chosen = wire.get(f"/v1/jobs/{job['id']}/frontier").json()["chosen"]
    assert 0.9 * point["bytes"] < chosen["bytes"] <= point["bytes"]
    assert 0.4 < chosen["error"] / point["error"] < 1.6
    row = next(row for row in wire.get("/v1/jobs?limit=200").json()["data"]
               if row["id"] == job["id"])
    assert row["result"]["bytes"] == chosen["bytes"] == job["result"]["budget"]["bytes"]
    assert row["result"]["relative_error"] == pytest.approx(job["result"]["error"]["relative"])
    assert row["result"]["ratio"] == pytest.approx(job["result"]["budget"]["bytes_ratio_16bit"])


def test_a_plan_of_a_survey_takes_less(wire):
    whole = wire.post("/v1/jobs?dry_run=true", specification(budget="L")).json()
    plan = wire.post("/v1/jobs?dry_run=true", asked()).json()
    assert plan["budget"] == 1 and plan["specification"]["survey"] is True
    assert plan["flops"] < whole["flops"] and plan["artifact_bytes"] < whole["artifact_bytes"]


def test_the_frontier_of_a_running_job_is_known_early(start_daemon, family):
    daemon = start_daemon(family)
    wire = Wire(daemon.url)
    early = wire.submit(specification(**HOLD))["id"]
    wire.wait(early, "running")
    for member in ("frontier", "similarity", "ranks"):
        assert wire.get(f"/v1/jobs/{early}/{member}").problem() == "no-result"
    wire.post(f"/v1/jobs/{early}/cancel")
    wire.wait(early, "cancelled")
    job = wire.submit(specification(**HELD_LATE))["id"]
    path = f"/v1/jobs/{job}"
    assert wait_for_event(wire, job, "frontier")["attempt"] == 1
    frontier = wire.get(path + "/frontier").json()
    assert frontier["chosen"] is None and frontier["curve"] and frontier["marks"]
    assert len(wire.get(path + "/similarity").json()["cosine"]) == 2
    assert wire.get(path + "/ranks").problem() == "no-result"
    assert wire.job(job)["state"] == "running"
    daemon.stop()
    daemon.start()
    wire = Wire(daemon.url)
    assert wire.get(path + "/frontier").json() == frontier  # before the second attempt comes so far
    wire.wait(job, "running")
    wire.post(path + "/cancel")
    wire.wait(job, "cancelled")
    assert wire.get(path + "/frontier").json()["points"] == frontier["points"]
    assert wire.delete(path).status == 204
    assert wire.get(path + "/frontier").problem() == "unknown-job"


def test_the_frontier_stays_known_while_the_end_is_recorded(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    daemon = start_daemon(family, state=state, environment={"DIDI_FAULT": "finish:1+:EIO"})
    wire = Wire(daemon.url)
    job = wire.submit(specification())["id"]
    deadline = time.monotonic() + 60
    while not (state / "jobs" / job / "artifacts").exists() or \
            (state / "jobs" / job / "work").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert wire.job(job)["state"] == "running"
    frontier = wire.get(f"/v1/jobs/{job}/frontier").json()
    assert frontier["chosen"]["bytes"] > 0
    assert wire.get(f"/v1/jobs/{job}/similarity").status == 200
    assert wire.get(f"/v1/jobs/{job}/ranks").problem() == "no-result"


def test_a_survey_is_recovered_and_examined(start_daemon, didid, family, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    daemon = start_daemon(family, state=state)
    wire = Wire(daemon.url)
    job = wire.wait(wire.submit(asked(name="found again"))["id"], "succeeded")
    examined = wire.get("/v1/doctor/jobs").json()
    assert examined["jobs"] == 1 and not [row for row in examined["findings"]
                                          if row["state"] != "ok"]
    daemon.stop()
    for name in ("didid.db", "didid.db-wal", "didid.db-shm"):
        (state / name).unlink(missing_ok=True)
    done = subprocess.run([didid, "recover", "--state-dir", state], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 job" in done.stdout
    daemon.start()
    wire = Wire(daemon.url)
    again = wire.job(job["id"])
    assert (again["survey"], again["name"], again["state"]) == (True, "found again", "succeeded")
    assert wire.get(f"/v1/jobs/{job['id']}/frontier").json()["curve"]
