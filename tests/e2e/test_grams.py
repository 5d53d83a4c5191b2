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


def without(taus, conflict_of, count):
    """Task vectors of one axis without what each task takes from the others."""
    left = [tau.copy() for tau in taus]
    for task in range(len(taus)):
        taken = np.argsort(-conflict_of(task), kind="stable")[:count]
        for other, tau in enumerate(left):
            if other != task:
                tau[taken] = 0
    return left


def at_length(left, taus):
    return [tau * np.linalg.norm(whole) / np.linalg.norm(tau) for tau, whole in zip(left, taus)]


@pytest.mark.parametrize("bias_by", ["others", "own"])
def test_masks_of_norms_and_biases(run, family, with_grams, bias_by):
    directory, arrays = with_grams
    keeps = bias_by == "own"
    options = {"scale": 0.5, "directions": 0, "scale_entries": 5, "scale_lambda": 0.25,
               "bias_entries": 7, "bias_by": bias_by, "keep_length": keeps}
    tasks = [*specification()["tasks"], {"name": "twice", "model": "tasks/hiragana",
                                         "gram": "grams/latin", "weight": 0.5}]
    outcome = run(specification(method_options=options, tasks=tasks), family, "--models",
                  str(directory))
    base = artifacts.read_model(family / "base")
    tuned = [artifacts.read_model(family / task["model"]) for task in tasks]
    weights = [task.get("weight", 1) for task in tasks]
    served = artifacts.rebuild(base, outcome.out, "mnist")

    def check(name, conflict, count, scale):
        taus = [np.asarray(one[name], np.float64) - base[name] for one in tuned]
        left = without(taus, lambda task: conflict(taus, task), count)
        assert sum(np.count_nonzero(tau == 0) for tau in left) >= 2 * count
        if scale and keeps:
            left = at_length(left, taus)
        wanted = base[name] + 0.5 * sum(weight * tau for weight, tau in zip(weights, left))
        assert np.abs(served[name] - wanted).max() < 1e-6, name

    def scale_conflict(name):
        squares = [arrays["latin" if task["name"] == "twice" else task["name"]][name]
                   for task in tasks]
        return lambda taus, task: sum(taus[other]**2 * (squares[task] - 0.25 * squares[other])
                                      for other in range(len(taus)) if other != task)

    def bias_conflict(taus, task):
        chosen = [task] if keeps else [other for other in range(len(taus)) if other != task]
        return sum(taus[other]**2 for other in chosen)

    for norm in ("pre_layrnorm", "encoder.layers.1.layer_norm2", "post_layernorm"):
        weight = f"vision_model.{norm}.weight"
        check(weight, scale_conflict(weight), 5, True)
        check(f"vision_model.{norm}.bias", bias_conflict, 7, False)
    check("vision_model.encoder.layers.0.mlp.fc1.bias", bias_conflict, 7, False)


def test_a_missing_layer_is_named(run, family, with_grams, tmp_path):
    _, arrays = with_grams
    for task in TASKS:
        kept = {name: made for name, made in arrays[task].items() if ".0.mlp.fc2" not in name}
        artifacts.write_file(tmp_path / "grams" / task / "model.safetensors", kept)
    outcome = run(specification(), family, "--models", str(tmp_path), status=None)
    assert outcome.status != 0 and not outcome.out.exists()
    assert "grams/mnist holds no Gram matrix" in outcome.stderr
    assert "layers.0.mlp.fc2.weight" in outcome.stderr


def test_norms_need_sums_of_squares_once_masks_are_asked_for(run, family, with_grams, tmp_path):
    _, arrays = with_grams
    norm = "vision_model.pre_layrnorm.weight"
    for change, told in ((None, "holds no Gram matrix"), (np.ones(3), "sums of squares"),
                         (np.full(arrays["mnist"][norm].shape, -1.0), "not below 0")):
        for task in TASKS:
            made = {name: one for name, one in arrays[task].items() if name != norm}
            if change is not None:
                made[norm] = change
            artifacts.write_file(tmp_path / "grams" / task / "model.safetensors", made)
        asked = specification(method_options={"scale_entries": 4})
        outcome = run(asked, family, "--models", str(tmp_path), status=None)
        assert outcome.status != 0 and not outcome.out.exists()
        assert norm in outcome.stderr and told in outcome.stderr
    run(specification(), family, "--models", str(tmp_path))  # without masks nobody looks
