# SPDX-License-Identifier: Apache-2.0
"""Models as a hub's cache keeps them, and files by other names than model.safetensors."""

import json
import os
import shutil
import subprocess
import time

import numpy as np
import pytest

import artifacts
from wire import HOLD, Wire, specification

NEWER, OLDER = "b" * 40, "a" * 40


def add_revision(root, repository, commit, source, files=("model.safetensors",)):
    """One commit: a directory of links to blobs, which are copies of the source's files."""
    cache = root / ("models--" + repository.replace("/", "--"))
    snapshot = cache / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for folder in ("blobs", "refs"):
        (cache / folder).mkdir(exist_ok=True)
    for name in files:
        blob = f"{commit[:4]}{name.replace('/', '-')}"
        shutil.copyfile(source / name, cache / "blobs" / blob)
        os.symlink(f"../../blobs/{blob}", snapshot / name)
    return cache


def names(wire):
    return {model["name"]: model for model in wire.get("/v1/models").json()["data"]}


@pytest.fixture
def cache(tmp_path, family):
    """A cache of a base with two revisions, and a task."""
    root = tmp_path / "cache"
    base = add_revision(root, "org/base", NEWER, family / "base")
    add_revision(root, "org/base", OLDER, family / "tasks/mnist")
    (base / "refs/main").write_text(NEWER)
    (base / "refs/v1").write_text(OLDER)
    add_revision(root, "latin", NEWER, family / "tasks/latin")
    return root


def test_models_of_a_cache(start_daemon, cache):
    wire = Wire(start_daemon(cache).url)
    found = names(wire)
    assert list(found) == ["latin", "org/base", f"org/base@{OLDER}"]
    assert {model["state"] for model in found.values()} == {"ready"}, found
    assert found["org/base"]["revision"] == NEWER
    assert found[f"org/base@{OLDER}"]["revision"] == OLDER
    for name, listed in (("org/base@main", "org/base"), (f"org/base@{NEWER}", "org/base"),
                         ("org/base@v1", f"org/base@{OLDER}"), ("latin@" + NEWER, "latin")):
        model = wire.get("/v1/models/" + name).json()
        assert model["name"] == listed and model["tensor_count"] == len(model["tensors"]) == 24
    missing = wire.get("/v1/models/org/base@v2")
    assert (missing.status, missing.problem()) == (404, "unknown-model")


def test_a_merge_from_a_cache(start_daemon, cache, family, didictl):
    plain = Wire(start_daemon(family).url)
    daemon = start_daemon(cache)
    cached = Wire(daemon.url)
    tasks = [{"name": "latin", "model": "tasks/latin"}, {"name": "mnist", "model": "tasks/mnist"}]
    before = plain.submit(specification(tasks=tasks))
    tasks = [{"name": "latin", "model": "latin"}, {"name": "mnist", "model": "org/base@v1"}]
    after = cached.submit(specification(base="org/base@main", tasks=tasks))
    digests = []
    for wire, job in ((plain, before), (cached, after)):
        wire.wait(job["id"], "succeeded")
        listed = wire.get(f"/v1/jobs/{job['id']}/artifacts").json()["data"]
        digests.append({file["name"]: file["sha256"] for file in listed
                        if file["name"] != "manifest.json"})
    assert digests[0] == digests[1]
    shown = subprocess.run([didictl, "model", "show", "org/base@v1"], capture_output=True,
                           env={**os.environ, "DIDI_HOST": daemon.url}, text=True,
                           check=True).stdout
    assert OLDER in shown


def test_a_full_model_from_a_cache(didid, cache, tmp_path):
    wanted = specification(base="org/base", tasks=[
        {"name": "latin", "model": "latin"}, {"name": "mnist", "model": f"org/base@{OLDER}"}])
    (tmp_path / "wanted.json").write_text(json.dumps(wanted))
    subprocess.run([didid, "run", tmp_path / "wanted.json", "--models", cache, "--out",
                    tmp_path / "out", "--export", "full"], check=True, capture_output=True)
    assert (tmp_path / "out/models/latin/model.safetensors").stat().st_size > 0


def refused(wire, name):
    """The detail of the problem that a job with this model gets."""
    tasks = [{"name": "t", "model": name}, {"name": "u", "model": "latin"}]
    answer = wire.post("/v1/jobs", specification(base="org/base", tasks=tasks))
    assert answer.status == 422, answer.body
    return answer.body.decode()


def test_broken_caches_are_named(start_daemon, cache, family, tmp_path):
    secret = tmp_path / "outside.safetensors"
    shutil.copyfile(family / "base/model.safetensors", secret)
    (cache / "plain").mkdir()
    shutil.copyfile(secret, cache / "plain/model.safetensors")
    add_revision(cache, "plain", NEWER, family / "base")
    links = {"gone": "../../blobs/nothing", "loop": "model.safetensors", "leaves": str(secret)}
    for name, target in links.items():
        snapshot = cache / f"models--bad--{name}/snapshots" / NEWER
        snapshot.mkdir(parents=True)
        os.symlink(target, snapshot / "model.safetensors")
    moved = add_revision(cache, "bad/moved", NEWER, family / "base")
    (moved / "refs/main").write_text(OLDER)
    for commit in (NEWER, OLDER):
        add_revision(cache, "bad/several", commit, family / "base")
    wire = Wire(start_daemon(cache).url)
    found = names(wire)
    for name, words in (
            ("bad/gone", "a link to '../../blobs/nothing', where there is nothing"),
            ("bad/loop", "a loop of links"),
            ("bad/leaves", "which is not below a model directory: make it one"),
            ("bad/moved", f"refs/main names the revision {OLDER}, which is not in snapshots"),
            ("bad/several", "2 revisions are there and no refs/main"),
            ("plain", 'two models are called \\"plain\\"')):
        assert found[name]["state"] == "broken", name
        assert words.replace("\\", "") in found[name]["reason"], found[name]["reason"]
        assert words in refused(wire, name), refused(wire, name)
    assert found[f"bad/moved@{NEWER}"]["state"] == "ready"
    assert "the revision 'v3' is not in the cache" in refused(wire, "org/base@v3")
    for name in ("org/base@", "@main", "a@b@c", "org/base@../x", "a@.x"):
        answer = wire.post("/v1/jobs", specification(base=name))
        assert (answer.status, answer.problem()) == (422, "invalid-specification"), name


def test_links_lead_below_any_root(start_daemon, cache, family, tmp_path):
    other = tmp_path / "other"
    (other / "linked").mkdir(parents=True)
    os.symlink(family.resolve() / "base/model.safetensors", other / "linked/model.safetensors")
    daemon = start_daemon(cache, "--models", str(other), "--models", str(family))
    assert names(Wire(daemon.url))["linked"]["state"] == "ready"


def test_a_blob_replaced_while_in_use_fails_the_job(start_daemon, cache, family):
    """What a snapshot's link leads to is watched, not the link."""
    wire = Wire(start_daemon(cache).url)
    job = wire.submit(specification(base="org/base", tasks=[
        {"name": "latin", "model": "latin"}, {"name": "mnist", "model": "org/base@v1"}], **HOLD))
    deadline = time.monotonic() + 60
    while wire.job(job["id"])["stage"] in (None, "digest"):  # its files are known after that
        assert time.monotonic() < deadline
        time.sleep(0.02)
    blob = cache / "models--latin/blobs/bbbbmodel.safetensors"
    shutil.copyfile(blob, blob.with_name("new"))
    os.replace(blob.with_name("new"), blob)
    wire.post(f"/v1/jobs/{job['id']}/cancel")
    if wire.wait(job["id"], "cancelled", "failed")["state"] == "cancelled":
        wire.post(f"/v1/jobs/{job['id']}/retry")
    assert wire.wait(job["id"], "failed")["error"]["type"].endswith(":input-changed")


def test_models_of_other_formats_are_listed_with_what_converts_them(start_daemon, tmp_path):
    root = tmp_path / "models"
    for folder, files in (("torch", ["pytorch_model.bin"]), ("gguf", ["m.Q4_K_M.gguf"]),
                          ("ckpt", ["last.ckpt"]), ("training", ["optimizer.pt"]),
                          ("two", ["a.safetensors", "b.safetensors", "config.json"]),
                          ("data", ["a.safetensors", "b.safetensors"]),
                          ("adapter", ["adapter_model.safetensors"])):
        (root / folder).mkdir(parents=True)
        for name in files:
            (root / folder / name).write_bytes(b"x")
    (root / "unet").mkdir()
    artifacts.write_file(root / "unet/diffusion_pytorch_model.safetensors",
                         {"a": np.ones((2, 2))})
    found = names(Wire(start_daemon(root).url))
    assert sorted(found) == ["ckpt", "gguf", "torch", "two", "unet"]
    assert found["unet"]["state"] == "ready"
    for name, words in (("torch", "python3 -c \"import glob, torch, safetensors.torch"),
                        ("ckpt", "glob.glob('last.ckpt')"), ("gguf", "an export for inference"),
                        ("two", "a.safetensors and b.safetensors could both be the model")):
        assert found[name]["state"] == "broken" and words in found[name]["reason"], found[name]
