# SPDX-License-Identifier: Apache-2.0
"""kill -9 while events are queued and sent: each reaches its receiver, in order for each job."""

import http.client
import json
import signal
import time

import pytest
import service_client as client
from receiver import Receiver
from told import END_SECONDS, check_told, wait_sent


def specification(number):
    return {"base": "base", "budget": 1.3, "seed": number,
            "tasks": [{"name": "hiragana", "model": "tasks/hiragana"},
                      {"name": "latin", "model": "tasks/latin"}]}


def work_and_kill(daemon, chooser, accepted):
    """Submits and cancels, and kills at an instant that falls anywhere in it."""
    instant = time.monotonic() + chooser.uniform(0.0, 0.6)
    while time.monotonic() < instant:
        known = client.jobs(daemon)
        if sum(job["state"] in ("queued", "running") for job in known.values()) < 4:
            number = len(accepted)
            accepted.append(client.submit(daemon, specification(number), f"key-{number}"))
            if chooser.random() < 0.3:
                cancel(daemon, accepted[-1])
        time.sleep(chooser.uniform(0.0, 0.03))
    daemon.process.kill()
    daemon.process.wait()


def cancel(daemon, job):
    try:
        client.call(daemon, "POST", f"/v1/jobs/{job}/cancel")
    except client.Refused as refused:
        assert refused.status == 409, refused  # it was quick


@pytest.mark.parametrize("nth", [1, 4])
@pytest.mark.parametrize("point", ["send", "answer", "answered"])
def test_no_event_is_lost_at_a_point(start_daemon, family, tmp_path, point, nth):
    """Before it is sent, between the answer and its row, after the row."""
    state = tmp_path / "state"
    with Receiver() as receiver:
        daemon = start_daemon(family, "--webhook-private", "1", state=state,
                              environment={"DIDI_FAULT": f"{point}:{nth}:KILL"})
        hook = client.call(daemon, "POST", "/v1/webhooks", {"url": receiver.url})
        accepted = submit_until_killed(daemon)
        assert daemon.process.wait(END_SECONDS) == -signal.SIGKILL
        sent = len(receiver.messages)
        del daemon.environment["DIDI_FAULT"]
        daemon.start()
        for job in accepted:
            client.wait_finished(daemon, job)
        wait_sent(daemon, hook["id"])
        assert daemon.stop() == 0
        unique = check_told(state, receiver, hook, accepted)
    repeated = len(receiver.messages) - len(unique)
    assert sent >= nth - 2 and repeated <= sent  # one more may have been on its way
    if point == "answer":
        assert repeated >= 1, "what was answered and not written is sent again"


def submit_until_killed(daemon):
    """Jobs of which the daemon is sure; it dies while their events are sent."""
    accepted = []
    for number in range(3):
        try:
            accepted.append(client.submit(daemon, specification(number), f"key-{number}"))
        except (OSError, http.client.HTTPException):
            break
    return accepted


def test_an_answer_that_is_not_written_at_once_is_written_later(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    with Receiver() as receiver:
        daemon = start_daemon(family, "--webhook-private", "1", state=state,
                              environment={"DIDI_FAULT": "answer:2:EIO"})
        hook = client.call(daemon, "POST", "/v1/webhooks", {"url": receiver.url})
        job = client.submit(daemon, specification(0), "key")
        client.wait_finished(daemon, job)
        wait_sent(daemon, hook["id"])
        assert daemon.stop() == 0
        unique = check_told(state, receiver, hook, [job])
    assert len(receiver.messages) == len(unique) == 3


def test_answers_that_cannot_be_written_make_no_storm(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    with Receiver() as receiver:
        daemon = start_daemon(family, "--webhook-private", "1", state=state,
                              environment={"DIDI_FAULT": "answer:1+:EIO"})
        hook = client.call(daemon, "POST", "/v1/webhooks", {"url": receiver.url})
        jobs = [client.submit(daemon, specification(number), f"key-{number}")
                for number in range(3)]
        for job in jobs:
            client.wait_finished(daemon, job)
        receiver.wait(1)
        assert daemon.stop() == 0
        assert len(receiver.messages) <= 2, "those in progress at one endpoint"
        del daemon.environment["DIDI_FAULT"]
        daemon.start()
        wait_sent(daemon, hook["id"])
        assert daemon.stop() == 0
        unique = check_told(state, receiver, hook, jobs)
    assert len(unique) < len(receiver.messages) <= len(unique) + 2


def test_no_event_is_lost(request, start_daemon, family, tmp_path):
    kills, chooser = client.kills_and_chooser(request.config)
    state, accepted = tmp_path / "state", []
    with Receiver() as receiver:
        daemon = start_daemon(family, "--webhook-private", "1", state=state)
        hook = client.call(daemon, "POST", "/v1/webhooks", {"url": receiver.url})
        for _ in range(kills):
            work_and_kill(daemon, chooser, accepted)
            daemon.start()
        for job in accepted:
            client.wait_finished(daemon, job)
        wait_sent(daemon, hook["id"])
        assert daemon.stop() == 0
        unique = check_told(state, receiver, hook, accepted)
        print(json.dumps({"kills": kills, "events": len(unique),
                          "attempts": len(receiver.messages)}))
