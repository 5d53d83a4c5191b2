# SPDX-License-Identifier: Apache-2.0
"""Every method of the engine at its own size, and didid's default at each of these sizes.

Methods have their published defaults, or what stands beside their names here: settings that their
publications find by validation are not found here, since nothing is tuned on what is measured.
"""

import pathlib

import artifacts
import common
import evaluate
import read_package

# name -> options, where the name stands for itself with its defaults
METHODS = {
    "average": {}, "task_arithmetic": {}, "ties": {},
    "ties, sum 0.3": {"combine": "sum", "scale": 0.3},
    "tsv_m": {}, "iso_c": {}, "iso_cts": {}, "wudi": {},
    "wudi, relative_rate 0.02": {"relative_rate": 0.02},
    "dare": {}, "pcb": {}, "knots": {}, "consensus": {}, "bitdelta": {}, "emr": {},
    "emr, rescaler tensors": {"rescaler": "tensors"},
    "tall_ties": {}, "mmer": {}, "free": {}, "svd_lora, rank 16": {"rank": 16},
    "smile, rank 16": {"rank": 16}, "tsv_c": {}, "twin": {}, "cart": {}, "wemoe": {},
    "individuals": {},
}
LEAST_STEP = 0.05  # between two sizes at which didid is measured
MOST = 2.2         # beyond it didid has the fine-tunes' own accuracy
WIDTHS = (26, 8, 9, 8, 8, 8)


def stored_bytes(out):
    files = [*out.glob("*.safetensors"), *out.glob("experts/*.safetensors")]
    return sum(path.stat().st_size for path in files)


def measure_one(arguments, suite, fields, out):
    """What a merge keeps, its bytes to one model in 16 bits, and its CPU seconds."""
    tasks = [{"name": name, "model": str(pathlib.Path(task["model"]).parent)}
             for name, task in suite.tasks.items()]
    merged = common.merge(arguments.build, {"base": "base", "tasks": tasks, **fields},
                          suite.directory, out, arguments.workers)
    base = suite.base_directory()
    result = evaluate.evaluate(suite, lambda task: read_package.read_package(out, base, task),
                               limit=arguments.limit)
    return result, stored_bytes(out) / (2 * artifacts.float_parameters(base)), merged.cpu_seconds


def show(system, measured):
    result, stored, seconds = measured
    worst = min(row["kept"] for row in result["tasks"].values())
    common.print_row(WIDTHS, (system, f"{stored:.2f}x", f"{result['average']:.4f}",
                              f"{result['retention']:.4f}", f"{worst:.3f}", f"{seconds:.1f}"))
    return {"system": system, "bytes": stored, "kept": result["retention"], "worst": worst}


def sizes(rows):
    """Sizes of other methods, from small to large, that are not nearly those before."""
    found = []
    for stored in sorted(row["bytes"] for row in rows):
        if stored <= MOST and (not found or stored >= found[-1] + LEAST_STEP):
            found.append(stored)
    return found


def measure_suite(arguments, directory, scratch):
    """One table; whether none is ahead of didid at its own bytes or more."""
    suite = evaluate.Suite(directory)
    name = suite.description["name"]
    print(f"\n{name}: bytes to one model in 16 bits, accuracy, CPU seconds of the merge",
          flush=True)
    common.print_row(WIDTHS, ("method", "bytes", "average", "kept", "worst", "CPU s"))
    others = []
    for number, (label, options) in enumerate(METHODS.items()):
        fields = {"method": label.split(",", maxsplit=1)[0], "method_options": options,
                  "output": {"dtype": "bf16"}}
        others.append(show(label, measure_one(arguments, suite, fields,
                                              scratch / f"{name}-{number}")))
    own = []
    for stored in sizes(others):
        most = int(stored * 2 * artifacts.float_parameters(suite.base_directory()))
        fields = {"budget": {"bytes": most}, "output": {"dtype": "auto"}}
        own.append(show(f"didi, auto {stored:.2f}x",
                        measure_one(arguments, suite, fields, scratch / f"{name}-at-{len(own)}")))
    ahead = [f"{row['system']} ({what})" for row in others for what in ("kept", "worst")
             if row["bytes"] <= MOST and row[what] > max(
                 (other[what] for other in own if other["bytes"] <= row["bytes"]), default=-1)]
    return common.verdict(f"{name}: ahead of didid at their bytes", ", ".join(ahead) or "none",
                          "none", not ahead)


def measure(arguments, scratch):
    directories = [common.FAMILY, *([arguments.glyph8] if arguments.glyph8 else [])]
    return all([measure_suite(arguments, directory, scratch) for directory in directories])
