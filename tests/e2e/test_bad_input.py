# SPDX-License-Identifier: Apache-2.0
"""Bad input: every case ends with an error that names the culprit, and leaves nothing behind."""

import json
import re

import numpy as np
import pytest

import artifacts
from malformed import FILES


@pytest.fixture
def refused(run, models, small_specification):
    """Runs, expects a failure whose message holds every word, and no artifacts."""

    def check(*words, text=None):
        outcome = run(text or small_specification(), models, status=None)
        assert outcome.status in (1, 2), outcome.stderr
        for word in words:
            assert word in outcome.stderr, outcome.stderr
        assert not outcome.out.exists() or not any(outcome.out.iterdir())

    return check


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("model", ["base", "two"])
def test_malformed_file(refused, models, case, model):
    (models / model / "model.safetensors").write_bytes(FILES[case])
    refused(f"{model}/model.safetensors")


def test_truncated_file(refused, models):
    path = models / "one" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    refused("one/model.safetensors")


def shard(models, weight_map):
    """Turns model `one` into shards a and b with the given map."""
    whole = artifacts.read_model(models / "one")
    (models / "one" / "model.safetensors").unlink()
    artifacts.write_file(models / "one" / "a.safetensors", {"a.weight": whole["a.weight"]})
    artifacts.write_file(models / "one" / "b.safetensors",
                         {name: whole[name] for name in ("b.weight", "b.bias")})
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (models / "one" / "model.safetensors.index.json").write_text(json.dumps(index))


SHARDS = {"a.weight": "a.safetensors", "b.weight": "b.safetensors", "b.bias": "b.safetensors"}


def test_shards_are_read(run, models, small_specification):
    shard(models, SHARDS)
    run(small_specification(), models)


@pytest.mark.parametrize("name", ["../two/model.safetensors", "/etc/passwd", "missing.safetensors",
                                  "", ".", "..", 7])
def test_index_that_leads_astray(refused, models, name):
    shard(models, {**SHARDS, "a.weight": name})
    refused("one")


def test_index_and_shards_that_differ(refused, models):
    shard(models, {**SHARDS, "b.bias": "a.safetensors"})
    refused("one", "b.bias")


def rewrite(models, model, change):
    path = models / model / "model.safetensors"
    values = {name: array.copy() for name, array in artifacts.read_file(path).items()}
    change(values)
    artifacts.write_file(path, values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tensor", ["a.weight", "b.bias"])
@pytest.mark.parametrize("model", ["base", "one"])
def test_values_that_are_not_finite(refused, models, value, tensor, model):
    rewrite(models, model, lambda values: values[tensor].flat.__setitem__(3, value))
    refused(tensor)


def test_missing_tensor(refused, models):
    rewrite(models, "two", lambda values: values.pop("b.weight"))
    refused("two", "b.weight")


def test_extra_tensor(refused, models, small_specification):
    rewrite(models, "two", lambda values: values.update(c=np.zeros(2)))
    refused("two", "c", text=small_specification(own_tensors="refuse"))


def test_other_shape(refused, models, small_specification):
    rewrite(models, "two", lambda values: values.update({"b.weight": np.zeros((24, 16))}))
    refused("two", "b.weight", text=small_specification(own_tensors="refuse"))


def test_integer_tensors_must_agree(refused, models, small_specification):
    for model, number in (("base", 1), ("one", 1), ("two", 2)):
        path = models / model / "model.safetensors"
        values = {**artifacts.read_file(path), "ids": np.array([number, 2])}
        artifacts.write_file(path, values, {"ids": "I64"})
    refused("ids", text=small_specification(own_tensors="refuse"))


def test_missing_model(refused, small_specification):
    refused("three", text=small_specification(
        tasks=[{"name": "one", "model": "one"}, {"name": "three", "model": "three"}]))


ONE = {"name": "one", "model": "one"}
SPECIFICATIONS = {
    "no tasks": ({"tasks": []}, "tasks"),
    "the same name twice": ({"tasks": [ONE, {"name": "one", "model": "two"}]}, "one"),
    "the same model twice": ({"tasks": [ONE, {"name": "two", "model": "one"}]}, "one"),
    "the base as a task": ({"tasks": [ONE, {"name": "two", "model": "base"}]}, "base"),
    "name that is a path": ({"tasks": [{"name": "../x", "model": "one"}]}, "name"),
    "model that is a path": ({"tasks": [{"name": "x", "model": "../one"}]}, "model"),
    "zero weight": ({"tasks": [{**ONE, "weight": 0}]}, "weight"),
    "zero budget": ({"budget": 0}, "budget"),
    "negative budget": ({"budget": -1.5}, "budget"),
    "absurd budget": ({"budget": 1e30}, "budget"),
    "budget for less than one rank": ({"budget": 0.01}, "budget"),
    "budget that is a word": ({"budget": "XXL"}, "budget"),
    "unknown field": ({"budgets": 1}, "budgets"),
    "unknown field inside": ({"ranks": {"alocator": "exact"}}, "alocator"),
    "wrong type": ({"seed": "7"}, "seed"),
    "unknown allocator": ({"ranks": {"allocator": "best"}}, "allocator"),
    "negative steps": ({"refine": {"steps": -1}}, "steps"),
    "integer tensors": ({"output": {"dtype": "i8"}}, "dtype"),
    "nothing to merge": ({"include": ["nothing*"]}, "include"),
}


@pytest.mark.parametrize("case", SPECIFICATIONS)
def test_bad_specification(refused, small_specification, case):
    fields, word = SPECIFICATIONS[case]
    refused(word, text=small_specification(**fields))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"base": "base"', '{"a": NaN}',
                                  '{"base": "base", "base": "base"}', '{"budget": NaN}'])
def test_malformed_specification(refused, text):
    refused("specification", text=text or " ")


def as_yaml(specification):
    """The same in YAML's own words; scalars are spelled alike."""
    lines = [f"{key}: {json.dumps(value)}" for key, value in specification.items()
             if key != "tasks"]
    lines.append("tasks:")
    for task in specification["tasks"]:
        lines += [f"{'- ' if place == 0 else '  '}{key}: {value}"
                  for place, (key, value) in enumerate(task.items())]
    return "\n".join(lines) + "\n"


def test_a_specification_in_yaml(run, models, small_specification):
    wanted = small_specification()
    outcome = run(as_yaml(wanted), models, name="merge.yaml")
    said, same = outcome.manifest(), run(wanted, models).manifest()
    assert said["specification"] == same["specification"] and said["files"] == same["files"]
    broken = run(as_yaml(wanted) + "base: base\n", models, status=1, name="merge.yml")
    assert "twice" in broken.stderr and "merge.yml" in broken.stderr
    assert re.search(r"line \d+, column 1: the key 'base'", broken.stderr)


@pytest.mark.parametrize("field", ["base", "tasks", "budget"])
def test_missing_field(refused, small_specification, field):
    text = small_specification()
    del text[field]
    refused(field, text=text)


def test_memory_limit_that_is_too_small(run, models, small_specification):
    outcome = run(small_specification(), models, "--memory-limit", "1000", status=None)
    assert outcome.status > 0
    assert "memory" in outcome.stderr and any(word.isdigit() and int(word) > 1000
                                              for word in outcome.stderr.replace(",", " ").split())


@pytest.mark.parametrize("options, word", [
    (["--workers", "x"], "workers"), (["--workers", "-1"], "workers"),
    (["--workers", "9999"], "workers"), (["--memory-limit", "1Q"], "memory_limit"),
    (["--export", "all"], "--export"), (["--max-rank", "16"], "--export peft"),
    (["--export", "full", "--max-rank", "16"], "--export peft"),
    (["--export", "peft-exact", "--max-rank", "0"], "--max-rank"),
    (["--export", "peft", "--max-rank", "15"], "16"), (["--bogus"], "--bogus"),
    (["--workers"], "--workers"),
    (["again.json"], "one specification"),
])
def test_bad_options(run, models, small_specification, options, word):
    outcome = run(small_specification(), models, *options, status=2)
    assert word in outcome.stderr and "--help" in outcome.stderr
    assert not outcome.out.exists()


def test_task_that_equals_the_base(refused, models):
    source = models / "base" / "model.safetensors"
    (models / "two" / "model.safetensors").write_bytes(source.read_bytes())
    refused("two", "identical to the base")


def test_two_tasks_with_the_same_content(run, models, small_specification):
    """Allowed: two names of one fine-tune cost hardly more than one."""
    source = models / "one" / "model.safetensors"
    (models / "two" / "model.safetensors").write_bytes(source.read_bytes())
    outcome = run(small_specification(budget=1.2), models)
    base = artifacts.read_model(models / "base")
    one, two = (artifacts.rebuild(base, outcome.out, task) for task in ("one", "two"))
    np.testing.assert_allclose(one["a.weight"], two["a.weight"], atol=1e-2)


def test_task_vectors_of_lower_rank_than_the_budget(run, models, small_specification):
    """Rank-one fine-tunes (as a LoRA makes them) are rebuilt, and cost no more than their rank."""
    generator = np.random.default_rng(0)
    base = artifacts.read_model(models / "base")
    for task in ("one", "two"):
        moved = dict(base)
        for name in ("a.weight", "b.weight"):
            left, right = (generator.normal(size=size) for size in base[name].shape)
            moved[name] = base[name] + 0.1 * np.outer(left, right)
        artifacts.write_file(models / task / "model.safetensors", moved)
    outcome = run(small_specification(budget=1.2, output={"dtype": "f32"}), models)
    assert outcome.manifest()["error"]["relative"] < 1e-6


def test_a_layer_no_task_changed(run, models, small_specification):
    base = artifacts.read_model(models / "base")
    for task in ("one", "two"):
        moved = artifacts.read_model(models / task)
        artifacts.write_file(models / task / "model.safetensors",
                             {**moved, "a.weight": base["a.weight"]})
    outcome = run(small_specification(), models)
    model = artifacts.rebuild(base, outcome.out, "one")
    np.testing.assert_array_equal(model["a.weight"], base["a.weight"])


@pytest.mark.parametrize("shape", [(17, 9), (9, 17), (5, 3, 2), (1, 40), (40, 1), (3, 3), (2, 2)])
def test_odd_shapes(run, tmp_path, small_specification, shape):
    generator = np.random.default_rng(1)
    base = {"x": generator.normal(size=shape), "y": generator.normal(size=(16, 24))}
    for model, step in (("base", 0), ("one", 0.1), ("two", 0.1)):
        moved = {name: values + step * generator.normal(size=values.shape)
                 for name, values in base.items()}
        artifacts.write_file(tmp_path / model / "model.safetensors", moved)
    outcome = run(small_specification(budget=1.5), tmp_path, "--export", "full")
    assert outcome.manifest()["budget"]["parameters"] <= 1.5


def test_one_task(run, models, small_specification):
    outcome = run(small_specification(tasks=[ONE]), models)
    assert list(artifacts.expert_files(outcome.out)) == ["one"]


def test_an_extension_tells_another_base_by_its_size(run, models, small_specification):
    package = run(small_specification(), models).out
    base = artifacts.read_model(models / "base")
    artifacts.write_file(models / "base" / "model.safetensors", base,
                         dict.fromkeys(base, "BF16"))
    outcome = run(None, models, "--extend", package, "--remove", "one", status=1)
    assert "base/model.safetensors has" in outcome.stderr and "bytes" in outcome.stderr
    assert "decompose" not in outcome.stderr and "digest" not in outcome.stderr  # before any work


@pytest.mark.parametrize("gone, words", [
    ("base", ["/base", 'no model "base", which the job to extend was made from']),
    ("two", ["/tasks/0/model", 'no model "two"'])])
def test_an_extension_without_its_inputs(run, models, small_specification, gone, words):
    tasks = [{"name": "one", "model": "one"}]
    package = run(small_specification(tasks=tasks), models).out
    (models / gone / "model.safetensors").unlink()
    (models / gone).rmdir()
    outcome = run(None, models, "--extend", package, "--task", "two=two", status=1)
    for word in words:
        assert word in outcome.stderr


@pytest.mark.parametrize("fields, place, pattern, again", [
    ({"budget": {"bytes": 10}}, "/budget/bytes", r"below the (\d+) ", lambda x: {"bytes": int(x)}),
    ({"budget": {"bytes_ratio": 1e-5}}, "/budget/bytes_ratio", r"bytes_ratio ([\d.]+)\)",
     lambda x: {"bytes_ratio": float(x)}),
    ({"budget": 1e-5}, "/budget", r"below the ([\d.]+) ", float),
    ({"budget": 1e-5, "output": {"dtype": "auto"}}, "/budget", r"\(budget ([\d.]+)\)", float),
    ({"budget": {"max_error": 1e-9}, "output": {"dtype": "int3"}}, "/budget/max_error",
     r"about ([\d.]+),", lambda x: {"max_error": float(x)})])
def test_figures_of_refusals_work(run, models, small_specification, fields, place, pattern, again):
    outcome = run(small_specification(**fields), models, status=1)
    assert place in outcome.stderr
    fields["budget"] = again(re.search(pattern, outcome.stderr).group(1))
    run(small_specification(**fields), models)


def test_an_unknown_precision_is_told_the_known_ones(refused, small_specification):
    refused("/output/dtype", "f32, bf16, f16, int8, int4, int3 or auto",
            text=json.dumps(small_specification(output={"dtype": "int2"})))
