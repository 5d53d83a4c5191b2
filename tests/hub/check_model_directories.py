# SPDX-License-Identifier: Apache-2.0
"""Exported models are opened by from_pretrained and compute what base and package give."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import families  # noqa: E402 (transformers may not be there)
import read_package  # noqa: E402

RELATIVE_MAX = 1e-5


@pytest.fixture(scope="module", params=list(families.ARCHITECTURES))
def merged(didid, tmp_path_factory, request):
    """(kind, folder of models, package) of a merge in float32, its models cut into shards."""
    folder = tmp_path_factory.mktemp(request.param)
    families.make(request.param, folder)
    out = families.merge(didid, folder, "--export", "full", "--max-shard-bytes", "60000",
                         output={"dtype": "f32"})
    return request.param, folder, out


def open_model(directory):
    """Opens a model by the class that its configuration names; nothing lacks, nothing is left."""
    name, = json.loads((directory / "config.json").read_text())["architectures"]
    model, loading = getattr(transformers, name).from_pretrained(directory,
                                                                 output_loading_info=True)
    assert not any(loading.values()), loading
    return model.eval()


def rebuild(kind, folder, out, task):
    """The task's model with the tensors that docs/read_package.py gives."""
    name = families.ARCHITECTURES[kind].task
    config = transformers.AutoConfig.from_pretrained(folder / task)
    model = getattr(transformers, name)(config)
    tensors = {key: torch.from_numpy(np.array(values))
               for key, values in read_package.read_package(out, folder / "base", task).items()}
    loaded = model.load_state_dict(tensors, strict=False)
    assert not loaded.unexpected_keys
    assert not set(loaded.missing_keys) & set(dict(model.named_parameters()))
    return model.eval()


@pytest.mark.parametrize("task, classes", families.CLASSES.items())
def test_models_are_opened_and_compute_the_same(merged, task, classes):
    kind, folder, out = merged
    model = open_model(out / "models" / task)
    assert type(model).__name__ == families.ARCHITECTURES[kind].task
    found = families.logits(model, kind)
    for key, value in families.ARCHITECTURES[kind].size(classes).items():
        assert getattr(model.config, key) == found.shape[-1] == value
    wanted = families.logits(rebuild(kind, folder, out, task), kind)
    families.assert_near(found, wanted, RELATIVE_MAX)


@pytest.mark.parametrize("task", families.CLASSES)
def test_directories_have_the_tensors_of_the_tasks_checkpoint(merged, task):
    _, folder, out = merged
    own, found = (headers(place) for place in (folder / task, out / "models" / task))
    assert found == own


def state_of(directory):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.iterdir()}


def test_directories_open_read_only(merged):
    """Root may write anywhere: then nothing is there that was not before."""
    _, _, out = merged
    directory = out / "models" / next(iter(families.CLASSES))
    before = state_of(directory)
    places = [*directory.iterdir(), directory]
    modes = [place.stat().st_mode for place in places]
    try:
        for place in places:
            place.chmod(0o555 if place == directory else 0o444)
        open_model(directory)
    finally:
        for place, mode in zip(places, modes):
            place.chmod(mode)
    assert state_of(directory) == before


def headers(directory):
    """name -> dtype and shape, over all shards."""
    tensors = {}
    for path in directory.glob("*.safetensors"):
        raw = path.read_bytes()
        header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
        assert header.pop("__metadata__") == {"format": "pt"}
        tensors.update((name, (row["dtype"], row["shape"])) for name, row in header.items())
    return tensors


@pytest.mark.parametrize("task", families.CLASSES)
def test_models_are_near_their_fine_tunes(merged, task):
    kind, folder, out = merged
    wanted = families.logits(open_model(folder / task), kind)
    families.assert_near(families.logits(open_model(out / "models" / task), kind), wanted, 0.1)
