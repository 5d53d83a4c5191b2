# SPDX-License-Identifier: Apache-2.0
"""Whole families by shape, for what is reckoned rather than merged: bench_cluster.py."""

import dataclasses
import pathlib

import make_family

VOCABULARY = 128256


@dataclasses.dataclass(frozen=True)
class Family:
    tensors: dict  # name -> shape
    tasks: int
    files: int  # of a model
    budget: float  # models in 16 bits
    whole: tuple = ()  # matrices kept whole by the rule of docs/method.md, 3

    def matrices(self):
        return [shape for name, shape in self.tensors.items()
                if len(shape) == 2 and name not in self.whole]

    def numbers(self, shapes=None):
        return sum(rows * columns for rows, columns in shapes or self.matrices())

    def whole_numbers(self):
        return sum(self.tensors[name][0] * self.tensors[name][1] for name in self.whole)


def llama(blocks, width, key_width, hidden):
    parts = {**make_family.attention(width, key_width), "self_attn.o_proj": (width, width),
             **make_family.gated(width, hidden)}
    tensors = {"model.embed_tokens.weight": (VOCABULARY, width)}
    for block in range(blocks):
        for part, shape in parts.items():
            tensors[f"model.layers.{block}.{part}.weight"] = shape
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{block}.{norm}.weight"] = (width,)
    return {**tensors, "model.norm.weight": (width,), "lm_head.weight": (VOCABULARY, width)}


def vision(blocks, width):
    parts = {**make_family.attention(width, width), "self_attn.out_proj": (width, width),
             "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    tensors = {}
    for block in range(blocks):
        place = f"vision_model.encoder.layers.{block}"
        for part, shape in parts.items():
            tensors[f"{place}.{part}.weight"] = shape
            tensors[f"{place}.{part}.bias"] = shape[:1]
        for norm in ("layer_norm1", "layer_norm2"):
            tensors[f"{place}.{norm}.weight"] = tensors[f"{place}.{norm}.bias"] = (width,)
    return tensors


FAMILIES = {
    "Llama-8B x 4": Family(llama(32, 4096, 1024, 14336), 4, 4, 0.3),
    "Llama-70B x 8": Family(llama(80, 8192, 1024, 28672), 8, 30, 0.3,
                            whole=("model.embed_tokens.weight",)),
    "ViT-L x 200": Family(vision(24, 1024), 200, 1, 3.0),
}


def write_headers(family, out):
    """The models as files with holes in place of their numbers: enough for a plan."""
    text = make_family.header(family.tensors, "BF16")
    size = len(text)
    for shape in family.tensors.values():
        size += 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    for model in ("base", *(f"task{index}" for index in range(family.tasks))):
        path = pathlib.Path(out) / model / "model.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(text)
        with open(path, "r+b") as file:
            file.truncate(size)
