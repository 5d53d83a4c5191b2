# SPDX-License-Identifier: Apache-2.0
"""Merges in the foreground, and specifications for them."""

import json
import os
import subprocess

import numpy as np
import pytest

import artifacts

RUN_SECONDS = 300
PLAIN = {"output": {"dtype": "bf16"}}  # factors that tests read as they are


class Run:
    """The outcome of one `didid run`."""

    def __init__(self, done, out):
        self.status = done.returncode
        self.stdout = done.stdout
        self.stderr = done.stderr
        self.out = out

    def manifest(self):
        return json.loads((self.out / "manifest.json").read_text())


@pytest.fixture(scope="session")
def run(didid, tmp_path_factory):
    """run(specification, models, *options) -> Run; fails unless it ends with `status`."""

    def execute(specification, models, *options, status=0, environment=None,
                name="specification.json"):
        folder = tmp_path_factory.mktemp("run")
        path, out = folder / name, folder / "out"
        given = [] if specification is None else [str(path)]  # None: --extend takes its place
        text = specification if isinstance(specification, str) else json.dumps(specification)
        path.write_text(text)
        done = subprocess.run(
            [didid, "run", *given, "--models", str(models), "--out", str(out), *options],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_SECONDS,
            check=False, env={**os.environ, **(environment or {})})
        assert "Sanitizer" not in done.stderr and "runtime error:" not in done.stderr, done.stderr
        if status is not None:
            assert done.returncode == status, done.stderr
        return Run(done, out)

    return execute


@pytest.fixture(scope="session")
def demo_specification():
    """demo_specification(**fields) -> the merge of the demo family at 1.24x."""

    def make(**fields):
        tasks = [{"name": name, "model": f"tasks/{name}"}
                 for name in ("mnist", "latin", "hiragana", "orient")]
        return {"base": "base", "tasks": tasks, "budget": 1.24, **PLAIN, **fields}

    return make


def small_tensors(seed):
    generator = np.random.default_rng(seed)
    shapes = {"a.weight": (24, 16), "b.weight": (16, 24), "b.bias": (16,)}
    return {name: generator.normal(size=shape) for name, shape in shapes.items()}


@pytest.fixture
def models(tmp_path):
    """A directory with a small base and two fine-tunes of it."""
    base = small_tensors(5)
    artifacts.write_file(tmp_path / "base" / "model.safetensors", base)
    for seed, task in ((6, "one"), (7, "two")):
        change = small_tensors(seed)
        moved = {name: values + 0.01 * change[name] for name, values in base.items()}
        artifacts.write_file(tmp_path / task / "model.safetensors", moved)
    return tmp_path


@pytest.fixture(scope="session")
def small_specification():
    """small_specification(**fields) -> the merge of the small family."""

    def make(**fields):
        tasks = [{"name": "one", "model": "one"}, {"name": "two", "model": "two"}]
        return {"base": "base", "tasks": tasks, "budget": 1.0, **PLAIN, **fields}

    return make
