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
    page = wire.request("GET", f"/v1/jobs/{finished}/events?after=1000000&wait=60",
                        timeout=40).json()
    assert page["data"] == [] and page["next"] == 1000000 and not page["has_more"]


def test_a_long_poll_ends_with_the_next_event(wire, held):
    after = wire.job(held)["last_event"] + 100000
    answers = []

    def poll():
        answers.append(wire.get(f"/v1/jobs/{held}/events?after={after}&wait=60").json())

    pollers = [threading.Thread(target=poll) for _ in range(4)]
    for poller in pollers:
        poller.start()
    wire.wait_for_polls(4)
    assert not answers
    wire.post(f"/v1/jobs/{held}/cancel")
    wire.wait(held, "cancelled")
    for poller in pollers:
        poller.join(30)  # well before the polls' own end
    assert len(answers) == 4


def test_a_long_poll_ends_with_its_time(wire, held):
    begun = time.monotonic()
    after = wire.job(held)["last_event"] + 100000
    page = wire.get(f"/v1/jobs/{held}/events?after={after}&wait=1").json()
    assert page["data"] == []
    assert time.monotonic() - begun > 0.9


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


def test_the_last_events_are_asked_for_alone(wire, finished):
    path = f"/v1/jobs/{finished}/events"
    everything = wire.get(path + "?limit=1000").json()["data"]
    for count in (1, 3, 1000):
        page = wire.get(f"{path}?last={count}&limit=1000").json()
        assert page["data"] == everything[-count:] and page["has_more"] is False
    after = everything[-2]["number"]
    assert wire.get(f"{path}?last=50&after={after}").json()["data"] == everything[-1:]
    assert len(wire.get(f"{path}?last=5&limit=2").json()["data"]) == 2
    for query in ("last=0", "last=1001", "last=x", "stream=1&last=3"):
        answer = wire.get(f"{path}?{query}")
        assert answer.problem() == "invalid-parameter" and answer.json()["parameter"] == "last"
