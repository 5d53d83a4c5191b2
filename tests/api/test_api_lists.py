# SPDX-License-Identifier: Apache-2.0
"""Lists of jobs by every set of filters, against a plain account of the same jobs; their plans."""

import itertools
import json
import pathlib
import random
import re
import sqlite3
import urllib.parse

import pytest

from service import Daemon
from wire import Wire

SQL = pathlib.Path(__file__).resolve().parents[2] / "sql"
STATES = ("succeeded", "failed", "cancelled")
METHODS = ("didi", "average")
LABELS = ({}, {"team": "a"}, {"team": "b", "env": "test"}, {"team": "a", "env": "x=y"})


def identifier(number):
    return "01h" + f"{number:023d}"


def insert(path, jobs):
    """Finished jobs, as the daemon leaves them."""
    database = sqlite3.connect(path)
    for job in jobs:
        labels = job["labels"]
        finished = {"succeeded": "failed"}.get(job["state"], job["state"])  # has no files
        job["state"] = finished
        database.execute(
            "INSERT INTO jobs (id, state, priority, name, base, labels, created_ms, updated_ms,"
            " finished_ms, method, task_count)"
            " VALUES (?, ?, 0, '', 'base', json(?), 1, 1, 1, ?, 2)",
            (job["id"], finished, json.dumps(labels), job["method"]))
        database.execute("INSERT INTO job_specifications VALUES (?, '{}')", (job["id"],))
        for key, value in labels.items():
            database.execute("INSERT INTO job_labels VALUES (?, ?, ?, ?, ?)",
                             (key, value, job["id"], finished, job["method"]))
    database.commit()
    database.close()


@pytest.fixture(scope="module")
def many(didid, family, tmp_path_factory):
    state = tmp_path_factory.mktemp("lists") / "state"
    state.mkdir()
    choose = random.Random(7)
    jobs = [{"id": identifier(i), "state": choose.choice(STATES), "method": choose.choice(METHODS),
             "labels": choose.choice(LABELS)} for i in range(300)]
    daemon = Daemon(didid, state, family)
    with daemon:
        pass
    insert(state / "didid.db", jobs)
    with daemon:
        yield Wire(daemon.url), jobs


def pages(wire, limit, **filters):
    found, after = [], None
    while True:
        query = {**filters, "limit": limit, **({"after": after} if after else {})}
        page = wire.get("/v1/jobs?" + urllib.parse.urlencode(query)).json()
        found += page["data"]
        if not page["has_more"]:
            return found
        after = page["next"]


@pytest.mark.parametrize("limit", [7, 200])
def test_every_set_of_filters(many, limit):
    wire, jobs = many
    labels = (None, "team=a", "env=x=y", "team=none")
    for state, method, label in itertools.product((None, *STATES), (None, *METHODS, "none"),
                                                  labels):
        key, _, value = (label or "").partition("=")
        expected = [job["id"] for job in reversed(jobs)
                    if state in (None, job["state"]) and method in (None, job["method"])
                    and (label is None or job["labels"].get(key) == value)]
        given = {"state": state, "method": method, "label": label}
        filters = {name: text for name, text in given.items() if text is not None}
        found = pages(wire, limit, **filters)
        assert [job["id"] for job in found] == expected, filters
        assert all("specification" not in job for job in found)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_go_on_after_damaged_rows(didid, family, tmp_path, limit):
    state = tmp_path / "state"
    state.mkdir()
    jobs = [{"id": identifier(i), "state": "failed", "method": "didi", "labels": {}}
            for i in range(9)]
    daemon = Daemon(didid, state, family)
    with daemon:
        pass
    insert(state / "didid.db", jobs)
    with daemon:
        database = sqlite3.connect(state / "didid.db")
        database.execute("PRAGMA ignore_check_constraints=ON")
        bad = [identifier(i) for i in (8, 7, 6, 5, 2)]
        database.executemany("UPDATE jobs SET labels = '{' WHERE id = ?", [(one,) for one in bad])
        database.commit()
        database.close()
        found = [job["id"] for job in pages(Wire(daemon.url), limit)]
    assert found == [identifier(i) for i in (4, 3, 1, 0)]


def test_labels_follow_the_state(wire, held):
    listed = wire.get("/v1/jobs?label=kind%3Dheld&state=running").json()["data"]
    assert [job["id"] for job in listed] == [held]
    wire.post(f"/v1/jobs/{held}/cancel")
    wire.wait(held, "cancelled")
    assert held in [job["id"] for job in
                    wire.get("/v1/jobs?label=kind%3Dheld&state=cancelled").json()["data"]]
    assert wire.get("/v1/jobs?label=kind%3Dheld&state=running").json()["data"] == []


def test_what_a_row_holds(wire, finished):
    row = next(job for job in wire.get("/v1/jobs?state=succeeded&limit=200").json()["data"]
               if job["id"] == finished)
    assert row["base"] == "base" and row["method"] == "didi" and row["tasks"] == 2
    assert row["budget"] == 1.3 and row["labels"] == {"kind": "finished"}


def test_a_method_that_cannot_be(wire):
    assert wire.get("/v1/jobs?method=%27").problem() == "invalid-parameter"


def queries():
    """The statements of sql/queries.sql by name, shared text filled in."""
    text = (SQL / "queries.sql").read_text()
    parts = re.split(r"^-- (name|text): (\w+)$", text, flags=re.M)
    blocks = list(zip(parts[1::3], parts[2::3], parts[3::3]))
    shared = {name: body.strip() for kind, name, body in blocks if kind == "text"}
    for kind, name, body in blocks:
        if kind == "name":
            for what, with_it in shared.items():
                body = body.replace("{" + what + "}", with_it)
            yield name, body


def test_no_list_and_no_start_scans():
    database = sqlite3.connect(":memory:")
    for path in sorted(SQL.glob("0*.sql")):
        database.executescript(path.read_text())
    seen = 0
    for name, text in queries():
        if not re.match(r"job_(list|select|inspect|state_after|count_active|newest|of_other|next)"
                        r"|export_boot", name):
            continue
        seen += 1
        given = dict.fromkeys(re.findall(r":(\w+)", text))
        plan = [row[3] for row in database.execute("EXPLAIN QUERY PLAN " + text, given)]
        for step in plan:
            assert not step.startswith("SCAN") or "exports_running" in step \
                or "jobs_waiting" in step, (name, plan)
            assert "TEMP B-TREE" not in step, (name, plan)
    assert seen > 14
