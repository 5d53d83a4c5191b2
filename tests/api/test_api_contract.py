# SPDX-License-Identifier: Apache-2.0
"""The daemon held to proto/openapi.yaml, and the contract to the tables in proto/."""

import pathlib
import re
import subprocess

import pytest

import environments

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTRACT = (ROOT / "proto/openapi.yaml").read_text(encoding="utf-8")


def header(name):
    return (ROOT / "proto" / name).read_text(encoding="utf-8")


def test_problem_types_are_the_tables():
    table = set(re.findall(r'X\([A-Z_]+,\s*"([a-z-]+)",\s*\d{3}', header("problems.h")))
    assert table == set(re.findall(r"- urn:didid:problem:([a-z-]+)", CONTRACT))


def test_states_are_the_tables():
    for name, kind in (("JOB", "JobState"), ("MODEL", "ModelState")):
        table = re.search(rf"{name}_STATE_TABLE\(X\)((?:.*\\\n)*.*)", header("states.h")).group(1)
        words = ", ".join(re.findall(r'"(\w+)"', table))
        assert f"    {kind}:\n      type: string\n      enum: [{words}]" in CONTRACT


def test_defaults_are_the_tables():
    """Those of methods are compared in test_api_methods.py."""
    values = dict(re.findall(r"#define SPECIFICATION_DEFAULT_(\w+) \"?(\w[\w.]*)",
                             header("specification_defaults.h")))
    for key, name in (("weight", "TASK_WEIGHT"), ("seed", "SEED"), ("priority", "PRIORITY")):
        given = re.search(rf"^ *{key}: {{.*default: ([-0-9.]+)", CONTRACT, re.MULTILINE).group(1)
        assert float(given) == float(values[name]), key
    given = re.search(r"^ *dtype: {.*default: (\w+)", CONTRACT, re.MULTILINE).group(1)
    assert values["OUTPUT_DTYPE"] == f"DIDI_PRECISION_{given.upper()}"
    assert re.search(r"method:\n(?: {10}.*\n)* {10}default: (\w+)", CONTRACT).group(1) \
        == values["METHOD"]
    words = (ROOT / "src/base/words.h").read_text(encoding="utf-8")
    sweeps, steps = re.search(r"DIDI_REFINE_STEPS = (\d+), DIDI_REFINE_STEPS_ADAM = (\d+)",
                              words).groups()
    assert re.search(r"als \(default (\d+)\)", CONTRACT).group(1) == sweeps
    assert re.search(r"adam \(default (\d+)\)", CONTRACT).group(1) == steps


@pytest.fixture(scope="session")
def schemathesis(didid):
    return environments.programs(didid, "schemathesis", "schemathesis>=4,<5") / "schemathesis"


def test_every_answer_is_as_the_contract_says(schemathesis, daemon, finished, tmp_path):
    """Generated requests, good and bad, against every operation."""
    configuration = tmp_path / "schemathesis.toml"
    template = pathlib.Path(__file__).with_name("schemathesis.toml").read_text(encoding="utf-8")
    configuration.write_text(template.replace("JOB", finished), encoding="utf-8")
    ended = subprocess.run(
        [schemathesis, "--config-file", configuration, "run", ROOT / "proto/openapi.yaml",
         "--url", daemon.url, "--seed", "7", "--no-color"],
        capture_output=True, text=True, timeout=900, check=False, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout[-12000:] + ended.stderr[-2000:]
