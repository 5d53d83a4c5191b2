# SPDX-License-Identifier: Apache-2.0
"""Following a job by a stream of events, from servers that break it."""

import json

import pytest

from fake import JOB, Answer, event, job, page

EVENTS = f"/v1/jobs/{JOB}/events"


def text_of(*events, end=None, newline="\n"):
    """Server-sent events, as the contract has them."""
    lines = ["retry: 2000", ""]
    for each in events:
        lines += [f"id: {each['number']}", f"event: {each['kind']}", "data: " + json.dumps(each),
                  ""]
    if end is not None:
        lines += ["event: end", f'data: {{"next": 0, "state": "{end}"}}', ""]
    return (newline.join(lines) + newline).encode()


def stream(*events, end=None, newline="\n", **faults):
    return Answer(text_of(*events, end=end, newline=newline), kind="text/event-stream", **faults)


def followed(call, *more, **keywords):
    shown = call("events", JOB, "--follow", "-o", "jsonl", *more, **keywords)
    return [json.loads(line)["number"] for line in shown.stdout.splitlines()], shown.stderr


def test_events_come_by_a_stream(call, fake):
    fake.on("GET", EVENTS, stream(event(1), event(2), event(3), end="succeeded"))
    assert followed(call) == ([1, 2, 3], "")
    (request,) = fake.requests("GET", EVENTS)
    assert request.headers["Accept"].startswith("text/event-stream")
    assert "Last-Event-ID" not in request.headers


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_lines_end_as_they_like(call, fake, newline):
    fake.on("GET", EVENTS, stream(event(1), event(2), end="succeeded", newline=newline))
    assert followed(call)[0] == [1, 2]


def test_a_stream_that_breaks_is_taken_up_again(call, fake):
    first = text_of(event(1), event(2))
    fake.on("GET", EVENTS, [
        stream(event(1), event(2), event(3), cut=len(first) + 30),  # in the middle of an event
        stream(event(2), event(3)),  # ended without saying so, and one told twice
        stream(event(4), end="failed")])
    numbers, told = followed(call)
    assert numbers == [1, 2, 3, 4]
    assert "the stream of events broke, trying again" in told
    requests = fake.requests("GET", EVENTS)
    assert [request.headers["Last-Event-ID"] for request in requests] == [None, "2", "3"]


def test_a_server_that_has_nothing_more_to_tell(call, fake):
    fake.on("GET", EVENTS, [stream(event(1)), Answer(status=204)])
    assert followed(call)[0] == [1]


def test_a_limit_ends_the_stream(call, fake):
    fake.on("GET", EVENTS, stream(*(event(number) for number in range(1, 9)), end="succeeded"))
    assert followed(call, "--limit", "3")[0] == [1, 2, 3]
    endless = text_of(event(1), event(2))
    fake.on("GET", EVENTS, Answer(endless + b": " * 1000, kind="text/event-stream",
                                  stall=len(endless)))
    assert followed(call, "--limit", "2")[0] == [1, 2]


def test_a_server_without_streams(call, fake):
    fake.on("GET", EVENTS, lambda request: page([event(7)] if "after=0" in request.path else [])
            | {"state": "succeeded", "next": 7})
    assert followed(call)[0] == [7]
    assert "wait=" in fake.requests("GET", EVENTS)[1].path


@pytest.mark.parametrize("body", [
    b"data: {\n\n", b"data: 7\n\n", b'data: {"number": -1}\n\n', b'data: {"number": "1"}\n\n',
    b'data: {"number": 1, "number": 2}\n\n', b"data\n\n", b"data: " + b"x" * (2 << 20),
    b"x" * (2 << 20)], ids=range(8))
def test_events_that_are_none(call, fake, body):
    fake.on("GET", EVENTS, Answer(body, kind="text/event-stream"))
    shown = call("events", JOB, "--follow", status=1)
    assert "the server" in shown.stderr


def test_what_is_no_event_is_passed_over(call, fake):
    strange = b": word\n\n\xff\xfe: x\nid\nevent: end\n\n" + text_of(event(1), end="succeeded")
    fake.on("GET", EVENTS, Answer(strange, kind="text/event-stream; charset=utf-8"))
    assert followed(call)[0] == [1]


@pytest.mark.parametrize("pause", [0, 2.5])  # the job is read, and over, before the stream breaks
def test_watch_follows_by_a_stream(call, fake, pause):
    fake.on("GET", f"/v1/jobs/{JOB}", [
        job(), job(state="succeeded", progress=1, finished_at="2025-03-01T12:01:00.000Z")])
    broken = text_of(event(1, loss=0.5, ratio=1.3))
    fake.on("GET", EVENTS, [
        page([]) | {"next": 0, "state": "running"},
        stream(event(1, loss=0.5, ratio=1.3), event(2, loss=0.4), cut=len(broken),
               pause=pause),
        stream(event(2, loss=0.4), end="succeeded")])
    lines = [json.loads(line) for line in call("watch", JOB, "-o", "jsonl").stdout.splitlines()]
    assert lines[-1]["state"] == "succeeded" and lines[-1]["loss"] == 0.4
    requests = fake.requests("GET", EVENTS)
    assert [request.headers["Last-Event-ID"] for request in requests] == [None, None, "1"]


def test_wait_ends_with_the_stream(call, fake):
    fake.on("GET", f"/v1/jobs/{JOB}", [job(), job(state="cancelled")])
    fake.on("GET", EVENTS, [page([]) | {"next": 0, "state": "running"},
                            stream(event(1), end="cancelled")])
    call("wait", JOB, status=3)
