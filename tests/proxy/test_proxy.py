# SPDX-License-Identifier: Apache-2.0
"""didid behind nginx and behind Caddy, set up as the examples of docs/proxies say."""

import http.client
import socket
import threading

import pytest

from conftest import BODY_BYTES
from wire import HOLD, Answer, Wire, specification

SECONDS = 20


class Secure(Wire):
    """Requests to a proxy."""

    def __init__(self, proxy):
        super().__init__(f"https://localhost:{proxy.port}")
        self.context = proxy.context

    def request(self, method, target, body=None, headers=None, timeout=60):
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout,
                                                 context=self.context)
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


@pytest.fixture(scope="session")
def wire(proxy):
    return Secure(proxy)


@pytest.fixture(scope="session")
def finished(wire):
    """A succeeded job."""
    job = wire.submit(specification(name="proxied"))
    return wire.wait(job["id"], "succeeded")["id"]


def test_submit_and_result(wire, finished):
    listed = [job["id"] for job in wire.get("/v1/jobs").json()["data"]]
    assert finished in listed


def test_artifacts_by_ranges(wire, finished):
    path = f"/v1/jobs/{finished}/artifacts/shared.safetensors"
    whole = wire.get(path)
    assert whole.status == 200 and whole.headers["ETag"].startswith('"')
    part = wire.get(path, Range="bytes=10-109", If_Range=whole.headers["ETag"])
    assert part.status == 206 and part.body == whole.body[10:110]
    assert part.headers["Content-Range"] == f"bytes 10-109/{len(whole.body)}"
    assert wire.get(path, If_None_Match=whole.headers["ETag"]).status == 304
    assert wire.get(path, Range=f"bytes={len(whole.body)}-").status == 416


def test_head_tells_the_length_and_sends_nothing(wire, finished):
    path = f"/v1/jobs/{finished}/artifacts/shared.safetensors"
    head = wire.request("HEAD", path)
    assert head.status == 200 and head.body == b""
    assert int(head.headers["Content-Length"]) == len(wire.get(path).body)


def test_long_poll_is_answered_by_what_happens(wire):
    job = wire.submit(specification(name="held", **HOLD))
    wire.wait(job["id"], "running")
    after = wire.get(f"/v1/jobs/{job['id']}/events?limit=1000").json()["data"][-1]["number"]
    answers = []
    poll = threading.Thread(target=lambda: answers.append(
        wire.get(f"/v1/jobs/{job['id']}/events?after={after}&wait=60")))
    poll.start()
    wire.post(f"/v1/jobs/{job['id']}/cancel")
    poll.join(SECONDS)
    wire.wait(job["id"], "cancelled")
    assert answers and answers[0].status == 200 and answers[0].json()["data"]


def test_a_body_over_the_limit_is_refused_by_didid_itself(wire):
    answer = wire.post("/v1/jobs", b'{"name": "' + b"x" * (2 * BODY_BYTES) + b'"}')
    assert answer.status == 413
    assert answer.problem() == "body-too-large" and str(BODY_BYTES) in answer.json()["detail"]
    assert wire.get("/livez").status == 200


def test_large_headers(wire):
    assert wire.get("/livez", X_Padding="x" * 6000).status == 200
    try:
        answer = wire.get("/livez", X_Padding="x" * 3_000_000)
        assert answer.status in (400, 413, 431, 494, 502)
    except OSError:
        pass  # closed before all was sent
    assert wire.get("/livez").status == 200


def test_problems_pass_through(wire):
    assert wire.get("/v1/jobs/nothing").problem()
    assert wire.post("/v1/jobs", b"{").problem() == "malformed-json"


# ---- what the server behind sees, and when ----

def read_until(connection, end):
    received = b""
    while end not in received:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return received


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        yield server


def accept(listener):
    """The next connection; the proxy may have opened and left one at start."""
    connection, _ = listener.accept()
    connection.settimeout(SECONDS)
    return connection


def test_streams_are_not_held_back(before, listener):
    """The second event is sent only when the client has the first."""
    with before(listener.getsockname()[1]).connect(SECONDS) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with accept(listener) as server:
            read_until(server, b"\r\n\r\n")
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n")
            read_until(client, b"data: 1\n")
            server.sendall(b"8\r\ndata: 2\n\r\n0\r\n\r\n")
            read_until(client, b"data: 2\n")


def test_uploads_are_not_held_back(before, listener):
    """The client sends the second half only when the server has the first."""
    half = b"u" * 300_000
    with before(listener.getsockname()[1]).connect(SECONDS) as client:
        client.sendall(b"PUT /upload HTTP/1.1\r\nHost: localhost\r\n"
                       b"Content-Length: %d\r\n\r\n" % (2 * len(half)))
        client.sendall(half)
        with accept(listener) as server:
            received = read_until(server, b"\r\n\r\n").split(b"\r\n\r\n", 1)[1]
            while len(received) < len(half):
                received += server.recv(65536)
            client.sendall(half)
            while len(received) < 2 * len(half):
                received += server.recv(65536)
            assert received == 2 * half
            server.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 204")


def test_host_and_client_address(before, listener):
    with before(listener.getsockname()[1]).connect(SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n"
                       b"Forwarded: for=192.0.2.1\r\nAuthorization: Bearer t\r\n\r\n")
        with accept(listener) as server:
            head = read_until(server, b"\r\n\r\n").decode().lower().split("\r\n")
            server.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            read_until(client, b"\r\n\r\n")
    assert "host: localhost" in head
    assert [line for line in head if line.startswith("x-forwarded-for:")] == [
        "x-forwarded-for: 127.0.0.1"]
    assert not [line for line in head if line.startswith("forwarded:")]
    assert "x-forwarded-proto: https" in head
    assert "authorization: bearer t" in head


def test_a_request_is_never_sent_twice(before, listener):
    """didid closes without an answer: the client hears of it, nothing is tried again."""
    with before(listener.getsockname()[1]).connect(SECONDS) as client:
        client.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        with accept(listener) as server:
            read_until(server, b"{}")
        assert b" 502 " in read_until(client, b"\r\n")
        listener.settimeout(1)
        with pytest.raises(TimeoutError):
            listener.accept()
