# SPDX-License-Identifier: Apache-2.0
"""The HTTP edge: requests a second beside a hello-world of libmicrohttpd, and latency of /livez
while one address holds all the connections it can."""

import contextlib
import json
import pathlib
import re
import resource
import socket
import subprocess
import time

import bench_polling
import common
import service

WRK_SECONDS, ROUNDS = 3, 3
PLAIN_RATIO_MIN, TLS_RATIO_MIN = 0.70, 0.60
P99_SECONDS_MAX = 0.050
PROBES = 300
HEAD = b"GET %s HTTP/1.1\r\nHost: localhost\r\n"
BODY = (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{")


def wrk(url):
    """Requests a second with 64 connections."""
    done = subprocess.run(["wrk", "-t2", "-c64", f"-d{WRK_SECONDS}", url], capture_output=True,
                          text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(done.stdout)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))


@contextlib.contextmanager
def hello(program, *arguments):
    """The hello-world of libmicrohttpd on a free port; its port."""
    port = service.free_port()
    process = subprocess.Popen([program, str(port), *arguments], stdin=subprocess.PIPE)
    try:
        time.sleep(0.3)
        yield port
    finally:
        process.stdin.close()
        process.wait(10)


def best_ratio(ours, yardstick):
    """Both in turn, some rounds: the median of the ratios."""
    ratios = []
    for _ in range(ROUNDS):
        theirs, mine = wrk(yardstick), wrk(ours)
        ratios.append(mine / theirs)
        print(f"  {mine:,.0f} requests/s, hello-world {theirs:,.0f}", flush=True)
    return sorted(ratios)[ROUNDS // 2]


def submit(connection, **fields):
    tasks = {"hiragana": "tasks/hiragana", "latin": "tasks/latin"}
    status, job = connection.call("POST", "/v1/jobs",
                                  json.dumps(common.specification("base", tasks, 1.3, **fields)))
    if status != 201:
        raise RuntimeError(f"submit was answered {status}: {job}")
    return job["id"]


def finished_job(url):
    """The id of a job that has ended well."""
    connection = bench_polling.Connection(url)
    job = submit(connection)
    while connection.call("GET", f"/v1/jobs/{job}")[1]["state"] in ("queued", "running"):
        time.sleep(0.2)
    return job


@contextlib.contextmanager
def unfinished_job(url):
    """The id of a job that waits behind one that runs until it is cancelled."""
    connection = bench_polling.Connection(url)
    jobs = [submit(connection, refine={"optimizer": "adam", "steps": 100000},
                   ranks={"allocator": "differentiable", "steps": 100000}) for _ in range(2)]
    try:
        yield jobs[1]
    finally:
        connection = bench_polling.Connection(url)
        for job in reversed(jobs):
            connection.call("POST", f"/v1/jobs/{job}/cancel")


def throughput(daemon, secure_port, program, pair, job):
    held = []
    with hello(program) as port:
        for path in ("/livez", f"/v1/jobs/{job}"):
            print(f"GET {path.replace(job, '{id}')}", flush=True)
            ratio = best_ratio(f"{daemon.url}{path}", f"http://127.0.0.1:{port}/")
            held.append(common.verdict("ratio to the hello-world", f"{ratio:.2f}",
                                       PLAIN_RATIO_MIN, ratio >= PLAIN_RATIO_MIN))
    with hello(program, *map(str, pair)) as port:
        for path in ("/livez", f"/v1/jobs/{job}"):
            print(f"GET {path.replace(job, '{id}')} over TLS", flush=True)
            ratio = best_ratio(f"https://127.0.0.1:{secure_port}{path}",
                               f"https://127.0.0.1:{port}/")
            held.append(common.verdict("ratio to the hello-world over TLS", f"{ratio:.2f}",
                                       TLS_RATIO_MIN, ratio >= TLS_RATIO_MIN))
    return all(held)


def hold(stack, port, count, text, receive_bytes=None):
    """Opens connections that send `text` and then do nothing."""
    for _ in range(count):
        connection = stack.enter_context(socket.socket())
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(5)
        connection.connect(("127.0.0.1", port))
        with contextlib.suppress(OSError):
            connection.sendall(text)


def probe(port):
    """Latencies of /livez, each over a connection of its own."""
    latencies = []
    for _ in range(PROBES):
        started = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(HEAD % b"/livez" + b"\r\n")
            answer = connection.recv(4096)
        latencies.append(time.perf_counter() - started)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"/livez was answered {answer[:80]!r}")
        time.sleep(0.002)
    latencies.sort()
    return latencies[int(PROBES * 0.99) - 1]


def starvation(daemon, job):
    port = int(daemon.url.rpartition(":")[2])
    poll = HEAD % f"/v1/jobs/{job}/events?after=1000000&wait=60".encode()
    big = HEAD % b"/v1/openapi.yaml" + b"\r\n"
    crowds = {"1000 idle": (1000, b""), "300 slow heads": (300, HEAD % b"/livez"),
              "300 slow bodies": (300, BODY), "300 slow readers": (300, big * 40, 2048),
              "500 long polls": (500, poll + b"\r\n")}
    held = []
    with contextlib.ExitStack() as together:
        for name, crowd in crowds.items():
            with contextlib.ExitStack() as alone:
                hold(alone, port, *crowd)
                p99 = probe(port)
            held.append(common.verdict(f"p99 of /livez beside {name}", f"{1e3 * p99:.2f} ms",
                                       f"{1e3 * P99_SECONDS_MAX:.0f} ms", p99 <= P99_SECONDS_MAX))
        for crowd in crowds.values():
            hold(together, port, *crowd)
        p99 = probe(port)
        held.append(common.verdict("p99 of /livez beside all together", f"{1e3 * p99:.2f} ms",
                                   f"{1e3 * P99_SECONDS_MAX:.0f} ms", p99 <= P99_SECONDS_MAX))
    return all(held)


def measure(arguments, scratch):
    source = pathlib.Path(__file__).with_name("hello_mhd.c")
    program, pair = scratch / "hello", (scratch / "c.pem", scratch / "k.pem")
    subprocess.run(["cc", "-O2", "-o", program, source, "-lmicrohttpd"], check=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", pair[1], "-out", pair[0],
                    "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    state, secure_port = scratch / "state", service.free_port()
    state.mkdir()
    with service.Daemon(arguments.build / "daemon" / "didid", state, common.FAMILY,
                        "--tls-certificate", str(pair[0]), "--tls-key", str(pair[1]),
                        "--running-jobs-max", "1", "--workers", "1",
                        listen=("http://127.0.0.1:{port}", f"https://127.0.0.1:{secure_port}")
                        ) as daemon:
        job = finished_job(daemon.url)
        fast = throughput(daemon, secure_port, program, pair, job)
        with unfinished_job(daemon.url) as waiting:
            return starvation(daemon, waiting) and fast
