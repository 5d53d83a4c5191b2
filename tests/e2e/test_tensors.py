# SPDX-License-Identifier: Apache-2.0
"""Families of every make of tensor, merged and judged with NumPy alone."""

import json

import numpy as np
import pytest

import artifacts

TASKS = ("one", "two", "three")
SHAPES = {"a.weight": (40, 24), "b.weight": (24, 6, 5), "c.bias": (40,), "d.scale": (),
          "e.row": (1, 30), "f.column": (30, 1), "g.embed": (7, 9)}


def float_tensors(seed):
    generator = np.random.default_rng(seed)
    return {name: np.asarray(generator.normal(size=shape)) for name, shape in SHAPES.items()}


def rounded(values, dtype):
    """Values as a dtype keeps them."""
    raw = artifacts.encode(np.asarray(values), dtype)
    return artifacts.decode(raw, dtype, np.shape(values)).astype(np.float64)


def make_family(folder, tasks=TASKS, dtypes=None, integers=True, scale=0.01):
    """A base and fine-tunes; returns their values as the files hold them, in float64."""
    models = {}
    start = float_tensors(1)
    for seed, name in enumerate(("base", *tasks), 10):
        change = float_tensors(seed) if name != "base" else {}
        kept = dtypes(name) if dtypes else {}
        tensors = {key: values + scale * change.get(key, 0) for key, values in start.items()}
        models[name] = {key: rounded(values, kept.get(key, "F32"))
                        for key, values in tensors.items()}
        if integers:
            tensors["h.index"] = np.arange(12).reshape(3, 4)
            kept = {**kept, "h.index": "I64"}
        artifacts.write_file(folder / name / "model.safetensors", tensors, kept)
    return models


def specification(tasks=TASKS, **fields):
    return {"base": "base", "tasks": [{"name": task, "model": task} for task in tasks],
            "budget": 2.0, "output": {"dtype": "bf16"}, **fields}


def split_error(models, outcome, tasks=TASKS):
    """Relative errors of matrices and of dense tensors, from what the files hold."""
    manifest = outcome.manifest()
    matrices = artifacts.factored(manifest)
    shared = artifacts.read_file(outcome.out / "shared.safetensors")
    sums = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for task in tasks:
        expert = artifacts.read_file(artifacts.expert_files(outcome.out)[task])
        for name, values in models["base"].items():
            if manifest["tensors"][name]["kept"] not in ("factors", "dense"):
                continue
            wanted = models[task][name].astype(np.float32) - values.astype(np.float32)
            found = artifacts.delta(name, values.shape, shared, expert)
            missed = wanted.astype(np.float64) - (0 if found is None else found)
            sums[name in matrices][0] += float(np.sum(missed ** 2))
            sums[name in matrices][1] += float(np.sum(wanted.astype(np.float64) ** 2))
    return {kind: missed / moved if moved else 0.0 for kind, (missed, moved) in sums.items()}


def check(models, outcome, tasks=TASKS):
    """The manifest's errors and budget are those of the files."""
    manifest = outcome.manifest()
    found = split_error(models, outcome, tasks)
    assert manifest["error"]["relative"] == pytest.approx(found[True], rel=1e-4, abs=1e-9)
    assert manifest["error"]["dense"] == pytest.approx(found[False], rel=1e-5, abs=1e-12)
    count = artifacts.recount(outcome.out)
    one_model = manifest["budget"]["model_parameters"]
    assert count["parameters"] <= manifest["budget"]["requested"] * one_model
    assert count["factors"] == manifest["budget"]["factor_parameters"]
    assert count["dense"] == manifest["budget"]["dense_parameters"]
    return found


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("dense", ["per_task", "mean", "base", "auto"])
def test_dense_error_is_that_of_the_files(run, tmp_path, dense, dtype):
    models = make_family(tmp_path)
    outcome = run(specification(dense=dense, output={"dtype": dtype}), tmp_path)
    error = check(models, outcome)[False]
    if dense == "per_task":
        assert (error == 0) == (dtype == "f32")
    elif dense == "base":
        assert error == 1


def test_mean_of_dense_tensors(run, tmp_path):
    models = make_family(tmp_path)
    outcome = run(specification(dense="mean", output={"dtype": "f32"}), tmp_path)
    shared = artifacts.read_file(outcome.out / "shared.safetensors")
    for name in ("c.bias", "d.scale", "e.row", "f.column"):
        mean = np.mean([models[task][name] - models["base"][name] for task in TASKS], axis=0)
        np.testing.assert_allclose(shared[f"{name}.delta"], mean, rtol=1e-4, atol=1e-7)


def kept_for_each_task(outcome, name):
    return {f"{name}.delta" in artifacts.read_file(path)
            for path in artifacts.expert_files(outcome.out).values()}


@pytest.mark.parametrize("factor, apart", [(0.001, False), (100, True)])
def test_vectors_are_kept_for_each_task_where_they_earn_it(run, tmp_path, factor, apart):
    """Changes of a bias that are small or large against those of the matrices."""
    make_family(tmp_path)
    for task in TASKS:
        path = tmp_path / task / "model.safetensors"
        tensors = artifacts.read_file(path)
        base = artifacts.read_file(tmp_path / "base" / "model.safetensors")["c.bias"]
        tensors["c.bias"] = base + factor * (tensors["c.bias"] - base)
        artifacts.write_file(path, tensors, {"h.index": "I64"})
    outcome = run(specification(budget=0.6), tmp_path)
    shared = artifacts.read_file(outcome.out / "shared.safetensors")
    assert kept_for_each_task(outcome, "c.bias") == {apart}
    assert ("c.bias.delta" in shared) != apart
    assert outcome.manifest()["budget"]["parameters"] <= 0.6


def test_single_rows_and_columns_are_dense(run, tmp_path):
    make_family(tmp_path)
    kept = {name: entry["kept"]
            for name, entry in run(specification(), tmp_path).manifest()["tensors"].items()}
    assert kept == {"a.weight": "factors", "b.weight": "factors", "c.bias": "dense",
                    "d.scale": "dense", "e.row": "dense", "f.column": "dense",
                    "g.embed": kept["g.embed"], "h.index": "passthrough"}


@pytest.mark.parametrize("fields, name, kept", [
    ({"dense_tensors": ["b.*"]}, "b.weight", "dense"),
    ({"low_rank_tensors": ["g.*"]}, "g.embed", "factors"),
    ({"include": ["a.*", "c.*"]}, "b.weight", "excluded"),
    ({"include": ["a.*", "c.*"]}, "a.weight", "factors"),
    ({"exclude": ["*.weight"]}, "a.weight", "excluded"),
])
def test_globs(run, tmp_path, fields, name, kept):
    models = make_family(tmp_path)
    outcome = run(specification(budget=4.0, **fields), tmp_path)
    assert outcome.manifest()["tensors"][name]["kept"] == kept
    check(models, outcome)


@pytest.mark.parametrize("allocator", ["uniform", "exact", "differentiable", "joint", "pursuit"])
def test_more_budget_than_the_models_hold(run, tmp_path, allocator):
    models = make_family(tmp_path)
    outcome = run(specification(budget=20, ranks={"allocator": allocator, "steps": 20},
                                output={"dtype": "f32"}), tmp_path)
    error = check(models, outcome)
    assert error[False] == 0
    assert error[True] < (0.05 if allocator in ("uniform", "differentiable") else 1e-6)


@pytest.mark.parametrize("allocator", ["uniform", "exact", "differentiable", "joint", "pursuit"])
def test_one_task(run, tmp_path, allocator):
    models = make_family(tmp_path, ("one",))
    outcome = run(specification(("one",), budget=0.5, ranks={"allocator": allocator, "steps": 20}),
                  tmp_path)
    assert 0 < check(models, outcome, ("one",))[True] < 1
    assert not artifacts.read_header(outcome.out / "shared.safetensors")[0]


@pytest.mark.parametrize("allocator", ["uniform", "exact", "differentiable", "joint", "pursuit"])
def test_no_matrix_at_all(run, tmp_path, allocator):
    models = make_family(tmp_path)
    outcome = run(specification(budget=3, exclude=["*.weight", "*.embed"],
                                ranks={"allocator": allocator, "steps": 20}), tmp_path)
    check(models, outcome)


@pytest.mark.parametrize("allocator", ["uniform", "exact", "differentiable", "joint", "pursuit"])
def test_matrices_that_did_not_change(run, tmp_path, allocator):
    """All that changed is kept dense: no energy is left to share out."""
    models = make_family(tmp_path)
    for task in TASKS:
        for name in ("a.weight", "b.weight", "g.embed"):
            models[task][name] = models["base"][name]
        artifacts.write_file(tmp_path / task / "model.safetensors",
                             {**models[task], "h.index": np.arange(12).reshape(3, 4)},
                             {"h.index": "I64"})
    outcome = run(specification(ranks={"allocator": allocator, "steps": 20}), tmp_path)
    assert check(models, outcome)[True] == 0


@pytest.mark.parametrize("dtypes", [
    pytest.param(lambda model: dict.fromkeys(SHAPES, "F64"), id="f64"),
    pytest.param(lambda model: dict.fromkeys(SHAPES, "BF16" if model == "base" else "F32"),
                 id="bf16-base"),
    pytest.param(lambda model: {"a.weight": "F16", "b.weight": "BF16", "c.bias": "F64"}
                 if model == "one" else {"a.weight": "F64"}, id="mixed"),
    pytest.param(lambda model: dict.fromkeys(SHAPES, "F8_E4M3"), id="e4m3"),
    pytest.param(lambda model: dict.fromkeys(SHAPES, "F8_E5M2" if model == "base" else "BF16"),
                 id="e5m2-base"),
])
def test_dtypes(run, tmp_path, dtypes):
    models = make_family(tmp_path, dtypes=dtypes)
    outcome = run(specification(), tmp_path, "--export", "full")
    check(models, outcome)
    kept = artifacts.model_dtypes(tmp_path / "base")
    assert all(artifacts.model_dtypes(outcome.out / "models" / task) == kept for task in TASKS)


@pytest.mark.parametrize("name, base, task", [("a.weight", "F32", "I64"),
                                              ("h.index", "I64", "F32")])
def test_integers_in_one_and_floats_in_the_other_can_be_excluded(run, tmp_path, name, base, task):
    models = make_family(tmp_path)
    values = {**models["one"], "h.index": np.arange(12).reshape(3, 4)}
    artifacts.write_file(tmp_path / "one" / "model.safetensors", values,
                         {"h.index": "I64", name: task})
    refused = run(specification(), tmp_path, status=1)
    assert f"'{name}' in one: {task} " in refused.stderr and base in refused.stderr
    outcome = run(specification(exclude=[name]), tmp_path, "--export", "full")
    assert outcome.manifest()["tensors"][name]["kept"] == "excluded"
    for model in TASKS:
        rebuilt = artifacts.read_file(outcome.out / "models" / model / "model.safetensors")
        of_base = artifacts.read_file(tmp_path / "base" / "model.safetensors")
        assert np.array_equal(rebuilt[name], of_base[name])


@pytest.mark.parametrize("scale", ["a.weight_scale", "a.weight_scale_inv", "a.scale_weight"])
@pytest.mark.parametrize("scaled", ["base", "one"])
def test_scaled_8_bits_are_refused(run, tmp_path, scale, scaled):
    models = make_family(tmp_path, dtypes=lambda model: {"a.weight": "F8_E4M3"}, integers=False)
    artifacts.write_file(tmp_path / scaled / "model.safetensors",
                         {**models[scaled], scale: np.ones(1)}, {"a.weight": "F8_E4M3"})
    refused = run(specification(), tmp_path, status=1)
    assert f"'{scale}'" in refused.stderr and "before quantisation" in refused.stderr
    left_out = run(specification(exclude=["a.*"]), tmp_path, status=None)
    assert "before quantisation" not in left_out.stderr


def test_shards_are_one_model(run, tmp_path):
    whole, split = tmp_path / "whole", tmp_path / "split"
    models = make_family(whole, integers=False)
    for name, tensors in models.items():
        folder, places = split / name, {}
        for index in range(2):
            file = f"model-{index + 1:05}-of-00002.safetensors"
            part = dict(sorted(tensors.items())[index::2])
            artifacts.write_file(folder / file, part)
            places.update(dict.fromkeys(part, file))
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    outcome = run(specification(), split)
    check(models, outcome)
    assert artifacts.digests(outcome.out) == artifacts.digests(run(specification(), whole).out)


def test_frontier_falls_and_says_what_it_is(run, tmp_path):
    make_family(tmp_path)
    frontier = run(specification(), tmp_path).manifest()["frontier"]
    errors = [point["error"] for point in frontier["points"]]
    budgets = [point["budget"] for point in frontier["points"]]
    assert errors == sorted(errors, reverse=True) and budgets == sorted(set(budgets))
    assert {point["kind"] for point in frontier["points"]} <= {"blocks", "spectra"}
    assert frontier["chosen"]["kind"] == "measured"
