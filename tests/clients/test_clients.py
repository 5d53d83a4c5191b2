# SPDX-License-Identifier: Apache-2.0
"""Clients that others would write: one that is generated from the contract, one of the examples."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import environments

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RUN_SECONDS = 300
EXAMPLE = ROOT / "docs" / "examples" / "client.py"
NATIVE = {"experts/latin.safetensors", "experts/mnist.safetensors", "manifest.json",
          "shared.safetensors"}
# What the generator has no words for: a body that may be anything, signed byte for byte.
WITHOUT_WORDS = ["POST /v1/hooks/{hook}"]


def run(*command, **options):
    return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=RUN_SECONDS, check=False, **options)


@pytest.fixture
def daemon(start_daemon, didid, family, tmp_path):
    """(daemon, token of scope submit)."""
    state = tmp_path / "state"
    state.mkdir()
    made = run(didid, "token", "create", "--state-dir", state, "--name", "ci", "--scope", "submit")
    assert made.returncode == 0, made.stderr
    token = next(word for word in made.stdout.split() if word.startswith("didi"))
    return start_daemon(family, state=state), token


@pytest.fixture(scope="session")
def generated(didid, tmp_path_factory):
    """(interpreter, folder with the package didid_client)."""
    programs = environments.environment(didid, HERE / "requirements.txt")
    folder = tmp_path_factory.mktemp("generated")
    path = os.pathsep.join([str(programs), os.environ["PATH"]])  # ruff lies beside
    done = run(programs / "openapi-python-client", "generate", "--path",
               ROOT / "proto" / "openapi.yaml", "--meta", "none", "--output-path",
               folder / "didid_client", "--config", HERE / "config.yaml",
               env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    return programs / "python", folder, done.stdout + done.stderr


def test_the_contract_makes_a_whole_client(generated):
    told = generated[2]
    warned = [line.removeprefix("WARNING parsing ").split(" within ")[0]
              for line in told.splitlines() if line.startswith("WARNING")]
    assert warned == WITHOUT_WORDS, told
    assert "Unable to process" not in told, told


def test_the_generated_client_takes_a_merge_all_the_way(generated, daemon):
    python, folder, _ = generated
    running, token = daemon
    done = run(python, HERE / "through_generated.py", running.url, token,
               env={**os.environ, "PYTHONPATH": str(folder)})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["same"] and told["state"] == "succeeded" and told["tasks"] == 2
    assert told["files"] == dict.fromkeys(NATIVE, True)
    assert 0 < told["error"] < 0.2
    assert told["problem"] == "urn:didid:problem:missing-model"


@pytest.fixture
def example(daemon, tmp_path):
    """example(**fields) -> what the example prints with a specification of these fields."""
    running, token = daemon

    def call(**fields):
        text = json.dumps({"base": "base", "budget": 0.5, **fields, "tasks": [
            {"name": name, "model": f"tasks/{name}"} for name in ("mnist", "latin")]})
        (tmp_path / "merge.json").write_text(text, encoding="utf-8")
        return run(sys.executable, EXAMPLE, tmp_path / "merge.json", tmp_path / "out",
                   env={**os.environ, "DIDI_HOST": running.url, "DIDI_TOKEN": token})

    return call


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
            if path.is_file()}


def test_the_example_is_short_and_needs_nothing():
    text = EXAMPLE.read_text(encoding="utf-8")
    imported = {line.split()[1].split(".")[0] for line in text.splitlines()
                if line.startswith(("import ", "from "))}
    assert len(text.splitlines()) <= 100 and imported <= set(sys.stdlib_module_names)


def test_the_example_fetches_a_merge_and_goes_on_where_it_stopped(example, tmp_path):
    done = example()
    assert done.returncode == 0, done.stderr
    whole = files(tmp_path / "out")
    assert whole.keys() == NATIVE
    job, stages = done.stdout.split()[0], done.stdout.splitlines()[1:]
    assert "pursue" in stages and "publish" in stages
    shared = tmp_path / "out" / "shared.safetensors"
    shared.rename(shared.with_name("shared.safetensors.part"))
    with open(shared.with_name("shared.safetensors.part"), "r+b") as part:
        part.truncate(1000)
    again = example()
    assert again.returncode == 0 and again.stdout.split()[0] == job, again.stderr
    assert files(tmp_path / "out") == whole


def test_the_example_keeps_no_file_of_another_digest(example, tmp_path):
    assert example().returncode == 0
    manifest = tmp_path / "out" / "manifest.json"
    part = manifest.with_name("manifest.json.part")
    part.write_bytes(b"x" * manifest.stat().st_size)
    manifest.unlink()
    done = example()
    assert done.returncode == 1 and "digest" in done.stderr
    assert not manifest.exists() and not part.exists()


def test_the_example_says_what_is_wrong(example):
    done = example(budget=-1)
    assert done.returncode == 1 and "/budget" in done.stderr and "Traceback" not in done.stderr
