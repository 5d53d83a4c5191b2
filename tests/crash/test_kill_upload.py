# SPDX-License-Identifier: Apache-2.0
"""kill -9 while a model is uploaded and committed: what was acknowledged is there, the model is
whole or not there at all, and going on ends well."""

import hashlib
import http.client
import json
import os
import random
import select
import socket
import sqlite3
import struct
import threading
import time
import urllib.parse

import pytest

from faults import Shim
from service import Daemon

ROUNDS = 6


def tensors(count):
    """A model.safetensors with `count` numbers of chance."""
    data = random.Random(5).randbytes(4 * count)
    head = json.dumps({"w": {"dtype": "F32", "shape": [count // 8, 8],
                             "data_offsets": [0, len(data)]}}).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def call(daemon, method, target, body=None, headers=None):
    place = urllib.parse.urlsplit(daemon.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    try:
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def create(daemon, name, content):
    status, document = call(daemon, "POST", "/v1/models/uploads", json.dumps({
        "name": name, "files": [{"name": "model.safetensors", "bytes": len(content),
                                 "sha256": hashlib.sha256(content).hexdigest()}]}),
        {"Content-Type": "application/json"})
    assert status == 201, document
    return document["id"]


def put_rest(daemon, identifier, content, offset, piece):
    """Sends the rest in pieces; what was acknowledged last."""
    while offset < len(content):
        part = content[offset:offset + piece]
        status, document = call(
            daemon, "PUT", f"/v1/models/uploads/{identifier}/files/model.safetensors", part,
            {"Content-Range": f"bytes {offset}-{offset + len(part) - 1}/{len(content)}"})
        assert status == 200, document
        offset = document["offset"]
        yield offset


@pytest.fixture
def make(didid, family, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    (tmp_path / "state").mkdir()

    def start(fault=None, environment=None):
        if fault:
            environment = {"DIDI_FAULT": fault}
        return Daemon(didid, tmp_path / "state", family, "--models", str(models), "--upload-dir",
                      str(models), environment=environment)

    yield start, models


@pytest.mark.parametrize("fault, appeared", [
    ("upload:1:KILL", False), ("uploaded:1:KILL", True), ("rename:3:KILL", False)])
def test_killed_in_the_middle_of_a_commit(make, fault, appeared):
    start, models = make
    content = tensors(64)
    with start(fault) as daemon:
        identifier = create(daemon, "org/model", content)
        assert list(put_rest(daemon, identifier, content, 0, len(content))) == [len(content)]
        with pytest.raises((OSError, http.client.HTTPException)):
            call(daemon, "POST", f"/v1/models/uploads/{identifier}/commit")
        daemon.process.wait(30)
    assert (models / "org/model").exists() == appeared
    with start() as daemon:
        _, document = call(daemon, "GET", f"/v1/models/uploads/{identifier}")
        assert document["state"] == ("committed" if appeared else "open")
        status, found = call(daemon, "GET", "/v1/models/org/model")
        assert (status == 200) == appeared
        status, document = call(daemon, "POST", f"/v1/models/uploads/{identifier}/commit")
        assert (status, document["state"]) == (200, "committed")
        status, found = call(daemon, "GET", "/v1/models/org/model")
        assert status == 200 and found["state"] == "ready"
        assert (models / "org/model/model.safetensors").read_bytes() == content
        assert os.listdir(models / ".uploads") == []


def test_killed_while_bytes_come(make):
    start, models = make
    content = tensors(1 << 19)
    chooser = random.Random(11)
    acknowledged, identifier = 0, None
    for _ in range(ROUNDS):
        with start() as daemon:
            if identifier is None:
                identifier = create(daemon, "model", content)
            _, document = call(daemon, "GET", f"/v1/models/uploads/{identifier}")
            offset = document["files"][0]["offset"]
            assert offset >= acknowledged
            assert not (models / "model").exists()
            killer = threading.Timer(chooser.uniform(0.002, 0.06), daemon.process.kill)
            killer.start()
            try:
                for acknowledged in put_rest(daemon, identifier, content, offset, 20011):
                    if acknowledged > len(content) // 2:
                        break
            except (OSError, http.client.HTTPException):
                pass
            killer.join()
            daemon.process.wait(30)
    with start() as daemon:
        _, document = call(daemon, "GET", f"/v1/models/uploads/{identifier}")
        offset = document["files"][0]["offset"]
        assert offset >= acknowledged
        for _ in put_rest(daemon, identifier, content, offset, 1 << 20):
            pass
        status, document = call(daemon, "POST", f"/v1/models/uploads/{identifier}/commit")
        assert (status, document["state"]) == (200, "committed"), document
    assert (models / "model/model.safetensors").read_bytes() == content


def test_what_nobody_touches_expires(make, tmp_path):
    start, models = make
    with start() as daemon:
        identifier = create(daemon, "old", tensors(8))
        next(put_rest(daemon, identifier, tensors(8), 0, 5))
    assert os.listdir(models / ".uploads") == [identifier]
    database = sqlite3.connect(tmp_path / "state/didid.db")
    with database:
        database.execute("UPDATE uploads SET updated_ms = updated_ms - 73 * 3600 * 1000")
    database.close()
    unknown = models / ".uploads" / ("0" * 26)
    unknown.mkdir()
    with start() as daemon:
        status, _ = call(daemon, "GET", f"/v1/models/uploads/{identifier}")
        assert status == 404
    assert os.listdir(models / ".uploads") == [unknown.name]
    old = time.time() - 73 * 3600
    os.utime(unknown, (old, old))
    with start():
        pass
    assert os.listdir(models / ".uploads") == []


def test_what_nobody_touches_expires_without_a_request(make, tmp_path):
    start, models = make
    shim = Shim(tmp_path, tmp_path / "state")
    with start(environment=shim.environment) as daemon:
        identifier = create(daemon, "old", tensors(8))
        next(put_rest(daemon, identifier, tensors(8), 0, 5))
        shim.set(clock_offset_s=80 * 3600)
        time.sleep(12)  # one look, by a clock that was set: that is no age
        assert os.listdir(models / ".uploads") != []
    shim.set(clock_offset_s=72 * 3600 - 30)  # it comes of age some seconds after the start
    with start(environment=shim.environment) as daemon:
        deadline = time.monotonic() + 90
        while os.listdir(models / ".uploads") \
                or call(daemon, "GET", "/v1/models/uploads")[1]["data"]:
            assert time.monotonic() < deadline, daemon.log()
            time.sleep(0.1)


def test_a_whole_file_that_nobody_checked_is_taken_up(make):
    start, models = make
    content = tensors(64)
    with start() as daemon:
        identifier = create(daemon, "model", content)
        next(put_rest(daemon, identifier, content, 0, 5))
    # As a process leaves it that dies before the digest is compared.
    (models / ".uploads" / identifier / "model.safetensors.part").write_bytes(content)
    with start() as daemon:
        _, document = call(daemon, "GET", f"/v1/models/uploads/{identifier}")
        assert not document["files"][0]["complete"]
        for _ in put_rest(daemon, identifier, content, document["files"][0]["offset"], 1 << 20):
            pass
        status, _ = call(daemon, "POST", f"/v1/models/uploads/{identifier}/commit")
        assert status == 200
    assert (models / "model/model.safetensors").read_bytes() == content


GIANT = 3 << 30


def last_byte_of_giant(daemon, models, name):
    """Sends the last byte of a file that is all holes: what follows is its digest."""
    status, document = call(daemon, "POST", "/v1/models/uploads", json.dumps({
        "name": name,
        "files": [{"name": "model.safetensors", "bytes": GIANT, "sha256": "0" * 64}]}),
        {"Content-Type": "application/json"})
    assert status == 201, document
    place = models / ".uploads" / document["id"]
    place.mkdir()
    with open(place / "model.safetensors.part", "wb") as file:
        file.truncate(GIANT - 1)
    connection = socket.create_connection(
        (urllib.parse.urlsplit(daemon.url).hostname, urllib.parse.urlsplit(daemon.url).port), 60)
    connection.sendall(
        f"PUT /v1/models/uploads/{document['id']}/files/model.safetensors HTTP/1.1\r\n"
        f"Host: localhost\r\nContent-Length: 1\r\n"
        f"Content-Range: bytes {GIANT - 1}-{GIANT - 1}/{GIANT}\r\n\r\n\0".encode())
    return document["id"], connection


def test_digests_of_large_files_hold_neither_requests_nor_the_end_up(make):
    start, models = make
    with start() as daemon:
        uploads = [last_byte_of_giant(daemon, models, f"giant-{i}") for i in range(2)]
        deadline = time.monotonic() + 60
        while any((models / ".uploads" / identifier / "model.safetensors.part").stat().st_size
                  < GIANT for identifier, _ in uploads):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert call(daemon, "GET", "/v1/jobs")[0] == 200
        sockets = [connection for _, connection in uploads]
        assert not select.select(sockets, [], [], 0)[0], "the digests were over too soon to tell"
        assert daemon.stop() == 0
        for connection in sockets:
            assert b" 503 " in connection.recv(65536)
            connection.close()
    with start() as daemon:  # nothing is lost
        for identifier, _ in uploads:
            _, document = call(daemon, "GET", f"/v1/models/uploads/{identifier}")
            assert (document["files"][0]["offset"], document["files"][0]["complete"]) \
                == (GIANT - 1, False)
            assert call(daemon, "DELETE", f"/v1/models/uploads/{identifier}")[0] == 204
