# SPDX-License-Identifier: Apache-2.0
"""A Python with transformers and PEFT, families of models made by them, and merges of these."""

import json
import os
import pathlib
import subprocess

import pytest

import environments

HERE = pathlib.Path(__file__).resolve().parent
RUN_SECONDS = 120

# Nothing is looked up, nothing is told to anybody.
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
               "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error",
               "OMP_NUM_THREADS": "1"}
WARM = ["torch", "peft", "transformers.modeling_utils", "transformers.models.bert.modeling_bert",
        "transformers.models.gpt2.modeling_gpt2", "transformers.models.llama.modeling_llama"]


@pytest.fixture(scope="session")
def hub_python(didid, tmp_path_factory):
    with environments.hub_python(didid, tmp_path_factory.mktemp("python"), WARM,
                                 ENVIRONMENT) as program:
        yield program


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
