# SPDX-License-Identifier: Apache-2.0
"""Telemetry by page and by long poll."""

import threading
import time

import pytest

from wire import specification


def test_pages_cover_all_events_in_order(wire, finished):
    whole = wire.get(f"/v1/jobs/{finished}/events?limit=1000").json()
    assert not whole["has_more"] and whole["state"] == "succeeded"
    numbers = [event["number"] for event in whole["data"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert whole["next"] == numbers[-1] == wire.job(finished)["last_event"]
    pieces, after = [], 0
    while True:
        page = wire.get(f"/v1/jobs/{finished}/events?after={after}&limit=3").json()
        pieces += page["data"]
        after = page["next"]
        if not page["has_more"]:
            break
    assert pieces == whole["data"]
    assert whole["data"][-1]["kind"] == "state"
    assert whole["data"][-1]["state"] == "succeeded"


def test_an_empty_page_of_a_finished_job_comes_at_once(wire, finished):
    begun = time.monotonic()
    page = wire.get(f"/v1/jobs/{finished}/events?after=1000000&wait=30").json()
    assert page["data"] == [] and page["next"] == 1000000 and not page["has_more"]
    assert time.monotonic() - begun < 5


def test_a_long_poll_ends_with_the_next_event(wire, held):
    after = wire.job(held)["last_event"] + 100000
    answers = []

    def poll():
        answers.append((time.monotonic(), wire.get(
            f"/v1/jobs/{held}/events?after={after}&wait=60").json()))

    pollers = [threading.Thread(target=poll) for _ in range(4)]
    for poller in pollers:
        poller.start()
    time.sleep(0.5)
    assert not answers
    begun = time.monotonic()
    wire.post(f"/v1/jobs/{held}/cancel")
    wire.wait(held, "cancelled")
    for poller in pollers:
        poller.join(10)
    assert len(answers) == 4
    assert all(moment - begun < 10 for moment, _ in answers)


def test_a_long_poll_ends_with_its_time(wire, held):
    begun = time.monotonic()
    after = wire.job(held)["last_event"] + 100000
    page = wire.get(f"/v1/jobs/{held}/events?after={after}&wait=1").json()
    assert page["data"] == []
    assert 0.9 < time.monotonic() - begun < 5


def test_long_polls_see_every_event(wire):
    job_id = wire.submit(specification(name="followed"))["id"]
    events, after = [], 0
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        page = wire.get(f"/v1/jobs/{job_id}/events?after={after}&wait=10").json()
        events += page["data"]
        after = page["next"]
        if page["state"] not in ("queued", "running") and not page["has_more"]:
            break
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["state"] == "succeeded"
    assert len(events) == wire.job(job_id)["last_event"]


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=1001", "wait=61",
                                   "wait=-1", "wait=1.5", "until=3"])
def test_bad_parameters(wire, finished, query):
    assert wire.get(f"/v1/jobs/{finished}/events?{query}").problem() == "invalid-parameter"
