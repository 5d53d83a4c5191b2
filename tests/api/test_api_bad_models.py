# SPDX-License-Identifier: Apache-2.0
"""Models that cannot be merged: each is refused at submission, by a problem that names it."""

import json

import numpy as np
import pytest

import artifacts
from malformed import FILES
from service import Daemon
from wire import Wire

SHAPES = {"a.weight": (24, 16), "b.weight": (16, 24), "b.bias": (16,)}
SPECIFICATION = {"base": "base", "budget": 1.0,
                 "tasks": [{"name": name, "model": name} for name in ("one", "two")]}


@pytest.fixture(scope="module")
def served(didid, tmp_path_factory):
    """The folder of the models, and requests to a daemon that serves them."""
    root = tmp_path_factory.mktemp("bad")
    (root / "state").mkdir()
    (root / "models").mkdir()
    with Daemon(didid, root / "state", root / "models") as daemon:
        yield root / "models", Wire(daemon.url)


def write(models, model, change=None):
    generator = np.random.default_rng(len(model))
    values = {name: generator.normal(size=shape) for name, shape in SHAPES.items()}
    if change:
        change(values)
    artifacts.write_file(models / model / "model.safetensors", values)


@pytest.fixture
def models(served):
    """The folder with a good small family."""
    for model, seed in (("base", 1), ("one", 2), ("two", 3)):
        write(served[0], model, lambda values, seed=seed: values.update(
            {"b.bias": np.full(16, float(seed))}))
    return served[0]


def refused(served, kind, *words):
    """Neither a plan nor a job; the daemon goes on."""
    for target in ("/v1/jobs?dry_run=true", "/v1/jobs"):
        answer = served[1].post(target, SPECIFICATION)
        assert (answer.status, answer.problem()) == (422, kind), answer.body
        for word in words:
            assert word in answer.body.decode(), answer.body
    assert served[1].get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("model", ["base", "two"])
def test_malformed_files(served, models, case, model):
    (models / model / "model.safetensors").write_bytes(FILES[case])
    refused(served, "malformed-file", f"{model}/model.safetensors")


@pytest.mark.parametrize("change, name", [
    (lambda values: values.pop("b.weight"), "b.weight"),
    (lambda values: values.update(extra=np.zeros((4, 4))), "extra"),
    (lambda values: values.update({"a.weight": np.zeros((16, 24))}), "a.weight"),
], ids=["missing", "extra", "shape"])
def test_models_of_other_families(served, models, change, name):
    write(models, "two", change)
    for target in ("/v1/jobs?dry_run=true", "/v1/jobs"):
        answer = served[1].post(target, {**SPECIFICATION, "own_tensors": "refuse"})
        assert (answer.status, answer.problem()) == (422, "models-differ"), answer.body
        assert name in answer.json()["detail"] and "two" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["../one/model.safetensors", "/etc/passwd", "gone.safetensors"])
def test_an_index_that_leads_astray(served, models, name):
    (models / "two" / "model.safetensors").unlink()
    index = models / "two" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(SHAPES, name)}))
    try:
        refused(served, "missing-model" if name.startswith("gone") else "malformed-file", "two")
    finally:
        index.unlink()


def test_values_that_are_not_finite_fail_the_job(served, models):
    write(models, "two", lambda values: values["a.weight"].flat.__setitem__(3, np.nan))
    job = served[1].submit(SPECIFICATION)["id"]
    shown = served[1].wait(job, "failed")
    assert shown["error"]["type"].endswith(":numeric-failure"), shown["error"]
    assert "a.weight" in json.dumps(shown["error"])
    assert served[1].get(f"/v1/jobs/{job}/artifacts").problem() == "no-result"
    assert served[1].delete(f"/v1/jobs/{job}").status == 204
