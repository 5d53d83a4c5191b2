# SPDX-License-Identifier: Apache-2.0
"""Latency of GET /v1/jobs/{id} while a merge keeps every worker busy."""

import http.client
import json
import threading
import time
import urllib.parse

import common
import make_family
import service

REQUESTS = 5000
P99_SECONDS_MAX = 0.020
BLOCKS, TASKS = 4, 8
SPEC_PATH = "/v1/jobs"


class Connection:
    """One keep-alive connection to the daemon."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.http = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)

    def call(self, method, path, body=None):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.http.request(method, path, body=body, headers=headers)
        answer = self.http.getresponse()
        return answer.status, json.loads(answer.read() or b"null")


def submit(connection, tasks):
    """A job that is queued, over the same models each time."""
    text = common.specification("base", {task: task for task in tasks}, 1.24,
                                refine={"steps": 100, "tolerance": 0})
    status, job = connection.call("POST", SPEC_PATH, json.dumps(text))
    if status != 201:
        raise RuntimeError(f"submit was answered {status}: {job}")
    return job["id"]


def poll(url, job, count, latencies, running):
    """Asks `count` times over one connection; notes the latency and whether the job ran."""
    connection = Connection(url)
    for _ in range(count):
        started = time.perf_counter()
        status, answer = connection.call("GET", f"{SPEC_PATH}/{job}")
        latencies.append(time.perf_counter() - started)
        if status != 200:
            raise RuntimeError(f"answered {status}: {answer}")
        running.append(answer["state"] == "running")


def wait_until_running(connection, job):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        _, answer = connection.call("GET", f"{SPEC_PATH}/{job}")
        if answer["state"] != "queued" and answer["progress"] > 0:
            return
        time.sleep(0.05)
    raise RuntimeError("the job did not start")


def measure_connections(url, job, connections):
    latencies, running = [], []
    threads = [threading.Thread(target=poll, args=(url, job, REQUESTS // connections, latencies,
                                                   running)) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies.sort()
    at = {share: latencies[int(len(latencies) * share) - 1] for share in (0.5, 0.99, 1.0)}
    during = sum(running) / len(running)
    print(f"{connections} connections, {len(latencies)} requests, {during:.0%} of them while the "
          f"merge ran: p50 {1e3 * at[0.5]:.2f} ms, p99 {1e3 * at[0.99]:.2f} ms, "
          f"largest {1e3 * at[1.0]:.2f} ms", flush=True)
    held = common.verdict(f"p99 with {connections} connections", f"{1e3 * at[0.99]:.2f} ms",
                          f"{1e3 * P99_SECONDS_MAX:.0f} ms", at[0.99] <= P99_SECONDS_MAX)
    return held and len(latencies) == REQUESTS // connections * connections and during > 0.99


def measure(arguments, scratch):
    models, state = scratch / "models", scratch / "state"
    tasks = make_family.write_family(models, "vitb32", BLOCKS, TASKS)
    state.mkdir()
    held = []
    with service.Daemon(arguments.build / "daemon" / "didid", state, models, "--workers",
                        str(arguments.workers)) as daemon:
        connection = Connection(daemon.url)
        for connections in (1, 4):
            job = submit(connection, tasks)
            wait_until_running(connection, job)
            held.append(measure_connections(daemon.url, job, connections))
            connection.call("POST", f"{SPEC_PATH}/{job}/cancel")
    return all(held)
