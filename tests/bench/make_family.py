#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a synthetic family with the shapes of a real model: for time and memory, never accuracy.

  make_family.py OUT [--shapes vitb32|llama1b|llama8b] [--blocks N] [--tasks T] [--dtype F32|BF16]

OUT/base and OUT/task0 ... hold one model.safetensors each. A task vector is a part that all tasks
share plus one of its own, both of low rank with singular values falling as a power of their index,
plus noise. Tensors are written one after another, so that memory stays that of one tensor.
"""

import argparse
import json
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "family"))
import artifacts  # noqa: E402 (the path above is needed first)


def attention(width, key_width):
    return {"self_attn.q_proj": (width, width), "self_attn.k_proj": (key_width, width),
            "self_attn.v_proj": (key_width, width)}


def gated(width, hidden):
    return {"mlp.gate_proj": (hidden, width), "mlp.up_proj": (hidden, width),
            "mlp.down_proj": (width, hidden)}


SHAPES = {
    "vitb32": {**attention(768, 768), "self_attn.out_proj": (768, 768),
               "mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072)},
    "llama1b": {**attention(2048, 512), "self_attn.o_proj": (2048, 2048), **gated(2048, 8192)},
    "llama8b": {**attention(4096, 1024), "self_attn.o_proj": (4096, 4096), **gated(4096, 14336)},
}
BASE_SCALE = 0.02
TASK_SCALE = 0.002
NORM_SCALE = 0.001
SHARED_PART = 0.5
NOISE_PART = 0.1
DECAY = 0.6
RANK_DIVISOR = 4


def tensor_shapes(name, blocks):
    """name -> shape of every tensor, in the order of the file."""
    shapes = {}
    for block in range(blocks):
        for part, shape in SHAPES[name].items():
            shapes[f"model.layers.{block}.{part}.weight"] = shape
        width = SHAPES[name]["self_attn.q_proj"][1]
        shapes[f"model.layers.{block}.input_layernorm.weight"] = (width,)
    return shapes


def header(shapes, dtype):
    """The 8 bytes of length and the JSON of a file that holds these tensors."""
    entries, offset = {}, 0
    size = np.dtype(artifacts.DTYPES[dtype]).itemsize
    for name, shape in shapes.items():
        end = offset + size * int(np.prod(shape))
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def falling_spectrum(generator, rows, columns):
    """A random matrix of entries about 1, rank min / 4, singular values falling as i^-DECAY."""
    rank = max(min(rows, columns) // RANK_DIVISOR, 1)
    values = np.arange(1, rank + 1, dtype=np.float32) ** np.float32(-DECAY)
    left = generator.standard_normal((rows, rank), dtype=np.float32) * values
    right = generator.standard_normal((rank, columns), dtype=np.float32)
    return left @ right / np.sqrt(np.float32(np.sum(values * values)))


def write_tensor(files, generator, shape, dtype):
    base = BASE_SCALE * generator.standard_normal(shape, dtype=np.float32)
    files[0].write(artifacts.encode(base, dtype))
    if len(shape) == 1:
        for file in files[1:]:
            change = NORM_SCALE * generator.standard_normal(shape, dtype=np.float32)
            file.write(artifacts.encode(base + change, dtype))
        return
    shared = SHARED_PART * falling_spectrum(generator, *shape)
    for file in files[1:]:
        noise = NOISE_PART * generator.standard_normal(shape, dtype=np.float32)
        change = shared + falling_spectrum(generator, *shape) + noise
        file.write(artifacts.encode(base + np.float32(TASK_SCALE) * change, dtype))


def write_family(out, shapes="vitb32", blocks=1, tasks=8, dtype="F32", seed=0):
    """Writes the family; returns the tasks' names."""
    return write_listing(out, tensor_shapes(shapes, blocks), tasks, dtype, seed)


def write_listing(out, listing, tasks, dtype, seed=0):
    """As write_family, of tensors given as name -> shape."""
    names = [f"task{index}" for index in range(tasks)]
    files = []
    try:
        for model in ("base", *names):
            path = pathlib.Path(out) / model / "model.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            files.append(open(path, "wb"))
            files[-1].write(header(listing, dtype))
        generator = np.random.default_rng(seed)
        for shape in listing.values():
            write_tensor(files, generator, shape, dtype)
    finally:
        for file in files:
            file.close()
    os.sync()  # else what is measured next shares the machine with the writing
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--shapes", choices=sorted(SHAPES), default="vitb32")
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--dtype", choices=("F32", "BF16"), default="F32")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_family(arguments.out, arguments.shapes, arguments.blocks, arguments.tasks,
                 arguments.dtype, arguments.seed)


if __name__ == "__main__":
    main()
