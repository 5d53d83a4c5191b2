# SPDX-License-Identifier: Apache-2.0
"""Packages of every precision: the reader in docs/ gives what didid exports."""

import numpy as np
import pytest

import artifacts
import read_package

PRECISIONS = ("f32", "bf16", "f16", "int8", "int4", "int3", "auto")
TASKS = ("mnist", "latin", "hiragana", "orient")


@pytest.fixture(scope="module", params=PRECISIONS)
def package(run, family, demo_specification, request):
    """A merge at one precision, with full exports."""
    specification = demo_specification(budget=0.8, output={"dtype": request.param},
                                       refine={"steps": 2})
    return run(specification, family, "--export", "full")


@pytest.mark.parametrize("task", TASKS)
def test_the_reader_gives_what_is_exported(family, package, task):
    exported = artifacts.read_model(package.out / "models" / task)
    base = artifacts.read_model(family / "base")
    found = read_package.read_package(package.out, family / "base", task)
    assert found.keys() == exported.keys()
    for name, values in exported.items():
        # one unit in the last place, and what another order of summing changes in what is added
        unit = np.spacing(np.abs(values))
        change = np.abs(found[name] - base[name]).max(initial=0)
        assert np.all(np.abs(found[name] - values) <= unit + 1e-6 * change), name


def test_the_error_is_that_of_what_is_stored(family, package):
    manifest = package.manifest()
    base = artifacts.read_model(family / "base")
    models = {task: artifacts.read_model(family / "tasks" / task) for task in TASKS}
    rebuilt = {task: artifacts.rebuild(base, package.out, task) for task in TASKS}
    error = artifacts.relative_error(base, models, rebuilt, artifacts.factored(manifest))
    assert manifest["error"]["relative"] == pytest.approx(error, abs=1e-4)


@pytest.mark.parametrize("dtype, budget", [("auto", 0.36), ("auto", 0.51),
                                           ("int3", {"bytes_ratio": 0.2})])
def test_refinement_does_not_raise_the_error_of_what_is_stored(run, family, demo_specification,
                                                               dtype, budget):
    wanted = {"budget": budget, "output": {"dtype": dtype}}
    errors = [run(demo_specification(**wanted, refine={"steps": steps}), family)
              .manifest()["error"]["relative"] for steps in (0, 1, 2)]
    default = run(demo_specification(**wanted), family).manifest()["error"]["relative"]
    assert default < 1.012 * min(errors)


def dense_shares(family, outcome, tasks):
    """Of each task's tensors kept whole: energy missed and energy, from what the reader gives."""
    manifest = outcome.manifest()
    base = artifacts.read_model(family / "base")
    whole = [name for name, row in manifest["tensors"].items() if row["kept"] == "dense"]
    found = {}
    for task in tasks:
        model = artifacts.read_model(family / "tasks" / task)
        read = read_package.read_package(outcome.out, family / "base", task)
        moved = [np.ravel(model[name].astype(np.float64) - base[name]) for name in whole]
        missed = [np.ravel(model[name].astype(np.float64) - read[name]) for name in whole]
        found[task] = (sum(float(part @ part) for part in missed),
                       sum(float(part @ part) for part in moved))
    return found


def check_dense(family, outcome, tasks):
    error = outcome.manifest()["error"]
    found = dense_shares(family, outcome, tasks)
    assert error["dense_per_task"].keys() == set(tasks)
    for task, (missed, moved) in found.items():
        assert error["dense_per_task"][task] == pytest.approx(missed / moved, rel=2e-3, abs=1e-6)
    missed, moved = map(sum, zip(*found.values()))
    assert error["dense"] == pytest.approx(missed / moved, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("dense", ["per_task", "mean", "auto"])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "int4", "auto"])
def test_errors_of_what_is_kept_whole_stay_exact_when_tasks_come_and_go(
        run, family, demo_specification, dtype, dense):
    specification = demo_specification(budget=0.9, output={"dtype": dtype}, dense=dense,
                                       refine={"steps": 1})
    specification["tasks"] = specification["tasks"][:3]
    first = run(specification, family)
    check_dense(family, first, TASKS[:3])
    less = run(None, family, "--extend", first.out, "--remove", TASKS[0])
    check_dense(family, less, TASKS[1:3])
    more = run(None, family, "--extend", less.out, "--task", f"{TASKS[3]}=tasks/{TASKS[3]}")
    check_dense(family, more, TASKS[1:])
