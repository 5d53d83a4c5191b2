# SPDX-License-Identifier: Apache-2.0
"""didictl against the real daemon: what only both together can get wrong."""

import json
import re
import signal
import subprocess
import time

import pytest

TASKS = ("hiragana", "latin", "mnist", "orient")
FLAGS = ["--base", "base", "--budget", "1.24"]
FLAGS += [word for name in TASKS for word in ("--task", f"{name}=tasks/{name}")]
# Long enough to be met while it runs.
LONG = ["--set", "ranks.allocator=differentiable", "--set", "ranks.steps=100000"]


@pytest.fixture
def host(start_daemon, family):
    return start_daemon(family).url


def read(call, *arguments):
    return json.loads(call(*arguments, "-o", "json").stdout)


def test_one_key_is_one_job(call):
    first = call("submit", *FLAGS, "--idempotency-key", "k1").stdout
    second = call("submit", *FLAGS, "--idempotency-key", "k1")
    assert second.stdout == first and "was used before" in second.stderr
    call("submit", *FLAGS, "--name", "other", "--idempotency-key", "k1", status=1)
    assert len(read(call, "jobs")) == 1


@pytest.mark.parametrize(
    "change, place",
    [
        (["--budget", "-1"], "/budget"),
        (["--budget", "0.0001"], "/budget"),
        (["--task", "x=tasks/none"], "/tasks/4/model"),
        (["--task", "mnist=base"], "/tasks/4"),
        (["--base", "../base"], "/base"),
        (["--set", "ranks.allocator=best"], "/ranks/allocator"),
        (["--set", "colour=red"], "/colour"),
        (["--priority", "101"], "/priority"),
    ],
)
def test_refusals_name_the_place(call, change, place):
    said = call("submit", *FLAGS, *change, status=1).stderr
    assert place in said and re.fullmatch("didictl: .+\nnext: .+\n", said)
    assert read(call, "jobs") == []


def test_the_life_of_a_job(call, tmp_path):
    job = call("submit", *FLAGS, *LONG, "--label", "team=a").stdout.strip()
    assert read(call, "jobs", "--label", "team=a")[0]["id"] == job
    assert read(call, "jobs", "--label", "team=b") == []
    assert read(call, "show", job[:-1])["id"] == job
    assert "no result" in call("pull", job, str(tmp_path / "out"), status=1).stderr
    assert not (tmp_path / "out").exists()
    call("ranks", job, status=1)
    call("rm", job, status=1)
    assert call("cancel", job).stdout == job + "\n"
    assert call("wait", job, status=3).stdout == "cancelled\n"
    call("cancel", job, status=1)
    call("retry", job)
    call("cancel", "@latest")
    call("wait", job, status=3)
    call("rm", job)
    assert "no job has such an id" in call("show", job, status=1).stderr


def test_interrupting_the_wait_leaves_the_job(call, didictl, environment):
    process = subprocess.Popen([didictl, "submit", *FLAGS, *LONG, "--wait"], env=environment,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    job = process.stdout.readline().strip()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and f"job {job} goes on" in said
    assert read(call, "show", job)["state"] in ("queued", "running")
    call("cancel", job)


def test_every_command_on_a_finished_job(call, tmp_path):
    job = call("submit", *FLAGS, "--wait", "-q").stdout.strip()
    budget = read(call, "show", job)["result"]["budget"]
    assert budget["bytes_ratio_16bit"] <= 1.24
    assert all(name in call("ranks", job).stdout for name in TASKS)
    assert "this job" in call("frontier", job).stdout
    lines = call("events", job, "-f", "-o", "jsonl").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert events[-1]["state"] == "succeeded"
    assert call("watch", job).stdout.startswith("succeeded")
    assert call("wait", job).stdout == "succeeded\n"
    call("pull", job, str(tmp_path / "out"), "--task", "mnist")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == [
        "manifest.json", "mnist.safetensors", "shared.safetensors"]
    call("pull", job, str(tmp_path / "out"), "--task", "mnist", "--format", "full")
    assert (tmp_path / "out" / "models" / "mnist" / "model.safetensors").exists()
    call("pull", job, str(tmp_path / "out"), "--task", "none", "--format", "full", status=1)
    assert "didid" in call("version").stdout
    assert call("model", "show", "base", "-o", "name").stdout == "base\n"
    assert read(call, "plan", *FLAGS)["tasks"] == 4


def test_adapters_load_where_they_are_meant_to(call, tmp_path):
    job = call("submit", *FLAGS, "--wait", "-q").stdout.strip()
    out = str(tmp_path / "out")
    for loader in ("peft", "vllm", "sglang"):
        said = call("pull", job, out, "--format", "peft", "--max-rank", "16", "--check", loader)
        assert all(f"adapters/{task}: " in said.stderr for task in TASKS)
    config = tmp_path / "out/adapters/latin/adapter_config.json"
    assert json.loads(config.read_text())["r"] == 16
    call("pull", job, out, "--format", "peft", "--task", "latin", "--check", "vllm")
    assert json.loads(config.read_text())["r"] > 16
    call("pull", job, out, "--format", "peft-exact", "--check", "peft")
    said = call("pull", job, out, "--format", "peft-exact", "--check", "sglang", status=1)
    assert "modules_to_save" in said.stderr


def test_a_job_by_another_method(call):
    family = ["--base", "base", "--task", "a=tasks/mnist", "--task", "b=tasks/latin"]
    methods = call("methods").stdout
    lines = methods.split("\n\n")[0].splitlines()  # options come behind
    rows = {words[0]: words[1:3] for words in map(str.split, lines)}
    assert rows["METHOD"] == ["BUDGET", "GRAMS"] and rows["cat"] == ["no", "yes"]
    assert rows["didi"] == ["yes", "no"] and rows["regmean"] == ["-", "-"]
    assert "/method_options/scale" in methods and "cannot be used here" in methods
    job = call("submit", *family, "--method", "task_arithmetic", "--set",
               "method_options.scale=0.5", "--wait", "-o", "name").stdout.strip()
    assert "task_arithmetic" in call("show", job).stdout
    assert "gives no such figures" in call("ranks", job, status=1).stderr
    said = call("submit", *family, "--method", "average", "--budget", "1.24", status=1).stderr
    assert "a size of its own" in said and "/budget" in said
