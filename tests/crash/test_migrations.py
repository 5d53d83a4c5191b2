# SPDX-License-Identifier: Apache-2.0
"""Databases of every earlier version, as SQL text that is never changed, come to one schema."""

import pathlib
import sqlite3
import subprocess

import pytest

import service_client as client

DATABASES = pathlib.Path(__file__).parent / "databases"
OLD, EXTENDS, DAMAGED = (f"01h000000000000000000000a{last}" for last in "abc")


def schema(path):
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = database.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")
    found = rows.fetchall(), database.execute("PRAGMA user_version").fetchone()
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert not database.execute("PRAGMA foreign_key_check").fetchall()
    database.close()
    return found


def make(state, version):
    state.mkdir()
    database = sqlite3.connect(state / "didid.db")
    database.executescript((DATABASES / f"version_{version}.sql.txt").read_text())
    database.close()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_version_is_brought_to_this_one(start_daemon, family, tmp_path, version):
    state, fresh = tmp_path / "state", tmp_path / "fresh"
    make(state, version)
    daemon = start_daemon(family, state=state)
    listed = {job["id"]: job for job in
              client.call(daemon, "GET", "/v1/jobs?state=cancelled")["data"]}
    assert listed[EXTENDS]["budget"] == {"bytes": 1000} and listed[EXTENDS]["tasks"] == 1
    for query in ("label=team%3Dx", "label=it%3Dd%27or", "method=average"):
        page = client.call(daemon, "GET", f"/v1/jobs?{query}")["data"]
        assert [(job["id"], job["tasks"], job["dtype"]) for job in page] == [(OLD, 2, "bf16")]
    shown = client.wait_state(daemon, OLD, "failed")  # there are no files of it
    assert shown["specification"]["method"] == "average"
    assert client.call(daemon, "GET", f"/v1/jobs/{OLD}/exports")["data"][0]["bytes"] == 9
    daemon.stop()
    start_daemon(family, state=fresh).stop()
    assert schema(state / "didid.db") == schema(fresh / "didid.db")
    copy = sqlite3.connect(f"file:{state / f'didid.db.before-{version}'}?mode=ro", uri=True)
    assert copy.execute("PRAGMA user_version").fetchone() == (version,)
    assert copy.execute("SELECT state FROM jobs WHERE id = ?", (OLD,)).fetchone() == ("succeeded",)
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()
    assert not list(state.glob("*.making"))


def test_a_row_with_damaged_json_is_an_error_and_no_more(start_daemon, family, tmp_path):
    state = tmp_path / "state"
    make(state, 4)
    daemon = start_daemon(family, state=state)
    with pytest.raises(client.Refused) as caught:
        client.call(daemon, "GET", f"/v1/jobs/{DAMAGED}")
    assert caught.value.status >= 500
    assert client.call(daemon, "GET", f"/v1/jobs/{EXTENDS}")["priority"] == 5


def test_a_refused_version_leaves_the_file_and_its_log_as_they_are(start_daemon, didid, family,
                                                                   tmp_path):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    daemon.stop()
    database = sqlite3.connect(state / "didid.db")
    for version in (999, -1, 0):
        database.execute(f"PRAGMA user_version = {version}")
        before = (state / "didid.db").read_bytes(), (state / "didid.db-wal").read_bytes()
        done = subprocess.run([didid, "--state-dir", state, "--models", family, "--listen",
                               "127.0.0.1:0"], capture_output=True, text=True, timeout=60,
                              check=False)
        assert done.returncode == 1 and "didid.db" in done.stderr
        assert before == ((state / "didid.db").read_bytes(), (state / "didid.db-wal").read_bytes())
    database.close()
