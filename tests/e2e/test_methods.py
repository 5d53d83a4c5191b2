# SPDX-License-Identifier: Apache-2.0
"""Methods of a size of their own, judged from outside on the demo family."""

import numpy as np
import pytest

import artifacts

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
