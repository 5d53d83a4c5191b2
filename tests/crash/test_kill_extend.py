# SPDX-License-Identifier: Apache-2.0
"""kill -9 while a job is extended, in the full merge it is compared with or after it: the job goes
on, keeps what it was to keep, and its other files equal those of an uninterrupted run."""

import time

import service_client as client

PARENT = {"base": "base", "budget": 0.93, "refine": {"optimizer": "adam", "steps": 300},
          "tasks": [{"name": name, "model": f"tasks/{name}"}
                    for name in ("hiragana", "latin", "mnist")]}
ADDED = [{"name": "orient", "model": "tasks/orient"}]


def extension(parent):
    return {"extend": {"job": parent}, "tasks": ADDED}


def test_killed_while_extending(request, start_daemon, family, tmp_path):
    kills, chooser = client.kills_and_chooser(request.config)
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    parent = client.submit(daemon, PARENT, "parent")
    client.wait_finished(daemon, parent)
    began = time.monotonic()
    whole = client.submit(daemon, extension(parent), "whole")
    assert client.wait_finished(daemon, whole)["state"] == "succeeded"
    seconds = time.monotonic() - began
    expected = client.artifact_digests(state / "jobs" / whole / "artifacts")
    kept = client.artifact_digests(state / "jobs" / parent / "artifacts")
    assert all(expected[name] == kept[name] for name in kept if name != "manifest.json")
    children = []
    for number in range(kills):
        children.append(client.submit(daemon, extension(parent), f"child-{number}"))
        time.sleep(chooser.uniform(0, 1.2 * seconds))
        daemon.process.kill()
        daemon.process.wait()
        for child in children:
            published = state / "jobs" / child / "artifacts"
            if published.exists():
                client.check_whole(published)
        daemon.start()
    for child in children:
        shown = client.wait_finished(daemon, child)
        assert shown["state"] == "succeeded", (shown, daemon.log())
        place = state / "jobs" / child
        assert client.artifact_digests(place / "artifacts") == expected
        assert [path.name for path in place.iterdir()] == ["artifacts"]
        report = shown["result"]["extends"]["report"]
        assert report["full_merge"] is not None, report
    assert client.artifact_digests(state / "jobs" / parent / "artifacts") == kept
