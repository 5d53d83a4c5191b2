# SPDX-License-Identifier: Apache-2.0
"""Method `cat`: Gram matrices as inputs, as a user gives them."""

import hashlib
import json

import numpy as np
import pytest

import artifacts
import evaluate
import grams

TASKS = ("mnist", "latin")


@pytest.fixture(scope="module")
def with_grams(family, tmp_path_factory):
    """The demo family's Gram matrices: (directory of models, task -> arrays)."""
    suite = evaluate.Suite(family)
    directory = tmp_path_factory.mktemp("grams")
    arrays = {task: grams.of_task(suite, task, 2) for task in TASKS}
    for task, made in arrays.items():
        dtypes = {name: "F64" for name in made} if task == "mnist" else None
        artifacts.write_file(directory / "grams" / task / "model.safetensors", made, dtypes)
    return directory, arrays


def specification(**more):
    tasks = [{"name": task, "model": f"tasks/{task}", "gram": f"grams/{task}"} for task in TASKS]
    return {"base": "base", "method": "cat", "tasks": tasks, "output": {"dtype": "f32"}, **more}


def cut(tau, own, other, count=3):
    values, vectors = np.linalg.eigh(tau @ (other - own) @ tau.T)
    taken = vectors[:, np.argsort(values)[::-1][:count]]
    return tau - taken @ (taken.T @ tau)


@pytest.mark.parametrize("name", ["specification.json", "specification.yaml"])
def test_a_merge_with_grams(run, family, with_grams, name):
    directory, arrays = with_grams
    asked = specification(method_options={"scale": 0.5})
    text = json.dumps(asked, indent=1) if name.endswith("yaml") else asked
    outcome = run(text, family, "--models", str(directory), name=name)
    base = artifacts.read_model(family / "base")
    tuned = [artifacts.read_model(family / "tasks" / task) for task in TASKS]
    served = artifacts.rebuild(base, outcome.out, "mnist")
    for weight in ("vision_model.encoder.layers.0.mlp.fc1.weight",
                   "vision_model.encoder.layers.1.mlp.fc2.weight"):
        start = np.asarray(base[weight], np.float64)
        tau = [np.asarray(one[weight], np.float64) - start for one in tuned]
        gram = [arrays[task][weight] for task in TASKS]
        wanted = start + 0.5 * (cut(tau[0], gram[0], gram[1]) + cut(tau[1], gram[1], gram[0]))
        assert np.abs(served[weight] - wanted).max() < 1e-6
    given = outcome.manifest()["inputs"]["tasks"]["mnist"]["gram"]
    stored = (directory / "grams" / "mnist" / "model.safetensors").read_bytes()
    assert given["model"] == "grams/mnist"
    assert given["files"] == [{"name": "model.safetensors", "bytes": len(stored),
                               "sha256": hashlib.sha256(stored).hexdigest()}]
    assert outcome.manifest()["specification"]["tasks"][0]["gram"] == "grams/mnist"


def test_a_missing_layer_is_named(run, family, with_grams, tmp_path):
    _, arrays = with_grams
    for task in TASKS:
        kept = {name: made for name, made in arrays[task].items() if ".0.mlp.fc2" not in name}
        artifacts.write_file(tmp_path / "grams" / task / "model.safetensors", kept)
    outcome = run(specification(), family, "--models", str(tmp_path), status=None)
    assert outcome.status != 0 and not outcome.out.exists()
    assert "grams/mnist holds no Gram matrix" in outcome.stderr
    assert "layers.0.mlp.fc2.weight" in outcome.stderr
