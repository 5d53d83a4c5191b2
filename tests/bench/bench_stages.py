# SPDX-License-Identifier: Apache-2.0
"""Stage by stage: seconds, share of the sgemm peak, bytes read, memory; real families side by side.

The share counts float32 products by their shapes against what sgemm reaches here on large squares,
with as many threads as workers.
"""

import pathlib

import artifacts
import common
import evaluate
import sgemm_peak
import stages

BUDGET = 1.24
WIDTHS = (22, 12, 12)


def merge(arguments, suite, out):
    tasks = {name: str(pathlib.Path(task["model"]).parent) for name, task in suite.tasks.items()}
    text = common.specification("base", tasks, BUDGET)
    return common.merge(arguments.build, text, suite.directory, out, arguments.workers)


def kept(arguments, suite, out):
    base = artifacts.read_model(suite.base_directory())
    rebuilt = {task: artifacts.rebuild(base, out, task) for task in suite.tasks}
    return evaluate.evaluate(suite, rebuilt.get, limit=arguments.limit)


def figures(outcome, result, peak):
    """Row name -> text."""
    manifest = outcome.manifest
    rows = {f"{name}, s": f"{stage['seconds']:.2f}" for name, stage in manifest["stages"].items()}
    rows["whole run, s"] = f"{outcome.seconds:.2f}"
    rows["MB read"] = f"{sum(s['bytes_read'] for s in manifest['stages'].values()) / 1e6:.0f}"
    rows["peak memory, MB"] = f"{outcome.peak_anonymous_bytes / 1e6:.0f}"
    rows["share of sgemm peak"] = f"{stages.share_after_digests(manifest, peak):.0%}"
    rows["error"] = f"{manifest['error']['relative']:.4f}"
    rows["retention"] = f"{result['retention']:.4f}"
    rows["worst task"] = f"{min(row['kept'] for row in result['tasks'].values()):.4f}"
    return rows


def measure(arguments, scratch):
    peak = sgemm_peak.measure(arguments.workers)
    print(f"sgemm peak, {arguments.workers} threads of one thread each: {peak / 1e9:.0f} Gflop/s")
    directories = [common.FAMILY] + ([arguments.glyph8] if arguments.glyph8 else [])
    columns = {}
    for index, directory in enumerate(directories):
        suite = evaluate.Suite(directory)
        outcome = merge(arguments, suite, scratch / f"out{index}")
        print(f"\n{suite.description['name']} at {BUDGET}x")
        stages.print_table(outcome.manifest, peak)
        columns[suite.description["name"]] = figures(outcome, kept(arguments, suite, outcome.out),
                                                     peak)
    print()
    common.print_row(WIDTHS, (f"default at {BUDGET}x", *columns))
    for name in next(iter(columns.values())):
        common.print_row(WIDTHS, (name, *(rows[name] for rows in columns.values())))
    return True
