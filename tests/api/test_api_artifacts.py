# SPDX-License-Identifier: Apache-2.0
"""Artifacts: list, ranges, conditions, digests; exports."""

import base64
import hashlib
import time

import pytest

from wire import specification


@pytest.fixture(scope="module")
def shared(wire, finished):
    """Path, bytes and ETag of a file."""
    path = f"/v1/jobs/{finished}/artifacts/shared.safetensors"
    answer = wire.get(path)
    assert answer.status == 200
    return path, answer.body, answer.headers["ETag"]


def test_list_matches_the_files(wire, finished):
    page = wire.get(f"/v1/jobs/{finished}/artifacts").json()
    names = [artifact["name"] for artifact in page["data"]]
    assert names == sorted(names)
    assert {"manifest.json", "shared.safetensors", "experts/hiragana.safetensors",
            "experts/latin.safetensors"} <= set(names)
    for artifact in page["data"]:
        answer = wire.get(artifact["href"])
        digest = hashlib.sha256(answer.body)
        assert len(answer.body) == artifact["bytes"]
        assert digest.hexdigest() == artifact["sha256"]
        assert answer.headers["ETag"] == artifact["etag"]
        assert answer.headers["Content-Type"] == artifact["media_type"]
        assert answer.headers["Accept-Ranges"] == "bytes"
        expected = base64.b64encode(digest.digest()).decode()
        assert answer.headers["Repr-Digest"] == f"sha-256=:{expected}:"


def test_list_is_in_order_of_names(wire):
    tasks = [{"name": name, "model": f"tasks/{model}"}
             for name, model in (("b", "latin"), ("a", "mnist"), ("a-b", "orient"))]
    job = wire.submit(specification(tasks=tasks))["id"]
    wire.wait(job, "succeeded")
    page = wire.get(f"/v1/jobs/{job}/artifacts").json()
    names = [artifact["name"] for artifact in page["data"]]
    assert len(names) == 5 and names == sorted(names)


@pytest.mark.parametrize("header, first, last", [
    ("bytes=0-0", 0, 0), ("bytes=0-99", 0, 99), ("bytes=10-", 10, None), ("bytes=-5", -5, None),
    ("BYTES=3-7", 3, 7), ("bytes=5-99999999999999999999999", 5, None),
    ("bytes=-99999999999999999999999", 0, None),
])
def test_one_range(wire, shared, header, first, last):
    path, whole, etag = shared
    answer = wire.get(path, Range=header)
    start = first if first >= 0 else len(whole) + first
    end = len(whole) - 1 if last is None else last
    assert answer.status == 206
    assert answer.body == whole[start:end + 1]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end}/{len(whole)}"
    assert answer.headers["ETag"] == etag
    assert answer.headers["Repr-Digest"]


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=", "bytes=a-b", "items=0-1", "bytes=-",
                                    "bytes=0-1,3-4", "bytes=--1", "bytes=1", "0-1", "bytes=0-1x"])
def test_ranges_that_are_ignored(wire, shared, header):
    path, whole, _ = shared
    answer = wire.get(path, Range=header)
    assert answer.status == 200 and answer.body == whole


def test_ranges_outside(wire, shared):
    path, whole, _ = shared
    for header in (f"bytes={len(whole)}-", "bytes=-0", "bytes=99999999999999999999-"):
        answer = wire.get(path, Range=header)
        assert (answer.status, answer.problem()) == (416, "range-not-satisfiable")
        assert answer.headers["Content-Range"] == f"bytes */{len(whole)}"


def test_conditions(wire, shared):
    path, whole, etag = shared
    other = '"sha256-' + "0" * 64 + '"'
    for value in (etag, f"W/{etag}", "*", f"{other}, {etag}", f'"x",{etag}'):
        answer = wire.get(path, If_None_Match=value)
        assert answer.status == 304 and answer.body == b"" and answer.headers["ETag"] == etag
    for value in (other, f"{other}, W/{other}", "nonsense", '"x'):
        assert wire.get(path, If_None_Match=value).status == 200
    for value in (etag, "*", f"{other},{etag}"):
        assert wire.get(path, If_Match=value).status == 200
    for value in (other, f"W/{etag}", "nonsense"):
        answer = wire.get(path, If_Match=value)
        assert (answer.status, answer.problem()) == (412, "precondition-failed")
    assert wire.get(path, Range="bytes=1-2", If_Range=etag).body == whole[1:3]
    for value in (other, f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert wire.get(path, Range="bytes=1-2", If_Range=value).body == whole


def test_head_of_a_range(wire, shared):
    path, whole, _ = shared
    answer = wire.request("HEAD", path, headers={"Range": "bytes=0-9"})
    assert answer.status == 206 and answer.headers["Content-Length"] == "10" and answer.body == b""


@pytest.mark.parametrize("name", ["nothing", "experts", "experts/none.safetensors", "experts/.x",
                                  "models/none/model.safetensors", "models/latin", "a/b/c/d",
                                  "models/latin/README.md", "models/latin/.model.safetensors",
                                  "experts/latin.safetensors/x", "manifest.json.tmp"])
def test_unknown_artifacts(wire, finished, name):
    answer = wire.get(f"/v1/jobs/{finished}/artifacts/{name}")
    assert (answer.status, answer.problem()) == (404, "unknown-artifact")


@pytest.mark.parametrize("document, pointer, name", [
    ({}, "/format", "invalid-request"),
    ({"format": "gguf"}, "/format", "invalid-request"),
    ({"format": "full", "max_rank": 16}, "/max_rank", "invalid-request"),
    ({"format": "peft", "max_rank": 15}, "/max_rank", "invalid-request"),
    ({"format": "peft-exact", "max_rank": 0}, "/max_rank", "invalid-request"),
    ({"format": "peft", "max_rank": 65537}, "/max_rank", "invalid-request"),
    ({"format": "peft", "max_rank": "16"}, "/max_rank", "invalid-request"),
    ({"format": "full", "tasks": []}, "/tasks", "invalid-request"),
    ({"format": "full", "tasks": "latin"}, "/tasks", "invalid-request"),
    ({"format": "full", "tasks": ["latin", "latin"]}, "/tasks/1", "invalid-request"),
    ({"format": "full", "tasks": ["latin", "../x"]}, "/tasks/1", "invalid-request"),
    ({"format": "full", "tasks": ["latin", "none"]}, "/tasks/1", "unknown-task"),
    ({"format": "full", "all": True}, "/all", "invalid-request"),
])
def test_bad_export_requests(wire, finished, document, pointer, name):
    answer = wire.post(f"/v1/jobs/{finished}/exports", document)
    assert (answer.status, answer.problem()) == (422, name)
    assert answer.json()["pointer"] == pointer


def test_exports_need_a_result(wire, held):
    answer = wire.post(f"/v1/jobs/{held}/exports", {"format": "full"})
    assert (answer.status, answer.problem()) == (409, "no-result")


def test_models_are_streamed_without_an_export(wire):
    job_id = wire.submit(specification(name="streamed"))["id"]
    wire.wait(job_id, "succeeded")
    path = f"/v1/jobs/{job_id}/artifacts/models/latin/model.safetensors"
    streamed = wire.get(path)
    assert streamed.status == 200
    assert int(streamed.headers["Content-Length"]) == len(streamed.body)
    assert streamed.headers["Accept-Ranges"] == "none" and "Repr-Digest" not in streamed.headers
    etag = streamed.headers["ETag"]
    assert etag.startswith('"stream-')
    assert wire.get(path, If_None_Match=etag).status == 304
    assert wire.get(path, If_Match='"other"').problem() == "precondition-failed"
    assert wire.get(path, Range="bytes=0-9").body == streamed.body
    other = wire.get(path.replace("latin", "hiragana"))
    assert other.headers["ETag"] != etag and other.body != streamed.body
    head = wire.request("HEAD", path)
    assert head.status == 200 and head.body == b""
    assert head.headers["Content-Length"] == streamed.headers["Content-Length"]
    assert not any(row["name"].startswith("models/")
                   for row in wire.get(f"/v1/jobs/{job_id}/artifacts").json()["data"])
    wire.post(f"/v1/jobs/{job_id}/exports", {"format": "full", "tasks": ["latin"]})
    wait_for_exports(wire, f"/v1/jobs/{job_id}/exports")
    exported = wire.get(path)
    assert exported.body == streamed.body and exported.headers["ETag"].startswith('"sha256-')


def wait_for_exports(wire, path, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        rows = wire.get(path).json()["data"]
        if all(row["state"] in ("succeeded", "failed") for row in rows):
            return rows
        time.sleep(0.05)
    raise AssertionError("exports did not finish")


def test_exports_become_artifacts(wire):
    job_id = wire.submit(specification(name="exported"))["id"]
    wire.wait(job_id, "succeeded")
    path = f"/v1/jobs/{job_id}/exports"
    assert wire.get(path).json()["data"] == []
    asked = wire.post(path, {"format": "full", "tasks": ["latin"]})
    assert asked.status == 202 and asked.headers["Location"] == path
    assert [row["task"] for row in asked.json()["data"]] == ["latin"]
    asked = wire.post(path, {"format": "full"})
    assert [row["task"] for row in asked.json()["data"]] == ["hiragana", "latin"]
    for row in wait_for_exports(wire, path):
        assert row["state"] == "succeeded", row
        assert row["artifact"] == f"models/{row['task']}/model.safetensors"
        files = model_files(wire, job_id, row["task"])
        assert files.keys() == {"model.safetensors", "README.md"}
        assert sum(map(len, files.values())) == row["bytes"]
    names = [a["name"] for a in wire.get(f"/v1/jobs/{job_id}/artifacts").json()["data"]]
    assert "models/hiragana/model.safetensors" in names and names == sorted(names)


def model_files(wire, job_id, task):
    """Name -> bytes of a task's model, as the list of artifacts has it."""
    place = f"models/{task}/"
    rows = [row for row in wire.get(f"/v1/jobs/{job_id}/artifacts").json()["data"]
            if row["name"].startswith(place)]
    answers = [wire.get(row["href"]) for row in rows]
    for row, answer in zip(rows, answers):
        assert answer.status == 200 and answer.headers["ETag"] == row["etag"]
        assert answer.headers["Content-Type"] == row["media_type"]
    return {row["name"][len(place):]: answer.body for row, answer in zip(rows, answers)}


ADAPTER = ["README.md", "adapter_config.json", "adapter_model.safetensors", "export.json"]


def test_adapters_become_artifacts(wire):
    job_id = wire.submit(specification(name="adapted"))["id"]
    wire.wait(job_id, "succeeded")
    path = f"/v1/jobs/{job_id}/exports"
    base = f"/v1/jobs/{job_id}/artifacts"
    assert wire.get(f"{base}/adapters/latin/adapter_config.json").problem() == "unknown-artifact"
    asked = wire.post(path, {"format": "peft", "tasks": ["latin"], "max_rank": 16}).json()["data"]
    assert [(row["format"], row["max_rank"]) for row in asked] == [("peft", 16)]
    assert wire.post(path, {"format": "peft-exact"}).status == 202
    rows = wait_for_exports(wire, path)
    assert {(row["task"], row["format"]) for row in rows} == \
        {("latin", "peft"), ("latin", "peft-exact"), ("hiragana", "peft-exact")}
    listed = {row["name"]: row for row in wire.get(base).json()["data"]}
    assert list(listed) == sorted(listed)
    for row in rows:
        assert row["state"] == "succeeded", row
        folder, task, file = row["artifact"].split("/")
        assert (task, file) == (row["task"], "adapter_model.safetensors")
        assert folder == {"peft": "adapters", "peft-exact": "adapters-exact"}[row["format"]]
        files = [f"{folder}/{task}/{name}" for name in ADAPTER]
        assert sum(listed[name]["bytes"] for name in files) == row["bytes"]
        for name in files:
            answer = wire.get(listed[name]["href"])
            assert hashlib.sha256(answer.body).hexdigest() == listed[name]["sha256"]
            assert answer.headers["Content-Type"] == listed[name]["media_type"]
    config = wire.get(f"{base}/adapters/latin/adapter_config.json").json()
    assert config["r"] == 16 and config["base_model_name_or_path"] == "base"


def test_routers_become_artifacts(wire):
    job_id = wire.submit(specification(name="routed"))["id"]
    wire.wait(job_id, "succeeded")
    path = f"/v1/jobs/{job_id}/exports"
    assert wire.post(path, {"format": "router", "max_rank": 2}).status == 202
    rows = wait_for_exports(wire, path)
    assert [row["state"] for row in rows] == ["succeeded"] * 2, rows
    for row in rows:
        assert row["artifact"] == f"routers/{row['task']}/router.safetensors"
        answer = wire.get(f"/v1/jobs/{job_id}/artifacts/{row['artifact']}")
        assert answer.status == 200 and len(answer.body) == row["bytes"]
        assert b'"directions":"2"' in answer.body


def test_another_rank_is_made_anew(wire):
    job_id = wire.submit(specification(name="adapted"))["id"]
    wire.wait(job_id, "succeeded")
    path = f"/v1/jobs/{job_id}/exports"
    ranks = []
    for wanted in ({"max_rank": 3}, {"max_rank": 3}, {"max_rank": 2}, {}):
        asked = {"format": "peft-exact", "tasks": ["latin"], **wanted}
        assert wire.post(path, asked).status == 202
        row, = wait_for_exports(wire, path)
        assert row["max_rank"] == wanted.get("max_rank") and row["state"] == "succeeded"
        ranks.append(wire.get(f"/v1/jobs/{job_id}/artifacts/adapters-exact/latin/"
                              "adapter_config.json").json()["r"])
    assert ranks[:3] == [3, 3, 2] and ranks[3] > 3
