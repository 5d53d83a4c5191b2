# SPDX-License-Identifier: Apache-2.0
"""Telemetry as a stream of server-sent events."""

import http.client
import json
import os
import selectors
import socket
import threading
import time

import pytest

from service import UNDER_SANITIZER, Daemon
from wire import HOLD, Wire, specification

VIEWERS = 50 if UNDER_SANITIZER else 200  # a daemon that is ten times slower


class Stream:
    """A viewer: fields of events as they come."""

    def __init__(self, wire, target, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection = http.client.HTTPConnection(wire.host, wire.port, timeout=60)
        self.connection.request("GET", target, headers=named)
        self.response = self.connection.getresponse()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def __iter__(self):
        """Each event as a dictionary of its fields; comments are left out."""
        fields = {}
        for line in self.response:
            line = line.decode().rstrip("\n")
            if line == "" and fields:
                yield fields
                fields = {}
            elif line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                assert name not in fields
                fields[name] = value


def follow(wire, job_id, query="", accept="text/event-stream", **headers):
    return Stream(wire, f"/v1/jobs/{job_id}/events{query}", Accept=accept, **headers)


def pages(wire, job_id, after=0):
    return wire.get(f"/v1/jobs/{job_id}/events?limit=1000&after={after}").json()["data"]


def events_of(fields):
    """The events among them, checked to be told as their JSON is."""
    events = []
    for each in fields:
        if "id" in each:
            event = json.loads(each["data"])
            assert (each["id"], each["event"]) == (str(event["number"]), event["kind"])
            events.append(event)
    return events


def check_end(fields, state, following):
    assert fields["event"] == "end" and "id" not in fields
    assert json.loads(fields["data"]) == {"next": following, "state": state}


def test_a_stream_is_what_the_pages_are(wire, finished):
    with follow(wire, finished) as stream:
        assert stream.response.status == 200
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        assert stream.response.headers["Cache-Control"] == "no-store"
        fields = list(stream)
    assert fields[0] == {"retry": "2000"}
    events = pages(wire, finished)
    assert events_of(fields) == events
    check_end(fields[-1], "succeeded", len(events))
    assert len(fields) == len(events) + 2


def test_the_query_asks_too(wire, finished):
    with follow(wire, finished, "?stream=1", accept="*/*") as stream:
        assert events_of(stream) == pages(wire, finished)
    with follow(wire, finished, "?stream=0") as page:
        assert page.response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("accept, streams", [
    ("text/event-stream", True), ("application/json, text/event-stream;q=0.5", True),
    ("TEXT/Event-Stream ; charset=utf-8", True), ("text/event-stream;q=0.001", True),
    ("text/event-stream;q=1", True), ("*/*", False), ("text/*", False), ("application/json", False),
    ("text/event-stream;q=0", False), ("text/event-stream; q=0.000", False),
    ("text/event-streams", False), ("", False)])
def test_accept(wire, finished, accept, streams):
    with follow(wire, finished, accept=accept) as stream:
        assert stream.response.status == 200
        kind = stream.response.headers["Content-Type"]
        assert kind == ("text/event-stream" if streams else "application/json")


def test_it_goes_on_after_the_last_event_that_was_seen(wire, finished):
    events = pages(wire, finished)
    for start in (1, 3, len(events) - 1):
        with follow(wire, finished, f"?after={start}") as stream:
            assert events_of(stream) == events[start:]
        with follow(wire, finished, "?after=1", Last_Event_ID=str(start)) as stream:
            assert events_of(stream) == events[start:]


def test_a_browser_that_has_seen_all_is_told_to_stay_away(wire, finished):
    last = len(pages(wire, finished))
    assert wire.get(f"/v1/jobs/{finished}/events", Accept="text/event-stream",
                    Last_Event_ID=str(last)).status == 204
    with follow(wire, finished, f"?after={last}") as stream:
        fields = list(stream)
    assert len(fields) == 2
    check_end(fields[-1], "succeeded", last)


def test_a_stream_sees_a_job_from_the_queue_to_its_end(didid, family, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    with Daemon(didid, state, family, "--running-jobs-max", "1") as running:
        wire = Wire(running.url)
        before = wire.submit(specification(name="before", **HOLD))["id"]
        wire.wait(before, "running")
        job_id = wire.submit(specification(name="streamed"))["id"]
        with follow(wire, job_id) as stream:
            fields = iter(stream)
            assert next(fields) == {"retry": "2000"}
            assert wire.job(job_id)["state"] == "queued"
            wire.post(f"/v1/jobs/{before}/cancel")
            rest = list(fields)
        events = events_of(rest)
        assert events == pages(wire, job_id)
        assert [event["number"] for event in events] == list(range(1, len(events) + 1))
        states = [event["state"] for event in events if event["kind"] == "state"]
        assert states == ["running", "succeeded"]
        check_end(rest[-1], "succeeded", len(events))


def test_a_stream_of_a_job_that_is_removed_ends(didid, family, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    with Daemon(didid, state, family, "--running-jobs-max", "1") as running:
        wire = Wire(running.url)
        before = wire.submit(specification(name="before", **HOLD))["id"]
        wire.wait(before, "running")
        job_id = wire.submit(specification(name="removed"))["id"]
        with follow(wire, job_id, "?after=1000000") as stream:
            fields = iter(stream)
            assert next(fields) == {"retry": "2000"}
            assert wire.post(f"/v1/jobs/{job_id}/cancel").status == 200
            assert wire.delete(f"/v1/jobs/{job_id}").status == 204
            rest = list(fields)
        assert rest[-1]["event"] == "end"
        assert json.loads(rest[-1]["data"])["state"] in ("cancelled", None)


def test_a_stream_ends_when_the_job_is_cancelled(wire):
    job_id = wire.submit(specification(name="cancelled"))["id"]
    with follow(wire, job_id) as stream:
        fields = iter(stream)
        next(fields)
        wire.post(f"/v1/jobs/{job_id}/cancel")
        rest = list(fields)
        assert json.loads(rest[-1]["data"])["state"] == "cancelled"


def test_hundreds_of_viewers_of_one_job_cost_no_thread(daemon, wire, held):
    before = len(os.listdir(f"/proc/{daemon.process.pid}/task"))
    request = (f"GET /v1/jobs/{held}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
               "Accept: text/event-stream\r\n\r\n").encode()
    viewers = [socket.create_connection((wire.host, wire.port), timeout=60)
               for _ in range(VIEWERS)]
    try:
        for viewer in viewers:
            viewer.sendall(request)
        received = {viewer: b"" for viewer in viewers}
        watched = selectors.DefaultSelector()
        for viewer in viewers:
            watched.register(viewer, selectors.EVENT_READ)
        while not all(b"id: 2\n" in data for data in received.values()):
            ready = watched.select(30)
            assert ready, "viewers wait for the second event"
            for key, _ in ready:
                received[key.fileobj] += key.fileobj.recv(65536)
        assert len(os.listdir(f"/proc/{daemon.process.pid}/task")) <= before
        assert wire.get("/livez").status == 200
        wire.post(f"/v1/jobs/{held}/cancel")
        while waiting := [viewer for viewer in viewers
                          if not received[viewer].endswith(b"\r\n0\r\n\r\n")]:
            ready = watched.select(30)
            assert ready, f"{len(waiting)} viewers wait for the end"
            for key, _ in ready:
                piece = key.fileobj.recv(65536)
                assert piece
                received[key.fileobj] += piece
        for data in received.values():
            assert b'event: end\ndata: {"next":' in data and b'"state":"cancelled"}' in data
    finally:
        for viewer in viewers:
            viewer.close()


def test_who_does_not_read_holds_nobody_up(wire, held):
    request = (f"GET /v1/jobs/{held}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
               "Accept: text/event-stream\r\n\r\n").encode()
    sleepers = []
    for _ in range(20):
        sleeper = socket.socket()
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sleeper.connect((wire.host, wire.port))
        sleeper.sendall(request)
        sleepers.append(sleeper)
    try:
        with follow(wire, held) as stream:
            fields = iter(stream)
            numbers = []
            while len(numbers) < 5:
                each = next(fields)
                if "id" in each:
                    numbers.append(int(each["id"]))
            assert numbers == [1, 2, 3, 4, 5]
    finally:
        for sleeper in sleepers:
            sleeper.close()


def test_a_stream_ends_when_the_daemon_does(didid, family, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    with Daemon(didid, state, family) as running:
        wire = Wire(running.url)
        job_id = wire.submit(specification(name="held", **HOLD))["id"]
        wire.wait(job_id, "running")
        with follow(wire, job_id) as stream:
            fields = iter(stream)
            seen = [next(fields), next(fields), next(fields)]
            stopping = threading.Thread(target=running.stop)
            stopping.start()
            seen += list(fields)  # ends as a whole reply does: http.client would complain
            stopping.join(60)
        assert all(each.get("event") != "end" for each in seen)
        last = events_of(seen)[-1]["number"]
        running.start()
        wire = Wire(running.url)
        with follow(wire, job_id, Last_Event_ID=str(last)) as stream:
            fields = iter(stream)
            assert next(fields) == {"retry": "2000"}
            assert int(next(fields)["id"]) == last + 1
        wire.post(f"/v1/jobs/{job_id}/cancel")
        wire.wait(job_id, "cancelled")


@pytest.mark.parametrize("query, headers, parameter", [
    ("?limit=3", {}, "limit"), ("?wait=3", {}, "wait"), ("?stream=2", {}, "stream"),
    ("?stream=yes", {}, "stream"), ("?after=-1", {}, "after"),
    ("", {"Last_Event_ID": "x"}, "Last-Event-ID"), ("", {"Last_Event_ID": "-1"}, "Last-Event-ID"),
    ("", {"Last_Event_ID": "9007199254740992"}, "Last-Event-ID"),
    ("", {"Last_Event_ID": "01"}, "Last-Event-ID")])
def test_what_cannot_be_asked(wire, finished, query, headers, parameter):
    answer = wire.get(f"/v1/jobs/{finished}/events{query}", Accept="text/event-stream", **headers)
    assert answer.problem() == "invalid-parameter"
    assert answer.json()["parameter"] == parameter


def test_of_no_job(wire):
    answer = wire.get("/v1/jobs/01h000000000000000000000aa/events", Accept="text/event-stream")
    assert answer.problem() == "unknown-job"


def test_head(wire, finished):
    answer = wire.request("HEAD", f"/v1/jobs/{finished}/events",
                          headers={"Accept": "text/event-stream"})
    assert answer.status == 200 and answer.body == b""
    assert answer.headers["Content-Type"] == "text/event-stream"
