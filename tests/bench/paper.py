#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The paper's form beside the default: accuracy kept, error, and CPU seconds, suite by suite.

  paper.py DIDID SUITE... [--budgets S,M] [--limit IMAGES]

One worker. `kept` is the mean over tasks of accuracy / the fine-tune's accuracy, `worst` the least
of a task; all test images unless --limit says otherwise. The figures of docs/paper.md.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "family"))
import artifacts  # noqa: E402 (the path above is needed first)
import evaluate  # noqa: E402

PAPER = {"ranks": {"allocator": "differentiable"}, "output": {"dtype": "bf16"}}


def paper(ranks=None, **refine):
    return {"ranks": {**PAPER["ranks"], **(ranks or {})}, "output": PAPER["output"],
            "refine": {"optimizer": "adam", **refine}}


FORMS = {
    "the paper's form": paper(),
    "beta 10": paper({"beta": 10}),
    "lambda 200": paper({"lambda": 200}),
    "not refined": paper(steps=0),
    "refined by ALS": paper(optimizer="als"),
    "default, bf16": {"output": {"dtype": "bf16"}},
    "default": {},
}


def merge(didid, suite, fields, budget, out, *options):
    """Merges every task of a suite; gives CPU seconds and the manifest."""
    tasks = [{"name": name, "model": str(pathlib.Path(task["model"]).parent)}
             for name, task in suite.tasks.items()]
    specification = {"base": str(pathlib.Path(suite.description["base"]).parent), "tasks": tasks,
                     "budget": budget, **fields}
    path = out.with_suffix(".json")
    path.write_text(json.dumps(specification))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([didid, "run", str(path), "--models", str(suite.directory), "--out", str(out),
                    "--workers", "1", *options], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, json.loads((out / "manifest.json").read_text())


def measure(didid, suite, fields, budget, limit):
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "out"
        seconds, manifest = merge(didid, suite, fields, budget, out)
        base = artifacts.read_model(suite.base_directory())
        kept = evaluate.evaluate(suite, lambda task: artifacts.rebuild(base, out, task),
                                 limit=limit)
    return {"kept": kept["retention"], "worst": min(row["kept"] for row in kept["tasks"].values()),
            "error": manifest["error"]["relative"], "bytes": manifest["budget"]["bytes"],
            "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("didid")
    parser.add_argument("suites", nargs="+")
    parser.add_argument("--budgets", default="S,M")
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    print("| suite | budget | form | kept | worst | error | KB | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for directory in given.suites:
        suite = evaluate.Suite(directory)
        for budget in given.budgets.split(","):
            for form, fields in FORMS.items():
                row = measure(given.didid, suite, fields, budget, given.limit)
                print(f"| {suite.directory.name} | {budget} | {form} | {row['kept']:.4f} | "
                      f"{row['worst']:.3f} | {row['error']:.4f} | {row['bytes'] / 1000:.0f} | "
                      f"{row['seconds']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
