# SPDX-License-Identifier: Apache-2.0
"""Error and accuracy kept on real families, by method and budget."""

import pathlib

import artifacts
import baselines
import common
import evaluate

PAPER = {"shared": {"merge": "mean"}}
# method -> fields of the specification. An empty one is the defaults.
METHODS = {
    "default": {},
    "pursuit balanced": {"ranks": {"allocator": "pursuit", "weighting": "balanced"}},
    "pursuit": {"ranks": {"allocator": "pursuit", "weighting": "none"}},
    "joint": {"ranks": {"allocator": "joint", "weighting": "none"}},
    "exact": {"ranks": {"allocator": "exact", "weighting": "none"}},
    "uniform": {"ranks": {"allocator": "uniform", "weighting": "none"}},
    "paper, adam": {**PAPER, "ranks": {"allocator": "differentiable", "weighting": "none"},
                    "refine": {"optimizer": "adam"}},
    "paper, als": {**PAPER, "ranks": {"allocator": "differentiable", "weighting": "none"},
                   "refine": {"optimizer": "als"}},
    "worst task": {"objective": "worst_task"},
    "uniform, truncated": {"ranks": {"allocator": "uniform", "weighting": "none"},
                           "refine": {"steps": 0}},
    "paper, truncated": {**PAPER, "ranks": {"allocator": "differentiable", "weighting": "none"},
                         "refine": {"steps": 0}},
    "experts alone": {"shared": {"merge": "none"}, "ranks": {"allocator": "exact"}},
}
# (method, figure) -> bar on the larger suite at 1.24x
BARS = {
    ("default", "error"): 0.322,
    ("pursuit", "error"): 0.320,
    ("paper, adam", "error"): 0.337,
    ("paper, als", "error"): 0.337,
}
BAR_BUDGET = 1.24
# budget -> retention of the default on the larger suite, 16-bit factors
RETENTION_BARS = {1.0: 0.978, 1.24: 0.988, 1.4: 0.991, 2.08: 0.998}
WORST_BAR = 0.97
# bytes of all files to one model in 16 bits -> retention on the larger suite, dtype auto
BYTES_BARS = {0.15: 0.97, 0.20: 0.98, 0.30: 0.99, 0.36: 0.993, 0.51: 0.997}
WIDTHS = (20, 8, 8, 8, 8, 9, 8)
BYTES_WIDTHS = (8, 10, 8, 8, 8, 9, 8)


def numbers(words):
    """Of "a,b"; none of ""."""
    return [float(word) for word in words.split(",") if word]


def measure_method(arguments, suite, base, models, method, budget, out):
    """Merges, rebuilds with NumPy, and gives the figures of one row."""
    tasks = {name: str(pathlib.Path(task["model"]).parent) for name, task in suite.tasks.items()}
    text = common.specification("base", tasks, budget, **METHODS[method])
    merged = common.merge(arguments.build, text, suite.directory, out, arguments.workers)
    rebuilt = {task: artifacts.rebuild(base, out, task) for task in suite.tasks}
    result = evaluate.evaluate(suite, rebuilt.get, limit=arguments.limit)
    stored = artifacts.recount(out)["parameters"] / artifacts.float_parameters(
        suite.base_directory())
    names = artifacts.factored(merged.manifest)
    return {"stored": stored, "error": artifacts.relative_error(base, models, rebuilt, names),
            "retention": result["retention"], "average": result["average"],
            "worst": min(row["kept"] for row in result["tasks"].values()),
            "seconds": merged.seconds}


def measure_suite(arguments, directory, scratch):
    """One table; the rows by (method, budget)."""
    suite = evaluate.Suite(directory)
    base = artifacts.read_model(suite.base_directory())
    models = {task: suite.fine_tune(task) for task in suite.tasks}
    rows = {}
    for budget in numbers(arguments.budgets):
        print(f"\n{suite.description['name']} at {budget:g}x", flush=True)
        common.print_row(WIDTHS, ("method", "stored", "error", "average", "worst", "retention",
                                  "seconds"))
        for index, method in enumerate(METHODS):
            out = scratch / f"{suite.description['name']}-{budget}-{index}"
            row = measure_method(arguments, suite, base, models, method, budget, out)
            rows[method, budget] = row
            common.print_row(WIDTHS, (method, f"{row['stored']:.4f}", f"{row['error']:.4f}",
                                      f"{row['average']:.4f}", f"{row['worst']:.4f}",
                                      f"{row['retention']:.4f}", f"{row['seconds']:.2f}"))
    rows["default", None] = measure_dominance(arguments, suite, base, models, scratch)
    return rows


def measure_dominance(arguments, suite, base, models, scratch):
    """True when the default's error is below both baselines' at every budget."""
    tasks = {name: str(pathlib.Path(task["model"]).parent) for name, task in suite.tasks.items()}
    name = suite.description["name"]
    simple = None
    below = True
    print(f"\n{name}: relative error against simpler methods", flush=True)
    common.print_row(WIDTHS, ("budget", "default", "none", "separate", "mean"))
    for budget in (0.3, 0.5, 0.75, 1.0, 1.24, 1.4, 2.08):
        errors = []
        for weighting in ("accuracy", "none"):
            out = scratch / f"{name}-{budget}-{weighting}"
            text = common.specification("base", tasks, budget, ranks={"weighting": weighting})
            merged = common.merge(arguments.build, text, suite.directory, out, arguments.workers)
            errors.append(merged.manifest["error"]["relative"])
        if simple is None:
            matrices = [key for key in artifacts.factored(merged.manifest)
                        if "embedding" not in key]
            simple = baselines.Baselines(base, models, matrices)
        bars = simple.separate(budget), simple.mean_and_residual(budget)
        below = below and errors[0] < min(bars)
        common.print_row(WIDTHS, (f"{budget:g}", *(f"{value:.4f}" for value in (*errors, *bars))))
    return common.verdict(f"{name}: never dominated", "yes" if below else "no", "yes", below)


def measure_bytes(arguments, directories, scratch):
    """Bits and ranks allocated together, suites side by side; whether the larger meets its bars."""
    suites = [evaluate.Suite(directory) for directory in directories]
    held = []
    print("\ndtype auto: bytes of all files, to one model in 16 bits", flush=True)
    common.print_row(BYTES_WIDTHS, ("bytes", "suite", "stored", "error", "worst", "retention",
                                    "bar"))
    for budget in numbers(arguments.bytes):
        for suite in suites:
            name = suite.description["name"]
            out = scratch / f"{name}-bytes-{budget}"
            tasks = {task: str(pathlib.Path(row["model"]).parent)
                     for task, row in suite.tasks.items()}
            text = common.specification("base", tasks, budget, output={"dtype": "auto"})
            merged = common.merge(arguments.build, text, suite.directory, out, arguments.workers)
            base = artifacts.read_model(suite.base_directory())
            models = {task: suite.fine_tune(task) for task in suite.tasks}
            rebuilt = {task: artifacts.rebuild(base, out, task) for task in suite.tasks}
            result = evaluate.evaluate(suite, rebuilt.get, limit=arguments.limit)
            error = artifacts.relative_error(base, models, rebuilt,
                                             artifacts.factored(merged.manifest))
            files = [*out.glob("*.safetensors"), *out.glob("experts/*.safetensors")]
            stored = sum(path.stat().st_size for path in files) / (
                2 * artifacts.float_parameters(suite.base_directory()))
            worst = min(row["kept"] for row in result["tasks"].values())
            bar = BYTES_BARS.get(budget) if suite is suites[-1] and len(suites) > 1 else None
            held += [stored <= budget, bar is None or result["retention"] >= bar]
            common.print_row(BYTES_WIDTHS, (f"{budget:g}x", name, f"{stored:.4f}", f"{error:.4f}",
                                            f"{worst:.4f}", f"{result['retention']:.4f}",
                                            "" if bar is None else f"{bar:g}"))
    return all(held)


def measure(arguments, scratch):
    directories = [common.FAMILY, *([arguments.glyph8] if arguments.glyph8 else [])]
    within = measure_bytes(arguments, directories, scratch)
    return measure_methods(arguments, scratch) and within if arguments.budgets else within


def measure_methods(arguments, scratch):
    """Every method at every budget, and the default against simpler ones."""
    own = measure_suite(arguments, common.FAMILY, scratch)
    if not arguments.glyph8:
        print("no larger suite was given (DIDI_GLYPH8): its bars are not measured")
        return own["default", None]
    rows = measure_suite(arguments, arguments.glyph8, scratch)
    print()
    held = [own.pop(("default", None)), rows.pop(("default", None))]
    held += [row["stored"] <= budget for (_, budget), row in rows.items()]
    for budget, bar in RETENTION_BARS.items():
        row = rows.get(("default", budget))
        if row:
            held.append(common.verdict(f"default at {budget}x, retention",
                                       f"{row['retention']:.4f}", bar, row["retention"] >= bar))
    if ("default", BAR_BUDGET) in rows:
        worst = rows["default", BAR_BUDGET]["worst"]
        held.append(common.verdict(f"default at {BAR_BUDGET}x, worst task", f"{worst:.4f}",
                                   WORST_BAR, worst >= WORST_BAR))
    for (method, figure), bar in BARS.items():
        row = rows.get((method, BAR_BUDGET))
        if row:
            good = row[figure] >= bar if figure == "retention" else row[figure] <= bar
            held.append(common.verdict(f"{method} at {BAR_BUDGET}x, {figure}",
                                       f"{row[figure]:.4f}", bar, good))
    truncated, uniform = (rows.get((f"{kind}, truncated", BAR_BUDGET))
                          for kind in ("paper", "uniform"))
    if truncated and uniform:
        held.append(common.verdict("differentiable ranks, truncated error",
                                   f"{truncated['error']:.4f}", f"{uniform['error']:.4f}",
                                   truncated["error"] <= uniform["error"]))
    return all(held)
