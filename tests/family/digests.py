#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bytes of every kind of artifact, as digests: two builds are compared with diff.

digests.py DIDID --suite glyphmini=DIR [--suite glyph8=DIR] [--cases PATTERN] > digests.txt
digests.py DIDID --suite glyphmini=DIR --compare digests.txt

Each case is a foreground merge (`didid run`). Its line is SUITE/CASE and the SHA-256 over the
relative paths and the bytes of all files it publishes; with --files one line a file. Digests are of
one kind of processor and one BLAS: make both lists on the same machine.

glyphmini gets the wide list of cases, any other suite the representative one. Models are copied
first and given one time of modification, since the manifest's fingerprint is over these times too.
VARYING names the fields of the manifest that are left out; all other bytes of it count.
"""

import argparse
import concurrent.futures
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field

# Wall and processor times, and the process's largest size, differ from run to run. The versions
# are those of the build and of BLAS, not of the result.
VARYING = ("seconds", "cpu_seconds", "peak_memory_bytes", "versions")
# A text, a number, or an object with objects in it.
VALUE = r'(?:"(?:[^"\\]|\\.)*"|[-+.\w]+|\{(?:[^{}]|\{[^{}]*\})*\})'

MODIFIED_SECONDS = 1_000_000_000
CASE_SECONDS_MAX = 300
LIMIT_MIN = "8M"  # the daemon takes no less
TALL_COLUMNS = 512
TALL_COPIES = 16

ALLOCATORS = ("uniform", "exact", "differentiable", "joint", "pursuit")
DTYPES = ("f32", "bf16", "f16", "int8", "int4", "int3", "auto")
WEIGHTINGS = ("none", "balanced", "accuracy")


@dataclass
class Case:
    """One run of didid. `reuse`, `extend` and `against` name cases that run before it."""
    name: str
    fields: dict = field(default_factory=dict)
    tasks: slice = field(default_factory=lambda: slice(None))
    weights: tuple = ()
    tall: bool = False
    export: bool = False
    workers: int = 1
    limit: str = ""
    reuse: str = ""
    extend: str = ""
    against: str = ""
    add: slice = field(default_factory=lambda: slice(0))
    remove: slice = field(default_factory=lambda: slice(0))
    more: tuple = ()

    def needs(self):
        return [name for name in (self.reuse, self.extend, self.against) if name]


def ranks(allocator, **more):
    return {"ranks": {"allocator": allocator, **more}}


def dtype(name):
    return {"output": {"dtype": name}}


def adam(steps=30, **more):
    return {"refine": {"optimizer": "adam", "steps": steps, **more}}


def budget(value=None, **unit):
    return {"budget": unit or value}


# The paper: mean and residuals, learnt ranks, Adam on the factors.
PAPER = {**ranks("differentiable", weighting="none"), **adam(60)}


def allocation_cases():
    for allocator in ALLOCATORS:
        packs = allocator not in ("uniform", "differentiable")  # auto needs blocks to compare
        for name in DTYPES if packs else DTYPES[:-1]:
            yield Case(f"allocator-{allocator}-{name}", {**ranks(allocator), **dtype(name)},
                       export=name in ("bf16", "auto"))
        for weighting in WEIGHTINGS:
            yield Case(f"weighting-{weighting}-{allocator}", ranks(allocator, weighting=weighting))
        yield Case(f"objective-worst-{allocator}", {"objective": "worst_task", **ranks(allocator)})
        yield Case(f"shared-none-{allocator}", {"shared": {"merge": "none"}, **ranks(allocator)})
        yield Case(f"adam-{allocator}", {**ranks(allocator), **adam()})
        yield Case(f"bytes-ratio-{allocator}", {**budget(bytes_ratio=0.3), **ranks(allocator),
                                                **dtype("auto" if packs else "int4")})
    yield Case("objective-worst-auto", {"objective": "worst_task", **dtype("auto")})
    yield Case("objective-worst-none", {"objective": "worst_task",
                                        **ranks("pursuit", weighting="none")})


def budget_cases():
    for value in (0.3, "S", "M", "L", 3.5, 8):
        yield Case(f"budget-{value}", budget(value))
    for name in ("bf16", "int8", "int4", "int3", "auto"):
        yield Case(f"bytes-{name}", {**budget(bytes=150000), **dtype(name)})
        yield Case(f"bytes-ratio-{name}", {**budget(bytes_ratio=0.4), **dtype(name)})
        yield Case(f"max-error-{name}", {**budget(max_error=0.2), **dtype(name)})
    yield Case("max-error-tight", budget(max_error=0.02))
    yield Case("max-error-worst", {**budget(max_error=0.2), "objective": "worst_task"})
    yield Case("max-error-joint", {**budget(max_error=0.2), **ranks("joint")})
    yield Case("max-error-exact", {**budget(max_error=0.2), **ranks("exact")})


def dense_cases():
    for value in (0.6, 1.24, 2.08):
        for dense in ("per_task", "mean", "base", "auto"):
            yield Case(f"dense-{dense}-{value}", {**budget(value), "dense": dense})
    for dense in ("per_task", "mean", "base"):
        yield Case(f"dense-{dense}-auto", {"dense": dense, **dtype("auto")})
    yield Case("globs-include", {"include": ["*mlp*", "*layer_norm*"]})
    yield Case("globs-exclude", {"exclude": ["*embeddings*", "*.1.*"]})
    yield Case("globs-dense", {**budget(2), "dense_tensors": ["visual_projection*", "*0*k_proj*"]})
    yield Case("globs-dense-int4", {**budget(2), "dense_tensors": ["visual_projection*"],
                                    **dtype("int4")})
    yield Case("globs-low-rank", {"low_rank_tensors": ["*position_embedding*"]})


def refinement_cases():
    for name in ("f32", "int4", "auto"):
        yield Case(f"adam-{name}", {**adam(), **dtype(name)})
    yield Case("adam-rate", adam(50, learning_rate=0.005))
    yield Case("adam-none", adam(0))
    yield Case("als-none", {"refine": {"steps": 0}})
    yield Case("als-one", {"refine": {"steps": 1}})
    yield Case("als-all", {**budget("L"), "refine": {"steps": 40, "tolerance": 0}})
    yield Case("als-int3", {"refine": {"steps": 5, "tolerance": 0}, **dtype("int3")})
    yield Case("paper", PAPER, export=True)
    yield Case("paper-M", {**budget("M"), **PAPER})
    yield Case("paper-accuracy", {**ranks("differentiable", weighting="accuracy"), **adam(60)})
    yield Case("paper-ranks", {**ranks("differentiable", beta=2, steps=50, learning_rate=0.3,
                                       **{"lambda": 10}), **adam(60)})
    yield Case("paper-no-shared", {**PAPER, "shared": {"merge": "none"}})
    yield Case("joint-L", {**budget("L"), **ranks("joint")})
    yield Case("joint-adam-none", {**ranks("joint", weighting="none"), **adam(60)})


def family_cases():
    yield Case("tasks-one", {"budget": 0.6}, tasks=slice(1))
    yield Case("tasks-two", tasks=slice(2), export=True)
    yield Case("tasks-reversed", tasks=slice(None, None, -1))
    yield Case("tasks-weighted", weights=(1, 3, 0.25, 1))
    yield Case("tasks-weighted-worst", {"objective": "worst_task"}, weights=(1, 3, 0.25, 1))
    for seed in (1, 9007199254740991):
        yield Case(f"seed-{seed}", {"seed": seed})
    yield Case("named", {"name": "two words", "labels": {"made-by": "digests"}, "priority": 3})


def worker_cases():
    kinds = {"pursuit": {}, "auto": dtype("auto"), "adam": adam(), "joint": ranks("joint"),
             "differentiable": ranks("differentiable"), "int3": dtype("int3"),
             "max-error": budget(max_error=0.2)}
    for name, fields in kinds.items():
        for workers in (1, 2, 4):
            yield Case(f"workers-{workers}-{name}", fields, workers=workers,
                       export=name == "pursuit")


def extension_cases():
    first, last = slice(3), slice(3, 4)
    for name, fields in {"bf16": {}, "f32": dtype("f32"), "int4": dtype("int4"),
                         "auto": dtype("auto"), "adam": adam(), "joint": ranks("joint"),
                         "paper": PAPER, "worst": {"objective": "worst_task"},
                         "mean": {"dense": "mean"}, "no-shared": {"shared": {"merge": "none"}},
                         "bytes": budget(bytes_ratio=0.6)}.items():
        start = f"extend-from-{name}"
        yield Case(start, fields, tasks=first)
        yield Case(f"extend-add-{name}", extend=start, add=last, export=name in ("bf16", "auto"))
        yield Case(f"extend-remove-{name}", extend=start, remove=slice(1), export=name == "bf16")
    start = "extend-from-bf16"
    yield Case("extend-both", extend=start, add=last, remove=slice(1, 2))
    yield Case("extend-again", extend="extend-remove-bf16", add=slice(1))
    yield Case("extend-budget", extend=start, add=last, more=("--budget", "0.5"))
    yield Case("extend-budget-bytes", extend="extend-from-auto", add=last,
               more=("--budget", "bytes=50000"))
    yield Case("extend-rebalance", extend=start, add=last, more=("--rebalance",))
    yield Case("extend-compare", extend=start, add=last, against="allocator-pursuit-bf16")
    for workers in (2, 4):
        yield Case(f"extend-workers-{workers}", extend=start, add=last, workers=workers)


def reuse_cases():
    yield Case("kept")
    yield Case("kept-exact", ranks("exact"))
    yield Case("kept-auto", dtype("auto"))
    kinds = {"0.6": budget(0.6), "1.24": {}, "2.08": budget(2.08), "int4": dtype("int4"),
             "auto": dtype("auto"), "worst": {"objective": "worst_task"}, "adam": adam(),
             "weighting": ranks("pursuit", weighting="none"), "seed": {"seed": 5},
             "max-error": budget(max_error=0.15),
             "bytes": {**budget(bytes=150000), **dtype("int3")},
             "joint": ranks("joint"), "exact": ranks("exact")}
    for name, fields in kinds.items():
        yield Case(f"reuse-{name}", fields, reuse="kept", export=name == "2.08")
    for name in ("0.6", "2.08"):
        yield Case(f"reuse-exact-{name}", {**kinds[name], **ranks("exact")}, reuse="kept-exact")
        yield Case(f"reuse-auto-{name}", {**kinds[name], **dtype("auto")}, reuse="kept-auto")
    yield Case("reuse-paper", PAPER, reuse="kept-exact")
    yield Case("reuse-weighted", weights=(1, 3, 0.25, 1), reuse="kept")
    yield Case("reuse-twice", budget(1.0), reuse="reuse-2.08")
    for workers in (2, 4):
        yield Case(f"reuse-workers-{workers}", budget(2.08), reuse="kept", workers=workers)


def memory_cases():
    """A matrix that does not fit the limit beside those that do: only bytes_read may differ."""
    kinds = {"bf16": ("24M", budget(0.05)),
             "int4": ("28M", {**budget(0.1), **dtype("int4")}),
             "auto": ("46M", {**budget(bytes_ratio=0.03), **dtype("auto")}),
             "adam": ("56M", {**budget(0.1), **adam(5)})}
    for name, (limit, fields) in kinds.items():
        yield Case(f"held-{name}", fields, tall=True)
        yield Case(f"streamed-{name}", fields, tall=True, limit=limit, export=name == "bf16")
    for workers, limit in ((2, "24M"), (4, "40M")):
        yield Case(f"streamed-workers-{workers}", budget(0.05), tall=True, limit=limit,
                   workers=workers)
    yield Case("streamed-reuse", budget(0.06), tall=True, limit="24M", reuse="streamed-bf16")
    yield Case("streamed-from", budget(0.05), tall=True, limit="24M", tasks=slice(3))
    yield Case("streamed-extend", tall=True, limit="24M", extend="streamed-from", add=slice(3, 4))
    yield Case("limit", limit=LIMIT_MIN, workers=4)


def wide():
    for cases in (allocation_cases, budget_cases, dense_cases, refinement_cases, family_cases,
                  worker_cases, extension_cases, reuse_cases, memory_cases):
        yield from cases()


def representative():
    yield Case("bf16", export=True)
    yield Case("bf16-workers-4", workers=4)
    yield Case("bf16-limit", limit=LIMIT_MIN, workers=2)
    yield Case("bf16-2.08", budget(2.08))
    yield Case("int4", dtype("int4"))
    yield Case("int3", {**budget(bytes_ratio=0.1), **dtype("int3")})
    yield Case("auto", {**budget(bytes_ratio=0.15), **dtype("auto")}, export=True)
    yield Case("auto-workers-2", {**budget(0.5), **dtype("auto")}, workers=2)
    yield Case("max-error", budget(max_error=0.3))
    yield Case("worst", {"objective": "worst_task"})
    yield Case("dense-per-task", {"dense": "per_task", **ranks("pursuit", weighting="none")})
    for allocator in ALLOCATORS[:-1]:
        yield Case(f"allocator-{allocator}", ranks(allocator))
    yield Case("paper", {**ranks("differentiable", weighting="none"), **adam(40)})
    yield Case("reuse-0.6", budget(0.6), reuse="bf16")
    yield Case("reuse-2.08", budget(2.08), reuse="bf16")
    yield Case("reuse-int4", dtype("int4"), reuse="bf16")
    yield Case("adam-f32", {**adam(20), **dtype("f32")})
    yield Case("extend-from", tasks=slice(7))
    yield Case("extend-add", extend="extend-from", add=slice(7, 8))
    yield Case("extend-remove", extend="extend-from", remove=slice(2))


def read_tensors(path):
    """The header of a safetensors file and its tensors' bytes."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    return header, {name: raw[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]]
                    for name, entry in header.items()}


def write_tall(source, path):
    """A model with one tall matrix more: all its matrices, and these again with rows rotated."""
    header, chunks = read_tensors(source)
    names = sorted(name for name, entry in header.items() if len(entry["shape"]) == 2)
    kind = header[names[0]]["dtype"]
    row = TALL_COLUMNS * (4 if kind == "F32" else 2)
    rows = b"".join(chunks[name] for name in names if header[name]["dtype"] == kind)
    rows = rows[:len(rows) // row * row]
    turn = [row * copy // TALL_COPIES for copy in range(TALL_COPIES)]
    chunks["tall.weight"] = b"".join(rows[shift:] + rows[:shift] for shift in turn)
    shape = [len(chunks["tall.weight"]) // row, TALL_COLUMNS]
    header["tall.weight"] = {"dtype": kind, "shape": shape}
    offset = 0
    for name in sorted(header):
        header[name]["data_offsets"] = [offset, offset + len(chunks[name])]
        offset += len(chunks[name])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text
                     + b"".join(chunks[name] for name in sorted(header)))


class Suite:
    """A family of models, copied, and its cases."""

    def __init__(self, didid, name, directory, scratch, ignored):
        self.didid, self.name, self.scratch, self.ignored = didid, name, scratch / name, ignored
        directory = pathlib.Path(directory)
        tasks = json.loads((directory / "suite.json").read_text())["tasks"]
        self.tasks = [task["name"] for task in tasks]
        cases = wide() if name == "glyphmini" else representative()
        self.cases = {case.name: case for case in cases}
        self.locks = {case: threading.Lock() for case in self.cases}
        self.users = [case.reuse for case in self.cases.values()]
        self.results = {}
        for model in ["base"] + [f"tasks/{task}" for task in self.tasks]:
            self.copy(directory, model)

    def copy(self, directory, model):
        tall = any(case.tall for case in self.cases.values())
        for family in ("plain", "tall") if tall else ("plain",):
            target = self.scratch / family / model
            target.mkdir(parents=True)
            for path in sorted((directory / model).glob("model*")):
                if family == "plain":
                    shutil.copyfile(path, target / path.name)
                else:
                    write_tall(path, target / path.name)
                os.utime(target / path.name, (MODIFIED_SECONDS, MODIFIED_SECONDS))

    def package(self, name):
        return self.scratch / "packages" / name

    def kept(self, name):
        return self.scratch / "kept" / name

    def specification(self, case):
        tasks = [{"name": task, "model": f"tasks/{task}"} for task in self.tasks[case.tasks]]
        for task, weight in zip(tasks, case.weights):
            task["weight"] = weight
        path = self.scratch / "specifications" / f"{case.name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"budget": 1.24, "output": {"dtype": "bf16"}, **case.fields,
                                    "base": "base", "tasks": tasks}))
        return path

    def command(self, case):
        words = [self.didid, "run"]
        if case.extend:
            words += ["--extend", self.package(case.extend)]
            for task in self.tasks[case.add]:
                words += ["--task", f"{task}=tasks/{task}"]
            for task in self.tasks[case.remove]:
                words += ["--remove", task]
        else:
            words += [self.specification(case)]
        words += ["--models", self.scratch / ("tall" if case.tall else "plain"),
                  "--out", self.package(case.name), "--workers", str(case.workers)]
        words += ["--memory-limit", case.limit or "1G"]
        words += ["--export", "full"] if case.export else []
        words += ["--reuse", self.kept(case.reuse)] if case.reuse else []
        words += ["--keep", self.kept(case.name)] if case.name in self.users else []
        words += ["--compare", self.package(case.against)] if case.against else []
        return words + list(case.more)

    def run(self, name):
        """Path -> SHA-256 of what a case publishes, and what went wrong or None; once."""
        case = self.cases[name]
        with self.locks[name]:
            if name not in self.results:
                lacking = [need for need in case.needs() if self.run(need)[1] is not None]
                self.results[name] = ({}, f"needs {lacking[0]}") if lacking else self.start(case)
        return self.results[name]

    def start(self, case):
        for folder in ("packages", "kept"):
            (self.scratch / folder).mkdir(exist_ok=True)
        try:
            done = subprocess.run(self.command(case), capture_output=True, text=True, check=False,
                                  timeout=CASE_SECONDS_MAX, stdin=subprocess.DEVNULL,
                                  env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        except subprocess.TimeoutExpired:
            return {}, f"took more than {CASE_SECONDS_MAX} s"
        if done.returncode != 0:
            return {}, f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
        return directory_digests(self.package(case.name), self.ignored), None


def stable(manifest, ignored):
    """A manifest's bytes without the values of some fields, wherever they are."""
    names = "|".join(map(re.escape, ignored))
    return re.sub(f'"({names})":\\s*{VALUE}'.encode(), rb'"\1":', manifest)


def directory_digests(directory, ignored):
    """Relative path -> SHA-256 of every file below a directory."""
    digests = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        if "models" in path.parts and path.suffix != ".safetensors":
            continue  # what lies beside an exported model's weights
        raw = path.read_bytes()
        if path.name == "manifest.json":
            raw = stable(raw, ignored)
        digests[path.relative_to(directory).as_posix()] = hashlib.sha256(raw).hexdigest()
    return digests


def total(files):
    """One digest of paths and bytes."""
    return hashlib.sha256("".join(f"{digest} {path}\n" for path, digest in files.items())
                          .encode()).hexdigest()


def run_all(suites, pattern, jobs):
    """[suite/case, files, problem] of the cases chosen, in order; progress on standard error."""
    chosen = [(suite, name) for suite in suites for name in suite.cases
              if fnmatch.fnmatchcase(f"{suite.name}/{name}", pattern)]
    results, begin = [], time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(suite.run, name) for suite, name in chosen]
        for (suite, name), future in zip(chosen, futures):
            files, problem = future.result()
            results.append((f"{suite.name}/{name}", files, problem))
            print(f"{len(results):4} of {len(chosen)}  {time.monotonic() - begin:6.1f} s  "
                  f"{suite.name}/{name}  {problem or ''}", file=sys.stderr, flush=True)
    return results


def lines_of(results, by_file):
    """Name -> digest of every line to print."""
    lines = {}
    for name, files, problem in results:
        if problem is None and by_file:
            lines.update((f"{name}/{path}", digest) for path, digest in files.items())
        elif problem is None:
            lines[name] = total(files)
    return lines


def differences(lines, path, suites, pattern):
    """What is not as the list in `path` has it, of the cases chosen."""
    listed = [line.split() for line in pathlib.Path(path).read_text().splitlines() if line]
    wanted = {name: digest for name, digest in listed
              if name.split("/")[0] in suites
              and fnmatch.fnmatchcase("/".join(name.split("/")[:2]), pattern)}
    for name in sorted(wanted.keys() | lines.keys()):
        if name not in lines:
            yield f"{name} is missing"
        elif name not in wanted:
            yield f"{name} is not in {path}"
        elif wanted[name] != lines[name]:
            yield f"{name} differs"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("didid", help="the program")
    parser.add_argument("--suite", action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--cases", default="*", metavar="PATTERN",
                        help="glob over SUITE/CASE; what a case needs runs too")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cases at once")
    parser.add_argument("--files", action="store_true", help="one line for each file")
    parser.add_argument("--ignore", action="append", default=[], metavar="FIELD",
                        help="leave out this field of manifests too; for both lists")
    parser.add_argument("--compare", metavar="FILE", help="report what differs from this list")
    return parser.parse_args()


def main():
    options = arguments()
    directories = dict(suite.split("=", 1) for suite in options.suite)
    didid = pathlib.Path(options.didid).resolve()
    with tempfile.TemporaryDirectory(prefix="digests-") as scratch:
        suites = [Suite(didid, name, directory, pathlib.Path(scratch),
                        (*VARYING, *options.ignore)) for name, directory in directories.items()]
        results = run_all(suites, options.cases, options.jobs)
    lines = lines_of(results, options.files)
    failed = [f"{name}: {problem}" for name, _, problem in results if problem is not None]
    if options.compare:
        report = list(differences(lines, options.compare, directories, options.cases))
    else:
        report = [f"{name} {digest}" for name, digest in lines.items()]
    sys.stdout.writelines(line + "\n" for line in report)
    print(f"{len(results)} cases, {len(failed)} failed", *failed, sep="\n", file=sys.stderr)
    return 1 if failed or not results or (options.compare and report) else 0


if __name__ == "__main__":
    sys.exit(main())
