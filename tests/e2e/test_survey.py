# SPDX-License-Identifier: Apache-2.0
"""Surveys in the foreground: error against bytes before a merge is paid for."""

import json

import numpy as np
import pytest

import artifacts

AUTO = {"output": {"dtype": "auto"}}


def tensors(seed):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape)
            for name, shape in (("a.weight", (24, 16)), ("b.weight", (16, 24)))}


def files(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def survey(specification, **fields):
    """The same merge as a survey, without a budget."""
    return {**{key: value for key, value in specification.items() if key != "budget"},
            "survey": True, **fields}


def weights(out):
    return {name: digest for name, digest in artifacts.digests(out).items()
            if name != "manifest.json"}


def test_a_survey_is_a_manifest_that_a_merge_goes_on_from(run, demo_specification, family,
                                                          tmp_path):
    kept, whole = tmp_path / "kept", tmp_path / "whole"
    found = run(survey(demo_specification(), **AUTO), family, "--keep", str(kept))
    assert "a survey, S " in found.stdout and (kept / "reuse.json").is_file()
    assert files(found.out) == ["manifest.json"]
    assert not (kept / "outlook.json").exists()
    manifest = found.manifest()
    assert manifest["survey"] is True and manifest["files"] == []
    assert "ranks" not in manifest and "error" not in manifest
    assert manifest["stages"]["refine"]["seconds"] == 0
    assert manifest["similarity"]["explained_by_shared"] == [None] * 4
    run(demo_specification(budget=1.0, **AUTO), family, "--keep", str(whole))
    made = [run(demo_specification(budget=1.24, **AUTO), family, "--reuse", str(source))
            for source in (kept, whole)]
    assert weights(made[0].out) == weights(made[1].out)  # what it starts from is the same


@pytest.mark.parametrize("fields", [AUTO, {}, {"ranks": {"allocator": "uniform"}}])
def test_points_of_the_curve_can_be_asked_for(run, demo_specification, family, tmp_path, fields):
    kept = tmp_path / "kept"
    found = run(survey(demo_specification(**fields)), family, "--keep", str(kept)).manifest()
    frontier = found["frontier"]
    curve = frontier["curve"]
    assert frontier["chosen"] is None and frontier["dtype"] == found["budget"]["dtype"]
    assert len(curve) >= 12
    for key, falls in (("bytes", False), ("error", True)):
        values = [point[key] for point in curve]
        assert values == sorted(values, reverse=falls)
    point = min(curve, key=lambda at: abs(at["bytes_ratio"] - 0.55))
    made = run({**demo_specification(**fields), "budget": point["budget"]}, family,
               "--reuse", str(kept)).manifest()
    assert made["budget"]["bytes"] <= point["bytes"] * 1.02
    assert made["budget"]["bytes"] > point["bytes"] * 0.9
    if "ranks" not in fields:  # points are of ranks that are not uniform
        assert 0.4 < made["frontier"]["chosen"]["error"] / point["error"] < 1.6
    marks = {mark["name"]: mark for mark in frontier["marks"]}
    assert [marks[name]["budget"] for name in "SML"] == [1.24, 1.4, 2.0]
    assert marks["S"]["error"] > marks["M"]["error"] >= marks["L"]["error"]
    unit = "bytes_ratio_16bit" if fields is AUTO else "parameters"
    assert {mark["unit"] for mark in frontier["marks"]} == {unit}
    small = run(demo_specification(budget="S", **fields), family, "--reuse", str(kept)).manifest()
    assert abs(small["budget"]["bytes"] / marks["S"]["bytes"] - 1) < 0.03


def test_a_survey_finds_room_where_little_is_left(run, tmp_path):
    """Heads of many tasks, kept whole, take more than the budget that surveys have by default."""
    base = tensors(5)
    artifacts.write_file(tmp_path / "base" / "model.safetensors", base)
    tasks = []
    for seed in range(4):
        change = tensors(10 + seed)
        moved = {name: values + 0.01 * change[name] for name, values in base.items()}
        moved["head.weight"] = np.full((64, 30), seed, np.float32)
        artifacts.write_file(tmp_path / f"t{seed}" / "model.safetensors", moved)
        tasks.append({"name": f"t{seed}", "model": f"t{seed}"})
    for fields in (AUTO, {"output": {"dtype": "bf16"}}):
        asked = {"base": "base", "tasks": tasks, "survey": True, **fields}
        manifest = run(asked, tmp_path).manifest()
        assert manifest["budget"]["requested"] > 2
        assert manifest["frontier"]["marks"] == [] and manifest["frontier"]["curve"]
        refused = run({**asked, "budget": 1.5}, tmp_path, status=1)
        assert "/budget" in refused.stderr


def test_what_cannot_be_surveyed_is_said(run, small_specification, models, tmp_path):
    asked = survey(small_specification())
    average = {key: value for key, value in asked.items()
               if key in ("base", "tasks", "survey")} | {"method": "average"}
    assert "/survey: method 'average'" in run(average, models, status=1).stderr
    exported = run(asked, models, "--export", "full", status=1)
    assert "a survey has nothing to export" in exported.stderr
    out = run(asked, models).out
    extended = run(None, models, "--extend", str(out), "--remove", "one", status=1)
    assert "the job is a survey" in extended.stderr
    assert json.loads((out / "manifest.json").read_text())["survey"] is True
    for word in ("yes", 1, None):
        assert "/survey" in run({**asked, "survey": word}, models, status=1).stderr
