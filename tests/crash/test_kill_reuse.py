# SPDX-License-Identifier: Apache-2.0
"""kill -9 while jobs start from what another one kept, which is deleted meanwhile: accepted jobs
end well and equal, and what is kept on disk is whole and that of the database."""

import json
import sqlite3
import time

import service_client as client

SOURCE = {"base": "base", "budget": 1.3, "refine": {"optimizer": "adam", "steps": 60},
          "tasks": [{"name": name, "model": f"tasks/{name}"} for name in ("hiragana", "latin")]}


def child(source):
    return {"from_job": source, "budget": 1.0, "refine": {"optimizer": "adam", "steps": 300}}


def rows_that_keep(state):
    database = sqlite3.connect(f"file:{state / 'didid.db'}?mode=ro", uri=True)
    rows = dict(database.execute("SELECT id, kept_bytes FROM jobs WHERE kept_bytes > 0"))
    database.close()
    return rows


def check_kept(state, rows):
    """Every row's directory is there with all it names."""
    for job, size in rows.items():
        place = state / "kept" / job
        layers = json.loads((place / "reuse.json").read_text())["layers"]
        for number in range(len(layers)):
            for what in ("decompose", "gram", "pursue"):
                assert (place / f"{what}-{number:05}.state").is_file()
        assert sum(path.stat().st_size for path in place.iterdir()) == size


def wait_until_kept(state, seconds=20):
    """Directories and rows agree once the trash has taken what nobody needs."""
    deadline = time.monotonic() + seconds
    while True:
        rows, found = rows_that_keep(state), {path.name for path in (state / "kept").iterdir()}
        if found == set(rows):
            check_kept(state, rows)
            return rows
        assert time.monotonic() < deadline, (found, rows)
        time.sleep(0.05)


def make_source(daemon, number):
    """A source and the artifacts of an undisturbed job that starts from it."""
    source = client.submit(daemon, SOURCE, f"source-{number}")
    assert client.wait_finished(daemon, source)["reusable"]
    whole = client.submit(daemon, child(source), f"whole-{number}")
    assert client.wait_finished(daemon, whole)["state"] == "succeeded"
    return source, whole


def test_killed_while_starting_from_another(request, start_daemon, family, tmp_path):
    kills, chooser = client.kills_and_chooser(request.config)
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    began = time.monotonic()
    source, whole = make_source(daemon, 0)
    seconds = time.monotonic() - began
    expected = client.artifact_digests(state / "jobs" / whole / "artifacts")
    children = []
    for number in range(kills):
        if source is None:
            source, whole = make_source(daemon, number)
            assert client.artifact_digests(state / "jobs" / whole / "artifacts") == expected
        children.append(client.submit(daemon, child(source), f"child-{number}"))
        if chooser.random() < 0.4:  # the new job holds on to what it needs
            client.call(daemon, "DELETE", f"/v1/jobs/{source}")
            source = None
        time.sleep(chooser.uniform(0, seconds))
        daemon.process.kill()
        daemon.process.wait()
        check_kept(state, {job: size for job, size in rows_that_keep(state).items()
                           if (state / "kept" / job).exists()})
        daemon.start()
    for job in children:
        assert client.wait_finished(daemon, job)["state"] == "succeeded", daemon.log()
        assert client.artifact_digests(state / "jobs" / job / "artifacts") == expected
    rows = wait_until_kept(state)
    assert set(children) <= set(rows)
    for job in client.jobs(daemon).values():
        assert job["reusable"] == (job["id"] in rows)
