# SPDX-License-Identifier: Apache-2.0
"""Jobs whose items run elsewhere: the same bytes as here, whatever dies, and the scheduler's own
words where something is wrong. The scheduler is tests/processes.py by the executor `command`."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

import service_client as client

TASKS = ("hiragana", "latin", "mnist")
SLOW = {"refine": {"optimizer": "adam", "steps": 300}}
SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "processes.py"


def merge_of(*names, **options):
    return {"base": "base", "budget": 1.3, **options,
            "tasks": [{"name": name, "model": f"tasks/{name}"} for name in names or TASKS]}


class Cluster:
    """Its directory, and a daemon that uses it."""

    def __init__(self, start_daemon, family, place, *arguments):
        self.home = place / "cluster"
        self.home.mkdir()
        words = [word for name in ("submit", "status", "cancel")
                 for word in (f"--command-{name}", f"{sys.executable} {SCRIPT} {self.home} {name}")]
        self.state = place / "state"
        self.daemon = start_daemon(family, "--executor", "command", *words,
                                   "--cluster-tasks", "3", "--cluster-poll-seconds", "1",
                                   "--shared-dir", str(place / "shared"),
                                   *arguments, state=self.state)

    def pids(self):
        """Of workers that run."""
        return [int(path.read_text() or 0) for path in self.home.glob("*/*.pid")
                if not path.with_suffix(".end").exists() and path.read_text()]

    def wait_running(self, seconds=60):
        deadline = time.monotonic() + seconds
        while not (found := self.pids()):
            assert time.monotonic() < deadline, self.daemon.log()
            time.sleep(0.01)
        return found

    def wait_ended(self, seconds=60):
        """A job may be over a moment before its last worker is."""
        deadline = time.monotonic() + seconds
        while found := self.pids():
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def orders(self):
        return sorted(path.parent.name for path in self.home.glob("*/order.json"))

    def submit(self, specification, key="key"):
        return client.submit(self.daemon, specification, key)


@pytest.fixture
def cluster(start_daemon, family, tmp_path):
    return Cluster(start_daemon, family, tmp_path)


@pytest.fixture
def here(start_daemon, family, tmp_path):
    """A daemon that runs all itself."""
    place = tmp_path / "here"
    place.mkdir()
    return place / "state", start_daemon(family, state=place / "state")


def artifacts(state, job):
    return client.artifact_digests(state / "jobs" / job / "artifacts")


def check_equal(cluster, here, specification, seconds=400):
    state, daemon = here
    key = hashlib.sha256(json.dumps(specification).encode()).hexdigest()
    job = cluster.submit(specification, key)
    same = client.submit(daemon, specification, key)
    for where, number in ((cluster.daemon, job), (daemon, same)):
        shown = client.wait_finished(where, number, seconds)
        assert shown["state"] == "succeeded", shown["error"]
    assert artifacts(cluster.state, job) == artifacts(state, same)
    assert sorted(path.name for path in (cluster.state / "jobs" / job).iterdir()) == ["artifacts"]
    return job, same


def test_the_same_bytes_as_here(cluster, here):
    """All kinds of rows: each and once, going back, in memory alone, without refinement."""
    for options in ({}, {"budget": {"max_error": 0.05}}, {"survey": True},
                    {"method": "average", "budget": None}, {"method": "ties", "budget": None},
                    {"ranks": {"allocator": "differentiable", "steps": 50}}):
        wanted = {key: value for key, value in merge_of(**options).items() if value is not None}
        job, _ = check_equal(cluster, here, wanted)
        assert any("went to command" in note for note in client.notes(cluster.daemon, job))


def test_jobs_that_build_on_others(cluster, here):
    """What another job kept, and a package that is extended and compared with a full merge."""
    state, daemon = here
    first, same = check_equal(cluster, here, merge_of("hiragana", "latin"))
    for request in ({"from_job": "{}", "budget": 1.0},
                    {"extend": {"job": "{}"}, "tasks": merge_of("mnist")["tasks"]}):
        ends = []
        for where, origin in ((cluster.daemon, first), (daemon, same)):
            text = json.dumps(request).replace("{}", origin, 1)
            ends.append(client.submit(where, json.loads(text), "next-" + "-".join(request)))
            shown = client.wait_finished(where, ends[-1])
            assert shown["state"] == "succeeded", shown["error"]
        found = [artifacts(place, job) for place, job in zip((cluster.state, state), ends)]
        for one in found:
            one["manifest.json"] = one["manifest.json"].replace(first, "").replace(same, "")
        assert found[0] == found[1]


def test_killed_at_random(request, cluster, here):
    """Workers, nodes and the daemon: every job ends, with the same bytes."""
    kills, chooser = client.kills_and_chooser(request.config)
    state, daemon = here
    specification = merge_of(**SLOW)
    whole = client.submit(daemon, specification, "whole")
    assert client.wait_finished(daemon, whole)["state"] == "succeeded"
    wanted = artifacts(state, whole)
    killed, number = 0, 0
    while killed < kills:
        number += 1
        job = cluster.submit(specification, f"job-{number}")
        while killed < kills and client.call(
                cluster.daemon, "GET", f"/v1/jobs/{job}")["state"] not in client.FINISHED:
            time.sleep(chooser.uniform(0, 1.0))
            running = cluster.pids()
            if chooser.random() < 0.3:
                cluster.daemon.process.kill()
                cluster.daemon.process.wait()
                cluster.daemon.start()
                killed += 1
            elif running:
                try:
                    os.kill(chooser.choice(running), signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    pass
        shown = client.wait_finished(cluster.daemon, job)
        assert shown["state"] == "succeeded", shown["error"]
        assert artifacts(cluster.state, job) == wanted
    cluster.wait_ended()


def test_a_new_process_finds_what_runs(cluster):
    """Nothing is handed out twice when the daemon dies while tasks run."""
    (cluster.home / "at_once").write_text("0")
    job = cluster.submit(merge_of(**SLOW))
    client.wait_noted(cluster.daemon, job, "all places are taken")
    cluster.daemon.process.kill()
    cluster.daemon.process.wait()
    cluster.daemon.start()
    orders = cluster.orders()
    (cluster.home / "at_once").write_text("4")
    assert client.wait_finished(cluster.daemon, job)["state"] == "succeeded"
    notes = client.notes(cluster.daemon, job)
    assert sum("goes on with" in note for note in notes) == 1, notes
    assert len(orders) == 1 and len(cluster.orders()) == 4, cluster.orders()  # one for each row


def test_stopped_and_started_again(cluster):
    job = cluster.submit(merge_of(**SLOW))
    cluster.wait_running()
    cluster.daemon.stop()
    cluster.daemon.start()
    assert client.wait_finished(cluster.daemon, job)["state"] == "succeeded"


def test_cancelled_jobs_end_their_tasks(cluster):
    job = cluster.submit(merge_of(refine={"optimizer": "adam", "steps": 20000}))
    cluster.wait_running()
    client.call(cluster.daemon, "POST", f"/v1/jobs/{job}/cancel")
    assert client.wait_finished(cluster.daemon, job, 60)["state"] == "cancelled"
    assert not cluster.pids()
    left = [path.name for path in (cluster.state / "jobs" / job).iterdir()]
    assert "cluster" not in left, left


def test_a_scheduler_that_does_not_answer_is_waited_for(cluster):
    (cluster.home / "closed").write_text("closed for the night")
    job = cluster.submit(merge_of())
    client.wait_noted(cluster.daemon, job, "closed for the night")
    assert client.call(cluster.daemon, "GET", f"/v1/jobs/{job}")["state"] == "running"
    (cluster.home / "closed").unlink()
    assert client.wait_finished(cluster.daemon, job)["state"] == "succeeded"
    assert any("answers again" in note for note in client.notes(cluster.daemon, job))


def directories(cluster, job):
    """Of orders, as the job has them."""
    return sorted(path.name for path in (cluster.state / "jobs" / job / "cluster").iterdir())


def wait_asked(cluster, times, seconds=60):
    """Until the scheduler has not answered so often."""
    asked = cluster.home / "asked"
    deadline = time.monotonic() + seconds
    while not asked.exists() or len(asked.read_text().splitlines()) < times:
        assert time.monotonic() < deadline, cluster.daemon.log()
        time.sleep(0.05)


def test_an_order_is_the_same_one_at_each_retry(cluster, here):
    (cluster.home / "closed").write_text("closed for the night")
    job = cluster.submit(merge_of(**SLOW))
    wait_asked(cluster, 3)
    first, = directories(cluster, job)
    (cluster.home / "closed").unlink()
    assert client.wait_finished(cluster.daemon, job)["state"] == "succeeded"
    assert cluster.orders()[0] == f"didid-{job}-{first}"
    assert len(cluster.orders()) == 4, cluster.orders()  # one for each row
    check_equal(cluster, here, merge_of(**SLOW))


def test_an_order_that_was_taken_without_an_answer_is_not_sent_twice(cluster):
    (cluster.home / "at_once").write_text("0")
    (cluster.home / "deaf").touch()
    job = cluster.submit(merge_of(**SLOW))
    client.wait_noted(cluster.daemon, job, "all places are taken")
    assert len(cluster.orders()) == 1 and len(directories(cluster, job)) == 1
    (cluster.home / "at_once").write_text("4")
    assert client.wait_finished(cluster.daemon, job)["state"] == "succeeded"
    assert len(cluster.orders()) == 4, cluster.orders()


def test_a_job_that_waits_for_an_answer_can_be_cancelled(cluster):
    (cluster.home / "closed").write_text("closed for the night")
    job = cluster.submit(merge_of())
    client.wait_noted(cluster.daemon, job, "closed for the night")
    client.call(cluster.daemon, "POST", f"/v1/jobs/{job}/cancel")
    assert client.wait_finished(cluster.daemon, job, 60)["state"] == "cancelled"
    assert not cluster.orders() and not cluster.pids()


def fail(cluster, job, kind, *words):
    shown = client.wait_finished(cluster.daemon, job)
    assert shown["state"] == "failed", shown
    problem = shown["error"]
    assert problem["type"].endswith(kind), problem
    for word in words:
        assert word in problem["detail"], (word, problem)
    return shown


def test_a_scheduler_that_refuses_fails_the_job(cluster):
    (cluster.home / "refuses").write_text("no such partition: night")
    job = cluster.submit(merge_of())
    fail(cluster, job, "cluster-failed", "no such partition: night")
    (cluster.home / "refuses").unlink()
    client.call(cluster.daemon, "POST", f"/v1/jobs/{job}/retry")
    assert client.wait_finished(cluster.daemon, job)["state"] == "succeeded"


def with_worker(start_daemon, family, tmp_path, didid, text):
    """A cluster whose nodes run this in place of didid."""
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f"#!/bin/sh\n{text.format(didid=didid)}\n")
    wrapper.chmod(0o755)
    return Cluster(start_daemon, family, tmp_path, "--worker-path", str(wrapper),
                   "--cluster-retries", "1")


@pytest.mark.parametrize("text, kind, words", [
    ("exit 71", "disk-full", ["task 0"]),
    ("echo quota exceeded >&2; exit 71", "disk-full", ["quota exceeded"]),
    ("exit 139", "worker-lost", []),
    ("exec {didid} worker /nowhere --task 0", "cluster-failed",
     ["/nowhere is not there", "file system that the nodes share"]),
    ("sed -i 's/\"version\":\"[^\"]*\"/\"version\":\"9.9\"/' \"$2/order.json\"\n"
     "exec {didid} \"$@\"", "cluster-failed", ["the job runs with 9.9"]),
    ("sed -i 's/\"kernel\":\"[^\"]*\"/\"kernel\":\"Other\"/' \"$2/order.json\"\n"
     "exec {didid} \"$@\"", "cluster-failed", ["Other", "OPENBLAS_CORETYPE"]),
    ("rm -f \"$2/order.json\"; exec {didid} \"$@\"", "cluster-failed", ["order.json"]),
    ("echo '{{' > \"$2/order.json\"; exec {didid} \"$@\"", "cluster-failed", ["order.json"]),
], ids=["disk", "quota", "crash", "not-shared", "version", "kernel", "no-order", "bad-order"])
def test_what_is_wrong_on_a_node_is_told(start_daemon, family, tmp_path, didid, text, kind, words):
    cluster = with_worker(start_daemon, family, tmp_path, didid, text)
    job = cluster.submit(merge_of())
    fail(cluster, job, kind, *words)


def test_an_input_that_changes_fails_the_job_once(start_daemon, family, tmp_path):
    copied = tmp_path / "family"
    shutil.copytree(family, copied)
    cluster = Cluster(start_daemon, copied, tmp_path)
    job = cluster.submit(merge_of(**SLOW))
    cluster.wait_running()
    model = copied / "tasks" / "latin" / "model.safetensors"
    (cluster.home / "at_once").write_text("0")
    os.utime(model, (1, 1))
    (cluster.home / "at_once").write_text("4")
    fail(cluster, job, "input-changed", "latin")
    client.call(cluster.daemon, "POST", f"/v1/jobs/{job}/retry")
    assert client.wait_finished(cluster.daemon, job)["state"] == "succeeded"


def starts(didid, family, state, shared):
    ran = subprocess.run([didid, "--state-dir", state, "--models", family, "--shared-dir", shared,
                          "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=60)
    return ran.returncode, ran.stderr


def test_jobs_files_lie_where_nodes_see_them(didid, start_daemon, family, tmp_path):
    cluster = Cluster(start_daemon, family, tmp_path)
    job = cluster.submit(merge_of())
    assert client.wait_finished(cluster.daemon, job)["state"] == "succeeded"
    shared = tmp_path / "shared"
    assert (shared / "jobs" / job / "artifacts" / "manifest.json").is_file()
    assert (cluster.state / "didid.db").is_file() and not (shared / "didid.db").exists()
    code, said = starts(didid, family, tmp_path / "other", shared)
    assert code != 0 and "in use by another daemon" in said, said
    client.call(cluster.daemon, "DELETE", f"/v1/jobs/{job}")
    deadline = time.monotonic() + 30
    while list((shared / "jobs").iterdir()) or list((shared / "trash").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cluster.daemon.stop()
    code, said = starts(didid, family, cluster.state, tmp_path / "moved")
    assert code != 0 and "is a link to" in said, said
    full = tmp_path / "full"
    (full / "jobs" / "01").mkdir(parents=True)
    code, said = starts(didid, family, full, tmp_path / "moved")
    assert code != 0 and "holds files already" in said, said


def test_workers_say_what_they_lack(didid, tmp_path):
    for words, code, said in ((["--help"], 0, "Usage"), ([], 64, "DIRECTORY"),
                              ([str(tmp_path), "--task", "0"], 66, "order.json"),
                              ([str(tmp_path / "no"), "--task", "0"], 66, "share")):
        ran = subprocess.run([didid, "worker", *words], capture_output=True, text=True)
        assert ran.returncode == code and said in ran.stdout + ran.stderr, ran
        assert len(ran.stderr.splitlines()) <= 1, ran.stderr
