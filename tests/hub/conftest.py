# SPDX-License-Identifier: Apache-2.0
"""A Python with transformers and PEFT, families of models made by them, and merges of these."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
INSTALL_SECONDS = 600
RUN_SECONDS = 120

# Nothing is looked up, nothing is told to anybody.
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
               "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error",
               "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def hub_python(didid):
    """The interpreter of an environment beside the build, made anew when requirements change; a
    skip where PyTorch is missing or no registry answers."""
    torch = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False)
    if torch.returncode != 0:
        pytest.skip("python3-torch is not installed")
    place = pathlib.Path(didid).resolve().parents[1] / "hub"
    wanted = (HERE / "requirements.txt").read_text(encoding="utf-8")
    made = place / "requirements.txt"
    if not made.exists() or made.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", place], check=True,
                       capture_output=True)
        installed = subprocess.run([place / "bin/pip", "install", "-q", "--no-deps", "-r",
                                    HERE / "requirements.txt"], capture_output=True, text=True,
                                   timeout=INSTALL_SECONDS, check=False)
        if installed.returncode != 0:
            pytest.skip("transformers and PEFT could not be installed from the package registry: "
                        + installed.stderr.strip().splitlines()[-1])
        made.write_text(wanted, encoding="utf-8")
    return place / "bin/python"


@pytest.fixture(scope="session")
def hub(hub_python):
    """hub(script, *arguments) -> what the script of this folder prints, read as JSON."""

    def execute(script, *arguments):
        done = subprocess.run([hub_python, HERE / script, *map(str, arguments)], text=True,
                              capture_output=True, timeout=RUN_SECONDS, check=False,
                              env=ENVIRONMENT)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout)

    return execute


@pytest.fixture(scope="session")
def models(hub, tmp_path_factory):
    """A directory with families "bert", "llama", "gpt2": a base and fine-tunes "one", "two"."""
    root = tmp_path_factory.mktemp("models")
    hub("make_models.py", root)
    return root


@pytest.fixture(scope="session")
def merge(didid, models, tmp_path_factory):
    """merge(family, *exports, **fields) -> a directory with the package and these exports of it:
    "full", "peft", "peft-exact", with options behind a blank."""

    def execute(family, *exports, **fields):
        folder = tmp_path_factory.mktemp("merge")
        specification = {"base": f"{family}/base", "budget": 0.9,
                         "tasks": [{"name": name, "model": f"{family}/{name}"}
                                   for name in ("one", "two")],
                         "output": {"dtype": "f32"}, "low_rank_tensors": ["*"], **fields}
        (folder / "merge.json").write_text(json.dumps(specification), encoding="utf-8")
        for export in exports:
            name, *options = export.split()
            done = subprocess.run(
                [didid, "run", folder / "merge.json", "--models", models, "--out",
                 folder / export.replace(" ", ""), "--export", name, *options],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_SECONDS,
                check=False)
            assert done.returncode == 0, done.stderr
        return folder

    return execute
