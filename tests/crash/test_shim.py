# SPDX-License-Identifier: Apache-2.0
"""The n-th allocation, the n-th write and the clock: nothing worse than a 5xx or a failed job.

DIDI_FAULTS_FULL=1 tries every n; else a sample of them, another one at each run."""

import errno
import http.client
import os
import random
import sqlite3
import time
import urllib.parse

import pytest
import service_client as client
from faults import Shim
from test_kill import specification

FULL = os.environ.get("DIDI_FAULTS_FULL") == "1"
WAIT_SECONDS = 30


def chosen(most, count):
    return range(1, most + 1) if FULL else sorted(random.sample(range(1, most + 1), count))


@pytest.fixture
def steered(start_daemon, family, tmp_path):
    """A daemon under the shim, the shim, and its state directory."""
    state = tmp_path / "state"
    shim = Shim(tmp_path, state)
    daemon = start_daemon(family, "--workers", "2", state=state, environment=shim.environment)
    yield daemon, shim, state
    shim.calm()


def ask(daemon, method, path, body=None, headers=None):
    """The status, or None where no answer came."""
    try:
        client.call(daemon, method, path, body, headers)
        return 200
    except client.Refused as refused:
        return refused.status
    except (OSError, http.client.HTTPException, ValueError):
        return None


def check_alive(daemon):
    """The daemon answers; a failed allocation may have cost a connection, not the process."""
    assert daemon.process.poll() is None, daemon.log()
    assert ask(daemon, "GET", "/readyz") == 200, daemon.log()


def check_jobs_end(daemon, state, accepted):
    known = client.jobs(daemon)
    assert accepted <= set(known), "an accepted job was lost"
    for job in known:
        shown = client.wait_finished(daemon, job)
        if shown["state"] == "succeeded":
            client.check_whole(state / "jobs" / job / "artifacts")


def test_the_nth_allocation_of_a_request(steered, family):
    daemon, shim, state = steered
    wanted = specification(family, "average")
    job = client.submit(daemon, wanted, "first")
    client.wait_finished(daemon, job)
    accepted, statuses = {job}, set()
    requests = [("GET", f"/v1/jobs/{job}", 60), ("GET", "/v1/jobs", 60),
                ("GET", f"/v1/jobs/{job}/events", 60), ("GET", f"/v1/jobs/{job}/artifacts", 60),
                ("GET", f"/v1/jobs/{job}/similarity", 60)]
    for method, path, most in requests:
        for number in chosen(most, 8):
            shim.set(allocations_left=number)
            statuses.add(ask(daemon, method, path))
            shim.calm()
            check_alive(daemon)
    for number in chosen(1500, 15):
        key = {"Idempotency-Key": f"key-{number}"}
        shim.set(allocations_left=number)
        statuses.add(ask(daemon, "POST", "/v1/jobs", wanted, key))
        time.sleep(0.02)
        shim.calm()
        check_alive(daemon)
        accepted.add(client.submit(daemon, wanted, f"key-{number}"))
    print("statuses", statuses, "failed", shim.get("allocations_failed"))
    assert shim.get("allocations_failed") > 12
    assert statuses <= {200, 409, 500, 503, 507, None}, statuses  # 409: no similarity by average
    check_jobs_end(daemon, state, accepted)
    assert daemon.stop() == 0, daemon.log()


def test_the_nth_allocation_of_a_job(steered, family):
    daemon, shim, state = steered
    outcomes = []
    for number in chosen(6000, 8):
        job = client.submit(daemon, specification(family, "joint"), f"key-{number}")
        shim.set(allocations_left=number)
        time.sleep(0.3)  # whoever allocates: the loop, the pool, the writer
        shim.calm()
        shown = client.wait_finished(daemon, job, WAIT_SECONDS)
        outcomes.append(shown["state"])
        assert shown["state"] in ("succeeded", "failed"), shown
        check_alive(daemon)
        if shown["state"] == "failed":
            client.call(daemon, "POST", f"/v1/jobs/{job}/retry")
            assert client.wait_finished(daemon, job)["state"] == "succeeded"
    print(outcomes)
    check_jobs_end(daemon, state, set())
    assert daemon.stop() == 0, daemon.log()


@pytest.mark.parametrize("problem", ["ENOSPC", "EIO"])
def test_the_nth_write_of_a_job(steered, family, problem):
    """The store refuses to go on after a commit of unknown outcome: then a restart must."""
    daemon, shim, state = steered
    expected, outcomes, accepted = None, [], set()
    for number in chosen(120, 5):
        key = f"key-{number}"
        shim.set(write_errno=getattr(errno, problem), writes_left=number)
        try:
            job = client.submit(daemon, specification(family, "joint"), key)
            accepted.add(job)
        except client.Refused as refused:
            assert refused.status in (500, 503, 507), refused
            job = None
        deadline = time.monotonic() + 15
        while job is not None and time.monotonic() < deadline and daemon.process.poll() is None:
            if ask(daemon, "GET", "/readyz") != 200:
                break
            if client.call(daemon, "GET", f"/v1/jobs/{job}")["state"] in client.FINISHED:
                break
            time.sleep(0.05)
        shim.calm()
        assert daemon.process.poll() is None, daemon.log()
        if ask(daemon, "GET", "/readyz") != 200:
            outcomes.append("not ready")
            daemon.stop()
            daemon.start()
        job = client.submit(daemon, specification(family, "joint"), key)
        accepted.add(job)
        shown = client.wait_finished(daemon, job, WAIT_SECONDS)
        outcomes.append(shown["state"])
        if shown["state"] == "failed":
            kind = "disk-full" if problem == "ENOSPC" else "io-error"
            assert shown["error"]["type"].rsplit(":", 1)[1] in (kind, "internal"), shown
            client.call(daemon, "POST", f"/v1/jobs/{job}/retry")
            assert client.wait_finished(daemon, job)["state"] == "succeeded"
        found = client.artifact_digests(state / "jobs" / job / "artifacts")
        expected = expected or found
        assert found == expected
    print(outcomes, shim.get("writes_failed"))
    assert shim.get("writes_failed") > 0
    assert daemon.stop() == 0, daemon.log()
    database = sqlite3.connect(f"file:{state / 'didid.db'}?mode=ro", uri=True)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert accepted <= {row[0] for row in database.execute("SELECT id FROM jobs")}
    database.close()


def test_the_clock_jumps_by_years(steered, family):
    daemon, shim, _ = steered
    year, ids = 366 * 86400, []
    for number, offset in enumerate((0, 10 * year, -10 * year, year, -40 * year)):
        shim.set(clock_offset_s=offset)
        job = client.submit(daemon, specification(family, "average"), f"key-{number}")
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(daemon.url).netloc,
                                                timeout=30)
        shim.set(clock_offset_s=-offset)
        connection.request("GET", f"/v1/jobs/{job}/events?after=1000&wait=1")
        # A wait that hung on the wall clock ends by the connection's own deadline.
        assert connection.getresponse().status in (200, 400)
        connection.close()
        assert client.wait_finished(daemon, job)["state"] == "succeeded"
        ids.append(job)
    assert ids == sorted(ids), "ids no longer sort as they were given"
    assert list(client.jobs(daemon)) == ids[::-1]
    shim.set(clock_offset_s=-20 * year)
    assert daemon.stop() == 0
    daemon.start()
    job = client.submit(daemon, specification(family, "average"), "last")
    assert job > ids[-1]
    assert client.wait_finished(daemon, job)["state"] == "succeeded"
