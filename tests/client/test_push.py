# SPDX-License-Identifier: Apache-2.0
"""Uploading models with didictl to a real daemon."""

import hashlib
import json
import os
import subprocess
import urllib.request

import pytest

from service import Daemon


@pytest.fixture(scope="module")
def daemon(didid, family, tmp_path_factory):
    place = tmp_path_factory.mktemp("push")
    (place / "state").mkdir()
    (place / "models").mkdir()
    with Daemon(didid, place / "state", family, "--models", str(place / "models"),
                "--upload-dir", str(place / "models")) as running:
        running.models = place / "models"
        yield running


@pytest.fixture
def host(daemon):
    return daemon.url


def uploads(daemon):
    with urllib.request.urlopen(daemon.url + "/v1/models/uploads") as answer:
        return [each for each in json.load(answer)["data"] if each["state"] != "committed"]


def send(daemon, method, target, body, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(daemon.url + target, body, named, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def begin(daemon, name, directory):
    """An upload of the directory of which nothing was sent."""
    files = [{"name": each.name, "bytes": each.stat().st_size,
              "sha256": hashlib.sha256(each.read_bytes()).hexdigest()}
             for each in directory.iterdir()]
    return send(daemon, "POST", "/v1/models/uploads",
                json.dumps({"name": name, "files": files}).encode(),
                Content_Type="application/json")["id"]


@pytest.fixture
def model(family, tmp_path):
    """A copy of the demo family's base."""
    directory = tmp_path / "model"
    directory.mkdir()
    for each in (family / "base").iterdir():
        if each.suffix in (".safetensors", ".json"):
            (directory / each.name).write_bytes(each.read_bytes())
    return directory


def test_a_directory_is_pushed_and_removed(call, daemon, model):
    (model / "optimizer.pt").write_bytes(b"x")
    (model / ".hidden").write_bytes(b"x")
    done = call("model", "push", "org/pushed", model)
    assert done.stdout == "org/pushed\n"
    assert done.stderr.strip().endswith("optimizer.pt is left out")
    assert (daemon.models / "org/pushed/model.safetensors").read_bytes() == (
        model / "model.safetensors").read_bytes()
    assert json.loads(call("model", "show", "org/pushed", "-o", "json").stdout)["state"] == "ready"
    again = call("model", "push", "org/pushed", model, status=1)
    assert "org/pushed" in again.stderr
    assert call("model", "rm", "org/pushed").stdout == "org/pushed\n"
    assert not (daemon.models / "org/pushed").exists()
    assert "org/pushed" in call("model", "rm", "org/pushed", status=1).stderr


def test_a_push_is_taken_up_again(call, daemon, model):
    identifier = begin(daemon, "resumed", model)
    weights = (model / "model.safetensors").read_bytes()
    send(daemon, "PUT", f"/v1/models/uploads/{identifier}/files/model.safetensors", weights[:1000],
         Content_Range=f"bytes 0-999/{len(weights)}")
    files = sorted(model.iterdir())
    done = call("model", "push", "resumed", *files, "-o", "json")
    document = json.loads(done.stdout)
    assert document["id"] == identifier and document["state"] == "committed"
    assert (daemon.models / "resumed/model.safetensors").read_bytes() == weights
    call("model", "rm", "resumed")


def test_other_files_under_the_same_name(call, daemon, model):
    identifier = begin(daemon, "changed", model)
    (model / "README.md").write_text("more\n")
    refused = call("model", "push", "changed", model, status=1)
    assert "--restart" in refused.stderr and identifier in refused.stderr
    document = json.loads(
        call("model", "push", "changed", model, "--restart", "-o", "json").stdout)
    assert document["id"] != identifier and uploads(daemon) == []
    call("model", "rm", "changed")


def test_a_push_that_was_interrupted_leaves_no_model(daemon, environment, didictl, tmp_path):
    directory = tmp_path / "long"
    directory.mkdir()
    os.mkfifo(directory / "pipe.json")  # no regular file: passed over
    (directory / "config.json").write_bytes(b"{}")
    ended = subprocess.run([didictl, "model", "push", "unfinished", directory], env=environment,
                           capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1 and "model" in ended.stderr
    (left,) = uploads(daemon)
    assert left["name"] == "unfinished" and left["files"][0]["complete"]
    assert not (daemon.models / "unfinished").exists()
    send_delete = urllib.request.Request(
        daemon.url + f"/v1/models/uploads/{left['id']}", method="DELETE")
    urllib.request.urlopen(send_delete).close()


@pytest.mark.parametrize("words, told", [
    (["../x", "."], "../x"), (["a@b", "."], "a@b"), (["x", "/nothing/here"], "/nothing/here"),
    (["x", "/dev/null"], "/dev/null")])
def test_what_cannot_be_pushed(call, words, told):
    refused = call("model", "push", *words, status=1 if words[1] == "/nothing/here" else 2)
    assert told in refused.stderr


def test_nothing_to_push(call, tmp_path):
    assert str(tmp_path) in call("model", "push", "x", tmp_path, status=2).stderr
