# SPDX-License-Identifier: Apache-2.0
"""Pollers, event streams and downloads beside merges on all workers, for minutes.

Each poller asks once a second over a connection of its own, each download reads at the pace of a
network. They run on the cores of the daemon, and so take time from it themselves, as others do.
What the service costs a merge is therefore told in CPU time: how much more the workers need for a
merge under load, on the share of the cores that all other threads of the daemon leave them.
"""

import ctypes
import heapq
import http.client
import json
import multiprocessing
import os
import pathlib
import re
import selectors
import socket
import time
import urllib.request

import bench_polling
import common
import service

POLLERS, STREAMS, DOWNLOADS = 200, 50, 5
POLL_SECONDS = 1.0
DOWNLOAD_BYTES_PER_SECOND = 4 << 20
PIECE_BYTES = 256 << 10
ALONE = 3  # merges
P99_SECONDS_MAX, GROWTH_MAX, SLOWED_MAX = 0.025, 0.02, 0.10
STEPS = 1000  # of Adam: so that a merge takes some seconds
WORKER_NICE = 10
TICKS = os.sysconf("SC_CLK_TCK")


def head(path, accept="application/json"):
    return (f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n").encode()


def whole(text):
    """Is this one whole reply? Raises when it is no 200."""
    if not text.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"answered {text[:200]!r}")
    lines, found, body = text.partition(b"\r\n\r\n")
    if not found:
        return False
    length = next(line for line in lines.split(b"\r\n") if line.startswith(b"Content-Length: "))
    return len(body) >= int(length[16:])


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def poll(port, current, until, results):
    """All pollers; their latencies, and how late they were themselves."""
    with selectors.DefaultSelector() as ready:
        due, latencies, late = [], [], []
        for number in range(POLLERS):
            connection = connect(port)
            due.append((time.monotonic() + POLL_SECONDS * number / POLLERS, number, connection))
        heapq.heapify(due)
        waiting = 0
        while time.monotonic() < until or waiting > 0:
            now = time.monotonic()
            while due and due[0][0] <= now < until:
                at, number, connection = heapq.heappop(due)
                late.append(now - at)
                ready.register(connection, selectors.EVENT_READ, [number, time.monotonic(), b""])
                connection.sendall(head(f"/v1/jobs/{current.value.decode()}"))
                waiting += 1
            for key, _ in ready.select(max(0, min(0.05, due[0][0] - now)) if due else 0.05):
                got = key.fileobj.recv(65536)
                key.data[2] += got
                if got == b"":
                    raise RuntimeError("a poller's connection was closed")
                if whole(key.data[2]):
                    latencies.append(time.monotonic() - key.data[1])
                    ready.unregister(key.fileobj)
                    waiting -= 1
                    heapq.heappush(due, (key.data[1] + POLL_SECONDS, key.data[0], key.fileobj))
    results.put(("polls", (sorted(latencies), sorted(late))))


def stream(port, current, until, results):
    """All viewers: each follows a job to its end, then the one that runs then."""
    events, ends = 0, 0
    with selectors.DefaultSelector() as ready:
        def follow():
            connection = connect(port)
            connection.sendall(head(f"/v1/jobs/{current.value.decode()}/events",
                                    "text/event-stream"))
            ready.register(connection, selectors.EVENT_READ, [current.value, b""])

        for _ in range(STREAMS):
            follow()
        again = []
        while time.monotonic() < until:
            for key, _ in ready.select(0.05):
                got = key.fileobj.recv(65536)
                if key.data[1] == b"" and not got.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"a stream was answered {got[:200]!r}")
                events += got.count(b"\nid: ")
                key.data[1] = key.data[1][-64:] + got
                if b"event: end" in key.data[1]:
                    ends += 1
                elif got:
                    continue
                else:
                    raise RuntimeError("a stream ended without its end")
                ready.unregister(key.fileobj)
                key.fileobj.close()
                again.append(key.data[0])
            while again and again[-1] != current.value:
                again.pop()
                follow()
    results.put(("streams", (events, ends)))


def download(port, path, until, results):
    """One after the other, at a network's pace."""
    whole_ones = 0
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"a download was answered {answer.status}")
        left = answer.length
        while left > 0 and time.monotonic() < until:
            piece = answer.read(min(PIECE_BYTES, left))
            if piece == b"":
                raise RuntimeError("a download ended early")
            left -= len(piece)
            time.sleep(len(piece) / DOWNLOAD_BYTES_PER_SECOND)
        whole_ones += left == 0
        connection.close()
    results.put(("downloads", whole_ones))


def cpu_seconds(pid):
    """Of the worker threads, and of all others: those that ended are counted with neither."""
    spent = [0.0, 0.0]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        spent[int(fields[16]) != WORKER_NICE] += (int(fields[11]) + int(fields[12])) / TICKS
    return spent


class Merges:
    """The same merge again and again, and what each took."""

    def __init__(self, daemon, workers, current):
        self.daemon, self.workers, self.current = daemon, workers, current
        self.tasks = sorted(path.name for path in (common.FAMILY / "tasks").iterdir())
        self.connection = bench_polling.Connection(daemon.url)
        self.memory = []  # (moment, bytes)
        self.ended = []

    def run(self):
        """Wall seconds, CPU seconds of the workers and of the other threads, of one merge."""
        pid = self.daemon.process.pid
        text = common.specification("base", {task: f"tasks/{task}" for task in self.tasks}, 1.3,
                                    refine={"optimizer": "adam", "steps": STEPS, "tolerance": 0})
        began, before = time.monotonic(), cpu_seconds(pid)
        status, job = self.connection.call("POST", "/v1/jobs", json.dumps(text))
        if status != 201:
            raise RuntimeError(f"submit was answered {status}: {job}")
        self.current.value = job["id"].encode()
        while job["state"] in ("queued", "running"):
            time.sleep(0.25)
            self.memory.append((time.monotonic(), service.anonymous_bytes(pid)))
            job = self.connection.call("GET", f"/v1/jobs/{job['id']}")[1]
        if job["state"] != "succeeded":
            raise RuntimeError(f"a merge ended: {job}")
        self.ended.append(job["id"])
        if len(self.ended) > 3:  # the first is downloaded, the newest are looked at
            self.connection.call("DELETE", f"/v1/jobs/{self.ended.pop(1)}")
        after = cpu_seconds(pid)
        return time.monotonic() - began, after[0] - before[0], after[1] - before[1]

    def minutes(self, since):
        """Smallest, median and largest memory of each minute, in MB."""
        rows = {}
        for at, size in self.memory:
            if at >= since:
                rows.setdefault(int((at - since) // 60), []).append(size / 1e6)
        return [(min(row), sorted(row)[len(row) // 2], max(row))
                for _, row in sorted(rows.items())]

    def growth(self, since, until):
        """Of the largest memory, from the first quarter of that time to the last."""
        quarter = (until - since) / 4
        first = [size for at, size in self.memory if since <= at < since + quarter]
        last = [size for at, size in self.memory if until - quarter <= at < until]
        return max(last) / max(first) - 1


def sqlite_bytes(daemon):
    with urllib.request.urlopen(daemon.url + "/metrics", timeout=30) as answer:
        return float(re.search(rb"^didid_store_memory_bytes (\S+)", answer.read(), re.M)[1])


def largest_artifact(connection, job):
    _, answer = connection.call("GET", f"/v1/jobs/{job}/artifacts")
    files = answer["data"]
    return max(files, key=lambda file: file["bytes"])["name"]


def mean(rows):
    return [sum(column) / len(column) for column in zip(*rows)]


def load(merges, seconds):
    """Merges under load; their figures, what the clients tell, and the time it took."""
    port = int(merges.daemon.url.rpartition(":")[2])
    job = merges.ended[0]
    path = f"/v1/jobs/{job}/artifacts/{largest_artifact(merges.connection, job)}"
    began = time.monotonic()
    until = began + seconds
    results = multiprocessing.Queue()
    clients = [multiprocessing.Process(target=what, args=(port, where, until, results))
               for what, where in [(poll, merges.current), (stream, merges.current)] +
               [(download, path)] * DOWNLOADS]
    for client in clients:
        client.start()
    rows, told = [], []
    try:
        while time.monotonic() < until:
            rows.append(merges.run())
        while len(told) < len(clients) and all(c.exitcode in (None, 0) for c in clients):
            try:
                told.append(results.get(timeout=1))
            except multiprocessing.queues.Empty:
                continue
    finally:
        for client in clients:
            client.join(10)
            client.kill()
    return rows, told, (began, until)


def judge(merges, alone, loaded):
    rows, told, (began, until) = loaded
    held = [common.verdict("clients without an error", len(told), 2 + DOWNLOADS,
                           len(told) == 2 + DOWNLOADS)]
    figures = dict(told)
    print(f"{sum(count for what, count in told if what == 'downloads')} whole downloads, "
          f"{figures.get('streams')} events and ends of streams, {len(rows)} merges", flush=True)
    latencies, late = figures.get("polls", ([float("inf")], [0]))
    p50, p99 = (latencies[int(len(latencies) * share) - 1] for share in (0.5, 0.99))
    print(f"{len(latencies)} polls: p50 {1e3 * p50:.2f} ms, largest {1e3 * latencies[-1]:.2f} ms; "
          f"their sender got a core p99 {1e3 * late[int(len(late) * 0.99) - 1]:.2f} ms late")
    held.append(common.verdict("p99 of polls", f"{1e3 * p99:.2f} ms",
                               f"{1e3 * P99_SECONDS_MAX:.0f} ms", p99 <= P99_SECONDS_MAX))
    for minute, (least, median, most) in enumerate(merges.minutes(began), 1):
        print(f"memory in minute {minute}: {least:.1f} to {most:.1f} MB, median {median:.1f} MB")
    growth = merges.growth(began + (until - began) / 5, until)
    held.append(common.verdict("growth of memory in the last four fifths", f"{growth:.1%}",
                               f"{GROWTH_MAX:.0%}", growth <= GROWTH_MAX))
    before, during = mean(alone), mean(rows)
    print(f"a merge alone: {before[0]:.2f} s, CPU {before[1]:.2f} s and {before[2]:.2f} s of other "
          f"threads; under load: {during[0]:.2f} s, CPU {during[1]:.2f} and {during[2]:.2f} s")
    share = during[2] / during[0] / merges.workers
    slowed = during[1] / before[1] / (1 - share) - 1
    print(f"other threads took {share:.1%} of the cores")
    held.append(common.verdict("a merge slowed, in CPU time", f"{slowed:.1%}",
                               f"{SLOWED_MAX:.0%}", slowed <= SLOWED_MAX))
    return all(held)


def measure(arguments, scratch):
    state = scratch / "state"
    state.mkdir()
    current = multiprocessing.Array(ctypes.c_char, 40)
    with service.Daemon(arguments.build / "daemon" / "didid", state, common.FAMILY,
                        "--workers", str(arguments.workers)) as daemon:
        merges = Merges(daemon, arguments.workers, current)
        merges.run()  # later ones find its spectra
        alone = [merges.run() for _ in range(ALONE)]
        before = sqlite_bytes(daemon)
        loaded = load(merges, arguments.seconds)
        print(f"memory of SQLite: {before / 1e6:.2f} MB before, "
              f"{sqlite_bytes(daemon) / 1e6:.2f} MB after")
        return judge(merges, alone, loaded)
