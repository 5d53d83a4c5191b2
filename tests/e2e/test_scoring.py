# SPDX-License-Identifier: Apache-2.0
"""Merges scored by commands, and options tuned by what they say."""

import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

import artifacts
import environments

OWN_USER = pwd.getpwuid(os.geteuid()).pw_name  # root's scorers could not read a test's directory
SECONDS = 60
FAMILY = pathlib.Path(artifacts.__file__).parent
DOCS = FAMILY.parents[1] / "docs"

# How near to 1 the first number of a.weight is, times 2 for task two, divided by the split's name.
NEARNESS = """
import json, pathlib, struct, sys
directory, task, split = (sys.argv[1:] + ["1"])[:3]
data = pathlib.Path(directory, "model.safetensors").read_bytes()
size = struct.unpack("<Q", data[:8])[0]
tensor = json.loads(data[8:8 + size])["a.weight"]
assert tensor["dtype"] == "F32"
first = struct.unpack_from("<f", data, 8 + size + tensor["data_offsets"][0])[0]
print(json.dumps({"score": (2 if task == "two" else 1) / (1 + abs(first - 1)) / float(split)}))
"""

GLYPHS = f"""
import json, sys
sys.path[:0] = [{str(FAMILY)!r}, {str(DOCS)!r}]
import artifacts, evaluate
directory, task = sys.argv[1:]
suite = evaluate.Suite({str(FAMILY / "glyphmini")!r})
print(suite.accuracy(task, artifacts.read_model(directory), 50))
"""


@pytest.fixture
def scorer(tmp_path):
    """scorer(text, python=True) -> options that score with it."""
    def write(text, python=True):
        path = tmp_path / "scorer"
        path.write_text(f"#!{sys.executable if python else '/bin/sh'}\n{text}\n")
        path.chmod(0o755)
        confined = [] if environments.confines_scorers() else ["--score-unconfined"]
        return ["--score", str(path), "--score-user", OWN_USER, *confined]
    return write


def first(models, name):
    return float(artifacts.read_model(models / name)["a.weight"].flat[0])


def nearness(value, task):
    return (2 if task == "two" else 1) / (1 + abs(value - 1))


def scores(done):
    return json.loads((done.out / "scores.json").read_text())


def living(group):
    """Processes of a group that are no zombies, which wait for whoever is their parent now."""
    found = []
    for path in pathlib.Path("/proc").glob("[1-9]*/stat"):
        try:
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(of) == group and state != "Z":
            found.append(path.parent.name)
    return found


def test_tasks_base_and_fine_tunes_are_scored(run, models, small_specification, scorer):
    done = run(small_specification(), models, *scorer(NEARNESS), "--export", "full")
    found = scores(done)
    assert found["split"] is None and "tuned" not in found
    errors = done.manifest()["error"]["per_task"]
    for row in found["tasks"]:
        task = row["task"]
        served = artifacts.read_model(done.out / "models" / task)["a.weight"].flat[0]
        assert row["score"] == pytest.approx(nearness(served, task), rel=1e-9)
        assert row["base"] == pytest.approx(nearness(first(models, "base"), task), rel=1e-9)
        assert row["own"] == pytest.approx(nearness(first(models, task), task), rel=1e-9)
        assert row["kept"] == pytest.approx(row["score"] / row["own"], rel=1e-9)
        assert row["error"] == pytest.approx(errors[task], rel=1e-9)
        assert f"{row['score']:.4f}" in done.stdout and f"{row['kept']:.4f}" in done.stdout
    kept = {row["task"]: row["kept"] for row in found["tasks"]}
    assert list(kept) == ["one", "two"]
    assert found["mean"]["kept"] == pytest.approx(sum(kept.values()) / 2)
    assert found["worst"] == {"task": min(kept, key=kept.get), "kept": min(kept.values())}
    assert sorted(path.name for path in done.out.iterdir()) == [
        "experts", "manifest.json", "models", "scores.json", "shared.safetensors"]
    assert sorted(path.name for path in done.out.parent.iterdir()) == ["out", "specification.json"]


def test_the_demo_family_by_its_evaluator(run, family, demo_specification, scorer):
    specification = demo_specification()
    specification["tasks"] = specification["tasks"][:2]
    done = run(specification, family, *scorer(GLYPHS))
    for row in scores(done)["tasks"]:
        assert row["kept"] > 0.9 and row["own"] > 0.9 and row["base"] < 0.6


def test_a_base_without_a_score_has_none(run, models, small_specification, scorer):
    """As where it has no head for a task: what counts is known."""
    base = artifacts.read_model(models / "base")["a.weight"].tobytes()[:4].hex()
    done = run(small_specification(), models,
               *scorer("import pathlib, sys\n"
                       "data = pathlib.Path(sys.argv[1], 'model.safetensors').read_bytes()\n"
                       f"sys.exit('no head') if bytes.fromhex({base!r}) in data else print(4)"))
    assert all(row["base"] is None and row["kept"] == 1 for row in scores(done)["tasks"])
    assert "no score of the base: the scorer ended with exit code 1: no head" in done.stderr


@pytest.mark.parametrize("script, said", [
    ("echo lost >&2; exit 3", "exit code 3: lost"),
    ("echo good", "no JSON"),
    ("sleep 1000", "more than 1 s"),
    pytest.param("echo x >\"$HOME/../../written\" && echo 1", "exit code", marks=pytest.mark.skipif(
        not environments.confines_scorers(), reason="this kernel has no Landlock")),
])
def test_a_failing_scorer_fails_the_run(run, models, small_specification, scorer, script, said):
    done = run(small_specification(), models, *scorer(script, python=False), "--score-seconds", "1",
               status=1)
    assert said in done.stderr and "scorer_failed" in done.stderr
    assert [path.name for path in done.out.parent.iterdir()] == ["specification.json"]


def run_until_scored(didid, folder, models, specification, options):
    """A run whose scorer has left its process's number as `pid`: (the run, that number)."""
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(specification))
    running = subprocess.Popen(
        [didid, "run", str(folder / "spec.json"), "--models", str(models), "--out",
         str(folder / "out"), *options], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + SECONDS
    begun = []
    while not begun and time.monotonic() < until and running.poll() is None:
        begun = list(folder.glob(".didid-run-*/models/one/pid"))
        time.sleep(0.01)
    if not begun:
        running.kill()
    assert begun, running.communicate()
    return running, int(begun[0].read_text())


def wait_until_gone(group):
    until = time.monotonic() + SECONDS
    while living(group) and time.monotonic() < until:
        time.sleep(0.01)
    assert not living(group)


def test_interrupting_a_scorer_leaves_nothing(didid, models, small_specification, scorer):
    options = scorer("echo $$ >pid.part; mv pid.part pid; sleep 1000 & sleep 1000", python=False)
    running, scoring = run_until_scored(didid, models / "run", models, small_specification(),
                                        options)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=SECONDS)
    assert running.returncode == 130 and "nothing was written" in said
    assert [path.name for path in (models / "run").iterdir()] == ["spec.json"]
    wait_until_gone(scoring)


def test_a_scorer_dies_with_its_run(didid, models, small_specification, scorer):
    options = scorer("echo $$ >pid.part; mv pid.part pid; exec sleep 1000", python=False)
    running, scoring = run_until_scored(didid, models / "run", models, small_specification(),
                                        options)
    running.kill()
    running.communicate(timeout=SECONDS)
    wait_until_gone(scoring)


def test_an_option_is_tuned_on_a_named_split(run, models, small_specification, scorer):
    specification = small_specification(method="task_arithmetic")
    del specification["budget"]
    values = [0.25, 4.0, 1.0]
    base = first(models, "base")
    change = sum(first(models, task) - base for task in ("one", "two"))

    def kept(value):
        served = base + value * change
        return sum(nearness(served, task) / nearness(first(models, task), task)
                   for task in ("one", "two")) / 2

    best = max(values, key=kept)
    options = [*scorer(NEARNESS), "--tune", "scale=0.25,4.0,1.0", "--split", "2"]
    done = run(specification, models, *options)
    found = scores(done)
    tuned = found["tuned"]
    assert tuned["option"] == "scale" and tuned["split"] == "2" and tuned["chosen"] == best
    assert [row["value"] for row in tuned["values"]] == values
    for row in tuned["values"]:
        assert row["kept"] == pytest.approx(kept(row["value"]), rel=1e-2)
    assert found["split"] == "2" and found["tuned_on_this_split"]
    assert found["mean"]["kept"] == max(row["kept"] for row in tuned["values"])
    assert "tuned on this split" in done.stdout and "(chosen)" in done.stdout
    assert done.manifest()["specification"]["method_options"] == {"scale": best}
    alone = run({**specification, "method_options": {"scale": best}}, models)
    shared = "shared.safetensors"
    assert (done.out / shared).read_bytes() == (alone.out / shared).read_bytes()
    other = scores(run(specification, models, *options, "--report-split", "4"))
    assert other["split"] == "4" and not other["tuned_on_this_split"]
    assert other["tuned"] == tuned
    assert other["mean"]["score"] == pytest.approx(found["mean"]["score"] / 2)


@pytest.mark.parametrize("options, status, said", [
    (["--tune", "scale=1"], 2, "--tune needs --split"),
    (["--tune", "scale", "--split", "2"], 1, "OPTION=VALUE"),
    (["--tune", "scale=1,,2", "--split", "2"], 1, "empty value"),
    (["--tune", "scale=1,1", "--split", "2"], 1, "twice"),
    (["--tune", "scale=1,-1e9", "--split", "2"], 1, "--tune scale=-1000000000"),
    (["--tune", "scale=1,lots", "--split", "2"], 1, "scale must be a number"),
    (["--tune", "seed=1,2", "--split", "2"], 1, "has no option 'seed'"),
    (["--tune", "scale=1,2", "--split", "2", "--keep", "kept"], 2, "--keep"),
    (["--report-split", "3", "--split", "2"], 2, "--report-split"),
    (["--tune", "scale=1,2", "--split", "2", "--report-split", "2"], 2, "another split"),
])
def test_what_cannot_be_tuned_is_refused(run, models, small_specification, scorer, options, status,
                                         said):
    specification = small_specification(method="task_arithmetic")
    del specification["budget"]
    done = run(specification, models, *scorer("exit 1", python=False), *options, status=status)
    assert said in done.stderr and "scoring" not in done.stderr
    assert [path.name for path in done.out.parent.iterdir()] == ["specification.json"]


@pytest.mark.parametrize("options, said", [
    (["--split", "a"], "go with --score"),
    (["--score-seconds", "5"], "go with --score"),
    (["--score", "sh", "--score-seconds", "0"], "outside 1 .."),
    (["--score", "sh", "--score-memory", "much"], "not a whole number"),
])
def test_options_of_scorers_are_checked(run, models, small_specification, options, said):
    assert said in run(small_specification(), models, *options, status=2).stderr


def test_a_program_that_is_not_there_is_said_before_the_merge(run, models, small_specification):
    done = run(small_specification(), models, "--score", "./nowhere", status=1)
    assert "there is no program ./nowhere" in done.stderr and "digest" not in done.stderr


def test_figures_without_data(run, models, small_specification):
    done = run(small_specification(), models, "--proxies", "--export", "full")
    found = scores(done)
    assert list(found) == ["proxies"] and list(found["proxies"]) == ["one", "two"]
    base = artifacts.read_model(models / "base")
    for task, row in found["proxies"].items():
        served = artifacts.read_model(done.out / "models" / task)
        tuned = artifacts.read_model(models / task)
        error = artifacts.relative_error(base, {task: tuned}, {task: served})
        assert row["error"] == pytest.approx(error, rel=1e-3, abs=1e-9)
        got, moved = (np.concatenate([(model[name] - base[name]).ravel() for name in base])
                      for model in (served, tuned))
        cosine = got @ moved / np.linalg.norm(got) / np.linalg.norm(moved)
        assert row["cosine"] == pytest.approx(cosine, rel=1e-4) and row["worst"] in base
        assert row["length"] == pytest.approx(np.linalg.norm(got) / np.linalg.norm(moved), rel=1e-4)
        assert f"{row['cosine']:.4f}" in done.stdout


@pytest.mark.parametrize("fault", [*(f"rename:{nth}:EIO" for nth in (4, 8, 12, 16, 18, 20, 22)),
                                   *(f"alloc:{nth}" for nth in (400, 700, 1100, 1700, 2600))])
def test_what_fails_while_tuning_leaves_nothing(run, models, small_specification, scorer, fault):
    specification = small_specification(method="task_arithmetic")
    del specification["budget"]
    done = run(specification, models, *scorer("echo 1", python=False), "--tune", "scale=1,2",
               "--split", "a", "--workers", "1", status=None, environment={"DIDI_FAULT": fault})
    left = sorted(path.name for path in done.out.parent.iterdir())
    if done.status == 0:
        assert left == ["out", "specification.json"] and scores(done)["tuned"]["chosen"] == 1
    else:
        assert done.status == 1 and left == ["specification.json"], done.stderr


def test_models_may_lie_on_another_disk(run, models, small_specification, scorer, tmp_path):
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no other file system")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        there = shutil.copytree(models, pathlib.Path(folder) / "models")
        found = scores(run(small_specification(), there, *scorer(NEARNESS)))
    assert found == scores(run(small_specification(), models, *scorer(NEARNESS)))
