#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what each item of a merge takes, by shape, tasks and budget: item_costs.json beside.

  item_costs.py BUILD [--scratch DIR] [--only NAME ...] [--out FILE]

Runs item_costs.c over synthetic families of one or a few layers. What is there of other cases in
FILE stays. CPU seconds of one thread; on a machine with other work they are up to twice those of an
idle one, so each small case is run a few times and the spread is kept.
"""

import argparse
import collections
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import make_family  # noqa: E402 (the path above is needed first)

HERE = pathlib.Path(__file__).resolve().parent
KERNEL = "Cooperlake"  # what OpenBLAS has for AVX-512; what it picks by itself depends on its age


def matrices(*shapes):
    return {f"model.layers.{index}.mlp.fc1.weight": shape for index, shape in enumerate(shapes)}


# name -> tensors, tasks, budget, threads it is opened for, runs, whether opened anew before each row
CASES = {
    "vitb32-t8": (make_family.tensor_shapes("vitb32", 1), 8, 1.24, 1, 3, False),
    "vitb32-t8-wide": (make_family.tensor_shapes("vitb32", 1), 8, 1.24, 16, 3, False),
    "vitb32-t8-2.0": (make_family.tensor_shapes("vitb32", 1), 8, 2.0, 1, 2, False),
    "vitb32-t8-0.5": (make_family.tensor_shapes("vitb32", 1), 8, 0.5, 1, 2, False),
    "vitl-t200": (matrices((1024, 1024), (4096, 1024)), 200, 1.24, 16, 2, False),
    "vitl-t20": (matrices((1024, 1024), (4096, 1024)), 20, 1.24, 16, 2, False),
    "llama8b-small": (matrices((1024, 4096), (4096, 4096)), 4, 1.24, 16, 2, False),
    "llama8b-mlp": (matrices((14336, 4096)), 4, 1.24, 16, 1, False),
    "llama70b-small": (matrices((1024, 8192), (8192, 8192)), 8, 1.24, 16, 1, False),
    "many-small-t8": (matrices(*[(256, 256)] * 560), 8, 1.24, 1, 1, True),
    "many-small-t4": (matrices(*[(256, 256)] * 280), 4, 1.24, 1, 1, True),
    "small-t200": (matrices(*[(256, 256)] * 144), 200, 1.24, 1, 1, True),
    "values-t8": (matrices(*[(1536, 1536)] * 12), 8, 1.24, 1, 1, True),
}


def compile_program(build, out):
    libraries = subprocess.run(["pkg-config", "--libs", "jansson", "openblas", "lapacke",
                                "libcrypto"], check=True, capture_output=True, text=True).stdout
    subprocess.run(["cc", "-std=gnu11", "-O2", "-D_GNU_SOURCE", f"-I{HERE.parents[1]}",
                    str(HERE / "item_costs.c"), "-o", str(out),
                    "-Wl,--wrap=parallel_run,--wrap=parallel_try",
                    str(build / "src" / "libdidi.a"), str(build / "src" / "libdidi_base.a"),
                    *shlex.split(libraries), "-lm", "-lpthread"], check=True)


def run_once(program, models, budget, workers, reopen, scratch):
    place = scratch / "run"
    place.mkdir()
    words = [str(program), str(models), str(place), str(budget), str(workers)]
    done = subprocess.run(words + (["reopen"] if reopen else []), check=True, capture_output=True,
                          text=True, env={**os.environ, "OPENBLAS_CORETYPE": KERNEL,
                                          "OPENBLAS_NUM_THREADS": "1"})
    shutil.rmtree(place)
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_alike(row):
    """Items that are one another's repetition."""
    return row["row"], row.get("rows"), row.get("columns"), row.get("before")


def measure(program, case, scratch):
    """One line for each kind of item: mean figures, and the least and most CPU seconds."""
    listing, tasks, budget, workers, runs, reopen = CASES[case]
    models = scratch / "models"
    make_family.write_listing(models, listing, tasks, "BF16")
    found = {}
    for _ in range(runs):
        for row in run_once(program, models, budget, workers, reopen, scratch):
            found.setdefault(is_alike(row), []).append(row)
    shutil.rmtree(models)
    items = []
    for rows in found.values():
        item = {name: value for name, value in rows[0].items() if isinstance(value, str)}
        for name in rows[0]:
            if name != "index" and name not in item:
                value = sum(row[name] for row in rows) / len(rows)
                item[name] = round(value, 6) if name in ("cpu", "span", "wall") else round(value)
        spread = sorted(row["cpu"] for row in rows)
        items.append({**item, "count": len(rows), "cpu_least": round(spread[0], 6),
                      "cpu_median": round(spread[len(spread) // 2], 6),
                      "cpu_most": round(spread[-1], 6)})
    shapes = collections.Counter(shape for shape in listing.values() if len(shape) == 2)
    return {"tasks": tasks, "budget": budget, "workers": workers, "layers": sum(shapes.values()),
            "shapes": [[*shape, count] for shape, count in shapes.items()], "runs": runs,
            "items": items}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--scratch", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "item_costs.json")
    given = parser.parse_args()
    known = json.loads(given.out.read_text()) if given.out.exists() else {"cases": {}}
    with tempfile.TemporaryDirectory(dir=given.scratch) as place:
        program = pathlib.Path(place) / "item_costs"
        compile_program(given.build, program)
        for case in given.only:
            print(case, flush=True)
            known["cases"][case] = measure(program, case, pathlib.Path(place))
            text = json.dumps({"command": "tests/bench/item_costs.py build", "kernel": KERNEL,
                               "cases": known["cases"]}, indent=1)
            given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
