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
