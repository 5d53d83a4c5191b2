# SPDX-License-Identifier: Apache-2.0
"""The demo family through a daemon and its client: the same files as in the foreground."""

import json
import os
import subprocess

import pytest

import artifacts

WAIT_SECONDS = 300


@pytest.fixture
def client(didictl, start_daemon, family):
    """client(*arguments) -> standard output of didictl against a daemon with the demo family."""
    daemon = start_daemon(family)

    def call(*arguments, status=0):
        done = subprocess.run([didictl, *arguments], env={**os.environ, "DIDI_HOST": daemon.url},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=WAIT_SECONDS, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout

    call.daemon = daemon
    return call


def submit(client, specification, tmp_path, *options):
    path = tmp_path / "specification.json"
    path.write_text(json.dumps(specification))
    return client("submit", str(path), "--wait", "-o", "name", *options).split()[-1]


def test_models_are_listed(client):
    names = client("model", "ls", "-o", "name").split()
    assert names == ["base", "tasks/hiragana", "tasks/latin", "tasks/mnist", "tasks/orient"]


def test_pulled_artifacts_are_those_of_the_foreground(client, run, family, demo_specification,
                                                      tmp_path):
    specification = demo_specification(seed=3)
    foreground = run(specification, family, "--export", "full")
    job = submit(client, specification, tmp_path)
    client("pull", job, str(tmp_path / "native"))
    client("pull", job, str(tmp_path / "full"), "--format", "full")
    models = foreground.out / "models"
    for path in models.rglob("*.*"):
        pulled = tmp_path / "full" / "models" / path.relative_to(models)
        assert pulled.read_bytes() == path.read_bytes()
    pulled = artifacts.digests(tmp_path / "native")
    pulled.update(artifacts.digests(tmp_path / "full"))
    assert pulled == artifacts.digests(foreground.out)
    manifest = json.loads((tmp_path / "native" / "manifest.json").read_text())
    assert manifest["error"] == foreground.manifest()["error"]
    assert manifest["ranks"] == foreground.manifest()["ranks"]


def test_telemetry_tells_how_it_went(client, demo_specification, tmp_path):
    job = submit(client, demo_specification(), tmp_path)
    shown = json.loads(client("show", job, "-o", "json"))
    assert (shown["state"], shown["progress"]) == ("succeeded", 1)
    events = [json.loads(line) for line in client("events", job, "-o", "jsonl").splitlines()]
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    stages = [event["stage"] for event in events if event["kind"] == "stage"]
    assert stages and stages[-1] == "publish"
    assert [event["state"] for event in events if event["kind"] == "state"][-1] == "succeeded"
    assert json.loads(client("ranks", job, "-o", "json"))
    assert json.loads(client("frontier", job, "-o", "json"))


def test_a_plan_without_a_job(client, demo_specification, tmp_path):
    path = tmp_path / "specification.json"
    path.write_text(json.dumps(demo_specification()))
    plan = json.loads(client("submit", str(path), "--dry-run", "-o", "json"))
    assert plan["parameters"] == 158592
    assert client("jobs", "-o", "name") == ""


def test_termination_is_clean(client, demo_specification, tmp_path):
    submit(client, demo_specification(), tmp_path)
    assert client.daemon.stop() == 0
