# SPDX-License-Identifier: Apache-2.0
"""kill -9 while a survey runs: it is whole or absent, says the same, and can be gone on from."""

import contextlib
import json
import signal
import subprocess

import pytest

import service_client as client

SURVEY = {"base": "base", "survey": True,
          "tasks": [{"name": name, "model": f"tasks/{name}"} for name in ("hiragana", "latin")]}


@pytest.fixture(scope="module")
def whole(didid, family, tmp_path_factory):
    """The manifest of a survey that nothing disturbed."""
    place = tmp_path_factory.mktemp("whole")
    (place / "survey.json").write_text(json.dumps(SURVEY))
    subprocess.run([didid, "run", place / "survey.json", "--models", family, "--out",
                    place / "out"], check=True, capture_output=True)
    return client.artifact_digests(place / "out")


@pytest.mark.parametrize("fault", ["layer:4", "layer:30", "rename:5", "fsync:25", "publish:1",
                                   "published:1", "finish:1"])
def test_a_survey_is_whole_or_absent(start_daemon, family, tmp_path, whole, fault):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    client.restart_with_fault(daemon, fault)
    with contextlib.suppress(OSError):  # it may die before it has answered
        client.submit(daemon, SURVEY, "one")
    assert daemon.process.wait(60) == -signal.SIGKILL
    published, = (place / "artifacts" for place in (state / "jobs").iterdir())
    assert published.is_dir() == (published / "manifest.json").is_file()
    daemon.start()
    job = client.submit(daemon, SURVEY, "one")
    assert published.parent.name == job, "it was accepted, or asked for twice"
    shown = client.wait_finished(daemon, job)
    assert shown["state"] == "succeeded" and shown["survey"] is True, shown
    assert sorted(path.name for path in published.iterdir()) == ["manifest.json"]
    assert client.artifact_digests(published) == whole
    assert client.call(daemon, "GET", f"/v1/jobs/{job}/frontier")["curve"]
    assert shown["reusable"]
    again = client.submit(daemon, {"from_job": job, "budget": 1.0}, "two")
    assert client.wait_finished(daemon, again)["state"] == "succeeded"
