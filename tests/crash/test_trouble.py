# SPDX-License-Identifier: Apache-2.0
"""Full disks, replaced inputs, taken directories and ports, foreign databases, lost files."""

import contextlib
import json
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
import service_client as client
from test_kill import specification


def start_refused(didid, *arguments):
    """Exit status and log of a daemon that must not start."""
    done = subprocess.run([didid, *map(str, arguments)], capture_output=True, text=True, timeout=30,
                          check=False)
    return done.returncode, done.stderr


def slow_specification(family, steps=50000):
    """One that is met while it runs."""
    return {**specification(family, "pursuit"), "refine": {"optimizer": "adam", "steps": steps}}


def wait_stage(daemon, job, seconds=60):
    """Returns once the job is at work beyond its digests."""
    deadline = time.monotonic() + seconds
    while client.call(daemon, "GET", f"/v1/jobs/{job}")["stage"] in (None, "digest"):
        assert time.monotonic() < deadline, daemon.log()
        time.sleep(0.02)


def leftovers(state, job):
    return sorted(path.name for path in (state / "jobs" / job).iterdir())


@pytest.mark.parametrize("fault", ["pwrite:40:28", "fsync:30:28", "rename:20:28"])
def test_disk_full_fails_the_job_alone_and_retry_works(start_daemon, family, tmp_path, fault):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state, environment={"DIDI_FAULT": fault})
    first = client.submit(daemon, specification(family, "joint"), "first")
    shown = client.wait_finished(daemon, first)
    if shown["state"] == "failed":
        assert shown["error"]["type"].endswith(":disk-full"), shown
        assert not (state / "jobs" / first / "artifacts").exists()
        client.call(daemon, "POST", f"/v1/jobs/{first}/retry")
        shown = client.wait_finished(daemon, first)
    assert shown["state"] == "succeeded", shown
    second = client.submit(daemon, specification(family, "joint"), "second")
    assert client.wait_finished(daemon, second)["state"] == "succeeded"
    published = [client.artifact_digests(state / "jobs" / job / "artifacts")
                 for job in (first, second)]
    assert published[0] == published[1]
    assert daemon.stop() == 0


def test_a_failed_job_does_not_disturb_another(start_daemon, family, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(family, models)
    state = tmp_path / "state"
    daemon = start_daemon(models, state=state)
    good = client.submit(daemon, specification(family, "pursuit"), "good")
    broken = specification(family, "pursuit")
    job = client.submit(daemon, broken, "bad")
    client.wait_state(daemon, good, "running")
    client.call(daemon, "POST", f"/v1/jobs/{job}/cancel")
    assert client.wait_finished(daemon, job)["state"] == "cancelled"
    assert not (state / "jobs" / job / "artifacts").exists()
    assert client.wait_finished(daemon, good)["state"] == "succeeded"


def test_cancel_of_a_running_job_publishes_nothing(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    job = client.submit(daemon, slow_specification(family), "slow")
    client.wait_state(daemon, job, "running")
    wait_stage(daemon, job)
    client.call(daemon, "POST", f"/v1/jobs/{job}/cancel")
    assert client.wait_finished(daemon, job)["state"] == "cancelled"
    assert leftovers(state, job) == ["work"]
    with pytest.raises(client.Refused) as refused:
        client.call(daemon, "POST", f"/v1/jobs/{job}/cancel")
    assert refused.value.status == 409
    client.call(daemon, "DELETE", f"/v1/jobs/{job}")
    deadline = time.monotonic() + 5
    while (state / "jobs" / job).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not (state / "jobs" / job).exists()


def finished_layers(state, job):
    """Files of finished layers; one that is written again is another file."""
    return {path.relative_to(state): path.stat().st_ino
            for path in (state / "jobs" / job / "work").rglob("*")
            if path.is_file() and path.name != "outlook.json"}


@pytest.mark.parametrize("restart", [False, True])
def test_retry_of_a_cancelled_job_goes_on(start_daemon, family, tmp_path, restart):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    job = client.submit(daemon, slow_specification(family), "slow")
    kept = []
    for _ in range(2):
        deadline = time.monotonic() + 60
        while client.call(daemon, "GET", f"/v1/jobs/{job}")["stage"] != "refine":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.call(daemon, "POST", f"/v1/jobs/{job}/cancel")
        assert client.wait_finished(daemon, job)["state"] == "cancelled"
        kept.append(finished_layers(state, job))
        if restart:
            daemon.stop()
            daemon.start()
        client.call(daemon, "POST", f"/v1/jobs/{job}/retry")
    assert kept[0] and kept[0].items() <= kept[1].items()
    client.call(daemon, "POST", f"/v1/jobs/{job}/cancel")
    assert client.wait_finished(daemon, job)["state"] == "cancelled"


def test_state_directory_in_use(start_daemon, didid, family, tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    code, log = start_refused(didid, "--state-dir", state, "--models", family, "--listen",
                              "127.0.0.1:0")
    assert code == 1
    assert f"in use by another daemon, pid {daemon.process.pid}" in log


def test_port_in_use(start_daemon, didid, family, tmp_path):
    daemon = start_daemon(family)
    code, log = start_refused(didid, "--state-dir", tmp_path / "other", "--models", family,
                              "--listen", daemon.url.removeprefix("http://"))
    assert code == 1
    assert "in use" in log


@pytest.mark.parametrize("change, word", [("PRAGMA user_version = 999", "newer"),
                                          ("PRAGMA application_id = 7", "not one of didid")])
def test_database_of_another_version_or_kind(start_daemon, didid, family, tmp_path, change, word):
    state = tmp_path / "state"
    start_daemon(family, state=state).stop()
    database = sqlite3.connect(state / "didid.db")
    database.execute(change)
    database.close()
    before = client.digest(state / "didid.db")
    code, log = start_refused(didid, "--state-dir", state, "--models", family, "--listen",
                              "127.0.0.1:0")
    assert code == 1
    assert word in log
    assert client.digest(state / "didid.db") == before, "a refused database must stay as it is"


def test_damaged_database_is_refused(start_daemon, didid, family, tmp_path):
    state = tmp_path / "state"
    start_daemon(family, state=state).stop()
    path = pathlib.Path(state / "didid.db")
    path.write_bytes(b"no database at all, but long enough to look at" * 100)
    code, log = start_refused(didid, "--state-dir", state, "--models", family, "--listen",
                              "127.0.0.1:0")
    assert code == 1
    assert "didid.db" in log


def test_orphans_are_set_aside_and_lost_artifacts_flagged(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    job = client.submit(daemon, specification(family, "joint"), "one")
    assert client.wait_finished(daemon, job)["state"] == "succeeded"
    daemon.stop()
    orphan = state / "jobs" / ("0" * 26)
    (orphan / "artifacts").mkdir(parents=True)
    shutil.rmtree(state / "jobs" / job / "artifacts")
    daemon.start()
    shown = client.wait_state(daemon, job, "failed")
    assert "gone" in json.dumps(shown["error"])
    assert not orphan.exists() and (state / "lost" / orphan.name / "artifacts").is_dir()
    client.call(daemon, "POST", f"/v1/jobs/{job}/retry")
    assert client.wait_finished(daemon, job)["state"] == "succeeded"


def test_didid_run_interrupted_leaves_nothing(didid, family, tmp_path):
    (tmp_path / "slow.json").write_text(json.dumps(slow_specification(family)))
    with subprocess.Popen([didid, "run", tmp_path / "slow.json", "--models", family, "--out",
                           tmp_path / "out"], stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.iterdir())) == 1:  # it has begun when its directory is there
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=30)
    assert process.returncode == 130, messages
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slow.json"]


@contextlib.contextmanager
def disk_of(point, megabytes):
    """A file system of so many megabytes, where the kernel lets us mount one."""
    point.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", point],
                          check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting a small disk is not permitted here")
    yield point
    subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture
def small_disk(tmp_path):
    with disk_of(tmp_path / "disk", 16) as point:
        yield point


def test_a_really_full_disk(start_daemon, family, small_disk):
    state = small_disk / "state"
    daemon = start_daemon(family, "--disk-free-min", "0", state=state)
    ballast = small_disk / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    try:
        job = client.submit(daemon, specification(family, "joint"), "one")
    except client.Refused as refused:
        assert refused.status == 507, refused
        job = None
    assert daemon.process.poll() is None
    if job is not None:
        time.sleep(2)
        assert client.call(daemon, "GET", f"/v1/jobs/{job}")["state"] in ("failed", "running")
    ballast.unlink()
    if job is not None:
        shown = client.wait_finished(daemon, job)
        if shown["state"] == "failed":
            assert shown["error"]["type"].endswith(":disk-full"), shown
            client.call(daemon, "POST", f"/v1/jobs/{job}/retry")
    again = client.submit(daemon, specification(family, "joint"), "one")
    assert job in (None, again)
    shown = client.wait_finished(daemon, again)
    assert shown["state"] == "succeeded", shown
    client.check_whole(state / "jobs" / again / "artifacts")
    assert daemon.stop() == 0, daemon.log()


def test_hangup_scans_the_models_again(start_daemon, family, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    daemon = start_daemon(models)
    assert client.call(daemon, "GET", "/v1/models")["data"] == []
    shutil.copytree(family / "base", models / "base")
    (models / "bad").mkdir()
    (models / "bad" / "model.safetensors").write_bytes(b"short")
    daemon.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while len(client.call(daemon, "GET", "/v1/models")["data"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    states = {row["name"]: (row["state"], row["reason"])
              for row in client.call(daemon, "GET", "/v1/models")["data"]}
    assert states["base"] == ("ready", None)
    assert states["bad"][0] == "broken" and states["bad"][1]


def test_the_service_manager_is_told(start_daemon, family, tmp_path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10)
        daemon = start_daemon(family, environment={"NOTIFY_SOCKET": str(path),
                                                   "WATCHDOG_USEC": "200000"})
        assert manager.recv(64) == b"READY=1"
        assert manager.recv(64) == b"WATCHDOG=1"
        assert daemon.stop() == 0
        while (told := manager.recv(64)) == b"WATCHDOG=1":
            pass
        assert told == b"STOPPING=1"


def test_the_manual_tells_every_setting(didid):
    manual = (pathlib.Path(__file__).parents[2] / "docs" / "didid.8.scd").read_text()
    shown = subprocess.run([didid, "--check-config", "--state-dir", "/s", "--models", "/m"],
                           capture_output=True, text=True, check=True).stdout
    for line in shown.splitlines():
        if not line.startswith("#"):
            assert f"*--{line.split(' = ')[0].replace('_', '-')}*" in manual, line
    helped = subprocess.run([didid, "--help"], capture_output=True, text=True, check=True).stdout
    initials = re.findall(r"^  (--[a-z-]+) .*\[([^ \]]+)[^\]]*\]$", helped, re.MULTILINE)
    assert len(initials) > 30
    for option, initial in initials:
        entry = manual.split(f"\n*{option}*", 1)[1].split("\n\n", 1)[0]
        assert f"Default: {initial}." in entry, option
