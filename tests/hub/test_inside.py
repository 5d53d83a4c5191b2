# SPDX-License-Identifier: Apache-2.0
"""Tests that import transformers run inside the environment that has it."""

import pathlib
import subprocess

import pytest

from conftest import ENVIRONMENT, HERE

CHECK_SECONDS = 400


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("check_*.py")))
def test_inside(hub_python, didid, name):
    environment = {**ENVIRONMENT, "DIDID": str(pathlib.Path(didid).resolve())}
    done = subprocess.run([hub_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / name],
                          env=environment, capture_output=True, text=True, timeout=CHECK_SECONDS,
                          check=False)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stderr[-1000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout.splitlines()[-1]
