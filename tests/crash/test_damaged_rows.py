# SPDX-License-Identifier: Apache-2.0
"""Rows that no daemon wrote: it starts or says why not, answers every route, and never dies."""

import http.client
import json
import pathlib
import re
import shutil
import sqlite3
import subprocess
import time
import urllib.parse

import pytest
import service_client as client
from service import Daemon

HOOK = pathlib.Path(__file__).resolve().parents[2] / "docs" / "hooks" / "generic.json"
HOSTILE = (None, 2**63 - 1, -2**63, -1, 1e308, "", "7", "x" * 70000, "\x1b[31m\u202e\x9b\x7f",
           '{"a":', "[[", "[1, null]", b"\xff\xfe\xc3(", b"\x00\x01")
WHOLE_LOOK_BYTES = 33 << 20  # of a database that is not checked row by row when it is opened
END_SECONDS = 60
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(number):
    text = ""
    while len(text) < 25:
        text, number = ALPHABET[number % 32] + text, number // 32
    return "0" + text


# ---- a state directory with rows in every table

def fill(database, job):
    """What a daemon that nobody but a test speaks to writes no rows of."""
    rows = {"fetches": {"id": new_id(1), "name": "fetched", "source": "https://h.example/m",
                        "state": "succeeded", "created_ms": 1, "updated_ms": 2, "finished_ms": 3},
            "hook_deliveries": {"id": new_id(2), "hook": "mine", "key": "k", "subject": "s",
                                "delivery": "d", "origin": "webhook", "state": "done",
                                "rule": "r", "job_id": job, "excerpt": "{}", "next_ms": 1,
                                "created_ms": 1, "finished_ms": 2},
            "hook_polls": {"hook": "mine", "source": "s", "seen": "{}", "checked_ms": 1,
                           "due_ms": 2**50},
            "hook_registrations": {"job_id": job, "hook": "mine", "model": "m", "state": "done",
                                   "next_ms": 1, "version": "1", "created_ms": 1,
                                   "updated_ms": 2},
            "uploads": {"id": new_id(3), "name": "up", "client": "c", "bytes": 10,
                        "files": '[{"name":"model.safetensors","bytes":10,"sha256":"' + 64 * "a"
                                 + '"}]', "state": "open", "created_ms": 1, "updated_ms": 2},
            "deleted_jobs": {"job_id": new_id(4)}}
    for table, values in rows.items():
        insert(database, table, values)
    database.commit()


def insert(database, table, values):
    places = ", ".join("CAST(? AS TEXT)" if isinstance(value, bytes) and value[:1] == b"\xff"
                       else "?" for value in values.values())
    database.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(values)}) VALUES ({places})",
                     list(values.values()))


def arguments(uploads):
    return ("--workers", "1", "--webhook-private", "1", "--models", str(uploads), "--upload-dir",
            str(uploads))


@pytest.fixture(scope="module", name="filled")
def filled_fixture(didid, family, tmp_path_factory):
    """State directory, a token of it, the id of its job."""
    folder = tmp_path_factory.mktemp("filled")
    state = folder / "state"
    state.mkdir()
    (folder / "uploads").mkdir()
    token = subprocess.run([didid, "token", "create", "--state-dir", state, "--name", "test",
                            "--scope", "admin"],
                           capture_output=True, text=True, check=True).stdout.strip()
    with Daemon(didid, state, family, *arguments(folder / "uploads")) as daemon:
        headers = {"Authorization": f"Bearer {token}"}

        def call(method, path, body=None):
            return client.call(daemon, method, path, body, headers)

        call("POST", "/v1/webhooks", {"url": "http://127.0.0.1:9/"})
        call("PUT", "/v1/hooks/mine", {**json.loads(HOOK.read_text()), "secret": "s" * 40})
        job = call("POST", "/v1/jobs", {
            "base": "base", "method": "average", "labels": {"team": "a"}, "name": "one",
            "tasks": [{"name": "latin", "model": "tasks/latin"},
                      {"name": "mnist", "model": "tasks/mnist"}]})["id"]
        while call("GET", f"/v1/jobs/{job}")["state"] in ("queued", "running"):
            pass
        call("POST", f"/v1/jobs/{job}/exports", {"format": "full", "tasks": ["latin"]})
        while call("GET", f"/v1/jobs/{job}/exports")["data"][0]["state"] in ("queued", "running"):
            pass
    database = sqlite3.connect(state / "didid.db")
    fill(database, job)
    database.close()
    return state, token, job


# ---- damage

class Loose:
    """A database whose tables take any value in any column while it is open."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.database = sqlite3.connect(self.path)
        self.texts = self.database.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type IN ('table', 'trigger')").fetchall()
        self.rewrite(lambda sql: re.sub(r"(?<! IS) NOT NULL|\bSTRICT\b,?", "", sql))
        self.database.close()
        self.database = sqlite3.connect(self.path)
        self.database.execute("PRAGMA ignore_check_constraints=ON")
        return self.database

    def rewrite(self, change):
        self.database.execute("PRAGMA writable_schema=ON")
        for name, sql in self.texts:
            self.database.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?",
                                  (change(sql), name))
        self.database.commit()
        self.database.execute("PRAGMA writable_schema=RESET")

    def __exit__(self, *_):
        self.database.commit()
        self.rewrite(lambda sql: sql)
        self.database.close()


def first_row(database, table):
    database.row_factory = sqlite3.Row
    row = dict(database.execute(f"SELECT * FROM {table} LIMIT 1").fetchone())
    database.row_factory = None
    return row


def keys(database, table):
    return [name for _, name, _, _, _, key in
            database.execute(f"PRAGMA table_info({table})") if key > 0]


UNIQUE = {"jobs": ["idempotency_key"], "tokens": ["hash"], "exports": ["task"],
          "hook_deliveries": ["key"]}


def damage(database, table):
    """For each column and hostile value a row that has it; with rows that others need."""
    row = first_row(database, table)
    primary = keys(database, table)
    number = 1000
    for column in row:
        for value in HOSTILE:
            number += 1
            fresh = {**row, **{name: fresh_value(row[name], number)
                               for name in (*primary[-1:], *UNIQUE.get(table, ()))}}
            if column in primary and (value is None or isinstance(row[column], int)):
                continue
            insert(database, table, {**fresh, column: value})
            if table == "jobs" and column not in primary:
                insert(database, "job_specifications", {
                    **first_row(database, "job_specifications"), "job_id": fresh["id"]})
    if table == "job_counts":
        for state, jobs, size in (("queued", None, 2**63 - 1), ("running", "x", 1e308),
                                  ("succeeded", 2**63 - 1, -1), ("failed", b"\0", None)):
            database.execute("UPDATE job_counts SET jobs = ?, artifact_bytes = ? WHERE state = ?",
                             (jobs, size, state))


def fresh_value(old, number):
    if isinstance(old, int):
        return number
    return new_id(number) if old is not None and len(old) == 26 else f"made-{number}"


# ---- routes

LISTS = ["/livez", "/readyz", "/metrics", "/v1/status", "/v1/whoami", "/v1/tokens", "/v1/models",
         "/v1/models?base=base", "/v1/fetches", "/v1/models/uploads", "/v1/webhooks", "/v1/jobs",
         "/v1/jobs?state=succeeded", "/v1/jobs?label=team%3Da", "/v1/jobs?method=average",
         "/v1/jobs?limit=3", "/v1/hooks", "/v1/hooks/mine/deliveries", "/v1/doctor"]
ITEMS = {
    "jobs": ["/v1/jobs/{}", "/v1/jobs/{}/events", "/v1/jobs/{}/ranks", "/v1/jobs/{}/frontier",
             "/v1/jobs/{}/similarity", "/v1/jobs/{}/artifacts", "/v1/jobs/{}/exports",
             "/v1/jobs/{}/artifacts/manifest.json"],
    "models": ["/v1/models/{}"], "fetches": ["/v1/fetches/{}"], "tokens": ["/v1/tokens/{}"],
    "webhooks": ["/v1/webhooks/{}", "/v1/webhooks/{}/deliveries"],
    "uploads": ["/v1/models/uploads/{}"], "hooks": ["/v1/hooks/{}", "/v1/hooks/{}/deliveries"],
}


class Asker:
    """One connection; every answer is whole, and a failure says which row is damaged."""

    def __init__(self, daemon, token):
        self.daemon, self.connection = daemon, None
        self.headers = {"Authorization": f"Bearer {token}"}

    def ask(self, method, path, body=None):
        address = urllib.parse.urlsplit(self.daemon.url).netloc
        self.connection = self.connection or http.client.HTTPConnection(address, timeout=30)
        try:
            self.connection.request(method, path, body, self.headers)
            answer = self.connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as problem:
            raise AssertionError(f"{method} {path[:200]}: {problem!r}\n"
                                 + self.daemon.log()) from None
        if answer.will_close:
            self.connection = None
        document = json.loads(data) if "json" in answer.getheader("Content-Type", "") else None
        assert answer.status < 500 or (answer.status == 500 and "is damaged: its" in
                                       document["detail"]), (method, path[:200], data[:500])
        return answer.status, document

    def works(self):
        """A job is taken, run and told of."""
        body = json.dumps({"base": "base", "method": "average",
                           "tasks": [{"name": "latin", "model": "tasks/latin"},
                                     {"name": "mnist", "model": "tasks/mnist"}]})
        self.headers["Content-Type"] = "application/json"
        status, job = self.ask("POST", "/v1/jobs", body)
        assert status == 201, job
        deadline = time.monotonic() + END_SECONDS
        while (shown := self.ask("GET", f"/v1/jobs/{job['id']}")[1])["state"] != "succeeded":
            assert shown["state"] in ("queued", "running") and time.monotonic() < deadline, \
                (shown, self.daemon.log())
            time.sleep(0.02)


def quoted(value):
    return urllib.parse.quote(value if isinstance(value, bytes) else str(value), safe="")


TABLES = ["jobs", "events", "models", "exports", "tokens", "webhooks", "deliveries", "hooks",
          "hook_deliveries", "hook_polls", "hook_registrations", "job_specifications",
          "job_labels", "job_counts", "deleted_jobs", "uploads", "fetches"]


def damaged(filled, folder, table, pad):
    """A state directory of such rows, and the first column of all rows of the table."""
    state = folder / "state"
    shutil.copytree(filled[0], state)
    (folder / "uploads").mkdir()
    with Loose(state / "didid.db") as database:
        damage(database, table)
    database = sqlite3.connect(state / "didid.db")
    if pad:
        database.executescript("CREATE TABLE pad (x); INSERT INTO pad "
                               f"VALUES (zeroblob({WHOLE_LOOK_BYTES})); DROP TABLE pad")
    first = keys(database, table)[0]
    database.text_factory = bytes
    ids = [row[0] for row in database.execute(f"SELECT {first} FROM {table}")]
    database.close()
    return state, ids


@pytest.mark.parametrize("table", [table for table in TABLES if table != "deleted_jobs"])
def test_rows_that_the_schema_forbids_are_refused_at_start(didid, family, filled, tmp_path, table):
    state, _ = damaged(filled, tmp_path, table, pad=False)
    done = subprocess.run([didid, "--state-dir", state, "--models", family, "--listen",
                           "127.0.0.1:0"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "the database is damaged" in done.stderr, done.stderr
    assert table in done.stderr and "didid restore" in done.stderr


@pytest.mark.parametrize("table", TABLES)
def test_a_large_database_is_served_around_damaged_rows(start_daemon, family, filled, tmp_path,
                                                        table):
    _, token, job = filled
    state, ids = damaged(filled, tmp_path, table, pad=True)
    try:
        daemon = start_daemon(family, *arguments(tmp_path / "uploads"), state=state)
    except RuntimeError as refused:
        assert table == "webhooks" and "cannot start" in str(refused), refused
        return
    asker = Asker(daemon, token)
    for path in LISTS:
        status, document = asker.ask("GET", path)
        assert status < 500, document
    for path in ITEMS["jobs"]:
        asker.ask("GET", path.format(job))
    for number, path in enumerate(ITEMS.get(table, ())):
        for one in ids[::1 if number < 2 else 7]:
            asker.ask("GET", path.format(quoted(one)))
    asker.works()
    for one in ids:
        for path in ITEMS.get(table, ())[:1]:
            asker.ask("DELETE", path.format(quoted(one)))
    assert daemon.process.poll() is None, daemon.log()
    assert daemon.stop() == 0, daemon.log()
    log = (tmp_path / "didid.log").read_text(errors="strict")
    assert not set(log) & {"\x1b", "\u202e", "\x9b", "\x7f"}


WAITING = {"labels": '{"a":', "specification": "[[", "no specification": None}


def test_damaged_jobs_that_wait_fail_and_others_run(start_daemon, family, filled, tmp_path):
    state, token, job = tmp_path / "state", filled[1], filled[2]
    shutil.copytree(filled[0], state)
    (tmp_path / "uploads").mkdir()
    database = sqlite3.connect(state / "didid.db")
    row = {**first_row(database, "jobs"), "state": "queued", "finished_ms": None}
    wanted, = database.execute("SELECT specification FROM job_specifications WHERE job_id = ?",
                               (job,)).fetchone()
    waiting = {}
    for number, (what, value) in enumerate(WAITING.items(), 5000):
        waiting[what] = new_id(number)
        change = {what: value} if what in row else {}
        insert(database, "jobs", {**row, "id": waiting[what], **change})
        if what != "no specification":
            insert(database, "job_specifications", {
                "job_id": waiting[what],
                "specification": value if what == "specification" else wanted})
    database.commit()
    database.close()
    daemon = start_daemon(family, *arguments(tmp_path / "uploads"), state=state)
    asker = Asker(daemon, token)
    asker.works()
    assert daemon.stop() == 0, daemon.log()
    database = sqlite3.connect(state / "didid.db")
    for what, one in waiting.items():
        assert database.execute("SELECT state FROM jobs WHERE id = ?", (one,)).fetchone() == (
            "failed",), what
    database.close()
