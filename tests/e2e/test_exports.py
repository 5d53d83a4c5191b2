# SPDX-License-Identifier: Apache-2.0
"""Exported models have the tensors that each task's own checkpoint had, and lie in directories."""

import http.client
import json
import os
import shutil
import subprocess
import time
import urllib.request

import numpy as np
import pytest

import artifacts
import read_package

HEADS = {"three": 3, "five": 5, "seven": 7}
SHAPES = {"embed.weight": (48, 16), "layer.0.weight": (24, 16), "layer.0.bias": (24,),
          "layer.1.weight": (16, 24), "norm.weight": (16,)}
SIDE_FILES = {"config.json": b'{"architectures": ["NamedModel"]}', "tokenizer.json": b"{}",
              "spiece.model": b"\0\1", "preprocessor_config.json": b"{}"}


def trunk(seed=1, scale=1.0):
    generator = np.random.default_rng(seed)
    return {name: scale * generator.normal(size=shape) for name, shape in SHAPES.items()}


class Family:
    """A base and tasks with heads of their own, changed before they are written."""

    def __init__(self):
        self.base = {**trunk(), "position_ids": np.arange(9)[None],
                     "norm.num_batches_tracked": np.array(100)}
        self.tasks = {}
        for seed, (task, classes) in enumerate(HEADS.items(), 2):
            change = trunk(seed, 0.02)
            model = {name: values + change.get(name, 0) for name, values in self.base.items()}
            head = np.random.default_rng(seed).normal(size=(classes, 16))
            self.tasks[task] = {**model, "classifier.weight": head,
                                "classifier.bias": head[:, 0]}

    def rename(self, task, name):
        self.tasks[task] = {name(key): values for key, values in self.tasks[task].items()}

    def write(self, folder):
        for name, tensors in (("base", self.base), *self.tasks.items()):
            dtypes = {key: "I64" for key, values in tensors.items() if values.dtype.kind == "i"}
            artifacts.write_file(folder / name / "model.safetensors", tensors, dtypes)


def specification(**fields):
    tasks = [{"name": task, "model": task} for task in HEADS]
    return {"base": "base", "tasks": tasks, "budget": 2.5, **fields}


def exported(run, family, folder, **fields):
    """Merges and exports; task -> its model. The reader in docs/ gives the same."""
    family.write(folder)
    outcome = run(specification(**fields), folder, "--export", "full")
    models = {}
    for task in HEADS:
        directory = outcome.out / "models" / task
        models[task] = artifacts.read_model(directory)
        found = read_package.read_package(outcome.out, folder / "base", task)
        assert found.keys() == models[task].keys()
        for name, values in found.items():
            np.testing.assert_allclose(values, models[task][name], rtol=1e-5, atol=1e-5)
    return models, outcome


def check(family, models, lacking=()):
    """Names, shapes and kinds are those of the task's own checkpoint; so is what it alone has."""
    for task, tensors in family.tasks.items():
        assert models[task].keys() == tensors.keys() - set(lacking)
        for name, values in models[task].items():
            assert values.shape == tensors[name].shape
            assert (values.dtype.kind == "i") == (tensors[name].dtype.kind == "i")
            if "classifier" in name or values.dtype.kind == "i":
                own = np.float32(tensors[name]) if values.dtype.kind == "f" else tensors[name]
                np.testing.assert_allclose(values, own, rtol=2**-8)
            else:
                assert np.linalg.norm(values - tensors[name]) < 0.02 * np.linalg.norm(values)


@pytest.mark.parametrize("dtype", ["f32", "bf16", "int4", "auto"])
def test_heads_of_other_class_counts(run, tmp_path, dtype):
    family = Family()
    models, outcome = exported(run, family, tmp_path, output={"dtype": dtype})
    check(family, models)
    if dtype == "f32":
        for task, tensors in family.tasks.items():
            np.testing.assert_array_equal(models[task]["classifier.weight"],
                                          np.float32(tensors["classifier.weight"]))
    assert outcome.manifest()["own"].keys() == HEADS.keys()


def test_heads_in_the_place_of_the_bases(run, tmp_path):
    family = Family()
    family.base["classifier.weight"] = np.ones((2, 16))
    family.base["classifier.bias"] = np.ones(2)
    models, _ = exported(run, family, tmp_path)
    check(family, models)


def test_a_vocabulary_that_grew(run, tmp_path):
    family = Family()
    more = np.random.default_rng(9).normal(size=(4, 16))
    task = family.tasks["five"]
    task["embed.weight"] = np.concatenate([task["embed.weight"], more])
    models, _ = exported(run, family, tmp_path, output={"dtype": "f32"})
    check(family, models)
    np.testing.assert_array_equal(models["five"]["embed.weight"][48:], np.float32(more))


def tied_family():
    """Tasks with heads under several names, and with a vocabulary that grew in a tied pair."""
    family = Family()
    head = np.random.default_rng(9).normal(size=(40, 16))
    for name in ("classifier.decoder.weight", "classifier.tied.weight", "classifier.a.weight"):
        family.tasks["five"][name] = head
    family.tasks["five"]["classifier.other.weight"] = head + 1
    more = np.random.default_rng(10).normal(size=(4, 16))
    for model in (family.base, *family.tasks.values()):
        model["out.weight"] = model["embed.weight"]
    for name in ("embed.weight", "out.weight"):
        model = family.tasks["seven"]
        model[name] = np.concatenate([model[name], more])
    return family


@pytest.mark.parametrize("dtype", ["f32", "auto"])
def test_a_tied_head_that_was_saved_twice(run, tmp_path, dtype):
    family = tied_family()
    models, outcome = exported(run, family, tmp_path, output={"dtype": dtype})
    check(family, models)
    stored, said = stored_own(outcome.out, "five")
    width = {"f32": 4, "auto": 2}[dtype]
    assert stored["classifier.a.weight.own"] == stored["classifier.other.weight.own"]
    assert sum(stored.values()) == (2 * 40 * 16 + 5 * 16 + 5) * width
    assert json.loads(said["own_same"]) == {
        f"classifier.{name}.weight.own": "classifier.a.weight.own" for name in ("decoder", "tied")}
    rows, said = stored_own(outcome.out, "seven")
    assert sum(size for name, size in rows.items() if "own_rows" in name) == 4 * 16 * width
    assert json.loads(said["own_same"]) == {"out.weight.own_rows": "embed.weight.own_rows"}
    assert stored_own(outcome.out, "three")[1]["didi_format"] == ("6" if dtype == "auto" else "3")
    counted = outcome.manifest()["own"]["five"]
    assert counted["parameters"] == 2 * 40 * 16 + 5 * 16 + 5
    same = {row["tensor"]: row["same_as"] for row in counted["tensors"] if "same_as" in row}
    assert set(same.values()) == {"classifier.a.weight"} and len(same) == 2


def test_a_tied_head_in_extensions_and_merges_from_another(run, tmp_path):
    family, kept = tied_family(), str(tmp_path / "kept")
    family.write(tmp_path)
    two = {"base": "base", "budget": 2.5, "output": {"dtype": "f32"},
           "tasks": [{"name": task, "model": task} for task in ("three", "seven")]}
    first = run(two, tmp_path, "--keep", kept)
    again = run(two, tmp_path, "--reuse", kept)
    assert stored_own(again.out, "seven") == stored_own(first.out, "seven")
    assert again.manifest()["own"] == first.manifest()["own"]
    more = run(None, tmp_path, "--extend", str(first.out), "--task", "five=five",
               "--budget", "2.5")
    less = run(None, tmp_path, "--extend", str(more.out), "--remove", "three", "--export", "full")
    for task, source in (("five", more), ("seven", first)):
        assert "own_same" in stored_own(less.out, task)[1]
        assert stored_own(less.out, task) == stored_own(source.out, task)
        assert less.manifest()["own"][task] == source.manifest()["own"][task]
    del family.tasks["three"]
    check(family, {task: artifacts.read_model(less.out / "models" / task) for task in family.tasks})


def stored_own(package, task):  # name -> bytes, and what the file says
    raw = (package / "experts" / f"{task}.safetensors").read_bytes()
    header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
    said = header.pop("__metadata__")
    automatic = "parts" in header
    assert said["didi_format"] == ("6" if automatic else "4" if "own_same" in said else "3")
    return {name: entry["data_offsets"][1] - entry["data_offsets"][0]
            for name, entry in header.items() if ".own" in name}, said


def test_prefixes(run, tmp_path):
    family = Family()
    family.rename("three", lambda name: name if "classifier" in name else f"bert.{name}")
    models, _ = exported(run, family, tmp_path)
    check(family, models)


def test_a_prefix_that_only_the_base_has(run, tmp_path):
    family = Family()
    family.base = {f"model.{name}": values for name, values in family.base.items()}
    for task in ("five", "seven"):
        family.rename(task, lambda name: name if "classifier" in name else f"model.{name}")
    models, _ = exported(run, family, tmp_path)
    check(family, models)


def test_buffers_that_tasks_lack(run, tmp_path):
    family = Family()
    del family.tasks["three"]["position_ids"]
    models, _ = exported(run, family, tmp_path)
    check(family, models)


def test_integers_that_differ(run, tmp_path):
    family = Family()
    for steps, model in enumerate(family.tasks.values()):
        model["norm.num_batches_tracked"] = np.array(200 + steps)
    models, _ = exported(run, family, tmp_path)
    check(family, models)


def test_a_matrix_that_one_task_left_alone(run, tmp_path):
    family = Family()
    family.tasks["five"]["layer.0.weight"] = family.base["layer.0.weight"]
    models, _ = exported(run, family, tmp_path)
    check(family, models)


def test_shards(run, tmp_path):
    family = Family()
    family.write(tmp_path)
    wanted = specification(output={"dtype": "f32"})
    whole = run(wanted, tmp_path, "--export", "full")
    cut = run(wanted, tmp_path, "--export", "full", "--max-shard-bytes", "2000")
    for task in HEADS:
        directory = cut.out / "models" / task
        index = json.loads((directory / "model.safetensors.index.json").read_text())
        names = sorted(path.name for path in directory.glob("*.safetensors"))
        count = len(names)
        assert count > 2 and sorted(set(index["weight_map"].values())) == names
        assert names == [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
        bytes_of = {name: values.nbytes
                    for name, values in artifacts.read_model(directory).items()}
        assert index["metadata"] == {"total_size": sum(bytes_of.values())}
        assert index["weight_map"] == shards_of_the_hub(bytes_of, 2000)
        one = artifacts.read_model(whole.out / "models" / task)
        for name, values in artifacts.read_model(directory).items():
            np.testing.assert_array_equal(values, one[name])


def shards_of_the_hub(bytes_of, limit):
    """huggingface_hub's split_state_dict_into_shards_factory, on tensors by name."""
    shards, current, used = [], [], 0
    for name in sorted(bytes_of):
        if bytes_of[name] > limit:
            shards.append([name])
            continue
        if used + bytes_of[name] > limit:
            shards.append(current)
            current, used = [], 0
        current.append(name)
        used += bytes_of[name]
    shards += [current] if current else []
    return {name: f"model-{i:05}-of-{len(shards):05}.safetensors"
            for i, names in enumerate(shards, 1) for name in names}


def test_what_lies_beside_the_weights(run, tmp_path):
    family = Family()
    family.write(tmp_path)
    for name, text in SIDE_FILES.items():
        (tmp_path / "base" / name).write_bytes(text)
    for name in ("notes.txt", "training_args.bin", ".hidden.model"):
        (tmp_path / "base" / name).write_bytes(b"x")
    (tmp_path / "five" / "config.json").write_text('{"architectures": ["Five"]}')
    (tmp_path / "five" / "vocab.txt").write_text("[PAD]\n")
    outcomes = [run(specification(), tmp_path, "--export", "full") for _ in range(2)]
    for task in HEADS:
        first, second = (outcome.out / "models" / task for outcome in outcomes)
        files = {path.name: path.read_bytes() for path in first.iterdir()}
        assert files == {path.name: path.read_bytes() for path in second.iterdir()}
        card = files.pop("README.md").decode()
        files.pop("model.safetensors")
        wanted = dict(SIDE_FILES)
        if task == "five":
            del wanted["tokenizer.json"], wanted["spiece.model"]
            wanted |= {"config.json": b'{"architectures": ["Five"]}', "vocab.txt": b"[PAD]\n"}
        assert files == wanted
        assert card.startswith('---\nbase_model: "base"\nbase_model_relation: merge\n'
                               "library_name: transformers\ntags: [merge, didi]\n---\n")
        assert ("| `config.json` | the task's model `five` |" in card) == (task == "five")
        assert "| `preprocessor_config.json` | the base `base` |" in card
        assert ("Five" if task == "five" else "NamedModel") + ".from_pretrained" in card


def front(card):
    """The YAML before the text of a card: its lines as a dict."""
    lines = card.split("---\n")[1].splitlines()
    return dict(line.split(": ", 1) for line in lines)


LICENSES = [("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
            ("---\r\ntags: [x]\r\nlicense: \"mit\"  # ours\r\n---\r\n", "mit"),
            ("license: mit\n", None), ("---\ntags: [x]\n---\nlicense: mit\n", None),
            ("---\nlicense: mit]\nx: y\n---\n", None), ("---\nlicense: " + "m" * 64 + "\n", None),
            ("---\nlicense:\n- mit\n---\n", None), ("---\nlicense: mit", None), ("", None)]


@pytest.mark.parametrize("form", ["full", "peft"])
def test_cards_name_the_license_of_the_base(run, tmp_path, form):
    Family().write(tmp_path)
    (tmp_path / "base" / "config.json").write_text('{"architectures": ["Named"]}')
    folder = {"full": "models", "peft": "adapters"}[form]
    for text, license_ in LICENSES:
        (tmp_path / "base" / "README.md").write_bytes(text.encode())
        outcome = run(specification(), tmp_path, "--export", form)
        manifest = json.loads((outcome.out / "manifest.json").read_text())
        for task in HEADS:
            card = (outcome.out / folder / task / "README.md").read_text()
            told = front(card)
            assert told.get("license") == license_, text
            assert told["base_model"] == '"base"'
            assert told["library_name"] == {"full": "transformers", "peft": "peft"}[form]
            assert "merge" in told["tags"]
            own = next(file["bytes"] for file in manifest["files"]
                       if file["name"] == f"experts/{task}.safetensors")
            assert f"| of it this task's own | {own} bytes |" in card
            assert f"| whole package | {manifest['budget']['bytes']} bytes, " in card
            assert f"| format of the package | {manifest['format']} |" in card
            assert "| method | `didi` |" in card and ".from_pretrained(" in card


def test_side_files_that_are_too_long(run, tmp_path):
    Family().write(tmp_path)
    with open(tmp_path / "base" / "tokenizer.json", "wb") as file:
        file.truncate((64 << 20) + 1)
    outcome = run(specification(), tmp_path, "--export", "full", status=1)
    assert "tokenizer.json" in outcome.stderr
    assert not outcome.out.exists() or not (outcome.out / "models").exists()


@pytest.fixture
def pull(start_daemon, didictl, tmp_path):
    """pull(gone) -> directory of models that a daemon made; with the models of tasks `gone` first
    removed."""

    def make(*gone):
        family = Family()
        family.write(tmp_path / "models")
        for name in ("base", *HEADS):
            (tmp_path / "models" / name / "config.json").write_text(f'{{"of": "{name}"}}')
        daemon = start_daemon(tmp_path / "models", "--max-shard-bytes", "4K")
        path = tmp_path / "specification.json"
        path.write_text(json.dumps(specification()))

        def client(*words):
            return subprocess.run([didictl, *words], check=True, text=True, timeout=60,
                                  env={**os.environ, "DIDI_HOST": daemon.url},
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout

        job = client("submit", str(path), "--wait", "-o", "name").split()[-1]
        for task in gone:
            shutil.rmtree(tmp_path / "models" / task)
        client("pull", job, str(tmp_path / "out"), "--format", "full")
        rows = json.loads(client("pull", job, str(tmp_path / "out"), "--format", "full",
                                 "-o", "json"))
        assert all(row["outcome"] == "kept" for row in rows)
        return tmp_path / "out" / "models"

    return make


def test_directories_are_pulled(pull):
    models = pull("five")
    for task, classes in HEADS.items():
        directory = models / task
        assert (directory / "model.safetensors.index.json").exists()
        assert artifacts.read_model(directory)["classifier.weight"].shape == (classes, 16)
        source = "base" if task == "five" else task  # the task's model has gone
        assert json.loads((directory / "config.json").read_text()) == {"of": source}
        assert f"`{source}` |" in (directory / "README.md").read_text()


@pytest.fixture
def large(start_daemon, didictl, tmp_path):
    """(daemon, path of a model that is streamed); it is larger than what sockets and rings hold."""
    family = Family()
    family.base["large.weight"] = np.random.default_rng(8).normal(size=(4000, 2000))
    for seed, model in enumerate(family.tasks.values()):
        change = np.outer(np.arange(4000) % (7 + seed), np.arange(2000) % 5)
        model["large.weight"] = family.base["large.weight"] + 0.001 * change
    family.write(tmp_path / "models")
    path = tmp_path / "specification.json"
    wanted = specification(method="average")
    del wanted["budget"]
    path.write_text(json.dumps(wanted))
    daemon = start_daemon(tmp_path / "models", "--shutdown-seconds", "1")
    done = subprocess.run([didictl, "submit", str(path), "--wait", "-o", "name"], check=True,
                          env={**os.environ, "DIDI_HOST": daemon.url}, text=True, timeout=120,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return daemon, f"/v1/jobs/{done.stdout.split()[-1]}/artifacts/models/five/model.safetensors"


def begin(daemon, path):
    """A connection with its reply's head read, and no more."""
    connection = http.client.HTTPConnection(daemon.url.removeprefix("http://"), timeout=60)
    connection.request("GET", path)
    return connection, connection.getresponse()


def test_streams_are_few_and_end_with_their_connections(large, tmp_path):
    daemon, path = large
    held = [begin(daemon, path) for _ in range(2)]
    assert [answer.status for _, answer in held] == [200, 200]
    third, answer = begin(daemon, path)
    assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0
    assert json.loads(answer.read())["type"].endswith(":too-many-streams")
    third.close()
    with urllib.request.urlopen(daemon.url + "/readyz", timeout=5) as ready:
        assert ready.status == 200  # others are served meanwhile
    for connection, answer in held:
        answer.close()
        connection.close()
    deadline = time.monotonic() + 30
    while True:
        connection, answer = begin(daemon, path)
        if answer.status == 200 or time.monotonic() > deadline:
            break
        connection.close()
        time.sleep(0.05)
    body = answer.read()
    assert answer.status == 200 and len(body) == int(answer.headers["Content-Length"])
    (tmp_path / "streamed").mkdir()
    (tmp_path / "streamed" / "model.safetensors").write_bytes(body)
    model = artifacts.read_model(tmp_path / "streamed")
    own = artifacts.read_model(tmp_path / "models" / "five")
    assert np.abs(model["large.weight"] - own["large.weight"]).max() < 0.05


def test_a_daemon_stops_while_it_streams(large):
    daemon, path = large
    held = [begin(daemon, path) for _ in range(2)]
    assert held[0][1].read(1000) and daemon.stop() == 0
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        held[0][1].read()


def test_a_stream_ends_early_when_the_base_changes(large, tmp_path):
    daemon, path = large
    connection, answer = begin(daemon, path)
    base = tmp_path / "models" / "base" / "model.safetensors"
    os.utime(base, (1, 1))
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    raw = bytearray(base.read_bytes())
    raw[-1] ^= 1
    base.write_bytes(raw)
    connection, answer = begin(daemon, path)
    assert (answer.status, json.loads(answer.read())["type"]) == (
        409, "urn:didid:problem:input-changed")
    connection.close()


def test_adapters_leave_out_what_the_task_left_alone(run, tmp_path):
    family = Family()
    family.tasks["three"]["layer.0.weight"] = family.base["layer.0.weight"]
    family.write(tmp_path)
    made = run(specification(output={"dtype": "f32"}, budget=0.9, dense="base"), tmp_path,
               "--export", "peft").out
    place = made / "adapters" / "three"
    factors = artifacts.read_file(place / "adapter_model.safetensors")
    changes = {name: factors[f"base_model.model.{name}.lora_B.weight"]
               @ factors[f"base_model.model.{name}.lora_A.weight"]
               for name in ("layer.0", "layer.1")
               if f"base_model.model.{name}.lora_A.weight" in factors}
    assert not np.any(changes.pop("layer.0", 0)) and np.any(changes.pop("layer.1"))
    report = json.loads((place / "export.json").read_text())
    heads = ["classifier.bias", "classifier.weight"]
    assert report["own_left_out"] == heads and report["own_saved"] == []
    assert "classifier.weight" in (place / "README.md").read_text()


def test_exact_adapters_save_heads(run, tmp_path):
    family = Family()
    family.rename("five", lambda key: "model." + key)
    family.write(tmp_path)
    made = run(specification(output={"dtype": "f32"}, budget=0.9, dense="base"), tmp_path,
               "--export", "peft-exact").out / "adapters-exact"
    factors = artifacts.read_file(made / "three" / "adapter_model.safetensors")
    config = json.loads((made / "three" / "adapter_config.json").read_text())
    report = json.loads((made / "three" / "export.json").read_text())
    assert config["modules_to_save"] == ["classifier"]
    assert report["own_saved"] == ["classifier.bias", "classifier.weight"]
    for name in report["own_saved"]:
        wanted = family.tasks["three"][name].astype(np.float32)
        assert np.array_equal(factors[f"base_model.model.{name}"], wanted)
    report = json.loads((made / "five" / "export.json").read_text())
    assert len(report["own_saved"]) == 2 and report["own_left_out"] == []
    modules = [row["module"] for row in report["modules"]]
    assert modules and all(name.startswith("model.") for name in modules), modules
