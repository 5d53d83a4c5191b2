# SPDX-License-Identifier: Apache-2.0
"""pull of adapters, and the rules of loaders that they are held to."""

import json

import pytest

from fake import JOB, Answer, page

LAYERS = (0, 1)
TYPES = ("q_proj", "k_proj", "v_proj", "o_proj")
RANK, WIDTH = 32, 8


def tensors(rank=RANK):
    """Name -> shape, of two layers."""
    shapes = {}
    for layer in LAYERS:
        for name in TYPES:
            path = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            shapes[f"{path}.lora_A.weight"] = [rank, WIDTH]
            shapes[f"{path}.lora_B.weight"] = [WIDTH, rank]
    return shapes


def safetensors(shapes, dtype="BF16"):
    header, place = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(place)


def configuration(**fields):
    return {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": list(TYPES),
            "bias": "none", "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {},
            "use_dora": False, "use_rslora": False, **fields}


def modules(shapes):
    paths = sorted({name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0]
                    for name in shapes if ".lora_" in name})
    return {"modules": [{"module": path} for path in paths]}


@pytest.fixture
def offer(fake):
    """offer(shapes, config, ...) makes the fake server have one adapter of task "a"."""

    def serve(shapes=None, config=None, exported="peft", dtype="BF16", report=None, model=None):
        shapes = tensors() if shapes is None else shapes
        folder = {"peft": "adapters", "peft-exact": "adapters-exact"}[exported]
        contents = {
            "README.md": b"# a\n",
            "adapter_config.json": json.dumps(config or configuration()).encode(),
            "adapter_model.safetensors": model if model is not None else safetensors(shapes, dtype),
            "export.json": json.dumps(report or modules(shapes)).encode(),
        }
        rows = [fake.serve_file(f"{folder}/a/{name}", content)
                for name, content in contents.items()]
        rows.append(fake.serve_file("models/a/model.safetensors", b"whole"))
        rows.append(fake.serve_file("adapters/b/export.json", b"another"))
        rows.append(fake.serve_file("manifest.json", b"{}"))
        done = page([{"task": "a", "format": exported, "state": "succeeded", "error": None},
                     {"task": "a", "format": "full", "state": "failed", "error": {"title": "x"}}])
        fake.on("POST", f"/v1/jobs/{JOB}/exports", Answer(done, 202))
        fake.on("GET", f"/v1/jobs/{JOB}/exports", done)
        fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page(rows))

    return serve


@pytest.fixture
def pull(call, tmp_path):
    """pull(loader, format) -> the finished process."""

    def run(loader, exported="peft", status=0):
        return call("pull", JOB, str(tmp_path / "out"), "--format", exported, "--task", "a",
                    "--check", loader, status=status)

    return run


def test_an_adapter_is_fetched_whole(call, offer, fake, tmp_path):
    offer()
    call("pull", JOB, str(tmp_path / "out"), "--format", "peft", "--task", "a", "--max-rank", "32")
    found = sorted(str(path.relative_to(tmp_path / "out"))
                   for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert found == [f"adapters/a/{name}" for name in ("README.md", "adapter_config.json",
                                                       "adapter_model.safetensors", "export.json")]
    assert fake.requests("POST", ".*")[0].json() == \
        {"format": "peft", "tasks": ["a"], "max_rank": 32}


@pytest.mark.parametrize("options, word", [
    (["--check", "vllm"], "--format peft"), (["--max-rank", "8"], "--format peft"),
    (["--format", "full", "--check", "peft"], "--format peft"),
    (["--format", "peft", "--check", "tgi2"], "sglang"),
    (["--format", "peft", "--max-rank", "x"], "--max-rank"),
    (["--format", "lora"], "peft-exact"),
])
def test_options_that_do_not_fit(call, tmp_path, options, word):
    assert word in call("pull", JOB, str(tmp_path / "out"), *options, status=2).stderr


@pytest.mark.parametrize("loader", ["peft", "vllm", "sglang"])
def test_sound_adapters_pass(pull, offer, loader):
    offer()
    said = pull(loader).stderr
    assert "adapters/a: 8 modules" in said
    assert ("--max-lora-rank 32" in said) == (loader == "vllm")


def without(*parts):
    return {name: shape for name, shape in tensors().items()
            if not any(part in name for part in parts)}


ALONE = tensors() | {"base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight": [16, WIDTH],
                     "base_model.model.model.layers.0.self_attn.o_proj.lora_B.weight": [WIDTH, 16]}
PATTERN = {"rank_pattern": {r"layers\.0\.self_attn\.o_proj": 16},
           "alpha_pattern": {r"layers\.0\.self_attn\.o_proj": 16}}
SCALED = PATTERN | {"alpha_pattern": {}}
NORM = tensors() | {"base_model.model.model.norm.weight": [WIDTH]}
EMBEDDED = tensors() | {"base_model.model.model.embed_tokens.lora_embedding_A": [RANK, 96],
                        "base_model.model.model.embed_tokens.lora_embedding_B": [WIDTH, RANK]}
EMBEDDING = {"target_modules": [*TYPES, "embed_tokens"]}


@pytest.mark.parametrize("shapes, config, refusals", [
    (ALONE, PATTERN, {"sglang": "one rank for all"}),
    (ALONE, SCALED, {"sglang": "one rank", "vllm": "scale of its own"}),
    (ALONE, {}, {"peft": "has rank 16", "vllm": "has rank 16", "sglang": "has rank 16"}),
    (NORM, {"modules_to_save": ["model.norm"]},
     {"vllm": "modules_to_save", "sglang": "modules_to_save"}),
    (NORM, {}, dict.fromkeys(("peft", "vllm", "sglang"), "not a LoRA's")),
    (EMBEDDED, EMBEDDING, {"vllm": "linear layer", "sglang": "linear layer"}),
    (without("k_proj"), {}, {"sglang": "without k_proj"}),
    (without("layers.1.self_attn.q_proj.lora_B"), {},
     dict.fromkeys(("peft", "vllm", "sglang"), "only one of A and B")),
    (tensors(1024), {"r": 1024, "lora_alpha": 1024}, {"vllm": "above what vLLM takes"}),
    (tensors(), {"target_modules": ["q_proj"]},
     dict.fromkeys(("peft", "vllm", "sglang"), "not among target_modules")),
    (tensors(), {"peft_type": "IA3"}, dict.fromkeys(("peft", "vllm", "sglang"), "peft_type")),
    (tensors(), {"bias": "all"}, dict.fromkeys(("peft", "vllm", "sglang"), "bias is all")),
    (tensors(), {"r": 0}, dict.fromkeys(("peft", "vllm", "sglang"), "numbers from 1")),
    ({"model.x.lora_A.weight": [1, 1]}, {},
     dict.fromkeys(("peft", "vllm", "sglang"), "does not begin with")),
])
@pytest.mark.parametrize("loader", ["peft", "vllm", "sglang"])
def test_each_loader_has_its_rules(pull, offer, shapes, config, refusals, loader):
    offer(shapes, configuration(**config), exported="peft-exact")
    done = pull(loader, "peft-exact", status=1 if loader in refusals else 0)
    assert refusals.get(loader, "adapters-exact/a:") in done.stderr


def test_what_was_exported_must_be_there(pull, offer):
    offer(without("layers.1"), report=modules(tensors()))
    assert "model.layers.1.self_attn.k_proj is missing" in pull("peft", status=1).stderr


@pytest.mark.parametrize("change, word", [
    ({"dtype": "U8"}, "dtype U8"), ({"model": b"\x00" * 4}, "no header"),
    ({"model": b"\xff" * 64}, "the header of"), ({"model": (2).to_bytes(8, "little") + b"[]"},
                                                 "no JSON"),
    ({"model": safetensors({})}, "no LoRA"), ({"model": safetensors(
        {"base_model.model.x.lora_A.weight": [2, 0]})}, "malformed shape"),
])
def test_files_that_are_no_adapters(pull, offer, change, word):
    offer(**change)
    assert word in pull("peft", status=1).stderr
