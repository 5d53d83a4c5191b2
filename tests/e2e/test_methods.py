# SPDX-License-Identifier: Apache-2.0
"""Methods of a size of their own, judged from outside on the demo family."""

import numpy as np
import pytest

import artifacts
import read_package

TASKS = ("mnist", "latin", "hiragana", "orient")
WEIGHTS = {"mnist": 2.0, "latin": 1.0, "hiragana": 1.0, "orient": 0.5}


def specification(method, dtype="f32", **more):
    return {"base": "base", "method": method, "output": {"dtype": dtype},
            "tasks": [{"name": task, "model": f"tasks/{task}", "weight": WEIGHTS[task]}
                      for task in TASKS], **more}


def wanted(family, method, scale=0.3):
    """The one model of all tasks, in float64."""
    base = artifacts.read_model(family / "base")
    tuned = {task: artifacts.read_model(family / "tasks" / task) for task in TASKS}
    total = sum(WEIGHTS.values())
    model = {}
    for name, start in base.items():
        start = np.asarray(start, np.float64)
        moved = sum(WEIGHTS[task] * (np.asarray(tuned[task][name], np.float64) - start)
                    for task in TASKS)
        model[name] = start + (moved / total if method == "average" else scale * moved)
    return model


def largest_miss(model, rebuilt):
    return max(float(np.abs(rebuilt[name] - values).max()) for name, values in model.items()
               if values.size)


@pytest.mark.parametrize("method, options, scale", [
    ("average", {}, None),
    ("task_arithmetic", {}, 0.3),
    ("task_arithmetic", {"method_options": {"scale": 0.7}}, 0.7),
])
def test_every_task_gets_the_model_of_the_formula(run, family, method, options, scale):
    outcome = run(specification(method, **options), family, "--export", "full")
    model = wanted(family, method, scale)
    for task in TASKS:
        rebuilt = artifacts.rebuild(artifacts.read_model(family / "base"), outcome.out, task)
        assert largest_miss(model, rebuilt) < 1e-6
        exported = artifacts.read_model(outcome.out / "models" / task)
        assert largest_miss(rebuilt, exported) < 2e-2  # the base's dtype rounds it
    budget = outcome.manifest()["budget"]
    assert budget["requested"] is None and budget["factors"] == 0


@pytest.mark.parametrize("dtype, most", [("bf16", 4e-3), ("f16", 5e-4), ("int8", 1e-2),
                                         ("int4", 0.2), ("int3", 0.5)])
def test_rounding_is_a_share_of_the_change(run, family, dtype, most):
    model = wanted(family, "average")
    base = artifacts.read_model(family / "base")
    outcome = run(specification("average", dtype), family)
    rebuilt = artifacts.rebuild(artifacts.read_model(family / "base"), outcome.out, "mnist")
    change = sum(float(np.sum((model[name] - base[name]) ** 2)) for name in model)
    lost = sum(float(np.sum((model[name] - rebuilt[name]) ** 2)) for name in model)
    assert 0 < (lost / change) ** 0.5 < most


def test_bytes_do_not_depend_on_workers_or_memory(run, family):
    first = run(specification("task_arithmetic", "bf16"), family, "--workers", "1")
    for more in (("--workers", "4"), ("--memory-limit", "8M"),):
        other = run(specification("task_arithmetic", "bf16"), family, *more)
        assert artifacts.digests(first.out) == artifacts.digests(other.out), more


@pytest.mark.parametrize("method", ["emr", "tall_ties", "mmer", "consensus", "bitdelta",
                                    "free"])
@pytest.mark.parametrize("dtype", ["bf16", "int4"])
def test_the_reader_gives_what_is_exported_of_masks(run, family, method, dtype):
    outcome = run(specification(method, dtype), family, "--export", "full")
    base = artifacts.read_model(family / "base")
    missed = {}
    for task in TASKS:
        exported = artifacts.read_model(outcome.out / "models" / task)
        tuned = artifacts.read_model(family / "tasks" / task)
        found = read_package.read_package(outcome.out, family / "base", task)
        assert found.keys() == exported.keys()
        for name, values in exported.items():
            change = np.abs(found[name] - base[name]).max(initial=0)
            assert np.all(np.abs(found[name] - values) <=
                          np.spacing(np.abs(values)) + 1e-6 * change), name
        moved, left = (sum(float(np.sum((np.asarray(tuned[name], np.float64) - start[name]) ** 2))
                           for name in base) for start in (base, found))
        missed[task] = left / moved
    assert outcome.manifest()["error"]["per_task"] == pytest.approx(missed, rel=1e-4)


def leading(change, rank):
    """The nearest matrix of that rank, in float64."""
    left, sigma, right = np.linalg.svd(change.reshape(len(change), -1), full_matrices=False)
    return ((left[:, :rank] * sigma[:rank]) @ right[:rank]).reshape(change.shape)


def served_by_twin(vectors, task):
    """Twin-Merging with the task known, as src/methods/twin.c says of each tensor."""
    served = {}
    for name, vector in vectors[task].items():
        rank = min(len(vector), vector[0].size) // 10 if vector.ndim > 1 else 0
        shared = 0.29 * sum(WEIGHTS[other] * vectors[other][name] for other in TASKS)
        apart = vector.ndim < 2 or "bias" in name or "classifier" in name
        rest = leading(vector - shared, rank) if rank else 0
        served[name] = vector if apart else shared + rest
    return served


def served_by_tsv_c(vectors, task):
    return {name: vector if vector.ndim != 2 else leading(vector, min(vector.shape) // len(TASKS))
            for name, vector in vectors[task].items()}


@pytest.mark.parametrize("method, served", [("twin", served_by_twin), ("tsv_c", served_by_tsv_c)])
def test_every_task_gets_what_the_formula_of_its_expert_says(run, family, method, served):
    base = artifacts.read_model(family / "base")
    vectors = {task: {name: np.asarray(values, np.float64) - np.asarray(base[name], np.float64)
                      for name, values in artifacts.read_model(family / "tasks" / task).items()}
               for task in TASKS}
    outcome = run(specification(method), family)
    for task in TASKS:
        rebuilt = artifacts.rebuild(base, outcome.out, task)
        expected = {name: base[name] + change for name, change in served(vectors, task).items()}
        assert largest_miss(expected, rebuilt) < 2e-5, task


@pytest.mark.parametrize("method", ["twin", "wemoe"])
def test_bytes_of_experts_do_not_depend_on_workers(run, family, method):
    first = run(specification(method, "int4"), family, "--workers", "1")
    other = run(specification(method, "int4"), family, "--workers", "4")
    assert artifacts.digests(first.out) == artifacts.digests(other.out)
