# SPDX-License-Identifier: Apache-2.0
"""The frontier of extended packages: budgets and errors are of all tasks."""

import pytest

ADDED = ["--task", "hiragana=tasks/hiragana", "--task", "orient=tasks/orient"]


@pytest.fixture(scope="module", params=["none", "accuracy"])
def package(run, demo_specification, family, request):
    """Two tasks, merged."""
    specification = demo_specification(ranks={"weighting": request.param}, output={"dtype": "f32"})
    specification["tasks"] = specification["tasks"][:2]
    return run(specification, family)


def test_points_are_of_the_whole_package(run, family, package):
    manifest = run(None, family, "--extend", package.out, *ADDED).manifest()
    frontier, chosen = manifest["frontier"], manifest["frontier"]["chosen"]
    if manifest["specification"]["ranks"]["weighting"] == "none":
        assert chosen["error"] == pytest.approx(manifest["error"]["relative"], rel=1e-6)
    assert chosen["budget"] == pytest.approx(manifest["budget"]["parameters"])
    curves = [[(point["budget"], point["error"]) for point in frontier["points"]]]
    curves += [[(point["bytes"], point["error"]) for point in points]
               for points in frontier["precisions"].values()]
    old = package.manifest()["frontier"]["chosen"]["error"]
    for curve in curves:
        sizes, errors = zip(*curve)
        assert list(sizes) == sorted(sizes) and list(errors) == sorted(errors, reverse=True)
        assert errors[0] < 1  # the tasks kept have what they had
        assert 0.2 * old < errors[-1] < chosen["error"]
    above = min(error for size, error in curves[0] if size <= chosen["budget"])
    assert 0.9 * above < chosen["error"] < 1.02 * above


def test_where_nothing_is_added_the_job_is_the_only_point(run, family, package):
    manifest = run(None, family, "--extend", package.out, "--remove", "latin").manifest()
    frontier, chosen = manifest["frontier"], manifest["frontier"]["chosen"]
    assert frontier["points"] == [{"budget": chosen["budget"], "error": chosen["error"],
                                   "kind": "measured"}]
    assert frontier["precisions"] == {}
    assert chosen["error"] == pytest.approx(manifest["error"]["per_task"]["mnist"], rel=0.1)
    assert chosen["bytes"] == manifest["budget"]["bytes"]
    assert chosen["bytes_ratio"] == manifest["budget"]["bytes_ratio"]
