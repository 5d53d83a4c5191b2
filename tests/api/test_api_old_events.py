# SPDX-License-Identifier: Apache-2.0
"""Events of old jobs are dropped but for states and the last one; nobody who reads them fails."""

import json
import sqlite3
import time

import pytest

from wire import HOLD, Wire, specification

DAY_MILLISECONDS = 24 * 3600 * 1000


def events(wire, job, after=0, **more):
    query = "&".join(f"{key}={value}" for key, value in {"after": after, **more}.items())
    answer = wire.get(f"/v1/jobs/{job}/events?{query}")
    assert answer.status == 200, answer.body
    return answer.json()


def streamed(wire, job, after):
    """The blocks of a stream, as (event, data)."""
    text = wire.get(f"/v1/jobs/{job}/events?after={after}&stream=1").body.decode()
    blocks = [dict(line.split(": ", 1) for line in block.splitlines())
              for block in text.split("\n\n") if "event: " in block]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


@pytest.fixture
def aged(start_daemon, family, tmp_path):
    """A daemon that drops events, a job that ended four days ago, a new one; what each had."""
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    wire = Wire(daemon.url)
    jobs = [wire.submit(specification())["id"] for _ in range(2)]
    for job in jobs:
        wire.wait(job, "succeeded")
    before = [events(wire, job)["data"] for job in jobs]
    assert daemon.stop() == 0
    with sqlite3.connect(state / "didid.db") as database:
        database.execute("UPDATE jobs SET finished_ms = finished_ms - ? WHERE id = ?",
                         (4 * DAY_MILLISECONDS, jobs[0]))
    database.close()
    daemon.command += ["--keep-events-days", "3"]
    daemon.start()
    return daemon, jobs, before


def wait_thinned(daemon, job, count):
    deadline = time.monotonic() + 60
    while len(events(Wire(daemon.url), job)["data"]) != count:
        assert time.monotonic() < deadline, daemon.log()
        time.sleep(0.05)


def test_states_and_the_last_event_stay(aged):
    daemon, (old, new), before = aged
    wire = Wire(daemon.url)
    kept = [event for event in before[0] if event["kind"] == "state"]
    assert kept[-1] == before[0][-1] and len(kept) < len(before[0])
    wait_thinned(daemon, old, len(kept))
    page = events(wire, old)
    assert page["data"] == kept
    assert page["dropped"] == len(before[0]) - len(kept) > 0
    assert (page["next"], page["has_more"], page["state"]) == (len(before[0]), False, "succeeded")
    # The new one lost nothing, and says so.
    whole = events(wire, new)
    assert (whole["data"], whole["dropped"]) == (before[1], 0)
    assert wire.job(old)["last_event"] == len(before[0])


def test_readers_that_begin_anywhere_come_to_the_end(aged):
    daemon, (old, _), before = aged
    wire = Wire(daemon.url)
    kept = [event for event in before[0] if event["kind"] == "state"]
    wait_thinned(daemon, old, len(kept))
    for after in (0, 1, kept[-1]["number"] - 1, kept[-1]["number"], 10**9):
        left = [event for event in kept if event["number"] > after]
        gone = left[-1]["number"] - after - len(left) if left else 0
        page = events(wire, old, after, wait=20)  # does not wait: the job is over
        assert (page["data"], page["dropped"]) == (left, gone)
        assert page["next"] == (left[-1]["number"] if left else after)
        blocks = streamed(wire, old, after)
        assert [data for kind, data in blocks if kind not in ("dropped", "end")] == left
        assert sum(data["dropped"] for kind, data in blocks if kind == "dropped") == gone
        assert blocks[-1] == ("end", {"next": page["next"], "state": "succeeded"})
    single = events(wire, old, limit=1)
    assert len(single["data"]) == 1 and single["has_more"]
    last = wire.get(f"/v1/jobs/{old}/events", Last_Event_ID=str(kept[-1]["number"]),
                    Accept="text/event-stream")
    assert last.status == 204
    taken_up = wire.get(f"/v1/jobs/{old}/events", Last_Event_ID="3", Accept="text/event-stream")
    assert taken_up.status == 200 and b"event: end" in taken_up.body


def test_a_job_that_is_retried_goes_on_from_its_numbers(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, "--keep-events-days", "3", state=state)
    wire = Wire(daemon.url)
    job = wire.submit(specification(**HOLD))["id"]
    wire.wait(job, "running")
    deadline = time.monotonic() + 60
    while events(wire, job)["next"] < 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    wire.post(f"/v1/jobs/{job}/cancel")
    wire.wait(job, "cancelled")
    last = wire.job(job)["last_event"]
    for _ in range(2):  # what the second attempt tells goes too
        assert daemon.stop() == 0
        with sqlite3.connect(state / "didid.db") as database:
            database.execute("UPDATE jobs SET finished_ms = finished_ms - ?",
                             (4 * DAY_MILLISECONDS,))
        database.close()
        daemon.start()
        wire = Wire(daemon.url)
        deadline = time.monotonic() + 60
        while any(event["kind"] != "state" for event in events(wire, job)["data"]):
            assert time.monotonic() < deadline, daemon.log()
            time.sleep(0.05)
        assert wire.post(f"/v1/jobs/{job}/retry").status == 200
        wire.wait(job, "running")
        page = events(wire, job, last, wait=20)
        assert [event["number"] for event in page["data"][:2]] == [last + 1, last + 2]
        wire.post(f"/v1/jobs/{job}/cancel")
        wire.wait(job, "cancelled")
        last = wire.job(job)["last_event"]
