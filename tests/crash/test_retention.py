# SPDX-License-Identifier: Apache-2.0
"""Old jobs deleted in the background, and a floor of free disk below which jobs wait."""

import os
import time

import pytest
import service_client as client
from faults import Shim
from test_kill import specification
from test_trouble import disk_of, small_disk  # noqa: F401 (a fixture)

DAY = 86400


@pytest.fixture(scope="session")
def family(demo_family):
    """Of the small one, what is left after a wait is over before it is told."""
    return demo_family


def merge(daemon, family, key, **fields):
    job = client.submit(daemon, {**specification(family, "average"), **fields}, key)
    assert client.wait_finished(daemon, job)["state"] == "succeeded"
    return job


def wait_left(daemon, expected, seconds=40):
    deadline = time.monotonic() + seconds
    while set(client.jobs(daemon)) != expected:
        assert time.monotonic() < deadline, (set(client.jobs(daemon)), expected, daemon.log())
        time.sleep(0.1)


def test_the_oldest_beyond_the_limit_go(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    kept = merge(daemon, family, "kept", labels={"keep": "yes"})
    old = [merge(daemon, family, f"old-{number}") for number in range(3)]
    daemon.stop()
    daemon.command += ["--keep-jobs-max", "2"]
    daemon.start()
    wait_left(daemon, {kept, old[-1]})
    for job in old[:2]:  # told after the job is gone
        daemon.wait_logged(f'message="an old job is deleted" job={job}')
    assert daemon.stop() == 0
    daemon.start()  # empties the trash
    deadline = time.monotonic() + 10
    while {path.name for path in (state / "jobs").iterdir()} != {kept, old[-1]}:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_days_are_told_by_a_clock_that_was_not_set(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    shim = Shim(tmp_path, state)
    daemon = start_daemon(family, "--keep-jobs-days", "3", state=state,
                          environment=shim.environment)
    job = merge(daemon, family, "one")
    shim.set(clock_offset_s=400 * DAY)
    time.sleep(12)  # one look at old jobs
    assert set(client.jobs(daemon)) == {job}, "a jump of the clock is no age"
    shim.set(clock_offset_s=4 * DAY)
    assert daemon.stop() == 0
    daemon.start()
    wait_left(daemon, set())


def test_jobs_wait_for_a_disk_with_room(start_daemon, family, small_disk):  # noqa: F811
    state = small_disk / "state"
    daemon = start_daemon(family, "--disk-free-min", "2M", state=state)
    ballast = fill(small_disk, 3 << 19)
    daemon.wait_logged("nearly full")
    job = client.submit(daemon, specification(family, "average"), "one")
    shown = client.call(daemon, "GET", f"/v1/jobs/{job}")
    assert (shown["state"], shown["waiting"]) == ("queued", "disk")
    assert client.jobs(daemon)[job]["waiting"] == "disk"
    ballast.unlink()
    shown = client.wait_finished(daemon, job)
    assert shown["state"] == "succeeded" and "waiting" not in shown
    assert daemon.stop() == 0


def notes(daemon, job):
    return [event["text"].split(":")[0]
            for event in client.call(daemon, "GET", f"/v1/jobs/{job}/events?limit=1000")["data"]
            if event["kind"] == "note" and "disk_free_min" in event["text"]]


def wait_notes(daemon, job, expected, seconds=30):
    deadline = time.monotonic() + seconds
    while (found := notes(daemon, job)) != expected:
        assert time.monotonic() < deadline, (found, daemon.log())
        time.sleep(0.05)


def fill(disk, left):
    """Takes all of a small disk but so many bytes."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    ballast.write_bytes(b"x" * (free.f_bavail * free.f_frsize - left))
    return ballast


@pytest.fixture
def roomy_disk(tmp_path):
    with disk_of(tmp_path / "disk", 48) as point:
        yield point


@pytest.fixture
def held_daemon(start_daemon, family, roomy_disk):
    """A daemon whose workers write nothing while `writes_held` of its shim is set."""
    state = roomy_disk / "state"
    shim = Shim(roomy_disk.parent, state / "jobs")
    shim.set(writes_held=1)
    daemon = start_daemon(family, "--disk-free-min", "16M", "--workers", "1", state=state,
                          environment=shim.environment)
    yield daemon, shim
    shim.set(writes_held=0)


def test_running_jobs_wait_between_items_and_go_on(held_daemon, family, roomy_disk):
    daemon, shim = held_daemon
    jobs = [client.submit(daemon, specification(family, "joint"), key)
            for key in ("cancelled", "finished")]
    for job in jobs:
        client.wait_state(daemon, job, "running")
    ballast = fill(roomy_disk, 12 << 20)
    daemon.wait_logged("nearly full")
    shim.set(writes_held=0)
    for job in jobs:
        wait_notes(daemon, job, ["waits"])
        shown = client.call(daemon, "GET", f"/v1/jobs/{job}")
        assert (shown["state"], shown["waiting"]) == ("running", "disk")
    ready = client.call(daemon, "GET", "/readyz")
    assert ready["status"] == "ok" and "disk_free_min" in ready["warnings"][0]
    assert "disk_free_min" in client.call(daemon, "GET", "/v1/status")["warnings"][0]
    # What waits can be cancelled.
    client.call(daemon, "POST", f"/v1/jobs/{jobs[0]}/cancel")
    assert client.wait_finished(daemon, jobs[0])["state"] == "cancelled"
    assert client.call(daemon, "GET", f"/v1/jobs/{jobs[1]}")["state"] == "running"
    ballast.unlink()
    shown = client.wait_finished(daemon, jobs[1])
    assert shown["state"] == "succeeded" and "waiting" not in shown
    assert notes(daemon, jobs[1]) == ["waits", "goes on"]
    assert client.call(daemon, "GET", "/readyz")["warnings"] == []
    assert daemon.stop() == 0


def export_of(daemon, job):
    row, = client.call(daemon, "GET", f"/v1/jobs/{job}/exports")["data"]
    return row


def wait_export(daemon, job, *states):
    deadline = time.monotonic() + 60
    while (row := export_of(daemon, job))["state"] not in states:
        assert time.monotonic() < deadline, (row, daemon.log())
        time.sleep(0.05)
    return row


def test_exports_leave_the_floor_alone(held_daemon, family, roomy_disk):
    daemon, shim = held_daemon
    shim.set(writes_held=0)
    job = merge(daemon, family, "one")
    shim.set(writes_held=1)
    asked = {"format": "full", "tasks": ["latin"]}
    client.call(daemon, "POST", f"/v1/jobs/{job}/exports", asked)
    wait_export(daemon, job, "running")
    ballast = fill(roomy_disk, 12 << 20)
    daemon.wait_logged("nearly full")
    shim.set(writes_held=0)
    row = wait_export(daemon, job, "succeeded", "failed")
    assert row["state"] == "failed" and row["error"]["type"].endswith(":disk-full"), row
    assert "disk_free_min (16777216 bytes)" in row["error"]["detail"]
    assert not any((roomy_disk / "state/jobs" / job / "exports" / "models").iterdir())
    ballast.unlink()
    daemon.wait_logged("has room again")
    client.call(daemon, "POST", f"/v1/jobs/{job}/exports", asked)
    assert wait_export(daemon, job, "succeeded", "failed")["state"] == "succeeded", daemon.log()
    assert daemon.stop() == 0


def test_a_daemon_stops_while_jobs_wait(held_daemon, family, roomy_disk):
    daemon, shim = held_daemon
    job = client.submit(daemon, specification(family, "joint"), "one")
    client.wait_state(daemon, job, "running")
    ballast = fill(roomy_disk, 12 << 20)
    daemon.wait_logged("nearly full")
    shim.set(writes_held=0)
    wait_notes(daemon, job, ["waits"])
    assert daemon.stop() == 0
    ballast.unlink()
    daemon.start()
    assert client.wait_finished(daemon, job)["state"] == "succeeded"
    assert daemon.stop() == 0
