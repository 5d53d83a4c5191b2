#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what each item of a merge takes, by shape, tasks and budget: item_costs.json beside.

  item_costs.py BUILD [--scratch DIR] [--only [NAME ...]] [--out FILE]

Runs item_costs.c over synthetic families of one or a few layers. What is there of other cases in
FILE stays. CPU seconds of one thread; on a machine with other work they are up to twice those of an
idle one, so each small case is run a few times and the spread is kept.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import families  # noqa: E402 (the path above is needed first)
import make_family  # noqa: E402 (the path above is needed first)

HERE = pathlib.Path(__file__).resolve().parent
WRAPPED = ("parallel_run", "parallel_try", "parallel_ranges")
PLAN_THREADS = (1, 8)
KERNEL = "Haswell"  # what OpenBLAS has for AVX2; what it picks by itself depends on its age


def matrices(*shapes):
    return {f"model.layers.{index}.mlp.fc1.weight": shape for index, shape in enumerate(shapes)}


# name -> tensors, tasks, budget, threads it is opened for, runs, whether opened before each row
CASES = {
    "vitb32-t8": (make_family.tensor_shapes("vitb32", 1), 8, 0.3, 1, 3, False),
    "vitb32-t8-wide": (make_family.tensor_shapes("vitb32", 1), 8, 0.3, 16, 2, False),
    "vitb32-t8-0.15": (make_family.tensor_shapes("vitb32", 1), 8, 0.15, 1, 2, False),
    "vitb32-t8-1.24": (make_family.tensor_shapes("vitb32", 1), 8, 1.24, 16, 2, False),
    "llama8b-small": (matrices((1024, 4096), (4096, 4096)), 4, 0.3, 16, 1, False),
    "vitl-t20": (matrices((1024, 1024), (4096, 1024)), 20, 0.3, 16, 1, False),
    "vitl-t200": (matrices((1024, 1024), (4096, 1024)), 200, 3.0, 16, 1, False),
    "tall-t4": (matrices((65536, 2048)), 4, 0.05, 16, 1, False),
    "values-t8": (matrices(*[(1536, 1536)] * 12), 8, 0.3, 1, 1, True),
    "many-small-t8": (matrices(*[(256, 256)] * 560), 8, 0.3, 1, 1, True),
    "many-small-t4": (matrices(*[(256, 256)] * 280), 4, 0.3, 1, 1, True),
    "llama8b-mlp": (matrices((14336, 4096)), 4, 0.3, 16, 1, False),
    "small-t200": (matrices(*[(256, 256)] * 72), 200, 3.0, 1, 1, True),
    "llama70b-small": (matrices((1024, 8192), (4096, 8192)), 8, 0.3, 16, 1, False),
}


def compile_program(build, out):
    libraries = subprocess.run(["pkg-config", "--libs", "jansson", "openblas", "lapacke",
                                "libcrypto"], check=True, capture_output=True, text=True).stdout
    subprocess.run(["cc", "-std=gnu11", "-O2", "-D_GNU_SOURCE", f"-I{HERE.parents[1]}",
                    str(HERE / "item_costs.c"), "-o", str(out),
                    *[f"-Wl,--wrap={name}" for name in WRAPPED],
                    str(build / "src" / "libdidi.a"), str(build / "src" / "libdidi_base.a"),
                    *shlex.split(libraries), "-lm", "-lpthread"], check=True)


@contextlib.contextmanager
def pinned_kernel():
    """What is started within uses the kernel that items were measured with."""
    before = dict(os.environ)
    os.environ.update({"OPENBLAS_CORETYPE": KERNEL, "OPENBLAS_NUM_THREADS": "1"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_once(program, models, budget, workers, how, scratch):
    place = scratch / "run"
    place.mkdir()
    words = [str(program), str(models), str(place), str(budget), str(workers), how]
    with pinned_kernel():
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    shutil.rmtree(place)
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_alike(row):
    """Items that are one another's repetition."""
    return row["row"], row.get("rows"), row.get("columns"), row.get("before")


SECONDS = ("cpu", "span", "wall")


def mean_of(rows):
    """One line for the items of a run that are alike."""
    item = {name: value for name, value in rows[0].items() if isinstance(value, str)}
    for name in rows[0]:
        if name != "index" and name not in item:
            value = sum(row[name] for row in rows) / len(rows)
            item[name] = round(value, 6) if name in SECONDS else round(value)
    return {**item, "count": len(rows)}


def measure(program, case, scratch):
    """One line for each kind of item, of the run that took least; `cpu_most` is of the one that
    took most: other work on the machine adds, and takes nothing away."""
    listing, tasks, budget, workers, runs, reopen = CASES[case]
    models = scratch / "models"
    make_family.write_listing(models, listing, tasks, "BF16")
    found = {}
    for _ in range(runs):
        kinds = {}
        how = "reopen" if reopen else ""
        for row in run_once(program, models, budget, workers, how, scratch):
            kinds.setdefault(is_alike(row), []).append(row)
        for kind, rows in kinds.items():
            found.setdefault(kind, []).append(mean_of(rows))
    items = [{**min(means, key=lambda mean: mean["cpu"]),
              "cpu_most": max(mean["cpu"] for mean in means)} for means in found.values()]
    shapes = collections.Counter(shape for shape in listing.values() if len(shape) == 2)
    plan = next(row for row in run_once(program, models, budget, workers, "plan", scratch)
                if row["row"] == "plan")
    shutil.rmtree(models)
    return {"kernel": KERNEL, "tasks": tasks, "budget": budget,
            "ratio": plan["factors"] / plan["parameters"], "workers": workers,
            "layers": sum(shapes.values()),
            "shapes": [[*shape, count] for shape, count in shapes.items()], "runs": runs,
            "items": items}


def text_of(known):
    """JSON with a line for each item."""
    text = json.dumps(known, indent=1)
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda match: " ".join(match[0].split()), text) + "\n"


def plan_of(program, family, scratch):
    """What headers tell of a whole family: the plan, and memory by row and shape with one thread
    and with several."""
    found = {}
    models = scratch / "models"
    families.write_headers(family, models)
    for workers in PLAN_THREADS:
        for line in run_once(program, models, family.budget, workers, "plan", scratch):
            if line["row"] == "plan":
                found = {"ratio": line["factors"] / line["parameters"], "flops": line["flops"],
                         "disk_bytes": line["disk"], "memory": found.get("memory", [])}
            elif line["row"] in ("decompose", "pursue"):
                row = [workers, line["row"], line["rows"], line["columns"], line["memory"]]
                found["memory"] += [row] if row not in found["memory"] else []
    shutil.rmtree(models)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--scratch", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "item_costs.json")
    given = parser.parse_args()
    known = json.loads(given.out.read_text()) if given.out.exists() else {}
    cases, plans = known.get("cases", {}), {}
    with tempfile.TemporaryDirectory(dir=given.scratch) as place:
        program = pathlib.Path(place) / "item_costs"
        compile_program(given.build, program)
        for name, family in families.FAMILIES.items():
            plans[name] = plan_of(program, family, pathlib.Path(place))
        for case in [None, *given.only]:
            if case is not None:
                print(case, flush=True)
                cases[case] = measure(program, case, pathlib.Path(place))
            known = {"command": "tests/bench/item_costs.py build", "kernel": KERNEL,
                     "plans": plans, "cases": cases}
            given.out.write_text(text_of(known))


if __name__ == "__main__":
    main()
