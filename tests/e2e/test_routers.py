# SPDX-License-Identifier: Apache-2.0
"""Exported routers find the task of an image better than chance, and are the same bytes twice."""

import pathlib
import sys

import numpy as np
import pytest

import artifacts
import evaluate
import read_routers

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import routing  # noqa: E402 (the path above is needed first)

IMAGES = 25


@pytest.mark.parametrize("fields", [{"budget": 1.24},
                                    {"method": "smile", "method_options": {"rank": 4}}])
def test_images_are_routed_better_than_by_chance(run, demo_specification, family, fields):
    asked = demo_specification()
    del asked["budget"]
    made = run({**asked, **fields}, family, "--export", "router").out
    routers = read_routers.read_routers(made / "routers")
    suite = evaluate.Suite(family)
    base = artifacts.read_model(suite.base_directory())
    tasks = sorted(suite.tasks)
    assert sorted(routers) == tasks
    found = []
    for number, task in enumerate(tasks):
        chosen = routing.choose(suite, base, {name: routers[name] for name in tasks},
                                suite.test(task)[1][:IMAGES])
        found.append(np.mean(chosen == number))
    assert np.mean(found) > 1.3 / len(tasks), found


def test_directions_are_those_of_the_model_that_is_served(run, small_specification, models):
    runs = [run(small_specification(), models, "--export", "router", "--max-rank", "3").out
            for _ in range(2)]
    files = [made / "routers" / "one" / "router.safetensors" for made in runs]
    assert files[0].read_bytes() == files[1].read_bytes()
    base = artifacts.read_model(models / "base")
    served = artifacts.rebuild(base, runs[0], "one")
    rows = artifacts.read_file(files[0])
    assert set(rows) == {"a.weight.directions", "b.weight.directions"}
    for name in ("a.weight", "b.weight"):
        wanted = np.linalg.svd(served[name].astype(float) - base[name].astype(float))[2][:3]
        inner = rows[f"{name}.directions"] @ wanted.T
        assert np.allclose(np.abs(inner), np.eye(3), atol=0.05), inner


def test_one_task_has_no_router(run, small_specification, models):
    alone = small_specification(tasks=[{"name": "one", "model": "one"}])
    done = run(alone, models, "--export", "router", status=1)
    assert "nothing to route between" in done.stderr
