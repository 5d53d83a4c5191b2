# SPDX-License-Identifier: Apache-2.0
"""didid recover where artifacts are at S3 alone: rows come back, and downloads with them."""

import datetime
import hashlib
import json
import os
import shutil
import subprocess
import time
import urllib.request

import pytest

import service_client as client

STORE = "s3://artifacts/didid/results"
PREFIX = "didid/results/"


def specification(name):
    return {"name": name, "base": "base", "budget": 1.3,
            "tasks": [{"name": "hiragana", "model": "tasks/hiragana"},
                      {"name": "latin", "model": "tasks/latin"}]}


def settings(s3):
    return ["--artifact-store", STORE, "--s3-endpoint", s3.url, "--s3-private", "1",
            "--s3-retry-seconds", "5"]


@pytest.fixture
def start(s3, start_daemon, family, tmp_path):
    def begin():
        return start_daemon(family, *settings(s3), "--s3-keep-local", "0", state=tmp_path / "state",
                            environment=s3.environment())
    return begin


def merged(daemon, *names):
    ids = [client.submit(daemon, specification(name), name) for name in names]
    return {job: client.wait_finished(daemon, job) for job in ids}


def lose(state, keep_jobs=False):
    """Returns when."""
    for path in state.iterdir():
        if path.name.startswith("didid.db") or not keep_jobs:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return datetime.datetime.now(datetime.timezone.utc).isoformat()


def recover(didid, s3, state, *arguments, status=0):
    done = subprocess.run([didid, "recover", "--state-dir", state, "--json", *arguments],
                          env={**os.environ, **s3.environment()}, capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == status, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def rows_of(daemon, job):
    return client.call(daemon, "GET", f"/v1/jobs/{job}/artifacts")["data"]


def check_served(daemon, job, before):
    rows = rows_of(daemon, job)
    assert [(row["name"], row["sha256"]) for row in rows] == before
    for row in rows:
        with urllib.request.urlopen(daemon.url + row["href"]) as taken:
            assert hashlib.sha256(taken.read()).hexdigest() == row["sha256"]


def check_same(daemon, jobs, digests, lost_at):
    assert set(client.jobs(daemon)) == set(jobs)
    for job, before in jobs.items():
        shown = client.call(daemon, "GET", f"/v1/jobs/{job}")
        for field in ("specification", "state", "name", "result", "created_at"):
            assert shown[field] == before[field], field
        assert shown["finished_at"] < lost_at, "the end of the job is that of the recovery"
        check_served(daemon, job, digests[job])


def digests_of(daemon, jobs):
    return {job: [(row["name"], row["sha256"]) for row in rows_of(daemon, job)] for job in jobs}


@pytest.mark.parametrize("keep_jobs", [True, False])
def test_jobs_at_s3_are_rebuilt(start, s3, didid, tmp_path, keep_jobs):
    state = tmp_path / "state"
    daemon = start()
    jobs = merged(daemon, "one", "two")
    digests = digests_of(daemon, jobs)
    daemon.stop()
    lost_at = lose(state, keep_jobs)
    s3.buckets["artifacts"][f"{PREFIX}notes.txt"] = next(iter(s3.buckets["artifacts"].values()))
    reads = s3.count("GET", "shared.safetensors")
    report = recover(didid, s3, state, *settings(s3))
    assert (report["rebuilt"], report["left"]) == (2, [])
    # What the record knows is compared, all else is read.
    assert (s3.count("GET", "shared.safetensors") == reads) is keep_jobs
    daemon.start()
    check_same(daemon, jobs, digests, lost_at)
    job = next(iter(jobs))
    client.call(daemon, "DELETE", f"/v1/jobs/{job}")
    for _ in range(200):
        if not any(job in key for key in s3.buckets["artifacts"]):
            break
        time.sleep(0.05)
    assert not any(job in key for key in s3.buckets["artifacts"])
    daemon.stop()
    again = recover(didid, s3, state, *settings(s3))
    assert (again["rebuilt"], again["known"], again["left"]) == (0, 1, [])


def test_what_is_not_whole_or_damaged_is_told_and_the_rest_is_rebuilt(start, s3, didid, tmp_path):
    state = tmp_path / "state"
    daemon = start()
    jobs = merged(daemon, "good", "cut", "changed", "gone", "broken")
    good, cut, changed, gone, broken = jobs
    digests = digests_of(daemon, [good])
    daemon.stop()
    lost_at = lose(state)
    objects = s3.buckets["artifacts"]
    del objects[f"{PREFIX}{cut}/manifest.json"]
    shared = objects[f"{PREFIX}{changed}/shared.safetensors"]
    shared.data = shared.data[:-1] + bytes([shared.data[-1] ^ 1])
    del objects[f"{PREFIX}{gone}/shared.safetensors"]
    manifest = objects[f"{PREFIX}{broken}/manifest.json"]
    manifest.data, manifest.sha256 = b"{", ""
    report = recover(didid, s3, state, *settings(s3), status=1)
    why = {row["name"]: row["reason"] for row in report["left"]}
    assert report["rebuilt"] == 1 and set(why) == {cut, changed, gone, broken}
    assert "no manifest at S3" in why[cut]
    assert "its SHA-256 is another" in why[changed]
    assert "gone from S3" in why[gone]
    assert "manifest" in why[broken]
    assert os.listdir(state / "jobs") == [good], "something of the others stays"
    daemon.start()
    check_same(daemon, {good: jobs[good]}, digests, lost_at)


def test_without_settings_or_server_only_what_is_here_is_rebuilt(start, s3, didid, tmp_path):
    state = tmp_path / "state"
    daemon = start()
    job, = merged(daemon, "one")
    daemon.stop()
    lose(state, keep_jobs=True)
    told, = recover(didid, s3, state, status=1)["left"]
    assert told["name"] == job and "artifact_store" in told["reason"]
    s3.fault = lambda method, key, query: (403, "AccessDenied", "Access Denied")
    listed, left = recover(didid, s3, state, *settings(s3), status=1)["left"]
    assert listed["name"] == STORE and "AccessDenied" in listed["reason"]
    assert left["name"] == job
    s3.fault = lambda method, key, query: None
    file = tmp_path / "didid.conf"
    words = settings(s3)
    file.write_text("".join(f"{key[2:].replace('-', '_')} = {value}\n"
                            for key, value in zip(words[::2], words[1::2])))
    assert recover(didid, s3, state, "--config", file)["rebuilt"] == 1


def test_a_restored_database_gets_its_files_back(start, s3, didid, didictl, tmp_path):
    state = tmp_path / "state"
    daemon = start()
    jobs = merged(daemon, "one")
    digests = digests_of(daemon, jobs)
    environment = {**os.environ, "DIDI_HOST": daemon.url, "HOME": str(tmp_path)}
    subprocess.run([didictl, "backup", tmp_path / "backup"], env=environment, check=True,
                   timeout=60)
    daemon.stop()
    lost_at = lose(state)
    subprocess.run([didid, "restore", "--state-dir", state, tmp_path / "backup"], check=True,
                   timeout=60)
    report = recover(didid, s3, state, *settings(s3))
    assert (report["rebuilt"], report["known"]) == (0, 1)
    daemon.start()
    check_same(daemon, jobs, digests, lost_at)


def test_doctor_takes_files_at_s3_for_what_they_are(start, didid, tmp_path):
    state = tmp_path / "state"
    daemon = start()
    job, = merged(daemon, "one")
    daemon.stop()
    doctor = [didid, "doctor", "--state-dir", state]
    said = subprocess.run(doctor, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stdout
    (state / "jobs" / job / "s3.json").unlink()
    said = subprocess.run(doctor, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 1 and job in said.stdout
