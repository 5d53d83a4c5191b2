#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The demo: merges the family of tests/family/glyphmini through a daemon and shows what is kept.

  demo.py BUILD [--budget X] [--keep]

Starts didid with a state directory of its own on a free loopback port, submits the merge with
didictl, fetches the artifacts and every task's rebuilt model, evaluates both, prints a table, and
draws what other sizes would keep. The daemon is stopped and everything removed however it ends;
with --keep both stay, once all went well.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "family")]

import numpy as np  # noqa: E402 (the paths above are needed first)

import artifacts  # noqa: E402
import evaluate  # noqa: E402
from service import Daemon  # noqa: E402

FAMILY = TESTS / "family" / "glyphmini"
# An export is rounded once to the base's dtype, the NumPy rebuild to float32.
REBUILD_TOLERANCE = 1e-5
BAR_COLUMNS = 48  # of an error of 1


class Client:
    """didictl, pointed at the daemon; shows what it runs."""

    def __init__(self, program, url, folder):
        self.program = program
        self.folder = folder
        self.environment = {**os.environ, "DIDI_HOST": url}

    def run(self, *arguments, capture=False):
        print(f"\n$ didictl {' '.join(arguments)}", flush=True)
        done = subprocess.run([self.program, *arguments], env=self.environment, cwd=self.folder,
                              stdin=subprocess.DEVNULL, text=True, check=False,
                              stdout=subprocess.PIPE if capture else None)
        if done.returncode != 0:
            sys.exit(f"demo: didictl {arguments[0]} ended with status {done.returncode}")
        return done.stdout


def merge(client, suite, budget):
    """Submits the merge, waits for it with progress, and returns the job's id."""
    tasks = [word for name in suite.tasks for word in ("--task", f"{name}=tasks/{name}")]
    shown = client.run("submit", "--name", "demo", "--base", "base", *tasks, "--budget", budget,
                       "--wait", "-o", "name", capture=True)
    return shown.split()[-1]


def largest_difference(base, directory, models):
    """Between the daemon's exports and the models NumPy rebuilds from the native artifacts."""
    worst = 0.0
    for task in artifacts.expert_files(directory):
        exported = artifacts.read_model(models / task)
        rebuilt = artifacts.rebuild(base, directory, task)
        worst = max(worst, *(float(np.abs(exported[name].astype(np.float64) - values).max())
                             for name, values in rebuilt.items()))
    return worst


def print_table(suite, result, manifest, directory):
    """Budget, bytes, error, and what every task keeps."""
    budget, error = manifest["budget"], manifest["error"]
    base = suite.base_directory()
    count = artifacts.recount(directory, {name: values.shape for name, values
                                          in artifacts.read_model(base).items()})
    one_model = artifacts.float_parameters(base)
    stored = count["bytes"] / (2 * one_model)
    print(f"\nbudget  {budget['requested']:.4g} of a model in 16 bits asked, {stored:.4f} stored: "
          f"{count['parameters'] / one_model:.2f} times its numbers, at "
          f"{8 * count['bytes'] / count['parameters']:.2f} bits each")
    print(f"bytes   {count['bytes']:,} instead of "
          f"{sum(file.stat().st_size for file in FAMILY.glob('tasks/*/*')):,} "
          f"for {len(suite.tasks)} fine-tunes")
    print(f"error   {error['relative']:.4f} of the energy of the matrices' task vectors\n")
    print(f"{'task':<10} {'bytes':>9} {'error':>7} {'fine-tuned':>11} {'merged':>7} {'kept':>7}")
    for task, row in result["tasks"].items():
        size = artifacts.expert_files(directory)[task].stat().st_size
        print(f"{task:<10} {size:>9,} {task_error(error, task):>7.4f} {row['own']:>11.4f} "
              f"{row['accuracy']:>7.4f} {row['kept']:>7.4f}")
    shared = (directory / "shared.safetensors").stat().st_size
    print(f"{'shared':<10} {shared:>9,}")
    own = np.mean([row["own"] for row in result["tasks"].values()])
    print(f"{'all':<10} {count['bytes']:>9,} {error['relative']:>7.4f} {own:>11.4f} "
          f"{result['average']:>7.4f} {result['retention']:>7.4f}")


def task_error(error, task):
    per_task = error["per_task"]
    if isinstance(per_task, dict):
        value = per_task[task]
    else:
        value = next(row for row in per_task if task in (row.get("task"), row.get("name")))
    return value["relative"] if isinstance(value, dict) else value


def draw(frontier, one_model):
    """Error against bytes, as the job predicts them for output dtype auto, and the job itself."""
    chosen = frontier["chosen"]
    points = [(row["bytes"], row["error"], "") for row in frontier["precisions"]["auto"]
              if row["bytes"] <= chosen["bytes"] and row["error"] >= chosen["error"]]
    points.append((chosen["bytes"], chosen["error"], "  this merge"))
    print("\nwhat a size keeps (didictl frontier --bytes): the error, # for every 2 %\n")
    for size, error, mark in points:
        bar = "#" * round(BAR_COLUMNS * error)
        print(f"{size:>9,} bytes  {size / (2 * one_model):.2f}x  {error:.3f}  {bar}{mark}")


def show(suite, native, full, frontier):
    """All figures; fails when the two ways to rebuild a model disagree."""
    manifest = json.loads((native / "manifest.json").read_text())
    base = artifacts.read_model(suite.base_directory())
    models = full / "models"
    result = evaluate.evaluate(suite, lambda task: artifacts.read_model(models / task))
    print_table(suite, result, manifest, native)
    difference = largest_difference(base, native, models)
    print(f"\nmodels rebuilt by NumPy from the artifacts differ from the daemon's by at most "
          f"{difference:.1e}")
    if difference > REBUILD_TOLERANCE:
        sys.exit("demo: the two ways to rebuild a model disagree")
    draw(frontier, artifacts.float_parameters(suite.base_directory()))


def demonstrate(arguments, daemon, scratch):
    """The whole demo with a daemon that is not started yet; it runs on at the end."""
    suite = evaluate.Suite(FAMILY)
    print(f"$ didid --state-dir STATE --models {FAMILY.relative_to(TESTS.parent)}")
    daemon.start()
    print(f"didid is ready at {daemon.url}", flush=True)
    client = Client(arguments.build.resolve() / "client" / "didictl", daemon.url, scratch)
    job = merge(client, suite, arguments.budget)
    client.run("pull", job, "native", "--quiet")
    client.run("pull", job, "full", "--format", "full", "--quiet")
    with urllib.request.urlopen(f"{daemon.url}/v1/jobs/{job}/frontier") as answer:
        frontier = json.load(answer)
    show(suite, scratch / "native", scratch / "full", frontier)


def keep(daemon, scratch):
    print(f"""
the dashboard  {daemon.url}/ui/
didictl        export DIDI_HOST={daemon.url}
to stop it     kill {daemon.process.pid}; rm -r {scratch}""")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--budget", default="1.24")
    parser.add_argument("--keep", action="store_true", help="leave the daemon running")
    arguments = parser.parse_args()
    # A termination unwinds like an interrupt, so that the daemon goes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="didi-demo-"))
    state = scratch / "state"
    state.mkdir()
    daemon = Daemon(arguments.build.resolve() / "daemon" / "didid", state, FAMILY)
    done = False
    try:
        demonstrate(arguments, daemon, scratch)
        done = True
    finally:
        if done and arguments.keep:
            keep(daemon, scratch)
        else:
            daemon.stop()
            shutil.rmtree(scratch)
    if not arguments.keep:
        print("\ndidid has stopped; ./run demo --keep leaves it running, with its dashboard")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
