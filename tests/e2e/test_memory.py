# SPDX-License-Identifier: Apache-2.0
"""Matrices that do not fit the memory limit are read panel by panel: slower, the same bytes."""

import numpy as np
import pytest

import artifacts
from service import UNDER_SANITIZER

ROWS, COLUMNS, TASKS = 6000, 1000, 2
DENSE_BYTES = 4 * ROWS * COLUMNS * (TASKS + 1)
LIMIT_BYTES = 64 << 20
pytestmark = pytest.mark.skipif(
    UNDER_SANITIZER,
    reason="large matrices take minutes under a sanitizer; units read small ones in panels")


def change(generator, rank):
    left = generator.standard_normal((ROWS, rank), dtype=np.float32)
    return left @ generator.standard_normal((rank, COLUMNS), dtype=np.float32)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A family with one large matrix of a small rank, stored as BF16 but for one task in F32."""
    root = tmp_path_factory.mktemp("large")
    generator = np.random.default_rng(3)
    base = generator.standard_normal((ROWS, COLUMNS), dtype=np.float32)
    shared = change(generator, 4)
    for name, dtype in (("base", "BF16"), ("one", "BF16"), ("two", "F32")):
        moved = base if name == "base" else base + 0.05 * (shared + change(generator, 8))
        artifacts.write_file(root / name / "model.safetensors", {"w": moved}, {"w": dtype})
    return root


@pytest.fixture(scope="module")
def specification():
    def make(**fields):
        return {"base": "base", "budget": 0.1, "output": {"dtype": "bf16"}, **fields,
                "tasks": [{"name": name, "model": name} for name in ("one", "two")]}

    return make


def test_panels_change_no_byte(run, large, specification):
    held = run(specification(), large, "--memory-limit", "8G", "--workers", "2")
    for workers in ("1", "2"):
        streamed = run(specification(), large, "--memory-limit", str(LIMIT_BYTES), "--workers",
                       workers)
        assert artifacts.digests(streamed.out) == artifacts.digests(held.out)
        assert streamed.manifest()["error"] == held.manifest()["error"]
        assert streamed.manifest()["peak_memory_bytes"] < LIMIT_BYTES < DENSE_BYTES
        assert held.manifest()["peak_memory_bytes"] > DENSE_BYTES


def test_adam_reads_panels_too(run, large, specification):
    text = specification(budget=0.04, refine={"optimizer": "adam", "steps": 10})
    held = run(text, large, "--memory-limit", "8G")
    streamed = run(text, large, "--memory-limit", str(LIMIT_BYTES))
    assert artifacts.digests(streamed.out) == artifacts.digests(held.out)


@pytest.mark.parametrize("allocator", ["exact", "joint"])
def test_whole_spectra_need_the_matrix(run, large, specification, allocator):
    text = specification(ranks={"allocator": allocator})
    refused = run(text, large, "--memory-limit", str(LIMIT_BYTES), status=None)
    assert refused.status != 0
    needed = max(int(word) for word in refused.stderr.replace(".", " ").split() if word.isdigit())
    assert needed > DENSE_BYTES
    run(text, large, "--memory-limit", str(needed))


def test_the_figure_needed_is_enough(run, large, specification):
    refused = run(specification(), large, "--memory-limit", "12M", status=None)
    needed = max(int(word) for word in refused.stderr.replace(".", " ").split() if word.isdigit())
    assert needed < LIMIT_BYTES
    run(specification(), large, "--memory-limit", str(needed))


# The last one asks for more than can be known before: its plan is for full ranks.
PACKED = [{"output": {"dtype": "int4"}}, {"budget": 0.02, "output": {"dtype": "auto"}},
          {"budget": {"bytes_ratio": 0.02}, "output": {"dtype": "auto"}},
          {"budget": {"max_error": 0.2}, "output": {"dtype": "int3"}}]


def smallest_limit(run, text, models):
    """The figure that a limit far too low is refused with."""
    refused = run(text, models, "--memory-limit", "4M", status=None)
    assert refused.status != 0
    return max(int(word) for word in refused.stderr.replace(".", " ").split() if word.isdigit())


@pytest.mark.parametrize("fields", PACKED)
def test_packing_keeps_to_the_limit(run, large, specification, fields):
    text = specification(**fields)
    needed = smallest_limit(run, text, large)
    held = run(text, large, "--memory-limit", "8G", "--workers", "2")
    if "max_error" not in str(fields):
        assert needed < DENSE_BYTES < held.manifest()["peak_memory_bytes"]
    tight = run(text, large, "--memory-limit", str(needed), "--workers", "2")
    assert artifacts.digests(tight.out) == artifacts.digests(held.out)
    assert tight.manifest()["error"] == held.manifest()["error"]
    assert tight.manifest()["peak_memory_bytes"] <= needed
