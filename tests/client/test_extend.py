# SPDX-License-Identifier: Apache-2.0
"""didictl extend, and didid run --extend, on the demo family."""

import json
import subprocess

import pytest

FLAGS = ["--base", "base", "--budget", "0.93", "--dtype", "bf16"]
FLAGS += [word for name in ("hiragana", "latin", "mnist")
          for word in ("--task", f"{name}=tasks/{name}")]


@pytest.fixture
def host(start_daemon, family):
    return start_daemon(family).url


def test_a_job_is_extended(call, tmp_path):
    parent = call("submit", *FLAGS, "--wait", "-q").stdout.strip()
    child = call("extend", parent, "--add", "orient=tasks/orient", "--remove", "latin",
                 "--name", "next", "--wait", "-q").stdout.strip()
    shown = call("show", child).stdout
    assert parent in shown and "full merge's error" in shown and "orient" in shown
    for job, place in ((parent, "old"), (child, "new")):
        call("pull", job, str(tmp_path / place))
    kept = [f"{place}/experts/{name}.safetensors" for name in ("hiragana", "mnist")
            for place in ("old", "new")]
    files = [(tmp_path / name).read_bytes() for name in kept]
    assert files[0] == files[1] and files[2] == files[3]
    assert not (tmp_path / "new/experts/latin.safetensors").exists()
    plan = call("extend", child, "--add", "latin=tasks/latin", "--budget", "0.3", "--dry-run")
    assert "0.3 models" in plan.stdout


@pytest.mark.parametrize("change, place", [
    (["--add", "mnist=tasks/orient"], "/tasks/0/name"),
    (["--remove", "orient"], "/extend/remove/0"),
    ([], "/tasks"),
])
def test_refusals_name_the_place(call, change, place):
    call("submit", *FLAGS, "--wait", "-q")
    assert place in call("extend", "@latest", *change, status=1).stderr


def run(didid, family, *arguments, code=0):
    ended = subprocess.run([didid, "run", "--models", family, *arguments], capture_output=True,
                           text=True, timeout=120, check=False)
    assert ended.returncode == code, ended.stderr
    return ended


def test_a_package_is_extended_in_the_foreground(didid, family, tmp_path):
    tasks = [{"name": name, "model": f"tasks/{name}"} for name in ("hiragana", "latin", "mnist")]
    (tmp_path / "merge.json").write_text(
        json.dumps({"base": "base", "tasks": tasks, "budget": 0.93}))
    one, two, three = (str(tmp_path / name) for name in ("one", "two", "three"))
    run(didid, family, tmp_path / "merge.json", "--out", one)
    run(didid, family, "--extend", one, "--task", "orient=tasks/orient", "--out", two,
        "--export", "full")
    shared = [(tmp_path / name / "shared.safetensors").read_bytes() for name in ("one", "two")]
    assert shared[0] == shared[1]
    assert (tmp_path / "two/models/mnist/model.safetensors").exists()
    run(didid, family, "--extend", two, "--remove", "mnist", "--rebalance", "--out", three)
    manifest = json.loads((tmp_path / "three/manifest.json").read_text())
    assert manifest["ranks"]["tasks"] == ["hiragana", "latin", "orient"]
    said = run(didid, family, "--extend", str(tmp_path), "--task", "a=tasks/orient", "--out",
               str(tmp_path / "four"), code=1).stderr
    assert "manifest.json" in said
    assert "NAME=MODEL" in run(didid, family, "--extend", one, "--task", "orient", "--out",
                               str(tmp_path / "four"), code=1).stderr
