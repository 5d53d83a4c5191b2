# SPDX-License-Identifier: Apache-2.0
"""Databases that were lost, damaged, replaced or went back in time: no result is ever removed."""

import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

import service_client as client

NAMES = ("didid.db", "didid.db-wal", "didid.db-shm")


def specification(**fields):
    return {"base": "base", "budget": 1.3, "ranks": {"allocator": "uniform"},
            "labels": {"team": "a"},
            "tasks": [{"name": "hiragana", "model": "tasks/hiragana"},
                      {"name": "latin", "model": "tasks/latin"}], **fields}


def merged(daemon, count=1):
    """Ids of so many succeeded jobs."""
    ids = [client.submit(daemon, specification(name=f"job {i}"), f"key{i}") for i in range(count)]
    for job in ids:
        assert client.wait_finished(daemon, job)["state"] == "succeeded"
    return ids


def kill(daemon):
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()


def refused(didid, family, state):
    done = subprocess.run([didid, "--state-dir", state, "--models", family, "--listen",
                           "127.0.0.1:0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes()
            for path in sorted(pathlib.Path(directory).rglob("*")) if path.is_file()}


def remove(state):
    for name in NAMES:
        (state / name).unlink(missing_ok=True)


def empty(state):
    remove(state)
    (state / "didid.db").touch()


def link(state):
    os.rename(state / "didid.db", state.parent / "elsewhere.db")
    (state / "didid.db").symlink_to(state.parent / "elsewhere.db")


def foreign(state):
    remove(state)
    database = sqlite3.connect(state / "didid.db")
    database.execute("CREATE TABLE photographs (id INTEGER)")
    database.commit()
    database.close()


def cut(state):
    (state / "didid.db-wal").unlink(missing_ok=True)
    path = state / "didid.db"
    os.truncate(path, path.stat().st_size // 2)


def scribble(state):
    data = bytearray((state / "didid.db").read_bytes())
    for page in range(4096, len(data), 4096):
        data[page:page + 64] = b"\xff" * 64
    (state / "didid.db").write_bytes(data)


@pytest.mark.parametrize("lose", [remove, empty, link, foreign, cut, scribble])
def test_a_lost_database_is_refused_and_nothing_is_removed(start_daemon, didid, family, tmp_path,
                                                           lose):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    job = merged(daemon)[0]
    daemon.stop()
    before = contents(state / "jobs")
    lose(state)
    said = refused(didid, family, state)
    assert "didid recover" in said and "didid restore" in said and "--accept-database" in said
    assert contents(state / "jobs") == before
    daemon.command.append("--accept-database")
    daemon.start()
    assert client.jobs(daemon) == {}
    wait_for_warning(daemon)
    assert contents(state / "lost" / job) == contents_of(before, job)
    daemon.stop()
    daemon.command.pop()
    daemon.start()
    wait_for_warning(daemon)


def contents_of(before, job):
    return {name.removeprefix(job + "/"): data for name, data in before.items()
            if name.startswith(job + "/")}


def wait_for_warning(daemon):
    for _ in range(200):
        ready = client.call(daemon, "GET", "/readyz")
        if ready["warnings"]:
            assert ready["status"] == "ok" and "lost" in ready["warnings"][0]
            return
        time.sleep(0.02)
    raise AssertionError("no warning")


def without_log(state):
    (state / "didid.db-wal").unlink()
    (state / "didid.db-shm").unlink(missing_ok=True)


def damaged_log(state):
    path = state / "didid.db-wal"
    data = bytearray(path.read_bytes())
    data[32 + 24 + 100] ^= 0xff
    path.write_bytes(data)


@pytest.mark.parametrize("lose", [without_log, damaged_log])
def test_a_lost_log_is_noticed(start_daemon, didid, family, tmp_path, lose):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    job = merged(daemon)[0]
    kill(daemon)
    lose(state)
    before = contents(state / "jobs")
    assert "didid recover" in refused(didid, family, state)
    assert contents(state / "jobs") == before
    assert (state / "jobs" / job / "artifacts" / "manifest.json").exists()


def test_an_old_copy_and_a_database_of_another_are_refused(start_daemon, didid, family, tmp_path):
    state, other = tmp_path / "state", tmp_path / "other"
    daemon = start_daemon(family, state=state)
    daemon.stop()
    shutil.copy(state / "didid.db", tmp_path / "old.db")
    daemon.start()
    merged(daemon)
    daemon.stop()
    start_daemon(family, state=other).stop()
    for name, word in (("old.db", "went back in time"), ("other/didid.db", "not the one")):
        shutil.copy(tmp_path / name, state / "didid.db")
        assert word in refused(didid, family, state)


def test_a_kill_is_no_loss(start_daemon, family, tmp_path):
    daemon = start_daemon(family, state=tmp_path / "state")
    jobs = merged(daemon, 2)
    kill(daemon)
    daemon.start()
    assert set(client.jobs(daemon)) == set(jobs)
    assert client.call(daemon, "GET", "/readyz")["warnings"] == []


def replace_directory(state):
    os.rename(state, state.parent / "away")
    shutil.copytree(state.parent / "away", state,
                    ignore=shutil.ignore_patterns("control.sock"))


def delete_directory(state):
    shutil.rmtree(state)


def delete_database(state):
    remove(state)


@pytest.mark.parametrize("how", [replace_directory, delete_directory, delete_database])
def test_a_state_directory_that_went_away_takes_no_job(start_daemon, family, tmp_path, how):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    how(state)
    for method, path, body in (("GET", "/readyz", None), ("POST", "/v1/jobs", specification())):
        with pytest.raises(client.Refused) as caught:
            client.call(daemon, method, path, body)
        assert caught.value.status == 503, caught.value
        assert "deleted or replaced" in json.dumps(caught.value.problem)
    kill(daemon)


def test_a_deleted_job_is_not_set_aside(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    job = merged(daemon)[0]
    daemon.stop()
    shutil.copytree(state / "jobs" / job, tmp_path / "kept")
    daemon.start()
    client.call(daemon, "DELETE", f"/v1/jobs/{job}")
    kill(daemon)
    database = sqlite3.connect(state / "didid.db")  # as if the kill had come a moment before
    database.execute("INSERT OR IGNORE INTO deleted_jobs VALUES (?)", (job,))
    database.commit()
    database.close()
    if not (state / "jobs" / job).exists():
        shutil.copytree(tmp_path / "kept", state / "jobs" / job)
    daemon.start()
    for _ in range(200):
        if not (state / "jobs" / job).exists():
            break
        time.sleep(0.02)
    assert not (state / "jobs" / job).exists() and not list((state / "lost").iterdir())


def tool(didid, *arguments, status=0):
    done = subprocess.run([didid, *arguments], capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


@pytest.mark.parametrize("lose", [remove, foreign, scribble, link])
def test_recover_rebuilds_rows(start_daemon, didid, family, tmp_path, lose):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    jobs = merged(daemon, 2)
    before = {job: client.call(daemon, "GET", f"/v1/jobs/{job}") for job in jobs}
    in_use = tool(didid, "recover", "--state-dir", state, status=1)
    assert "in use" in in_use.stderr
    daemon.stop()
    lose(state)
    unfinished = state / "jobs" / ("0" * 26)
    (unfinished / "work").mkdir(parents=True)
    (unfinished / "work" / "layer").write_text("hours of work")
    files = contents(state / "jobs")
    report = json.loads(tool(didid, "recover", "--state-dir", state, "--json", status=1).stdout)
    assert report["rebuilt"] == 2 and len(report["left"]) == 1
    assert "no manifest" in report["left"][0]["reason"]
    assert contents(state / "jobs") == files
    assert (report["database_aside"] is not None) == (lose is not remove)
    daemon.start()
    assert set(client.jobs(daemon)) == set(jobs)
    for job in jobs:
        shown = client.call(daemon, "GET", f"/v1/jobs/{job}")
        for field in ("specification", "state", "labels", "name", "result", "created_at"):
            assert shown[field] == before[job][field], field
        client.check_whole(state / "jobs" / job / "artifacts")
    page = client.call(daemon, "GET", "/v1/jobs?label=team%3Da")
    assert len(page["data"]) == 2
    wait_for_warning(daemon)
    assert (state / "lost" / unfinished.name / "work" / "layer").exists()


def test_recover_takes_back_what_was_set_aside_and_leaves_what_is_damaged(start_daemon, didid,
                                                                          family, tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    good, bad = merged(daemon, 2)
    daemon.stop()
    remove(state)
    daemon.command.append("--accept-database")
    daemon.start()
    wait_for_warning(daemon)
    for _ in range(200):
        if len(list((state / "lost").iterdir())) == 2:
            break
        time.sleep(0.02)
    daemon.stop()
    shared = state / "lost" / bad / "artifacts" / "shared.safetensors"
    data = bytearray(shared.read_bytes())
    data[-1] ^= 1
    shared.write_bytes(data)
    done = tool(didid, "recover", "--state-dir", state, status=1)
    assert f"{bad}: shared.safetensors is not what was written" in done.stderr
    daemon.command.pop()
    daemon.start()
    assert set(client.jobs(daemon)) == {good}
    assert (state / "lost" / bad).is_dir()
    daemon.stop()
    again = json.loads(tool(didid, "recover", "--state-dir", state, "--json", status=1).stdout)
    assert (again["rebuilt"], again["known"]) == (0, 1)


def test_backup_under_load_and_restore(start_daemon, didid, didictl, family, tmp_path):
    state, backup = tmp_path / "state", tmp_path / "backup.db"
    daemon = start_daemon(family, state=state)
    jobs = merged(daemon, 2)
    load = [client.submit(daemon, specification(name=f"load {i}"), f"load{i}") for i in range(5)]
    environment = {**os.environ, "DIDI_HOST": daemon.url, "HOME": str(tmp_path)}
    subprocess.run([didictl, "backup", backup], env=environment, check=True, timeout=60)
    again = subprocess.run([didictl, "backup", backup], env=environment, capture_output=True,
                           text=True, check=False, timeout=60)
    assert again.returncode == 1 and "already" in again.stderr
    for job in load:
        client.wait_finished(daemon, job)
    late = client.submit(daemon, specification(name="late"), "late")
    client.wait_finished(daemon, late)
    daemon.stop()
    assert not list(state.glob("*.backup*")), "nothing of a backup stays"
    # with the artifacts
    first = tmp_path / "first"
    first.mkdir()
    shutil.copytree(state / "jobs", first / "jobs")
    tool(didid, "restore", "--state-dir", first, backup)
    daemon = start_daemon(family, state=first)
    for job in jobs + load:
        assert client.wait_finished(daemon, job)["state"] == "succeeded"
        client.check_whole(first / "jobs" / job / "artifacts")
    wait_for_warning(daemon)  # what came after the backup
    assert [path.name for path in (first / "lost").iterdir()] == [late]
    daemon.stop()
    # without them
    second = tmp_path / "second"
    tool(didid, "restore", "--state-dir", second, backup)
    daemon = start_daemon(family, state=second)
    for job in jobs:
        shown = client.wait_state(daemon, job, "failed")
        assert "gone" in shown["error"]["detail"]
    daemon.stop()
    # over a database that is there
    said = tool(didid, "restore", "--state-dir", second, backup).stdout
    assert "is now didid.db.aside-" in said
    broken = tmp_path / "broken.db"
    data = bytearray(backup.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page:page + 64] = b"\xff" * 64
    broken.write_bytes(data)
    kept = (second / "didid.db").read_bytes()
    for wrong in (broken, tmp_path / "nothing", family / "suite.json"):
        tool(didid, "restore", "--state-dir", second, wrong, status=1)
        assert (second / "didid.db").read_bytes() == kept


def test_doctor_opens_what_it_digests(start_daemon, didid, family, tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    job, = merged(daemon, 1)
    daemon.stop()
    artifacts = state / "jobs" / job / "artifacts"
    manifest = json.loads((artifacts / "manifest.json").read_text())
    row = next(row for row in manifest["files"] if row["name"].startswith("experts/"))
    data = (artifacts / row["name"]).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"].update(didi_format="4", own_same='{"a.own": "b.own"}')
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + data[end:]
    (artifacts / row["name"]).write_bytes(data)
    row.update(bytes=len(data), sha256=client.digest(artifacts / row["name"]))
    (artifacts / "manifest.json").write_text(json.dumps(manifest))
    said = tool(didid, "doctor", "--state-dir", state, status=1).stdout
    assert f"{row['name']}: own_same says 'a.own' is 'b.own', which is not there" in said


def test_doctor(start_daemon, didid, didictl, family, tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    good, bad = merged(daemon, 2)
    environment = {**os.environ, "DIDI_HOST": daemon.url, "HOME": str(tmp_path)}

    def doctor(status):
        done = subprocess.run([didictl, "doctor", "-o", "json"], env=environment, text=True,
                              capture_output=True, check=False, timeout=60)
        assert done.returncode == status, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    report = doctor(0)
    assert {row["check"] for row in report["findings"]} == {"database", "directories", "lost",
                                                            "disk", "blas", "settings"}
    assert report["jobs"] == 2
    shared = state / "jobs" / bad / "artifacts" / "shared.safetensors"
    data = bytearray(shared.read_bytes())
    data[-1] ^= 1
    shared.write_bytes(data)
    (state / "jobs" / ("0" * 26)).mkdir()
    wrong = [row for row in doctor(1)["findings"] if row["state"] != "ok"]
    assert any(bad in row["detail"] and "SHA-256" in row["detail"] for row in wrong)
    assert any("0" * 26 in row["detail"] for row in wrong)
    assert not any(good in row["detail"] for row in wrong)
    daemon.stop()
    before = contents(state)
    offline = tool(didid, "doctor", "--state-dir", state, status=1)
    assert bad in offline.stdout and "2 jobs compared" in offline.stderr
    after = contents(state)
    assert {n: d for n, d in after.items() if n not in ("didid.lock", "didid.db-shm")} \
        == {n: d for n, d in before.items() if n not in ("didid.lock", "didid.db-shm")} \
        | {n: b"" for n in after if n == "didid.db-wal"}
    shared.unlink()
    scribble(state)
    assert "error    database" in tool(didid, "doctor", "--state-dir", state, status=1).stdout
    tool(didid, "doctor", "--state-dir", tmp_path / "none", status=1)
    assert not (tmp_path / "none").exists()
