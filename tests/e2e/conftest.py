# SPDX-License-Identifier: Apache-2.0
"""Merges in the foreground, and specifications for them."""

import json
import subprocess

import pytest

RUN_SECONDS = 300


class Run:
    """The outcome of one `didid run`."""

    def __init__(self, done, out):
        self.status = done.returncode
        self.stderr = done.stderr
        self.out = out

    def manifest(self):
        return json.loads((self.out / "manifest.json").read_text())


@pytest.fixture(scope="session")
def run(didid, tmp_path_factory):
    """run(specification, models, *options) -> Run; fails unless it ends with `status`."""

    def execute(specification, models, *options, status=0):
        folder = tmp_path_factory.mktemp("run")
        path, out = folder / "specification.json", folder / "out"
        text = specification if isinstance(specification, str) else json.dumps(specification)
        path.write_text(text)
        done = subprocess.run(
            [didid, "run", str(path), "--models", str(models), "--out", str(out), *options],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_SECONDS,
            check=False)
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
        return {"base": "base", "tasks": tasks, "budget": 1.24, **fields}

    return make
