# SPDX-License-Identifier: Apache-2.0
"""The demo family is what its description says, and the NumPy readers are right."""

import pathlib

import numpy as np
import pytest

import artifacts
import evaluate

SUITE = pathlib.Path(__file__).parent / "glyphmini"


@pytest.fixture(scope="module")
def suite():
    return evaluate.Suite(SUITE)


def test_fine_tunes_have_the_recorded_accuracy(suite):
    for task in suite.tasks.values():
        measured = suite.accuracy(task["name"], suite.fine_tune(task["name"]))
        assert measured == pytest.approx(task["individual_accuracy"], abs=1e-9)


def test_base_has_the_recorded_accuracy(suite):
    base = artifacts.read_model(suite.base_directory())
    result = evaluate.evaluate(suite, lambda task: base)
    assert result["average"] == pytest.approx(suite.description["average"]["base"], abs=1e-9)


def test_parameters_are_counted(suite):
    assert artifacts.float_parameters(suite.base_directory()) == 158592


def test_a_model_that_lacks_a_tensor_is_refused(suite):
    base = artifacts.read_model(suite.base_directory())
    del base["visual_projection.weight"]
    with pytest.raises(ValueError, match="visual_projection.weight"):
        suite.accuracy("mnist", base)


def write_artifacts(directory, generator):
    """A family of one tensor of each kind, and its artifacts; returns the base and the model."""
    base = {"matrix": generator.normal(size=(6, 2, 2)).astype(np.float32),
            "bias": generator.normal(size=(6,)).astype(np.float32),
            "kept": np.ones(3, np.float32)}
    shared = {"matrix.shared_B": generator.normal(size=(6, 2)),
              "matrix.shared_A": generator.normal(size=(2, 4)), "bias.delta": np.ones(6)}
    expert = {"matrix.expert_B": generator.normal(size=(6, 1)),
              "matrix.expert_A": generator.normal(size=(1, 4)), "bias.delta": np.arange(6.0)}
    artifacts.write_file(directory / "shared.safetensors", shared)
    artifacts.write_file(directory / "experts" / "one.safetensors", expert)
    product = shared["matrix.shared_B"] @ shared["matrix.shared_A"]
    product += expert["matrix.expert_B"] @ expert["matrix.expert_A"]
    return base, {"matrix": base["matrix"] + product.reshape(6, 2, 2),
                  "bias": base["bias"] + 1 + np.arange(6.0), "kept": base["kept"]}


def test_rebuild_adds_what_is_stored(tmp_path):
    base, wanted = write_artifacts(tmp_path, np.random.default_rng(0))
    rebuilt = artifacts.rebuild(base, tmp_path, "one")
    for name, values in wanted.items():
        np.testing.assert_allclose(rebuilt[name], values, rtol=1e-5, atol=1e-5)
    assert artifacts.relative_error(base, {"one": wanted}, {"one": rebuilt}) < 1e-10


def test_recount_counts_factors_and_dense(tmp_path):
    write_artifacts(tmp_path, np.random.default_rng(0))
    count = artifacts.recount(tmp_path)
    assert (count["factors"], count["dense"], count["parameters"]) == (20 + 10, 12, 42)


def test_half_a_factor_pair_is_refused(tmp_path):
    base, _ = write_artifacts(tmp_path, np.random.default_rng(0))
    artifacts.write_file(tmp_path / "experts" / "one.safetensors", {"bias.expert_A": np.ones(1)})
    with pytest.raises(ValueError, match="only one of the expert factors"):
        artifacts.rebuild(base, tmp_path, "one")


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_dtypes_survive_a_round_trip(tmp_path, dtype):
    values = np.array([0.0, 1.0, -2.5, 0.375, 96.0], np.float32)
    artifacts.write_file(tmp_path / "x.safetensors", {"x": values}, {"x": dtype})
    np.testing.assert_array_equal(artifacts.read_file(tmp_path / "x.safetensors")["x"], values)
