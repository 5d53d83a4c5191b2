# SPDX-License-Identifier: Apache-2.0
"""The last line of `didid run`: what the package takes, in the unit that was asked for."""

import re

import pytest


@pytest.mark.parametrize("budget, dtype, pattern", [
    (1.3, "bf16", r"parameters (?P<parameters>[\d.]+)x"),
    (1.3, "int8", r"parameters (?P<parameters>[\d.]+)x"),
    (1.1, "auto", r"(?P<bytes>\d+) bytes, (?P<bytes_ratio_16bit>[\d.]+)x of a 16-bit model"),
    ({"bytes": 3000}, "int4", r"(?P<bytes>\d+) bytes"),
    ({"bytes_ratio": 0.9}, "bf16", r"(?P<bytes>\d+) bytes, (?P<bytes_ratio>[\d.]+)x of the base's"),
    ({"max_error": 0.3}, "f16", r"(?P<bytes>\d+) bytes"),
    ({"max_error": 0.3}, "auto", r"(?P<bytes>\d+) bytes")])
def test_last_line(run, models, small_specification, budget, dtype, pattern):
    outcome = run(small_specification(budget=budget, output={"dtype": dtype}), models)
    line = outcome.stdout.splitlines()[-1]
    found = re.fullmatch(rf".*/out: {pattern}, relative error (?P<relative>[\d.e-]+), [\d.]+ s",
                         line)
    assert found, line
    manifest = outcome.manifest()
    for key, text in found.groupdict().items():
        section = manifest["error" if key == "relative" else "budget"]
        assert float(text) == pytest.approx(section[key], abs=6e-5)


@pytest.mark.parametrize("words, status", [("bytes=1500", 0), ("0.4", 1), ("bytes=1500.5", 1)])
def test_budget_of_a_task_added_is_in_the_packages_unit(run, models, small_specification,
                                                        words, status):
    tasks = [{"name": "one", "model": "one"}]
    package = run(small_specification(tasks=tasks, budget={"bytes": 3000}), models).out
    outcome = run(None, models, "--extend", package, "--task", "two=two", "--budget", words,
                  status=status)
    if status == 0:
        added = outcome.out / "experts" / "two.safetensors"
        assert 1000 < added.stat().st_size <= 1500
    else:
        assert "bytes" in outcome.stderr and "extend/budget" in outcome.stderr
