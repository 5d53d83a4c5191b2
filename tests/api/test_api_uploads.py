# SPDX-License-Identifier: Apache-2.0
"""Models that come by the interface."""

import hashlib
import json
import os
import socket
import struct
import time

import pytest

from service import Daemon
from wire import HOLD, Wire, specification


def tensors(seed=1, count=64):
    """A small model.safetensors."""
    data = bytes((seed * i) % 251 for i in range(4 * count))
    head = json.dumps({"layer.weight": {"dtype": "F32", "shape": [count // 8, 8],
                                        "data_offsets": [0, len(data)]}}).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def row(name, content):
    return {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


WEIGHTS = tensors()
CONFIG = b'{"model_type": "small"}'
FILES = {"model.safetensors": WEIGHTS, "config.json": CONFIG}


def request(name, files=None):
    return {"name": name, "files": [row(*each) for each in (files or FILES).items()]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def service(didid, family, place):
    """A daemon that takes uploads, beside the demo family."""
    (place / "state").mkdir()
    (place / "models").mkdir()
    with Daemon(didid, place / "state", family, "--models", str(place / "models"),
                "--upload-dir", str(place / "models"), "--upload-bytes-max", "4000000",
                "--upload-client-bytes-max", "2000000", "--upload-open-max", "3") as running:
        yield running


@pytest.fixture
def server(service):
    wire = Wire(service.url)
    yield wire
    for each in wire.get("/v1/models/uploads").json()["data"]:
        if each["state"] != "committed":
            assert wire.delete(f"/v1/models/uploads/{each['id']}").status == 204


def create(server, name, files=None):
    answer = server.post("/v1/models/uploads", request(name, files))
    assert answer.status == 201, answer.body
    document = answer.json()
    assert answer.headers["Location"] == f"/v1/models/uploads/{document['id']}"
    return document["id"]


def put(server, upload, name, content, headers=None):
    return server.request("PUT", f"/v1/models/uploads/{upload}/files/{name}", content, headers)


def part(first, content, total):
    return {"Content-Range": f"bytes {first}-{first + len(content) - 1}/{total}"}


def names(server):
    return {model["name"] for model in server.get("/v1/models?limit=200").json()["data"]}


def upload(server, name, files=None):
    identifier = create(server, name, files)
    for each, content in (files or FILES).items():
        assert put(server, identifier, each, content).status == 200
    answer = server.post(f"/v1/models/uploads/{identifier}/commit")
    assert answer.status == 200, answer.body
    return identifier


def test_a_model_appears_when_it_is_committed(server, place):
    identifier = create(server, "org/first")
    document = server.get(f"/v1/models/uploads/{identifier}").json()
    assert document["state"] == "open" and document["bytes"] == len(WEIGHTS) + len(CONFIG)
    assert [each["offset"] for each in document["files"]] == [0, 0]
    for name, content in FILES.items():
        answer = put(server, identifier, name, content)
        assert answer.status == 200
        assert answer.json() == {"name": name, "offset": len(content), "complete": True}
    assert "org/first" not in names(server)
    server.post("/v1/models/rescan")
    assert "org/first" not in names(server)
    committed = server.post(f"/v1/models/uploads/{identifier}/commit")
    assert committed.status == 200 and committed.json()["state"] == "committed"
    model = server.get("/v1/models/org/first").json()
    assert model["state"] == "ready" and model["tensor_count"] == 1
    assert (place / "models/org/first/model.safetensors").read_bytes() == WEIGHTS
    assert sorted(os.listdir(place / "models/org/first")) == sorted(FILES)
    assert os.listdir(place / "models/.uploads") == []
    again = server.post(f"/v1/models/uploads/{identifier}/commit")
    assert again.status == 200 and again.json() == server.get(
        f"/v1/models/uploads/{identifier}").json()
    assert server.delete(f"/v1/models/uploads/{identifier}").problem() == "conflict"
    assert server.delete("/v1/models/org/first").status == 204
    assert not (place / "models/org/first").exists() and "org/first" not in names(server)
    assert server.get(f"/v1/models/uploads/{identifier}").problem() == "unknown-upload"
    assert server.delete("/v1/models/org/first").problem() == "unknown-model"


def test_a_file_comes_in_parts(server):
    identifier = create(server, "parts")
    target = f"/v1/models/uploads/{identifier}/files/model.safetensors"
    total, reached = len(WEIGHTS), 0
    for size in (1, 100, 17, total):
        piece = WEIGHTS[reached:reached + size]
        answer = put(server, identifier, "model.safetensors", piece, part(reached, piece, total))
        reached += len(piece)
        assert answer.json()["offset"] == reached
        assert answer.json()["complete"] == (reached == total)
        assert answer.headers["Upload-Offset"] == str(reached)
        assert server.request("HEAD", target).headers["Upload-Offset"] == str(reached)
        assert server.get(target).json()["offset"] == reached
    assert put(server, identifier, "model.safetensors", WEIGHTS).problem() == "conflict"


def test_a_part_begins_where_the_file_ends(server):
    identifier = create(server, "places")
    total = len(WEIGHTS)
    assert put(server, identifier, "model.safetensors", WEIGHTS[:10],
               part(0, WEIGHTS[:10], total)).status == 200
    for first in (0, 9, 11):
        answer = put(server, identifier, "model.safetensors", b"xx", part(first, b"xx", total))
        assert answer.problem() == "conflict" and "10 bytes" in answer.json()["detail"]
    for value in ("bytes 10-11/5", f"bytes 10-11/{total + 1}", f"bytes 10-{total}/{total}",
                  f"bytes 10-{total + 5}/*", "bytes 11-10/20", "bytes 10-12", "bytes */20",
                  "items 10-11/20", "bytes 10-11/ 20", "bytes -5/20", "bytes 10-11/20,",
                  "bytes 10-99999999999999999999/*", "bytes 10-12/*"):
        answer = put(server, identifier, "model.safetensors", b"xx", {"Content-Range": value})
        assert answer.problem() == "invalid-parameter", value
        assert answer.json()["parameter"] == "Content-Range"
    rest = WEIGHTS[10:]
    assert put(server, identifier, "model.safetensors", rest,
               {"Content-Range": f"bytes 10-{total - 1}/*"}).json()["complete"]


def test_what_a_client_sent_before_it_left_stays(server):
    identifier = create(server, "left")
    total = len(WEIGHTS)
    head = (f"PUT /v1/models/uploads/{identifier}/files/model.safetensors HTTP/1.1\r\n"
            f"Host: 127.0.0.1\r\nContent-Length: {total}\r\n\r\n").encode()
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(head + WEIGHTS[:50])
    deadline = time.monotonic() + 60
    while True:
        reached = server.get(f"/v1/models/uploads/{identifier}").json()["files"][0]["offset"]
        answer = put(server, identifier, "model.safetensors", WEIGHTS[reached:],
                     part(reached, WEIGHTS[reached:], total))
        if answer.status == 200:
            break
        assert answer.problem() == "conflict"  # the one that left is not gone yet
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert answer.json()["complete"] and reached in (0, 50)


def test_another_digest_begins_the_file_anew(server):
    identifier = create(server, "digest")
    wrong = bytes(len(CONFIG))
    answer = put(server, identifier, "config.json", wrong)
    assert answer.problem() == "malformed-file" and "SHA-256" in answer.json()["detail"]
    assert server.get(f"/v1/models/uploads/{identifier}").json()["files"][1]["offset"] == 0
    assert put(server, identifier, "config.json", CONFIG).json()["complete"]


def test_bodies_that_are_too_long_or_too_short(server):
    identifier = create(server, "lengths")
    assert put(server, identifier, "config.json", CONFIG + b"x").problem() == "body-too-large"
    assert put(server, identifier, "config.json", iter([CONFIG, b"more"])).status in (400, 413, 422)
    answer = put(server, identifier, "config.json", CONFIG[:5])
    assert answer.json() == {"name": "config.json", "offset": 5, "complete": False}


@pytest.mark.parametrize("change, pointer", [
    ({"name": "../x"}, "/name"), ({"name": "a@b"}, "/name"), ({"name": ".x"}, "/name"),
    ({"name": "models--a--b"}, "/name"), ({"name": 3}, "/name"), ({"name": None}, "/name"),
    ({"files": []}, "/files"), ({"files": {}}, "/files"), ({"files": [1]}, "/files/0"),
    ({"more": 1}, ""),
    ({"files": [row("a.json", b"") | {"more": 1}]}, "/files/0"),
    ({"files": [row("a.json", b"")] * 2}, "/files/1/name"),
    ({"files": [row("a.json", b"") | {"bytes": -1}]}, "/files/0/bytes"),
    ({"files": [row("a.json", b"") | {"bytes": 1.5}]}, "/files/0/bytes"),
    ({"files": [row("a.json", b"") | {"bytes": 2 ** 53}]}, "/files/0/bytes"),
    ({"files": [row("a.json", b"") | {"sha256": "0" * 63}]}, "/files/0/sha256"),
    ({"files": [row("a.json", b"") | {"sha256": "G" * 64}]}, "/files/0/sha256")])
def test_requests_that_cannot_be_used(server, change, pointer):
    answer = server.post("/v1/models/uploads", request("bad") | change)
    assert answer.problem() == "invalid-request"
    assert answer.json().get("pointer", "") == pointer


@pytest.mark.parametrize("name", [
    "../config.json", "a/config.json", ".config.json", "model.bin", "model.pt", "x.py", "config",
    "config.json.part", "", "a b.json", "\u00e4.json", "x" * 201 + ".json",
    "model.safetensors.exe"])
def test_names_of_files_that_are_refused(server, name):
    answer = server.post("/v1/models/uploads",
                         {"name": "bad", "files": [row(name, b"")]})
    assert answer.problem() == "invalid-request"
    assert answer.json()["pointer"] == "/files/0/name"


def test_what_is_no_model_is_not_committed(server, place):
    for name, files in {
            "no-weights": {"config.json": CONFIG},
            "cut": {"model.safetensors": WEIGHTS[:-1]},
            "no-header": {"model.safetensors": b"0123456789"},
            "other-broken": {"model.safetensors": WEIGHTS, "extra.safetensors": b"\0" * 9},
            "no-shard": {
                "model.safetensors.index.json": b'{"weight_map": {"a": "b.safetensors"}}'},
    }.items():
        identifier = create(server, name, files)
        for each, content in files.items():
            assert put(server, identifier, each, content).status == 200
        answer = server.post(f"/v1/models/uploads/{identifier}/commit")
        assert answer.problem() == "malformed-file", (name, answer.body)
        assert not (place / "models" / name).exists()
        assert server.get(f"/v1/models/uploads/{identifier}").json()["state"] == "open"
        assert server.delete(f"/v1/models/uploads/{identifier}").status == 204


def test_a_commit_needs_all_files(server):
    identifier = create(server, "half")
    assert server.post(f"/v1/models/uploads/{identifier}/commit").problem() == "conflict"
    put(server, identifier, "model.safetensors", WEIGHTS)
    put(server, identifier, "config.json", CONFIG[:4])
    answer = server.post(f"/v1/models/uploads/{identifier}/commit")
    assert answer.problem() == "conflict" and "config.json" in answer.json()["detail"]


def test_names_that_are_taken(server):
    first = create(server, "taken")
    answer = server.post("/v1/models/uploads", request("taken"))
    assert answer.problem() == "conflict" and answer.json()["subject"] == first
    assert server.post("/v1/models/uploads", request("base")).problem() == "conflict"
    assert server.post("/v1/models/uploads", request("tasks")).problem() == "conflict"


def test_limits(server):
    many = {"model.safetensors": tensors(count=8 * 40000)}
    identifier = create(server, "large", many)
    answer = server.post("/v1/models/uploads", request("larger", many))
    assert answer.problem() == "upload-limit"
    assert answer.json()["subject"] == "upload_client_bytes_max"
    assert "2000000" in answer.json()["detail"]
    server.delete(f"/v1/models/uploads/{identifier}")
    for name in ("a", "b", "c"):
        create(server, name)
    answer = server.post("/v1/models/uploads", request("d"))
    assert answer.problem() == "upload-limit" and answer.json()["subject"] == "upload_open_max"


def test_what_there_is_not(server):
    nothing = "01h000000000000000000000aa"
    identifier = create(server, "nothing")
    for answer in (server.get(f"/v1/models/uploads/{nothing}"),
                   server.delete(f"/v1/models/uploads/{nothing}"),
                   server.post(f"/v1/models/uploads/{nothing}/commit"),
                   put(server, nothing, "config.json", b"x"),
                   put(server, identifier, "other.json", b"x"),
                   server.get(f"/v1/models/uploads/{identifier}/files/other.json")):
        assert answer.problem() == "unknown-upload"


def test_models_in_use_and_models_of_others_stay(server, family):
    assert server.delete("/v1/models/base").problem() == "conflict"
    sources = {"base": "base", "hiragana": "tasks/hiragana"}
    names_of = {}
    for task, source in sources.items():
        names_of[task] = f"mine/{task}"
        upload(server, names_of[task], {
            each.name: each.read_bytes() for each in (family / source).iterdir()
            if each.suffix in (".safetensors", ".json")})
    job = server.submit(specification(name="held", base=names_of["base"], tasks=[
        {"name": "hiragana", "model": names_of["hiragana"]},
        {"name": "latin", "model": "tasks/latin"}], **HOLD))["id"]
    for model in names_of.values():
        answer = server.delete(f"/v1/models/{model}")
        assert answer.problem() == "conflict" and answer.json()["subject"] == job
    assert server.get(f"/v1/models/{names_of['base']}").json()["state"] == "ready"
    server.post(f"/v1/jobs/{job}/cancel")
    server.wait(job, "cancelled")
    for model in names_of.values():
        assert server.delete(f"/v1/models/{model}").status == 204


def test_a_daemon_without_uploads(wire):
    answer = wire.post("/v1/models/uploads", request("none"))
    assert answer.problem() == "conflict" and "--upload-dir" in answer.json()["detail"]
    assert wire.get("/v1/models/uploads").json()["data"] == []
