# SPDX-License-Identifier: Apache-2.0
"""Servers that mean harm or are broken: didictl ends, says why, and shows nothing raw."""

import contextlib
import json
import re
import socket
import threading

import pytest

from fake import JOB, Answer, artifact, event, job, page, problem

# One of each kind that must not reach a terminal or a log as it is.
EVIL = ("\x01\x1b[2J\x7f\u0080\u009b31m\u061c\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202e"
        "\u2060\u2066\u2069\ufeff\U000e0041")
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
                 "\U000e0000-\U000e007f]")


class Raw:
    """A server of one function: connection -> None, called for every connection."""

    def __init__(self, serve):
        self.serve, self.connections = serve, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            self.serve(connection)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass


@pytest.fixture
def raw():
    servers = []

    def start(serve):
        servers.append(Raw(serve))
        return servers[-1]

    yield start
    for server in servers:
        server.listener.close()


def head(connection):
    """Reads a request's head."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError
        data += piece


# ---- nothing raw on a terminal


def evil_job():
    failure = {"type": "urn:didid:problem:x" + EVIL, "title": EVIL, "detail": EVIL, "status": 500}
    return job(name=EVIL, stage=EVIL, labels={EVIL: EVIL}, error=failure, state="failed",
               specification={"base": EVIL, "budget": EVIL,
                              "tasks": [{"name": EVIL, "model": EVIL}]})


@pytest.fixture
def evil(fake):
    """A server all of whose texts are evil."""
    fake.on("GET", "/v1/jobs", page([evil_job()]))
    fake.on("GET", f"/v1/jobs/{JOB}", evil_job())
    fake.on("GET", f"/v1/jobs/{JOB}/events",
            page([event(1, kind="note", text=EVIL, stage=EVIL),
                  event(2, kind="state", state=EVIL)]))
    fake.on("GET", "/v1/models", page([{"name": EVIL, "state": EVIL, "reason": EVIL}]))
    fake.on("GET", "/v1/models/a", {"name": EVIL, "state": EVIL, "reason": EVIL, "tensors": [
        {"name": EVIL, "dtype": EVIL, "shape": [1]}]})
    fake.on("GET", "/v1/fetches", page([{"id": EVIL, "name": EVIL, "source": EVIL,
                                         "state": EVIL, "error": {"detail": EVIL}}]))
    fake.on("POST", "/v1/models", {"id": EVIL, "name": EVIL, "state": EVIL})
    fake.on("GET", "/v1/version", {"version": EVIL, "blas": {"library": EVIL, "flavour": EVIL,
                                                            "kernel": EVIL}})
    fake.on("GET", f"/v1/jobs/{JOB}/ranks", {"tasks": [EVIL], "layers": [
        {"tensor": EVIL, "shared": 1, "experts": [1], "dense": [False], "errors": [0]}]})
    fake.on("GET", "/v1/status", {"version": EVIL, "ready": False, "warnings": [EVIL],
                                  "running": [{"id": EVIL, "name": EVIL, "stage": EVIL}]})
    return fake


COMMANDS = [["jobs"], ["show", JOB], ["watch", JOB], ["wait", JOB],
            ["events", JOB], ["model", "ls"], ["model", "ls", "-o", "name"], ["model", "show", "a"],
            ["model", "fetches"], ["model", "fetches", "-o", "name"],
            ["model", "add", "a", "hf:a/b"], ["version"],
            ["ranks", JOB], ["status"]]
DOCUMENTS = [["jobs"], ["show", JOB], ["events", JOB], ["model", "ls"], ["version"],
             ["ranks", JOB], ["status"]]


@pytest.fixture
def run(call):
    """call, whatever the exit code."""

    def try_codes(*arguments, **more):
        for status in (0, 1, 3):
            with contextlib.suppress(AssertionError):
                return call(*arguments, status=status, **more)
        return call(*arguments, **more)

    return try_codes


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_evil_texts_are_escaped(evil, run, command):
    done = run(*command)
    assert not RAW.search(done.stdout), done.stdout
    assert not RAW.search(done.stderr), done.stderr
    assert "\\u{1b}" in done.stdout + done.stderr


@pytest.mark.parametrize("command, method, path, answer", [
    (["token", "create", "ci", "--scope", "read"], "POST", "/v1/tokens", {"token": EVIL}),
    (["hook", "add", "a", "-", "--new-secret"], "PUT", "/v1/hooks/a",
     {"name": EVIL, "secret": EVIL}),
    (["webhook", "add", "https://a.example/"], "POST", "/v1/webhooks",
     {"id": EVIL, "secret": EVIL}),
], ids=["token", "hook", "webhook"])
def test_what_is_shown_once_is_escaped(fake, call, command, method, path, answer):
    fake.on(method, path, answer)
    done = call(*command, stdin="{}")
    assert "\\u{9b}" in done.stdout
    assert not RAW.search(done.stdout + done.stderr)


@pytest.mark.parametrize("form", ["json", "jsonl"])
@pytest.mark.parametrize("command", DOCUMENTS, ids=" ".join)
def test_documents_stay_json_and_are_escaped(evil, run, command, form):
    done = run(*command, "-o", form)
    assert not RAW.search(done.stdout), done.stdout
    documents = [json.loads(done.stdout)] if form == "json" else \
        [json.loads(line) for line in done.stdout.splitlines()]
    assert EVIL in json.dumps(documents, ensure_ascii=False) or \
        json.dumps(EVIL)[1:-1] in json.dumps(documents)


def test_evil_problems_are_escaped(fake, call):
    for kind in ("application/problem+json", "text/html" + EVIL[3:6]):
        fake.on("GET", "/v1/jobs", Answer(
            json.dumps({"title": EVIL, "detail": EVIL, "pointer": EVIL}).encode(), 400, kind))
        done = call("jobs", status=1)
        assert not RAW.search(done.stderr) and done.stderr.count("\n") == 1


# ---- not HTTP


@pytest.mark.parametrize("greeting", [
    b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"220 mail ESMTP\r\n",
    b"hello\n", b"\0" * 64, b"HTTP/9000 what\r\n\r\n"], ids=range(6))
def test_what_is_not_http_is_called_so(raw, call, greeting):
    server = raw(lambda connection: (head(connection), connection.sendall(greeting)))
    done = call("--timeout", "5", "jobs", status=5, DIDI_HOST=server.url)
    assert "the server does not speak HTTP" in done.stderr
    assert "usable address" not in done.stderr and server.connections == 1


# ---- answers without end


def endless(connection, start, more):
    head(connection)
    connection.sendall(start)
    while True:
        connection.sendall(more)


def test_headers_without_end(raw, call):
    server = raw(lambda connection: endless(connection, b"HTTP/1.1 200 OK\r\n",
                                            b"X-More: " + b"x" * 4000 + b"\r\n"))
    assert "head of the answer is over 256 KiB" in \
        call("jobs", status=1, DIDI_HOST=server.url).stderr
    assert server.connections == 1


def test_interim_answers_without_end(raw, call):
    server = raw(lambda connection: endless(connection, b"", b"HTTP/1.1 103 Wait\r\n\r\n" * 100))
    assert "head of the answer is over 256 KiB" in \
        call("jobs", status=1, DIDI_HOST=server.url).stderr


@pytest.mark.parametrize("status, limit", [(200, "256 MiB"), (404, "1 MiB")])
def test_bodies_without_end(raw, call, status, limit):
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    server = raw(lambda connection: endless(
        connection, b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n" % status, chunk))
    assert f"the answer is over {limit}" in call("jobs", status=1, DIDI_HOST=server.url).stderr
    assert server.connections == 1


def trickle(connection, start, more):
    head(connection)
    connection.sendall(start)
    stop = threading.Event()
    while True:
        connection.sendall(more)
        stop.wait(0.2)


@pytest.mark.parametrize("start, more", [(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
                                         (b"HTTP/1.1 200 OK\r\nX: ", b"y")])
def test_heads_that_trickle_are_given_up(raw, call, start, more):
    server = raw(lambda connection: trickle(connection, start, more))
    done = call("--timeout", "1", "jobs", status=5, DIDI_HOST=server.url)
    assert server.connections == 1
    assert re.fullmatch("didictl: .+\nnext: .+ --timeout SECONDS waits longer\n", done.stderr)


@pytest.mark.parametrize("length, status", [(b"-5", 5), (b"1, 2", 1), (b"x", 5)])
def test_lengths_that_lie(raw, call, length, status):
    body = json.dumps(page([job()])).encode()
    server = raw(lambda connection: (head(connection), connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: " + length + b"\r\n\r\n" + body)))
    done = call("--timeout", "2", "jobs", status=status, DIDI_HOST=server.url)
    assert done.stdout == "" and server.connections <= 5


def test_a_body_shorter_than_its_length_is_asked_for_again_five_times(raw, call):
    server = raw(lambda connection: (head(connection), connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")))
    call("--timeout", "5", "jobs", status=5, DIDI_HOST=server.url)
    assert server.connections == 5


# ---- servers that want to be asked again


@pytest.mark.parametrize("status", [429, 503])
def test_busy_for_ever(fake, call, status):
    fake.on("GET", "/v1/jobs", problem(status, "Busy"))
    assert "Busy" in call("jobs", status=1).stderr
    assert len(fake.seen) == 5


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_that_is_asked_for_is_kept(fake, call, status):
    busy = problem(status, "Busy")
    busy.headers["Retry-After"] = "1"
    fake.on("GET", "/v1/jobs", [busy, page([job()])])
    assert call("jobs", "-o", "name").stdout == JOB + "\n"
    assert len(fake.seen) == 2


@pytest.mark.parametrize("after", ["3600", "9" * 30, "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_long_pause_is_not_waited_for(fake, call, after):
    busy = problem(503, "Busy")
    busy.headers["Retry-After"] = after
    fake.on("GET", "/v1/jobs", busy)
    assert re.search(r"Busy; it asks to come back in \d+ s\n", call("jobs", status=1).stderr)
    assert len(fake.seen) == 1


def test_redirects_are_not_followed(fake, call):
    fake.on("GET", "/v1/jobs", Answer(b"", 307, headers={"Location": fake.url + "/v1/jobs"}))
    assert "status 307" in call("jobs", status=1).stderr
    assert len(fake.seen) == 1


# ---- downloads

CONTENT = bytes(range(256)) * 40
FILE = f"/v1/jobs/{JOB}/artifacts/f"


@pytest.fixture
def listed(fake):
    row = artifact("f", CONTENT)
    fake.on("GET", f"/v1/jobs/{JOB}", job(state="succeeded"))
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page([row]))
    return row


def pull(call, tmp_path, status=1):
    done = call("pull", JOB, str(tmp_path / "out"), status=status)
    assert not (tmp_path / "out" / "f").exists() and done.stderr.count("didictl: ") >= 1
    return done.stderr


@pytest.mark.parametrize("start", [0, 100])
def test_416_for_ever(fake, listed, call, tmp_path, start):
    (tmp_path / "out").mkdir()
    if start:
        (tmp_path / "out" / f".f.{listed['sha256'][:16]}.part").write_bytes(CONTENT[:start])
    fake.on("GET", FILE, problem(416, "No such range"))
    pull(call, tmp_path)
    assert len(fake.requests("GET", FILE)) <= 6


def test_416_after_every_piece(fake, listed, call, tmp_path):
    """A piece, then 416, then the piece again: bytes come in all the time, but none is new."""
    sizes = [100, 50, 80, 20]

    def answer(request):
        if request.headers["Range"]:
            return problem(416, "No such range")
        sizes.append(sizes.pop(0))
        return Answer(CONTENT, 200, "application/octet-stream", cut=sizes[-1])

    fake.on("GET", FILE, answer)
    pull(call, tmp_path)
    assert len(fake.requests("GET", FILE)) < 15


def test_files_that_grow_and_shrink(fake, listed, call, tmp_path):
    """A server that ignores ranges and cuts, now earlier, now later."""
    cuts = [500, 100, 400, 200]

    def answer(_):
        cuts.append(cuts.pop(0))
        return Answer(CONTENT, 200, "application/octet-stream", cut=cuts[-1])

    fake.on("GET", FILE, answer)
    pull(call, tmp_path, status=5)
    assert len(fake.requests("GET", FILE)) < 15


@pytest.mark.parametrize("content_range", [
    "bytes 0-9/10", "bytes 101-10239/10240", "bytes 100-10238/10240", "bytes 100-10239/*", "x", ""])
def test_wrong_ranges(fake, listed, call, tmp_path, content_range):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".f.{listed['sha256'][:16]}.part").write_bytes(CONTENT[:100])
    fake.on("GET", FILE, Answer(CONTENT[100:], 206, "application/octet-stream",
                                {"Content-Range": content_range}))
    assert "another range" in pull(call, tmp_path)
    assert len(fake.requests("GET", FILE)) == 1


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b""], ids=["less", "more", "0"])
def test_sizes_that_differ(fake, listed, call, tmp_path, content):
    fake.on("GET", FILE, Answer(content, 200, "application/octet-stream"))
    assert "listed" in pull(call, tmp_path)


def test_more_than_listed_without_a_length(raw, call, tmp_path):
    row = artifact("f", CONTENT)

    def serve(connection):
        if server.connections == 1:
            head(connection)
            body = json.dumps(page([row])).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(body) + body)
            return
        endless(connection, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"1000\r\n" + b"x" * 4096 + b"\r\n")

    server = raw(serve)
    done = call("pull", JOB, str(tmp_path / "out"), status=1, DIDI_HOST=server.url)
    assert "more than the 10240 bytes it listed" in done.stderr
