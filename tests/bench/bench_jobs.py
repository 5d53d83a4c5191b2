# SPDX-License-Identifier: Apache-2.0
"""Start, lists and GET of a job with 100,000 finished jobs in the database."""

import json
import os
import sqlite3
import time
import urllib.parse

import bench_polling
import common
import service

JOBS = 100_000
REQUESTS = 400
START_SECONDS_MAX = 1.0
P99_SECONDS_MAX = 0.010
STATES = ("succeeded", "failed", "cancelled")
METHODS = ("didi", "average")
SPECIFICATION = json.dumps({"base": "base", "tasks": [{"name": f"task{i}", "model": f"tasks/{i}"}
                                                      for i in range(40)]})
FILTERS = ({}, {"state": "succeeded"}, {"state": "queued"}, {"method": "average"},
           {"state": "failed", "method": "average"}, {"label": "team=a"}, {"label": "rare=yes"},
           {"label": "team=a", "state": "cancelled"}, {"label": "team=a", "method": "didi"},
           {"label": "team=a", "state": "queued", "method": "average"})


def identifier(number):
    return "01h" + f"{number:023d}"


def fill(state):
    """Rows of finished jobs; those that succeeded have a manifest."""
    database = sqlite3.connect(state / "didid.db")
    (state / "manifest.json").write_text("{}")
    for number in range(JOBS):
        name, job = STATES[number % 3], identifier(number)
        labels = {"team": "ab"[number % 2]} | ({"rare": "yes"} if number % 20_000 == 0 else {})
        database.execute(
            "INSERT INTO jobs (id, state, priority, name, base, labels, created_ms, updated_ms,"
            " finished_ms, method, task_count, budget, dtype)"
            " VALUES (?, ?, 0, 'job', 'base', ?, 1, 1, 1, ?, 40, '1.24', 'auto')",
            (job, name, json.dumps(labels), METHODS[number // 3 % 2]))
        database.execute("INSERT INTO job_specifications VALUES (?, ?)", (job, SPECIFICATION))
        database.executemany(
            "INSERT INTO job_labels VALUES (?, ?, ?, ?, ?)",
            [(*label, job, name, METHODS[number // 3 % 2]) for label in labels.items()])
        if name == "succeeded":
            os.makedirs(state / "jobs" / job / "artifacts")
            os.link(state / "manifest.json", state / "jobs" / job / "artifacts" / "manifest.json")
    database.commit()
    database.close()


def start(daemon):
    began = time.perf_counter()
    daemon.start()
    return time.perf_counter() - began


def percentiles(connection, path, count=REQUESTS):
    """Seconds at 50 and 99 % of the requests."""
    latencies = []
    for number in range(count):
        began = time.perf_counter()
        status, answer = connection.call("GET", path(number))
        latencies.append(time.perf_counter() - began)
        if status != 200:
            raise RuntimeError(f"answered {status}: {answer}")
    latencies.sort()
    return latencies[count // 2], latencies[int(count * 0.99) - 1]


def told(what, figures):
    print(f"{what}: p50 {1e3 * figures[0]:.2f} ms, p99 {1e3 * figures[1]:.2f} ms", flush=True)
    return common.verdict(what, f"{1e3 * figures[1]:.2f} ms", f"{1e3 * P99_SECONDS_MAX:.0f} ms",
                          figures[1] <= P99_SECONDS_MAX)


def measure(arguments, scratch):
    state, models = scratch / "state", scratch / "models"
    state.mkdir()
    models.mkdir()
    daemon = service.Daemon(arguments.build / "daemon" / "didid", state, models)
    with daemon:
        pass
    fill(state)
    seconds = [start(daemon)]
    held = [common.verdict("start", f"{seconds[0]:.2f} s", f"{START_SECONDS_MAX:.0f} s",
                           seconds[0] <= START_SECONDS_MAX)]
    try:
        connection = bench_polling.Connection(daemon.url)
        for filters in FILTERS:
            query = urllib.parse.urlencode({**filters, "limit": 50})
            held.append(told(f"list {filters or 'all'}",
                             percentiles(connection, lambda _, q=query: f"/v1/jobs?{q}")))
        query = f"limit=50&after={identifier(JOBS // 2)}"
        held.append(told("list from the middle",
                         percentiles(connection, lambda _: f"/v1/jobs?{query}")))
        held.append(told("show, another each time", percentiles(
            connection, lambda number: f"/v1/jobs/{identifier(number * 241 % JOBS)}")))
        held.append(told("show, the same", percentiles(
            connection, lambda _: f"/v1/jobs/{identifier(1)}")))
    finally:
        daemon.stop()
    return all(held)
