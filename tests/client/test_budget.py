# SPDX-License-Identifier: Apache-2.0
"""Budgets in bytes and of error, through a real daemon: what is asked for is what is stored."""

import json
import re

import pytest

TASKS = ("hiragana", "latin", "mnist", "orient")
FLAGS = ["--base", "base"]
FLAGS += [word for name in TASKS for word in ("--task", f"{name}=tasks/{name}")]


@pytest.fixture
def host(start_daemon, family):
    return start_daemon(family).url


def read(call, *arguments):
    return json.loads(call(*arguments, "-o", "json").stdout)


def submit(call, *arguments):
    job = call("submit", *FLAGS, *arguments, "--wait", "-q").stdout.strip()
    return read(call, "show", job)


@pytest.mark.parametrize(
    "budget, shown",
    [
        ("bytes_ratio=0.15", "0.15 of the base's bytes"),
        ('{"bytes_ratio":0.15}', "0.15 of the base's bytes"),
        ("bytes=100000", "100000 bytes"),
    ],
)
@pytest.mark.parametrize("dtype", ["auto", "int4", "bf16"])
def test_bytes_are_kept(call, tmp_path, budget, shown, dtype):
    job = submit(call, "--budget", budget, "--dtype", dtype)
    told = job["result"]["budget"]
    call("pull", job["id"], str(tmp_path / "package"))
    files = list((tmp_path / "package").rglob("*.safetensors"))
    stored = sum(path.stat().st_size for path in files)
    ceiling = 100000 if "ratio" not in budget else 0.15 * told["model_bytes"]
    assert stored == told["bytes"] and 0.99 * ceiling < stored <= ceiling
    table = call("show", job["id"]).stdout
    assert shown in table and dtype in table and "bits per number" in table
    assert shown in call("jobs").stdout
    last = [point for point in read(call, "events", job["id"]) if "ratio" in point][-1]
    assert last["ratio"] == pytest.approx(stored / told["model_bytes"])
    assert last["ratio_target"] == pytest.approx(ceiling / told["model_bytes"])


@pytest.mark.parametrize("dtype", ["auto", "int8", "bf16"])
@pytest.mark.parametrize("wanted", [0.1, 0.35])
def test_errors_asked_for_are_met_closely(call, dtype, wanted):
    job = submit(call, "--budget", f"max_error={wanted}", "--dtype", dtype)
    error = job["result"]["error"]["relative"]
    assert 0.97 * wanted <= error <= wanted
    assert f"error {wanted:g}" in call("show", job["id"]).stdout


@pytest.mark.parametrize(
    "budget, dtype, pattern, again",
    [
        ("bytes=1000", "auto", r"below the (\d+) ", "bytes={}"),
        ("bytes=1000", "bf16", r"below the (\d+) ", "bytes={}"),
        ("bytes_ratio=0.001", "int4", r"bytes_ratio ([\d.]+)\)", "bytes_ratio={}"),
        ("max_error=0.0001", "int4", r"about ([\d.]+),", "max_error={}"),
        ("max_error=0.00001", "auto", r"about ([\d.e-]+),", "max_error={}"),
    ],
)
def test_refusals_give_a_figure_that_works(call, budget, dtype, pattern, again):
    flags = [*FLAGS, "--dtype", dtype]
    said = call("submit", *flags, "--budget", budget, status=1).stderr
    assert "/budget/" + budget.split("=")[0] in said
    figure = re.search(pattern, said).group(1)
    job = submit(call, "--dtype", dtype, "--budget", again.format(figure))
    assert job["state"] == "succeeded"


@pytest.mark.parametrize(
    "arguments, place",
    [
        (["--budget", "1", "--dtype", "int2"], "/output/dtype"),
        (["--budget", '{"bytes":5,"max_error":1}'], "/budget"),
        (["--budget", "{}"], "/budget"),
        (["--budget", "bytes=many"], "/budget/bytes"),
        (["--budget", "bytes=90000.5"], "/budget/bytes"),
        (["--budget", "kilobytes=3"], "/budget"),
        (["--budget", "1", "--objective", "best"], "/objective"),
    ],
)
def test_refusals_name_the_place(call, arguments, place):
    assert place in call("submit", *FLAGS, *arguments, status=1).stderr


def test_plans_are_in_the_budgets_unit(call):
    flags = [*FLAGS, "--dtype", "auto"]
    shown = call("plan", *flags, "--budget", "bytes=90000").stdout
    assert re.search(r"smallest budget +\d+ bytes", shown)
    shown = call("plan", *flags, "--budget", "bytes_ratio=0.3").stdout
    assert "0.3 of the base's bytes" in shown
    figure = re.search(r"smallest budget +([\d.]+) of the base", shown).group(1)
    call("plan", *flags, "--budget", f"bytes_ratio={figure}")
    assert "error 0.2" in call("plan", *flags, "--budget", "max_error=0.2").stdout
    shown = call("plan", *flags, "--budget", "1.24").stdout
    assert re.search(r"budget +1.24 16-bit models\n", shown)
    shown = call("plan", *FLAGS, "--dtype", "int4", "--budget", "1.24").stdout
    assert re.search(r"budget +1.24 models\n", shown)


@pytest.mark.parametrize(
    "budget, dtype, counted, stored, shown",
    [
        ("0.9", "bf16", "parameters", r"0\.\d+ models", "0.9 models"),
        ("0.9", "int4", "parameters", r"0\.\d+ models", "0.9 models"),
        ("0.2", "auto", "bytes", r"0\.\d+ 16-bit models", "0.2 16-bit models"),
        ("bytes=90000", "bf16", "bytes", r"\d+ bytes", "90000 bytes"),
        ("bytes_ratio=0.12", "int8", "bytes", r"0\.\d+ of the base's bytes", "0.12 of the base's"),
        ("max_error=0.4", "int4", "parameters", r"[\d.]+ kB", "error 0.4"),
        ("max_error=0.4", "auto", "bytes", r"[\d.]+ kB", "error 0.4"),
    ],
)
def test_figures_say_what_they_count(call, budget, dtype, counted, stored, shown):
    flags = [*FLAGS, "--dtype", dtype, "--budget", budget]
    done = call("submit", *flags, "--wait")
    assert re.search(rf"after \d+:\d+, relative error 0\.\d+, {stored}\n", done.stderr)
    assert re.search(rf"  {counted} [\d.]+( of [\d.]+)?", done.stderr)
    job = done.stdout.strip()
    assert shown in call("show", job).stdout and shown in call("jobs").stdout
    if counted == "bytes":  # the last point tells what the package takes
        told = read(call, "show", job)["result"]["budget"]
        last = [point for point in read(call, "events", job) if "ratio" in point][-1]
        unit = "bytes_ratio" if budget.startswith("bytes") else "bytes_ratio_16bit"
        assert last["ratio"] == pytest.approx(told[unit])


def test_a_survey_is_submitted_and_gone_on_from(call):
    job = json.loads(call("submit", *FLAGS, "--survey", "--wait", "-o", "json").stdout)
    assert job["survey"] is True and job["state"] == "succeeded"
    shown = call("frontier", job["id"], "--bytes").stdout
    assert all(f"budget {name}" in shown for name in "SML")
    again = json.loads(call("submit", "--from-job", job["id"], "--budget", "bytes=200000", "--wait",
                            "-o", "json").stdout)
    assert again["state"] == "succeeded" and again["survey"] is False
    refused = call("pull", job["id"], "nowhere", "--format", "full", status=1).stderr
    assert "survey" in refused
