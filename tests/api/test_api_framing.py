# SPDX-License-Identifier: Apache-2.0
"""What a hostile or broken client may send below HTTP's surface."""

import concurrent.futures
import json
import re
import socket
import time

import pytest

import attacks

SMUGGLED = b"GET /v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n"


def head(line, *fields):
    return "\r\n".join((line, "Host: localhost", *fields, "", "")).encode("latin-1")


def replies(received):
    """(status, head, body) of all replies of a connection."""
    found = []
    while received:
        top, _, rest = received.partition(b"\r\n\r\n")
        status = int(re.match(rb"HTTP/1\.1 (\d{3}) ", top).group(1))
        length = re.search(rb"(?m)^Content-Length: (\d+)\r?$", top)
        size = int(length.group(1)) if length else 0
        found.append((status, top, rest[:size]))
        received = rest[size:]
    return found


def problems(received):
    """Names of the problems in all replies of a connection."""
    return [json.loads(body)["type"].removeprefix("urn:didid:problem:")
            for _, _, body in replies(received)]


@pytest.mark.parametrize("fields", [
    ("Content-Length: 4", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Content-Length: 4"),
    ("Content-Length: 4", "Content-Length: 60"),
    ("Content-Length: 0", "Content-Length: 4"),
    ("Content-Length: 4", "Content-Length: 4"),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    ("Content-Length: 04",),
])
def test_ambiguous_lengths_end_the_connection(wire, fields):
    request = head("POST /v1/jobs HTTP/1.1", "Content-Type: application/json", *fields)
    received = wire.raw(request + b"0\r\n\r\n" + SMUGGLED)
    assert problems(received) == ["malformed-request"]
    assert b"Connection: close" in received


@pytest.mark.parametrize("coding", ["gzip", "xchunked", "chunked, gzip", "identity", "chunked,",
                                    "chunked;q=1", "\"chunked\"", ""])
def test_other_transfer_codings_are_not_implemented(wire, coding):
    request = head("POST /v1/jobs HTTP/1.1", "Content-Type: application/json",
                   f"Transfer-Encoding: {coding}")
    received = wire.raw(request + b"0\r\n\r\n" + SMUGGLED)
    assert problems(received) == ["not-implemented"]
    assert b"Connection: close" in received


@pytest.mark.parametrize("target", [
    "/v1/jobs/%00", "/v1/models/a%2fb", "/v1/models/a%2Fb", "/v1/models/a%5cb", "/v1/../livez",
    "/v1/./livez", "/v1/%2e%2e/livez", "//livez", "/v1//jobs", "/v1/jobs/", "/livez?a=%zz",
    "/livez?a=%0a", "/v1/jobs/%ff", "/livez#x", "/v1\\jobs", "/livez?after=1&after=2",
    "http://localhost/livez", "*", "/" + "a/" * 40,
])
def test_bad_targets_are_refused(wire, target):
    received = wire.raw(head(f"GET {target} HTTP/1.1"))
    assert problems(received) == ["malformed-request"]


@pytest.mark.parametrize("field", ["Content-Length : 4", "X(Y): 1", "X-Y: a\x01b"])
def test_bad_header_fields_are_refused(wire, field):
    received = wire.raw(head("GET /livez HTTP/1.1", field), seconds=5)
    assert received.startswith(b"HTTP/1.1 400")
    assert received.count(b"HTTP/1.1 ") == 1


def test_host_must_be_ours(wire):
    for host in ("evil.example", "evil.example:7878", "localhost.evil.example", "127.0.0.1.evil",
                 "localhost:x", "10.0.0.1"):
        assert wire.get("/livez", Host=host).problem() == "wrong-host", host
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:99"):
        assert wire.get("/livez", Host=host).status == 200, host
    assert problems(wire.raw(b"GET /livez HTTP/1.0\r\n\r\n")) == ["malformed-request"]
    two = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"
    assert problems(wire.raw(two)) == ["malformed-request"]


def test_pages_of_other_origins_are_refused(wire):
    for origin in ("http://evil.example", "null", "https://127.0.0.1"):
        answer = wire.post("/v1/models/rescan", Origin=origin)
        assert (answer.status, answer.problem()) == (403, "cross-origin")
    assert wire.get("/livez", Host="localhost:1", Origin="http://localhost:1").status == 200


def test_body_over_the_limit_is_refused_before_it_is_sent(wire):
    request = head("POST /v1/jobs HTTP/1.1", "Content-Type: application/json",
                   "Content-Length: 65537", "Expect: 100-continue")
    received = wire.raw(request)
    assert received.startswith(b"HTTP/1.1 413")
    assert problems(received) == ["body-too-large"]


def test_chunked_body_over_the_limit_is_refused(wire):
    request = head("POST /v1/jobs HTTP/1.1", "Content-Type: application/json",
                   "Transfer-Encoding: chunked")
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    received = wire.raw(request + chunk * 3 + b"0\r\n\r\n")
    assert problems(received) == ["body-too-large"]


def test_chunked_body_is_taken(wire):
    body = b'{"base":7}'
    request = head("POST /v1/jobs HTTP/1.1", "Content-Type: application/json",
                   "Transfer-Encoding: chunked", "Connection: close")
    received = wire.raw(request + b"5\r\n" + body[:5] + b"\r\n5\r\n" + body[5:] + b"\r\n0\r\n\r\n")
    assert problems(received) == ["invalid-specification"]


def test_a_request_must_arrive_in_time(wire):
    """One byte now and then does not keep a connection: the deadline is absolute."""
    begun = time.monotonic()
    received = wire.raw(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ", seconds=30)
    assert problems(received) == ["request-timeout"]
    assert time.monotonic() - begun > 2
    begun = time.monotonic()
    request = head("POST /v1/jobs HTTP/1.1", "Content-Type: application/json", "Content-Length: 9")
    assert problems(wire.raw(request + b"{", seconds=30)) == ["request-timeout"]
    assert time.monotonic() - begun > 2


def test_header_floods_are_refused(wire):
    fields = [f"X-{i}: {'a' * 50}" for i in range(2000)]
    received = wire.raw(head("GET /livez HTTP/1.1", *fields))
    assert problems(received) == ["head-too-large"]
    assert problems(wire.raw(head("GET /" + "a" * 9000 + " HTTP/1.1"))) == ["target-too-long"]
    assert wire.get("/livez").status == 200


@pytest.mark.parametrize("data", [
    b"\r\n\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\n",
    b"GET\r\n\r\n", b"GET /livez\r\n\r\n", b"GET /livez HTTP/9.9\r\n\r\n", b"\xff\xfe" * 300,
], ids=["lines", "nuls", "tls", "http2", "no target", "no version", "version 9.9", "bytes"])
def test_what_is_not_http_ends(wire, data):
    wire.raw(data, seconds=6, half_close=True)
    assert wire.get("/livez").status == 200


def test_pipelined_requests_are_answered_in_order(wire):
    one = head("GET /livez HTTP/1.1")
    last = head("GET /v1/nothing HTTP/1.1", "Connection: close")
    received = wire.raw(one + one + last)
    assert re.findall(rb"HTTP/1\.1 (\d+)", received) == [b"200", b"200", b"404"]


REFUSED = {"malformed-request", "not-implemented", "version-not-supported", "wrong-host",
           "head-too-large", "target-too-long", "expectation-failed", "cross-origin"}


def outcome(wire, name, attack):
    """What is wrong with the answer to an attack, or None."""
    received = wire.raw(attack + attacks.SECOND, seconds=8)
    answers = replies(received)
    if len(answers) != 1 or b"application/problem+json" not in answers[0][1]:
        return f"{name}: {attack[:100]!r}: {received[:300]!r}"
    found = problems(received)[0]
    if found not in REFUSED or b"\r\nConnection: close" not in answers[0][1]:
        return f"{name}: {attack[:100]!r}: {found}"
    return None


def test_no_attack_reaches_a_handler(wire):
    """Each gets one problem document, and what follows on the connection none."""
    known = list(attacks.attacks())
    assert len(known) >= 500
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        wrong = [text for text in pool.map(lambda item: outcome(wire, *item), known) if text]
    assert not wrong, "\n".join(wrong)
    assert wire.get("/livez").status == 200


def test_one_empty_line_before_a_request_is_passed_over(wire):
    """RFC 9112 section 2.2."""
    received = wire.raw(b"\r\n" + head("GET /livez HTTP/1.1", "Connection: close"))
    assert received.startswith(b"HTTP/1.1 200") and received.endswith(b'{"status":"ok"}')


def test_extensions_and_trailers_are_passed_over(wire):
    request = head("POST /v1/jobs HTTP/1.1", "Content-Type: application/json",
                   "Transfer-Encoding: chunked", "Connection: close")
    body = b'5 ; a = "b;\\"c" ;d\r\n{"bas\r\n0005\r\ne":7}\r\n0\r\nContent-Length: 9\r\n\r\n'
    assert problems(wire.raw(request + body)) == ["invalid-specification"]


def test_a_promised_body_is_asked_for(wire):
    request = head("POST /v1/jobs HTTP/1.1", "Content-Type: application/json",
                   "Content-Length: 10", "Expect: 100-continue", "Connection: close")
    with socket.create_connection((wire.host, wire.port), timeout=10) as connection:
        connection.sendall(request)
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"base":7}')
        assert connection.recv(1000).startswith(b"HTTP/1.1 422 ")


def test_requests_byte_by_byte(wire):
    request = head("GET /livez HTTP/1.1") + head("GET /livez HTTP/1.1", "Connection: close")
    with socket.create_connection((wire.host, wire.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            connection.sendall(bytes([byte]))
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert received.count(b"HTTP/1.1 200 OK") == 2


def test_requests_have_an_id(wire):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    first = wire.get("/v1/nothing", traceparent=trace, X_Request_Id="mine")
    assert first.json()["request_id"] == first.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-z]{26}", first.headers["X-Request-Id"])
    assert wire.get("/livez").headers["X-Request-Id"] != first.headers["X-Request-Id"]


def test_many_clients_at_once(wire):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: wire.get("/v1/jobs").status, range(400)))
    assert statuses == [200] * 400
