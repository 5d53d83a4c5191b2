# SPDX-License-Identifier: Apache-2.0
"""A job belongs to the trace of the request that submitted it: in its document, its events, the
log, and what webhooks send."""

import json
import time

import pytest

from receiver import Receiver
from wire import HOLD, Wire, specification

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def receiver():
    with Receiver() as running:
        yield running


def logged(daemon, *words):
    """The line of the log with all of these words; it comes a moment after what it tells."""
    deadline = time.monotonic() + 30
    while True:
        for line in daemon.log_path.read_text().splitlines():
            if all(word in line for word in words):
                return line
        assert time.monotonic() < deadline, (words, daemon.log())
        time.sleep(0.05)


def test_a_trace_goes_with_the_job(start_daemon, family, receiver):
    daemon = start_daemon(family, "--webhook-private", "1")
    wire = Wire(daemon.url)
    assert wire.post("/v1/webhooks", {"url": receiver.url}).status == 201
    answer = wire.post("/v1/jobs", specification(**HOLD), traceparent=TRACE)
    assert answer.status == 201 and answer.json()["traceparent"] == TRACE
    job = answer.json()["id"]
    wire.wait(job, "running")
    wire.post(f"/v1/jobs/{job}/cancel", traceparent=TRACE.replace("0af7", "ffff"))
    assert wire.wait(job, "cancelled")["traceparent"] == TRACE
    for attempt in (1, 2):
        if attempt == 2:  # stays with the job, whoever asks for another attempt
            wire.post(f"/v1/jobs/{job}/retry")
            wire.wait(job, "running")
            wire.post(f"/v1/jobs/{job}/cancel")
            wire.wait(job, "cancelled")
        for message in ('"job started"', '"job ended"'):
            assert logged(daemon, message, f"job={job} attempt={attempt} ", f"traceparent={TRACE}")
    events = wire.get(f"/v1/jobs/{job}/events?limit=1000").json()["data"]
    for event in events:
        assert event.get("traceparent") == (TRACE if event["kind"] == "state" else None)
    text = wire.get(f"/v1/jobs/{job}/events?stream=1").body.decode()
    streamed = [json.loads(line.removeprefix("data: ")) for line in text.splitlines()
                if line.startswith("data: ")]
    assert streamed[:-1] == events
    assert wire.get("/v1/jobs?limit=1").json()["data"][0]["traceparent"] == TRACE
    # queued, started, cancelled, and again
    sent = receiver.wait(6)
    assert [message.headers["traceparent"] for message in sent] == [TRACE] * 6


CASES = [
    (None, None), ("nonsense", None), (TRACE.upper(), None), (TRACE + "-more", None),
    ("ff" + TRACE[2:], None), ("00-" + "0" * 32 + TRACE[35:], None), ("01" + TRACE[2:], TRACE),
    ("01" + TRACE[2:] + "-more", TRACE)]


def test_bad_headers_are_as_if_they_were_not_there(start_daemon, family, receiver):
    daemon = start_daemon(family, "--webhook-private", "1")
    wire = Wire(daemon.url)
    assert wire.post("/v1/webhooks", {"url": receiver.url, "events": ["job.queued"]}).status == 201
    kept = {}
    for header, expected in CASES:
        answer = wire.post("/v1/jobs", specification(budget="S"),
                           **({"traceparent": header} if header else {}))
        assert answer.status == 201 and answer.json()["traceparent"] == expected, header
        kept[answer.json()["id"]] = expected
    for job, expected in kept.items():
        wire.wait(job, "succeeded")
        line = logged(daemon, '"job started"', f"job={job}")
        assert line.endswith(f"traceparent={expected or 'null'}")
    sent = receiver.wait(len(CASES))
    assert {message.job()["id"]: message.headers["traceparent"] for message in sent} == kept
