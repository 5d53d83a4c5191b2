# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of this folder that import transformers themselves, by a Python that has it."""

import os
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
INSIDE_SECONDS = 600


@pytest.mark.parametrize("name", ["test_model_directories.py", "test_serve_package.py"])
def test_inside(hub_python, name):
    done = subprocess.run([hub_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / name],
                          capture_output=True, text=True, timeout=INSIDE_SECONDS, check=False,
                          env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-4000:]
