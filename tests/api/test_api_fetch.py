# SPDX-License-Identifier: Apache-2.0
"""Models that the daemon fetches, from a hub and from servers that misbehave."""

import hashlib
import os
import subprocess
import time

import pytest

from hub import COMMIT, Hub, git_digest
from wire import Wire

END_SECONDS = 60


@pytest.fixture
def hub(family):
    server = Hub()
    weights = (family / "base/model.safetensors").read_bytes()
    server.repositories["org/base"] = {
        "model.safetensors": weights, "config.json": b"{}", "sub/tokenizer.json": b"[1]",
        "pytorch_model.bin": b"pickle", "README.md": b"text"}
    yield server
    server.stop()


@pytest.fixture
def fetch(hub, start_daemon, tmp_path):
    """fetch(*options) -> (requests to a daemon that fetches into the folder, the folder)."""
    folder = tmp_path / "models"
    folder.mkdir()

    def start(*options, private="1", hosts="localhost", **more):
        daemon = start_daemon(folder, "--fetch-dir", str(folder), "--hub-endpoint", hub.url,
                              "--fetch-hosts", hosts, "--fetch-private", private, *options, **more)
        return Wire(daemon.url), folder, daemon

    return start


def add(wire, source="hf:org/base", name=None):
    answer = wire.post("/v1/models", {"name": name or source.removeprefix("hf:"),
                                      "source": source})
    assert answer.status == 202, answer.body
    document = answer.json()
    assert answer.headers["Location"] == f"/v1/fetches/{document['id']}"
    return document["id"]


def wait(wire, fetch_id, *states):
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        row = wire.get(f"/v1/fetches/{fetch_id}").json()
        if row["state"] in (states or ("succeeded", "failed")):
            return row
        time.sleep(0.05)
    raise AssertionError(row)


def failed(wire, *words, **asked):
    row = wait(wire, add(wire, **asked))
    assert row["state"] == "failed", row
    for word in words:
        assert word in row["error"]["detail"], row
    return row["error"]["type"].removeprefix("urn:didid:problem:")


def test_a_model_of_a_hub(fetch, hub, family):
    wire, folder, _ = fetch()
    row = wait(wire, add(wire))
    weights = (family / "base/model.safetensors").read_bytes()
    size = len(weights) + 2 + 3
    assert (row["state"], row["bytes_done"], row["bytes_total"]) == ("succeeded", size, size), row
    cache = folder / "models--org--base"
    snapshot = cache / "snapshots" / COMMIT
    digest = hashlib.sha256(weights).hexdigest()
    assert os.readlink(snapshot / "model.safetensors") == f"../../blobs/{digest}"
    assert os.readlink(snapshot / "sub/tokenizer.json") == f"../../../blobs/{git_digest(b'[1]')}"
    assert (snapshot / "sub/tokenizer.json").read_bytes() == b"[1]"
    assert not (snapshot / "pytorch_model.bin").exists()
    assert (cache / "refs/main").read_text() == COMMIT
    assert list((folder / ".didid-fetch").iterdir()) == []
    model = wire.get("/v1/models/org/base").json()
    assert (model["state"], model["revision"]) == ("ready", COMMIT)
    before = len(hub.asked("/content/"))
    assert wait(wire, add(wire, "hf:org/base@refs/pr/1"))["state"] == "succeeded"
    assert len(hub.asked("/content/")) == before
    assert (cache / "refs/refs/pr/1").read_text() == COMMIT
    listed = wire.get("/v1/fetches").json()["data"]
    assert [one["source"] for one in listed] == ["hf:org/base@refs/pr/1", "hf:org/base"]


def test_the_token_goes_to_the_hub_alone(fetch, hub, tmp_path):
    (tmp_path / "token").write_text("hf_secret\n")
    (tmp_path / "token").chmod(0o600)
    wire, _, _ = fetch("--hub-token-file", str(tmp_path / "token"))
    assert wait(wire, add(wire))["state"] == "succeeded"
    for method, path, headers in hub.requests:
        sent = headers.get("Authorization")
        assert sent == (None if path.startswith("/content/") else "Bearer hf_secret"), path
    assert hub.asked("/content/") and hub.asked("/api/")


def test_lost_connections_are_resumed(fetch, hub):
    hub.cut["model.safetensors"] = [1000, 20000, 5]
    wire, _, _ = fetch()
    assert wait(wire, add(wire))["state"] == "succeeded"
    ranges = [headers.get("Range") for method, _, headers in hub.asked("/content/")
              if method == "GET"]
    assert ranges == [None, "bytes=1000-", "bytes=21000-", "bytes=21005-"]


def test_a_restart_goes_on(fetch, hub):
    wire, folder, daemon = fetch()
    hub.cut["model.safetensors"] = [30000]
    fetch_id = add(wire)
    deadline = time.monotonic() + END_SECONDS
    parts = folder / ".didid-fetch"
    while time.monotonic() < deadline and \
            [path.stat().st_size for path in parts.iterdir()] != [30000]:
        time.sleep(0.005)
    hub.gate.clear()
    while len(hub.asked("/content/")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list((folder / "models--org--base").iterdir()) == [folder / "models--org--base/blobs"]
    daemon.process.kill()
    daemon.process.wait()
    hub.gate.set()
    daemon.start()
    wire = Wire(daemon.url)
    assert wait(wire, fetch_id)["state"] == "succeeded"
    assert hub.asked("/content/")[-1][2]["Range"] == "bytes=30000-"
    assert wire.get("/v1/models/org/base").json()["state"] == "ready"


@pytest.mark.parametrize("digest", ["0" * 64, "0" * 40])
def test_a_wrong_digest_is_refused(fetch, hub, digest):
    hub.etags["model.safetensors"] = digest
    wire, folder, _ = fetch()
    assert failed(wire, "has the digest", digest) == "malformed-file"
    assert list((folder / "models--org--base/blobs").glob("0*")) == []
    assert list((folder / ".didid-fetch").iterdir()) == []
    assert wire.get("/v1/models/org/base").problem() == "unknown-model"


def test_an_answer_that_stays_short(fetch, hub):
    hub.cut["model.safetensors"] = [10] + [0] * 20
    wire, folder, _ = fetch()
    failed(wire, "model.safetensors")
    assert [path.stat().st_size for path in (folder / ".didid-fetch").iterdir()] == [10]
    hub.cut.clear()
    assert wait(wire, add(wire))["state"] == "succeeded"


def test_hosts_that_are_not_listed(fetch, hub):
    wire, _, _ = fetch(hosts="elsewhere.example")
    failed(wire, "the host localhost is not one that is fetched from")
    hub.redirects["model.safetensors"] = "file:///etc/passwd"
    failed(wire, "not a URL that is fetched")


def test_private_addresses(hub, start_daemon, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    daemon = start_daemon(folder, "--fetch-dir", str(folder), "--hub-endpoint",
                          hub.url.replace("http:", "https:"), "--fetch-hosts", "localhost")
    wire = Wire(daemon.url)
    failed(wire, "a private address")
    assert hub.requests == []
    refused = wire.post("/v1/models", {"name": "x", "source": "http://localhost/x.safetensors"})
    assert refused.problem() == "invalid-request" and "only https" in refused.json()["detail"]


def test_a_full_disk(fetch, hub):
    wire, _, daemon = fetch(environment={"DIDI_FAULT": "pwrite:3+:28"})
    assert failed(wire) == "disk-full"
    daemon.stop()
    wire, _, _ = fetch()
    assert wait(wire, add(wire))["state"] == "succeeded"


@pytest.mark.parametrize("name", ["../out.json", "/etc/out.json", "a//b.json", "a/./b.json"])
def test_names_that_lead_out(fetch, hub, name):
    hub.repositories["org/base"][name] = b"{}"
    wire, folder, _ = fetch()
    assert failed(wire, "which is no path") == "malformed-file"
    assert [path.name for path in folder.iterdir()] == [".didid-fetch"]


def test_what_is_not_there(fetch, hub):
    hub.repositories["org/pickles"] = {"pytorch_model.bin": b"x"}
    wire, _, _ = fetch()
    failed(wire, "answered 404", source="hf:org/none")
    failed(wire, "answered 404", source="hf:org/base@v9")
    failed(wire, "has no safetensors file", source="hf:org/pickles")
    hub.status["/api/"] = 401
    failed(wire, "--hub-token-file")


def test_one_file_of_a_server(fetch, hub, family):
    wire, folder, _ = fetch()
    weights = (family / "base/model.safetensors").read_bytes()
    url = f"{hub.content}/content/org/base//model.safetensors"
    digest = hashlib.sha256(weights).hexdigest()
    row = wait(wire, add(wire, f"{url}#sha256={digest}", "mine/base"))
    assert row["state"] == "succeeded", row
    assert (folder / "mine/base/model.safetensors").read_bytes() == weights
    assert wire.get("/v1/models/mine/base").json()["state"] == "ready"
    assert failed(wire, "already", source=url, name="mine/base") == "conflict"
    failed(wire, "has the digest", source=f"{url}#sha256={'0' * 64}", name="mine/other")


def test_requests_that_cannot_be(fetch, start_daemon, family, hub, tmp_path):
    wire, folder, _ = fetch()
    for name, source, words in (
            ("a", "hf:org/base", "is called as its repository"),
            ("a/b/c", "hf:a/b/c", "is not a model of a hub"),
            ("a", "ftp://x/y.safetensors", "is no source"),
            ("a", "https://localhost/x.zip", "one safetensors file"),
            ("a", "https://localhost/x.safetensors#md5=1", "sha256="),
            ("a", "https://other.example/x.safetensors", "not one that is fetched from"),
            ("a", "https://u:p@localhost/x.safetensors", "not a URL that is fetched"),
            ("a", "/etc", "below no model directory"),
            ("a", str(folder / "b"), 'is called "b"')):
        answer = wire.post("/v1/models", {"name": name, "source": source})
        assert (answer.status, answer.problem()) == (422, "invalid-request"), answer.body
        assert words in answer.json()["detail"], answer.body
    assert wire.post("/v1/models", {"name": "a"}).problem() == "invalid-request"
    assert wire.get("/v1/fetches/" + "0" * 26).problem() == "unknown-fetch"
    plain = Wire(start_daemon(family).url)
    answer = plain.post("/v1/models", {"name": "org/base", "source": "hf:org/base"})
    assert "--fetch-dir" in answer.json()["detail"]
    here = plain.post("/v1/models", {"name": "base", "source": str(family / "base")})
    assert wait(plain, here.json()["id"])["state"] == "succeeded"


def held(hub, wire, folder, cuts=(30000,), **asked):
    """A fetch that waits for its hub in the middle of a file; (id, the part of the file)."""
    hub.cut["model.safetensors"] = list(cuts)
    fetch_id = add(wire, **asked)
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        parts = list((folder / ".didid-fetch").iterdir())
        if [path.stat().st_size for path in parts] == [30000]:
            break
        time.sleep(0.005)
    hub.gate.clear()
    while [method for method, *_ in hub.asked("/content/")].count("GET") < 2 and \
            time.monotonic() < deadline:
        time.sleep(0.01)
    return fetch_id, parts[0]


def test_a_running_fetch_is_cancelled(fetch, hub):
    wire, folder, daemon = fetch()
    fetch_id, part = held(hub, wire, folder)
    waiting = add(wire, "hf:org/other")
    early = wire.request("DELETE", f"/v1/fetches/{fetch_id}")
    assert (early.status, early.json()["type"]) == (409, "urn:didid:problem:conflict")
    for each in (fetch_id, waiting):
        answer = wire.post(f"/v1/fetches/{each}/cancel")
        assert (answer.status, answer.json()["state"]) == (200, "cancelled"), answer.body
        assert answer.json()["finished_at"] and answer.json()["error"] is None
        again = wire.post(f"/v1/fetches/{each}/cancel")
        assert (again.status, again.json()["type"]) == (409, "urn:didid:problem:conflict")
    # The thread is free although the hub still holds its answer back.
    failed(wire, source="hf:org/none")
    assert part.stat().st_size == 30000
    daemon.process.kill()
    daemon.process.wait()
    hub.gate.set()
    daemon.start()
    wire = Wire(daemon.url)
    assert wire.get(f"/v1/fetches/{fetch_id}").json()["state"] == "cancelled"
    assert wait(wire, add(wire))["state"] == "succeeded"
    assert hub.asked("/content/")[-1][2]["Range"] == "bytes=30000-"
    assert wire.request("DELETE", f"/v1/fetches/{fetch_id}").status == 204
    for answer in (wire.get(f"/v1/fetches/{fetch_id}"),
                   wire.request("DELETE", f"/v1/fetches/{fetch_id}"),
                   wire.post(f"/v1/fetches/{fetch_id}/cancel")):
        assert (answer.status, answer.json()["type"]) == (404, "urn:didid:problem:unknown-fetch")


def test_a_cancelled_file_of_a_server_leaves_nothing(fetch, hub):
    wire, folder, _ = fetch()
    url = f"{hub.content}/content/org/base//model.safetensors"
    # Its size is asked for first.
    fetch_id, part = held(hub, wire, folder, (10**9, 30000), source=url, name="mine/base")
    assert part.name == fetch_id
    assert wire.post(f"/v1/fetches/{fetch_id}/cancel").json()["state"] == "cancelled"
    failed(wire, source="hf:org/none")  # the thread is free
    assert not part.exists() and not (folder / "mine/base/model.safetensors").exists()
    hub.gate.set()


def test_a_client_adds_models(fetch, hub, didictl):
    _, _, daemon = fetch()

    def call(*arguments):
        return subprocess.run([didictl, *arguments], capture_output=True, text=True, check=False,
                              env={**os.environ, "DIDI_HOST": daemon.url})

    done = call("model", "add", "org/base", "hf:org/base", "--wait")
    assert done.returncode == 0 and len(done.stdout.strip()) == 26, done.stderr
    assert "org/base" in call("model", "ls").stdout
    lost = call("model", "add", "org/none", "hf:org/none", "--wait")
    assert lost.returncode == 1 and "answered 404" in lost.stderr
    refused = call("model", "add", "a", "hf:org/base")
    assert refused.returncode == 1 and "is called as its repository" in refused.stderr
    listed = call("model", "fetches").stdout
    assert "succeeded" in listed and "failed" in listed and "answered 404" in listed
    ids = [line.split()[0] for line in listed.splitlines()[1:]]
    assert call("model", "forget", *ids).returncode == 0
    assert "hf:org" not in call("model", "fetches").stdout
    late = call("model", "cancel", ids[0])
    assert late.returncode == 1 and "no fetch" in late.stderr
    wrong = call("model", "cancel", "x")
    assert wrong.returncode == 2 and "not the id of a fetch" in wrong.stderr
