# SPDX-License-Identifier: Apache-2.0
"""PEFT adapters as tasks: merged as the full checkpoints they stand for, bad ones named."""

import json

import numpy as np
import pytest

import artifacts

RANK, SCALE = 4, 2.0
SHAPES = {
    "model.embed.weight": (50, 32),
    "model.layers.0.up.weight": (96, 32),
    "model.layers.0.down.weight": (32, 96),
    "model.layers.0.square.weight": (48, 48),
    "model.layers.0.turned.weight": (32, 80),
    "model.conv.weight": (24, 6, 3, 3),
    "model.norm.weight": (32,),
}
LINEAR = ["model.layers.0.up", "model.layers.0.down", "model.layers.0.square"]
PREFIX = "base_model.model."
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": SCALE * RANK, "target_modules": ["up"],
          "base_model_name_or_path": "somewhere/base", "inference_mode": True}


def factors(generator, rows, columns, rank=RANK):
    return (generator.normal(size=(rank, columns)) / np.sqrt(columns),
            generator.normal(size=(rows, rank)) * 0.05 / (1 + np.arange(rank)))


class Adapter:
    """What one directory holds, and the model that it stands for."""

    def __init__(self, base, seed, **config):
        self.generator = np.random.default_rng(seed)
        self.config = {**CONFIG, **config}
        self.tensors = {}
        self.full = dict(base)

    def add(self, module, scale=SCALE, rank=RANK, turned=False):
        rows, columns = self.full[module + ".weight"].shape[::-1 if turned else 1]
        a, b = (x.astype(np.float32) for x in factors(self.generator, rows, columns, rank))
        self.tensors[f"{PREFIX}{module}.lora_A.weight"] = a
        self.tensors[f"{PREFIX}{module}.lora_B.weight"] = b
        change = scale * (b @ a)
        self.full[module + ".weight"] = self.full[module + ".weight"] + (
            change.T if turned else change)
        return self

    def write(self, folder, names=lambda name: name):
        tensors = {names(name): value for name, value in self.tensors.items()}
        artifacts.write_file(folder / "adapter_model.safetensors", tensors)
        (folder / "adapter_config.json").write_text(json.dumps(self.config))


@pytest.fixture(name="base")
def base_fixture(tmp_path):
    generator = np.random.default_rng(3)
    base = {name: generator.normal(size=shape).astype(np.float32) * 0.3
            for name, shape in SHAPES.items()}
    artifacts.write_file(tmp_path / "base" / "model.safetensors", base)
    return base


def everything(base, seed):
    """An adapter with each kind of change."""
    made = Adapter(base, seed, fan_in_fan_out=False, use_rslora=True, lora_alpha=3,
                   rank_pattern={r"layers\.\d+\.down": 6}, alpha_pattern={"down": 5.0},
                   modules_to_save=["norm"], bias="none")
    made.add(LINEAR[0], 3 / np.sqrt(RANK)).add(LINEAR[1], 5 / np.sqrt(6), 6)
    made.add("model.layers.0.turned", 3 / np.sqrt(RANK), turned=True)
    scale = 3 / np.sqrt(RANK)
    a, b = (x.astype(np.float32) for x in factors(made.generator, 32, 50))
    made.tensors[PREFIX + "model.embed.lora_embedding_A"] = a
    made.tensors[PREFIX + "model.embed.lora_embedding_B"] = b
    made.full["model.embed.weight"] = base["model.embed.weight"] + scale * (b @ a).T
    a, b = (x.astype(np.float32) for x in factors(made.generator, 24, 54))
    made.tensors[PREFIX + "model.conv.lora_A.weight"] = a.reshape(RANK, 6, 3, 3)
    made.tensors[PREFIX + "model.conv.lora_B.weight"] = b.reshape(24, RANK, 1, 1)
    change = scale * (b @ a).reshape(24, 6, 3, 3)
    made.full["model.conv.weight"] = base["model.conv.weight"] + change
    norm = (base["model.norm.weight"] + 0.1).astype(np.float32)
    made.tensors[PREFIX + "model.norm.weight"] = norm
    made.full["model.norm.weight"] = norm
    return made


def write_tasks(folder, adapters):
    for number, made in enumerate(adapters):
        made.write(folder / f"adapter{number}")
        full = {name: value.astype(np.float32) for name, value in made.full.items()}
        artifacts.write_file(folder / f"full{number}" / "model.safetensors", full)


def specification(*models, **fields):
    return {"base": "base", "budget": 0.3, "output": {"dtype": "f32"},
            "tasks": [{"name": f"t{number}", "model": model}
                      for number, model in enumerate(models)], **fields}


def errors(outcome):
    told = outcome.manifest()["error"]
    return np.array([told["relative"], *told["per_task"].values()])


@pytest.fixture(name="tasks")
def tasks_fixture(base, tmp_path):
    adapters = [everything(base, 5 + number) for number in range(3)]
    write_tasks(tmp_path, adapters)
    return adapters


@pytest.mark.parametrize("fields", [
    {}, {"budget": 0.1}, {"budget": 8.0}, {"shared": {"merge": "none"}},
    {"ranks": {"allocator": "exact"}}, {"output": {"dtype": "int8"}},
    {"refine": {"optimizer": "adam", "steps": 5}},
    {"method": "average", "budget": None},
], ids=str)
def test_adapters_are_the_models_they_stand_for(run, tasks, tmp_path, fields):
    given = {"adapter": {}, "full": {}}
    for kind in given:
        asked = specification(*(f"{kind}{number}" for number in range(len(tasks))), **fields)
        asked = {key: value for key, value in asked.items() if value is not None}
        given[kind] = run(asked, tmp_path)
    mixed = specification("adapter0", "full1", "adapter2", **fields)
    mixed = {key: value for key, value in mixed.items() if value is not None}
    given["mixed"] = run(mixed, tmp_path)
    wanted = errors(given["full"])
    np.testing.assert_allclose(errors(given["adapter"]), wanted, rtol=0.01, atol=1e-6)
    np.testing.assert_allclose(errors(given["mixed"]), wanted, rtol=0.01, atol=1e-6)
    sizes = {kind: outcome.manifest()["budget"]["parameters"] for kind, outcome in given.items()}
    assert sizes["adapter"] <= 1.01 * sizes["full"]


def test_models_rebuilt_from_adapters(run, tasks, tmp_path):
    out = run(specification("adapter0", "adapter1", "full2", budget=8.0), tmp_path, "--export",
              "full").out
    for number, made in enumerate(tasks):
        rebuilt = artifacts.read_model(out / "models" / f"t{number}")
        for name, value in made.full.items():
            np.testing.assert_allclose(rebuilt[name], value, atol=2e-3, err_msg=name)


def test_a_package_gets_adapters_too(run, tasks, tmp_path):
    found = {}
    for kind, other in (("adapter", "full"), ("full", "full"), ("full", "adapter")):
        package = run(specification(f"{kind}0", f"{kind}1", budget=0.15), tmp_path).out
        found[kind, other] = errors(run(None, tmp_path, "--extend", str(package), "--task",
                                        f"t2={other}2"))
    for some in found.values():
        np.testing.assert_allclose(some, found["full", "full"], rtol=0.01)


def test_a_merge_of_adapters_is_taken_up_again(run, tasks, tmp_path):
    names = [f"{kind}{number}" for number, kind in enumerate(("adapter", "adapter", "full"))]
    run(specification(*names), tmp_path, "--keep", str(tmp_path / "kept"))
    again = run(specification(*names, budget=0.2), tmp_path, "--reuse", str(tmp_path / "kept"))
    fresh = run(specification(*names, budget=0.2), tmp_path)
    np.testing.assert_allclose(errors(again), errors(fresh), rtol=0.1)


def test_files_are_listed_with_digests(run, tasks, tmp_path):
    told = run(specification("adapter0", "adapter1"), tmp_path).manifest()["inputs"]["tasks"]["t0"]
    assert [file["name"] for file in told["files"]] == ["adapter_model.safetensors",
                                                        "adapter_config.json"]


def test_a_memory_limit_changes_no_byte(run, tasks, tmp_path):
    asked = specification("adapter0", "full1", "adapter2")
    free = run(asked, tmp_path, "--workers", "1")
    bound = run(asked, tmp_path, "--workers", "1", "--memory-limit", "9M")
    for task in ("t0", "t1", "t2"):
        name = f"experts/{task}.safetensors"
        if (free.out / name).exists():
            assert (free.out / name).read_bytes() == (bound.out / name).read_bytes()
    assert errors(free).tolist() == errors(bound).tolist()


@pytest.mark.parametrize("names", [
    lambda name: name.replace(".weight", ".default.weight") if "lora_" in name else name,
    lambda name: name.replace(PREFIX + "model.", PREFIX),
    lambda name: name.replace(PREFIX, PREFIX + "wrapped."),
    lambda name: name.replace(PREFIX, ""),
    lambda name: name.replace("norm.weight", "norm.modules_to_save.default.weight"),
])
def test_names_as_peft_and_others_write_them(run, base, tmp_path, names):
    made = everything(base, 9)
    del made.config["rank_pattern"], made.config["alpha_pattern"]
    made = Adapter(base, 9).add(LINEAR[0]).add(LINEAR[1]).add(LINEAR[2])
    made.tensors[PREFIX + "model.norm.weight"] = base["model.norm.weight"] + 1
    write_tasks(tmp_path, [made, Adapter(base, 10).add(LINEAR[0])])
    plain = run(specification("adapter0", "adapter1"), tmp_path)
    made.write(tmp_path / "adapter0", names)
    assert errors(run(specification("adapter0", "adapter1"), tmp_path)).tolist() == \
        errors(plain).tolist()


def test_dora(run, base, tmp_path):
    for number in range(2):
        made = Adapter(base, 20 + number, use_dora=True)
        for module in LINEAR[:2]:
            made.add(module)
            weight = made.full[module + ".weight"]
            magnitude = (np.linalg.norm(weight, axis=1) * 1.1).astype(np.float32)
            made.tensors[f"{PREFIX}{module}.lora_magnitude_vector"] = magnitude
            made.full[module + ".weight"] = (
                weight * (magnitude / np.linalg.norm(weight, axis=1))[:, None])
        write_tasks(tmp_path, [made] if number == 0 else [made, made])
        made.write(tmp_path / f"adapter{number}")
        full = {name: value.astype(np.float32) for name, value in made.full.items()}
        artifacts.write_file(tmp_path / f"full{number}" / "model.safetensors", full)
    wanted = errors(run(specification("full0", "full1"), tmp_path))
    found = errors(run(specification("adapter0", "adapter1"), tmp_path))
    np.testing.assert_allclose(found, wanted, rtol=0.01)


@pytest.mark.parametrize("told", [True, False])  # a shape that fits one way is held that way
def test_dora_of_transposed_weights(run, base, tmp_path, told):
    modules = ["model.layers.0.turned", "model.layers.0.long"] + ["model.layers.0.square"] * told
    base["model.layers.0.long.weight"] = np.random.default_rng(4).normal(
        size=(4000, 70)).astype(np.float32)
    artifacts.write_file(tmp_path / "base" / "model.safetensors", base)
    for number in range(2):
        made = Adapter(base, 20 + number, use_dora=True, fan_in_fan_out=told)
        for module in modules:
            made.add(module, turned=True)
            weight = made.full[module + ".weight"]
            length = np.linalg.norm(weight, axis=0)
            magnitude = (length * np.linspace(0.9, 1.2, len(length))).astype(np.float32)
            made.tensors[f"{PREFIX}{module}.lora_magnitude_vector"] = magnitude
            made.full[module + ".weight"] = weight * (magnitude / length)
        made.write(tmp_path / f"adapter{number}")
        full = {name: value.astype(np.float32) for name, value in made.full.items()}
        artifacts.write_file(tmp_path / f"full{number}" / "model.safetensors", full)
    wanted = errors(run(specification("full0", "full1"), tmp_path))
    found = errors(run(specification("adapter0", "adapter1"), tmp_path))
    np.testing.assert_allclose(found, wanted, rtol=0.01)


def test_heads_of_a_task_are_its_own(run, base, tmp_path):
    made = Adapter(base, 30).add(LINEAR[0])
    made.tensors[PREFIX + "score.weight"] = np.ones((2, 32), np.float32)
    write_tasks(tmp_path, [made, Adapter(base, 31).add(LINEAR[0])])
    outcome = run(specification("adapter0", "adapter1"), tmp_path)
    assert "score.weight" in json.dumps(outcome.manifest())


def test_another_base_is_told(run, base, tmp_path):
    write_tasks(tmp_path, [Adapter(base, 40 + number, base_model_name_or_path=name).add(LINEAR[0])
                           for number, name in enumerate(["x/BASE/", "x/other"])])
    told = run(specification("adapter0", "adapter1"), tmp_path)
    said = told.stdout + told.stderr
    assert "adapter1 was made for x/other" in said and "adapter0 was made for" not in said


def spoil(**changes):
    def change(made):
        made.config.update(changes)
    return change


def rename(old, new):
    def change(made):
        made.tensors = {name.replace(old, new): value for name, value in made.tensors.items()}
    return change


def reshape(part, cut):
    def change(made):
        name = f"{PREFIX}{LINEAR[0]}.{part}.weight"
        made.tensors[name] = np.ascontiguousarray(made.tensors[name][cut])
    return change


BAD = {
    "another method": (spoil(peft_type="IA3"), "IA3"),
    "no method": (spoil(peft_type=None), "peft_type"),
    "rank 0": (spoil(r=0), "r must be"),
    "rank of words": (spoil(r="8"), "r must be"),
    "alpha of words": (spoil(lora_alpha="x"), "lora_alpha"),
    "bias": (spoil(lora_bias=True), "lora_bias"),
    "replication": (spoil(layer_replication=[[0, 1]]), "layer_replication"),
    "aLoRA": (spoil(alora_invocation_tokens=[1, 2]), "alora_invocation_tokens"),
    "QA-LoRA": (spoil(use_qalora=True), "use_qalora"),
    "tokens": (spoil(trainable_token_indices=[1]), "trainable_token_indices"),
    "parameters": (spoil(target_parameters=["x"]), "target_parameters"),
    "LoftQ": (spoil(init_lora_weights="loftq"), "loftq"),
    "PiSSA": (spoil(init_lora_weights="pissa_niter_4"), "pissa"),
    "a pattern": (spoil(rank_pattern={"(?<=a)b": 3}), "rank_pattern"),
    "a costly pattern": (spoil(alpha_pattern={"((a+)+)+": 3}), "alpha_pattern"),
    "another rank": (spoil(r=RANK + 1), "adapter_config.json says 5"),
    "no A": (rename("up.lora_A", "elsewhere.lora_A"), "without"),
    "no such module": (rename("layers.0.up", "layers.7.up"), "layers.7.up.weight"),
    "another variant": (rename("lora_A", "lora_X"), "variant of LoRA"),
    "ranks that differ": (reshape("lora_A", np.s_[1:]), "A has rank 3 and B 4"),
    "no rank": (reshape("lora_A", np.s_[:0]), "rank 0"),
    "another base's": (reshape("lora_A", np.s_[:, 1:]), "factors of 96 x 31"),
    "DoRA without magnitudes": (spoil(use_dora=True), "use_dora"),
    "NaN": (lambda made: made.tensors[f"{PREFIX}{LINEAR[0]}.lora_A.weight"].fill(np.nan), "NaN"),
    "too large": (spoil(lora_alpha=1e40), "too large"),
    "nothing changed": (spoil(lora_alpha=0), "task vector is zero"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_adapters_are_named(run, base, tmp_path, case):
    spoiled, word = BAD[case]
    made = Adapter(base, 50).add(LINEAR[0])
    spoiled(made)
    write_tasks(tmp_path, [made, Adapter(base, 51).add(LINEAR[0])])
    outcome = run(specification("adapter0", "adapter1"), tmp_path, status=None)
    assert outcome.status == 1 and word in outcome.stderr and "adapter0" in outcome.stderr, \
        outcome.stderr


@pytest.mark.parametrize("lost,word", [
    ("adapter_config.json", "without adapter_config.json"),
    ("adapter_model.safetensors", "without adapter_model.safetensors"),
])
def test_half_an_adapter(run, base, tmp_path, lost, word):
    write_tasks(tmp_path, [Adapter(base, 60 + number).add(LINEAR[0]) for number in range(2)])
    (tmp_path / "adapter0" / lost).unlink()
    assert word in run(specification("adapter0", "adapter1"), tmp_path, status=1).stderr


@pytest.mark.parametrize("text", ['{"r": 4, "r": 5}', "[]", "{",
                                  '{"peft_type": "LORA", "r": 1e400}'])
def test_bad_configurations(run, base, tmp_path, text):
    write_tasks(tmp_path, [Adapter(base, 60 + number).add(LINEAR[0]) for number in range(2)])
    (tmp_path / "adapter0" / "adapter_config.json").write_text(text)
    assert "adapter_config.json" in run(specification("adapter0", "adapter1"), tmp_path,
                                        status=1).stderr


def test_an_adapter_is_no_base(run, base, tmp_path):
    write_tasks(tmp_path, [Adapter(base, 60 + number).add(LINEAR[0]) for number in range(2)])
    asked = {**specification("adapter1", "full0"), "base": "adapter0"}
    assert "is an adapter" in run(asked, tmp_path, status=1).stderr

def test_adapters_of_a_package_are_merged_back(run, tmp_path):
    """Package -> adapters -> package at a budget that holds them: the same models."""
    generator = np.random.default_rng(11)
    base = {name: generator.normal(size=shape).astype(np.float32) for name, shape in
            {"model.up.weight": (96, 64), "model.down.weight": (64, 96),
             "model.square.weight": (64, 64)}.items()}
    artifacts.write_file(tmp_path / "base" / "model.safetensors", base)
    for task in ("one", "two"):
        artifacts.write_file(tmp_path / task / "model.safetensors", {
            name: values + 0.05 * generator.normal(size=values.shape)
            for name, values in base.items()})
    fields = {"base": "base", "output": {"dtype": "f32"}, "dense": "base"}
    first = run({**fields, "budget": 0.6, "tasks": [{"name": name, "model": name}
                                                    for name in ("one", "two")]},
                tmp_path, "--export", "full").out
    # the same package as adapters, which are models below the same directory
    again = run({**fields, "budget": 0.6, "tasks": [{"name": name, "model": name}
                                                    for name in ("one", "two")]},
                tmp_path, "--export", "peft-exact").out
    for task in ("one", "two"):
        (again / "adapters-exact" / task).rename(tmp_path / f"{task}-adapter")
    second = run({**fields, "budget": 4, "refine": {"tolerance": 0},
                  "tasks": [{"name": name, "model": f"{name}-adapter"} for name in ("one", "two")]},
                 tmp_path, "--export", "full").out
    for task in ("one", "two"):
        wanted = artifacts.read_model(first / "models" / task)
        found = artifacts.read_model(second / "models" / task)
        for name, values in base.items():
            change = np.linalg.norm(wanted[name] - values)
            assert change > 0
            assert np.linalg.norm(found[name] - wanted[name]) <= 1e-5 * change, (task, name)
