# SPDX-License-Identifier: Apache-2.0
"""Artifacts read through the daemon from S3, of which one request in a hundred goes wrong, and
kills of the daemon while it stores them."""

import concurrent.futures
import hashlib
import json
import random
import time
import urllib.request

import bench_polling
import common
import s3
import service

READS = 10000
FAULT_SHARE = 0.01
READERS = 4
SECONDS_MAX = 60  # of one read: more is a hang
TRIES_MAX = 3     # of one read: a reply that is cut is asked for again, as clients do
KILLS = ("store:1:KILL", "store:3:KILL", "stored:2:KILL", "stored:4:KILL")
SEED = 13
FAULTS = ("reset", "truncate", "wrong", "delay", (503, "SlowDown", "Reduce your request rate."),
          (500, "InternalError", "We encountered an internal error."))


def fetch(daemon, href, first=None, last=None):
    headers = {} if first is None else {"Range": f"bytes={first}-{last}"}
    request = urllib.request.Request(daemon.url + href, headers=headers)
    with urllib.request.urlopen(request, timeout=SECONDS_MAX) as taken:
        return taken.read()


def submit(connection):
    document = {"base": "base", "budget": 1.3,
                "tasks": [{"name": name, "model": f"tasks/{name}"}
                          for name in ("hiragana", "latin")]}
    status, job = connection.call("POST", "/v1/jobs", json.dumps(document))
    if status != 201:
        raise RuntimeError(f"submit was answered {status}: {job}")
    return job["id"]


def finish(daemon, job):
    connection = bench_polling.Connection(daemon.url)
    while (shown := connection.call("GET", f"/v1/jobs/{job}")[1])["state"] != "succeeded":
        if shown["state"] == "failed":
            raise RuntimeError(f"the job failed: {shown['error']}")
        time.sleep(0.05)
    rows = connection.call("GET", f"/v1/jobs/{job}/artifacts")[1]["data"]
    return [(row["href"], row["sha256"]) for row in rows]


def read_one(daemon, href, data, first, last):
    """(wrong, failed, tries, seconds) of one read."""
    began = time.monotonic()
    for number in range(1, TRIES_MAX + 1):
        try:
            found = fetch(daemon, href, first, last)
            wanted = data if first is None else data[first:last + 1]
            return found != wanted, False, number, time.monotonic() - began
        except Exception:  # refused or cut: any of urllib's and http.client's
            continue
    return False, True, TRIES_MAX, time.monotonic() - began


def measure_reads(daemon, server, files):
    whole = [(href, fetch(daemon, href)) for href, _ in files]
    assert all(hashlib.sha256(data).hexdigest() == digest
               for (_, data), (_, digest) in zip(whole, files))
    choose, faults = random.Random(SEED), random.Random(SEED + 1)
    injected = []

    def fault(method, key, query):
        if faults.random() >= FAULT_SHARE:
            return None
        injected.append(faults.choice(FAULTS))
        return injected[-1]

    server.fault = fault
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        reads = []
        for _ in range(READS):
            href, data = choose.choice(whole[:2] + whole[3:])  # not the manifest, which stays here
            first = choose.randrange(len(data))
            last = choose.randrange(first, len(data))
            ranged = choose.random() < 0.5
            reads.append(pool.submit(read_one, daemon, href, data, first if ranged else None,
                                     last if ranged else None))
        ends = [read.result() for read in reads]
    seconds = time.monotonic() - began
    server.fault = lambda method, key, query: None
    wrong, failed, tries, took = (list(column) for column in zip(*ends))
    took.sort()
    print(f"{READS} reads by {READERS} readers in {seconds:.0f} s, {len(injected)} faults, "
          f"{sum(tries) - READS} reads repeated, p50 {1e3 * took[READS // 2]:.1f} ms, "
          f"p99 {1e3 * took[READS * 99 // 100]:.1f} ms, largest {took[-1]:.2f} s", flush=True)
    held = [common.verdict("wrong bytes", sum(wrong), "0", sum(wrong) == 0),
            common.verdict("reads that failed", sum(failed), "0", sum(failed) == 0),
            common.verdict("hangs", sum(one > SECONDS_MAX for one in took), "0",
                           took[-1] <= SECONDS_MAX)]
    return all(held) and len(injected) > 0


def measure_kill(arguments, scratch, server, point):
    scratch.mkdir()
    (scratch / "state").mkdir()
    daemon = daemon_of(arguments, scratch / "state", server, point).start()
    job = submit(bench_polling.Connection(daemon.url))
    daemon.process.wait(120)
    del daemon.environment["DIDI_FAULT"]
    with daemon:
        good = all(hashlib.sha256(fetch(daemon, href)).hexdigest() == digest
                   for href, digest in finish(daemon, job))
    puts = [key for method, key, *_ in server.requests if method == "PUT" and key.startswith(job)]
    return common.verdict(f"killed at {point}", f"{len(puts)} objects stored", "each once",
                          good and len(puts) == len(set(puts)))


def daemon_of(arguments, state, server, point=None):
    return service.Daemon(arguments.build / "daemon" / "didid", state, common.FAMILY,
                          "--artifact-store", "s3://artifacts", "--s3-endpoint", server.url,
                          "--s3-private", "1", "--s3-keep-local", "0",
                          environment={**server.environment(),
                                       **({"DIDI_FAULT": point} if point else {})})


def measure(arguments, scratch):
    server = s3.S3("artifacts")
    (scratch / "state").mkdir()
    try:
        with daemon_of(arguments, scratch / "state", server) as daemon:
            files = finish(daemon, submit(bench_polling.Connection(daemon.url)))
            held = [measure_reads(daemon, server, files)]
        held += [measure_kill(arguments, scratch / f"kill{number}", server, point)
                 for number, point in enumerate(KILLS)]
    finally:
        server.stop()
    return all(held) and server.problems == []
