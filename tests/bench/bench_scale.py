# SPDX-License-Identifier: Apache-2.0
"""Shapes of an 8-billion model within 2 GiB: a block, and an output matrix read in panels."""

import pathlib
import shutil

import numpy as np

import artifacts
import common
import make_family

TASKS, WORKERS, LIMIT_BYTES = 4, 2, 2 << 30
BLOCKS_OF_THE_MODEL = 32
EMBEDDING = (128256, 4096)
CHUNK_ROWS = 8192
RANK = 64
# Merged at a small budget, and in less memory: panels and spilled factors all the same.
EMBEDDING_BUDGET, EMBEDDING_LIMIT_BYTES = 0.02, 300 << 20


def write_embedding(out, rows, columns):
    """A family of one matrix, written in chunks of rows; returns the tasks' names."""
    names = [f"task{index}" for index in range(TASKS)]
    generator = np.random.default_rng(0)
    scale = np.arange(1, RANK + 1, dtype=np.float32)[:, None] ** np.float32(-make_family.DECAY)
    rights = [scale * generator.standard_normal((RANK, columns), dtype=np.float32)
              for _ in range(TASKS + 1)]
    files = []
    try:
        for model in ("base", *names):
            path = pathlib.Path(out) / model / "model.safetensors"
            path.parent.mkdir(parents=True)
            files.append(open(path, "wb"))
            files[-1].write(make_family.header({"lm_head.weight": (rows, columns)}, "BF16"))
        for first in range(0, rows, CHUNK_ROWS):
            count = min(CHUNK_ROWS, rows - first)
            base = 0.02 * generator.standard_normal((count, columns), dtype=np.float32)
            shared = generator.standard_normal((count, RANK), dtype=np.float32) @ rights[0]
            files[0].write(artifacts.encode(base, "BF16"))
            for file, right in zip(files[1:], rights[1:]):
                own = generator.standard_normal((count, RANK), dtype=np.float32) @ right
                change = np.float32(0.002) * (np.float32(0.5) * shared + own)
                file.write(artifacts.encode(base + change, "BF16"))
    finally:
        for file in files:
            file.close()
    return names


def merge(arguments, models, tasks, budget, limit, out):
    """Merges, prints a row and gives the outcome."""
    text = common.specification("base", {task: task for task in tasks}, budget)
    outcome = common.merge(arguments.build, text, models, out, WORKERS, "--memory-limit",
                           str(limit))
    print(f"{outcome.seconds:.0f} s, peak resident {outcome.peak_resident_bytes / 1e6:.0f} MB, "
          f"anonymous {outcome.peak_anonymous_bytes / 1e6:.0f} MB, "
          f"error {outcome.manifest['error']['relative']:.4f}", flush=True)
    for stage, figures in outcome.manifest["stages"].items():
        print(f"  {stage}: {figures}", flush=True)
    return outcome


def within(what, outcome, limit):
    return common.verdict(f"{what}: peak resident memory",
                          f"{outcome.peak_resident_bytes / 2**20:.0f} MiB",
                          f"{limit / 2**20:.0f} MiB", outcome.peak_resident_bytes <= limit)


def measure(arguments, scratch):
    models = scratch / "block"
    budget = float(arguments.budgets.split(",")[0])
    tasks = make_family.write_family(models, "llama8b", 1, TASKS, "BF16")
    print(f"a block of an 8-billion model, {TASKS} tasks, {budget:g}x", flush=True)
    block = merge(arguments, models, tasks, budget, LIMIT_BYTES, scratch / "out")
    held = within("block", block, LIMIT_BYTES)
    print(f"{BLOCKS_OF_THE_MODEL} blocks: {BLOCKS_OF_THE_MODEL} x {block.seconds:.0f} s = "
          f"{BLOCKS_OF_THE_MODEL * block.seconds / 3600:.1f} h", flush=True)
    shutil.rmtree(models)
    models = scratch / "embedding"
    tasks = write_embedding(models, *EMBEDDING)
    print(f"a matrix of {EMBEDDING[0]} x {EMBEDDING[1]}, {EMBEDDING_BUDGET:g}x", flush=True)
    large = merge(arguments, models, tasks, EMBEDDING_BUDGET, EMBEDDING_LIMIT_BYTES,
                  scratch / "large")
    return within("matrix", large, EMBEDDING_LIMIT_BYTES) and held
