# SPDX-License-Identifier: Apache-2.0
"""Small families of the architectures that people fine-tune, made with transformers: a base and
classifiers of different numbers of classes, each changed a little and given a head of its own."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "docs"))

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CLASSES = {"three": 3, "five": 5, "seven": 7}
CHANGE = 0.02  # of a fine-tune, as a share of each tensor's size
RUN_SECONDS = 300

BERT = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 40}
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
       "intermediate_size": 64, "image_size": 32, "patch_size": 8}
LLAMA = {"vocab_size": 160, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64,
         "tie_word_embeddings": True, "pad_token_id": 0}
WHISPER = {"vocab_size": 140, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
           "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
           "decoder_ffn_dim": 64, "num_mel_bins": 16, "max_source_positions": 50,
           "max_target_positions": 30, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
           "decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None}
RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2],
          "layer_type": "basic"}


@dataclass
class Architecture:
    """Names of classes in transformers, and what such a model is asked."""
    config: str
    base: str
    task: str
    settings: dict
    inputs: object
    shard: str = "5GB"  # of the base's files
    size: object = lambda classes: {"num_labels": classes}  # what is a task's own


def tokens(count):
    return {"input_ids": torch.arange(3, 3 + 2 * count).reshape(2, count)}


def pixels():
    generator = torch.Generator().manual_seed(4)
    return {"pixel_values": torch.randn(2, 3, 32, 32, generator=generator)}


def sounds():
    generator = torch.Generator().manual_seed(4)
    return {"input_features": torch.randn(2, 16, 100, generator=generator)}


ARCHITECTURES = {
    "bert": Architecture("BertConfig", "BertModel", "BertForSequenceClassification", BERT,
                         lambda: tokens(9)),
    "vit": Architecture("ViTConfig", "ViTModel", "ViTForImageClassification", VIT, pixels),
    "llama": Architecture("LlamaConfig", "LlamaForCausalLM", "LlamaForSequenceClassification",
                          LLAMA, lambda: tokens(11), shard="40KB"),
    "llama-vocabulary": Architecture("LlamaConfig", "LlamaForCausalLM", "LlamaForCausalLM", LLAMA,
                                     lambda: tokens(11), shard="40KB",
                                     size=lambda classes: {"vocab_size": 160 + classes}),
    "whisper": Architecture("WhisperConfig", "WhisperForConditionalGeneration",
                            "WhisperForAudioClassification", WHISPER, sounds),
    "resnet": Architecture("ResNetConfig", "ResNetModel", "ResNetForImageClassification", RESNET,
                           pixels),
}


def fine_tune(model, trunk, seed):
    """Takes the trunk's numbers over and changes all floats; BatchNorm has counted steps."""
    generator = torch.Generator().manual_seed(seed)
    own = model.state_dict()
    for name, values in own.items():
        start = next((trunk[key] for key in (name, *other_names(name, trunk))
                      if key in trunk and fits(trunk[key], values)), None)
        if start is not None:
            values[tuple(slice(rows) for rows in start.shape[:1])] = start
        if values.is_floating_point():
            noise = torch.randn(values.shape, generator=generator)
            values += CHANGE * values.abs().mean() * noise
        elif "num_batches" in name:
            values += 100 + seed
    for name, values in own.items():
        if "running_var" in name:
            values.abs_()
    return model.eval()


def fits(start, values):
    return start.shape[1:] == values.shape[1:] and start.shape[:1] <= values.shape[:1] and \
        start.ndim == values.ndim


def other_names(name, trunk):
    """What a base may call it: without the first part, or with one before."""
    yield name.split(".", 1)[-1]
    yield from (f"{first}.{name}" for first in {key.split(".", 1)[0] for key in trunk})


def into_cache(folder, name):
    """The model also as a hub's client keeps it: links to blobs, in a snapshot of one commit."""
    repository = folder / "hub" / f"models--lab--{name}"
    snapshot = repository / "snapshots" / hashlib.sha1(name.encode()).hexdigest()
    for made in (repository / "blobs", repository / "refs", snapshot):
        made.mkdir(parents=True)
    (repository / "refs" / "main").write_text(snapshot.name)
    for file in sorted((folder / name).iterdir()):
        data = file.read_bytes()
        blob = repository / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))


def make(kind, folder):
    """Writes base and tasks below a folder, and once more as a hub's cache."""
    made = ARCHITECTURES[kind]
    torch.manual_seed(1)
    config = getattr(transformers, made.config)
    base = getattr(transformers, made.base)(config(**made.settings))
    if kind == "resnet":  # else it counts no batches and all variances are the same
        base(**made.inputs())
    base.eval().save_pretrained(folder / "base", max_shard_size=made.shard)
    trunk = base.state_dict()
    for seed, (task, classes) in enumerate(CLASSES.items(), 5):
        model = getattr(transformers, made.task)(config(**{**made.settings, **made.size(classes)}))
        fine_tune(model, trunk, seed).save_pretrained(folder / task)
    for name in ("base", *CLASSES):
        into_cache(folder, name)


def merge(didid, folder, *options, **fields):
    """A merge of what lies in the cache, with full exports; gives its directory."""
    tasks = [{"name": task, "model": f"lab/{task}"} for task in CLASSES]
    path, out = folder / "specification.json", folder / "out"
    path.write_text(json.dumps({"base": "lab/base", "tasks": tasks, "budget": 1.5, **fields}))
    done = subprocess.run([didid, "run", path, "--models", folder / "hub", "--out", out, *options],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          timeout=RUN_SECONDS)
    assert done.returncode == 0, done.stderr
    return out


def logits(model, kind):
    with torch.no_grad():
        return model(**ARCHITECTURES[kind].inputs()).logits


def assert_near(found, wanted, relative):
    error = torch.linalg.vector_norm(found - wanted) / torch.linalg.vector_norm(wanted)
    assert error <= relative, f"relative error {error:.2g}"
