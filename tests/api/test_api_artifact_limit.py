# SPDX-License-Identifier: Apache-2.0
"""What artifacts take is counted, and a job that could make them too many is refused."""

import sqlite3
import time

import pytest

from wire import HOLD, Wire, specification


def counted(wire):
    """What /v1/status and /metrics say, which must be the same."""
    shown = wire.get("/v1/status").json()["artifacts"]
    lines = dict(line.rsplit(" ", 1) for line in wire.get("/metrics").body.decode().splitlines()
                 if line.startswith("didid_artifacts"))
    assert float(lines['didid_artifacts_bytes{jobs="succeeded"}']) == shown["bytes"]
    assert float(lines['didid_artifacts_bytes{jobs="unfinished"}']) == shown["unfinished_bytes"]
    assert float(lines["didid_artifacts_limit_bytes"]) == (shown["limit_bytes"] or 0)
    return shown


def on_disk(state):
    return sum(path.stat().st_size for path in state.glob("jobs/*/artifacts/**/*")
               if path.is_file())


def planned(wire, document):
    return wire.post("/v1/jobs?dry_run=true", document).json()["artifact_bytes"]


@pytest.fixture
def limited(start_daemon, family, tmp_path):
    """A daemon with room for one job, its address, and the room."""
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    room = planned(Wire(daemon.url), specification(**HOLD)) + 1
    assert daemon.stop() == 0
    daemon.command += ["--artifact-bytes-max", str(room)]
    daemon.start()
    return daemon, state, room


def test_a_job_that_would_go_over_the_limit_is_refused(limited):
    daemon, state, room = limited
    wire = Wire(daemon.url)
    assert counted(wire) == {"bytes": 0, "unfinished_bytes": 0, "limit_bytes": room}
    held = wire.submit(specification(name="held", **HOLD))["id"]
    wire.wait(held, "running")
    promised = counted(wire)["unfinished_bytes"]
    assert 0 < promised <= room
    # What a running job will take counts, before there is a byte of it.
    refused = wire.post("/v1/jobs", specification())
    assert (refused.status, refused.problem()) == (507, "artifact-limit")
    assert f"artifact_bytes_max is {room}" in refused.json()["detail"]
    assert wire.post("/v1/jobs?dry_run=true", specification()).status == 200
    wire.post(f"/v1/jobs/{held}/cancel")
    wire.wait(held, "cancelled")
    assert counted(wire)["unfinished_bytes"] == 0
    done = wire.post("/v1/jobs", specification(), Idempotency_Key="once").json()["id"]
    wire.wait(done, "succeeded")
    assert counted(wire)["bytes"] == on_disk(state) > 0
    assert wire.post("/v1/jobs", specification()).status == 507
    retried = wire.post(f"/v1/jobs/{held}/retry")
    assert (retried.status, retried.problem()) == (507, "artifact-limit")
    assert wire.job(held)["state"] == "cancelled"
    # An accepted job is answered as before.
    again = wire.post("/v1/jobs", specification(), Idempotency_Key="once")
    assert (again.status, again.json()["id"]) == (200, done)
    assert wire.delete(f"/v1/jobs/{done}").status == 204
    assert counted(wire)["bytes"] == 0
    wire.wait(wire.submit(specification())["id"], "succeeded")


def test_what_nobody_measured_is_measured_after_the_start(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    wire = Wire(daemon.url)
    wire.wait(wire.submit(specification())["id"], "succeeded")
    assert daemon.stop() == 0
    with sqlite3.connect(state / "didid.db") as database:
        database.execute("UPDATE jobs SET artifact_bytes = NULL")
    database.close()
    daemon.start()
    deadline = time.monotonic() + 30
    while Wire(daemon.url).get("/v1/status").json()["artifacts"]["bytes"] != on_disk(state):
        assert time.monotonic() < deadline, daemon.log()
        time.sleep(0.05)
    counted(Wire(daemon.url))
