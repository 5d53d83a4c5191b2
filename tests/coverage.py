# SPDX-License-Identifier: Apache-2.0
"""Lines of src and daemon that the tests of a build with counters ran, a row a folder.

usage: coverage.py BUILD [--floor PERCENT] [--files]

BUILD is made with -Db_coverage=true. Processes that are killed leave no counts. A line counts once
however often it was compiled. With --floor it fails when less of all lines was run.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import subprocess
import sys

PLACES = ("src", "daemon")
BATCH = 20


def counts_of(notes, build):
    """source -> line -> how often it ran, of some files of notes."""
    made = subprocess.run(
        ["gcov", "--json-format", "--stdout", *(str(note.relative_to(build)) for note in notes)],
        cwd=build, check=True, capture_output=True, text=True)
    counts = collections.defaultdict(collections.Counter)
    for document in filter(None, made.stdout.splitlines()):
        for source in json.loads(document)["files"]:
            of = counts[source["file"]]
            for line in source["lines"]:
                of[line["line_number"]] += line["count"]
    return counts


def lines_of(build, root):
    """Path from the root -> [lines run, lines]."""
    notes = [note for place in PLACES for note in sorted((build / place).rglob("*.gcno"))]
    if not any((build / place).rglob("*.gcda") for place in PLACES):
        sys.exit(f"coverage: {build} has no counts: an old build without them is to be removed")
    batches = [notes[start:start + BATCH] for start in range(0, len(notes), BATCH)]
    counts = collections.defaultdict(collections.Counter)
    with concurrent.futures.ProcessPoolExecutor() as processes:
        for found in processes.map(counts_of, batches, [build] * len(batches)):
            for file, of in found.items():
                counts[(build / file).resolve()].update(of)
    lines = {}
    for path, of in counts.items():
        if not path.is_relative_to(root) or path.is_relative_to(build):
            continue
        name = path.relative_to(root)
        if name.parts[0] in PLACES:
            lines[name] = [sum(count > 0 for count in of.values()), len(of)]
    return lines


def show(name, run, lines):
    """One row of the table."""
    print(f"{name:<32} {run:>6} of {lines:>6} lines {100 * run / lines:6.1f} %")


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("build", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--floor", type=float, default=0)
    parser.add_argument("--files", action="store_true", help="a row a file")
    given = parser.parse_args()
    rows = collections.defaultdict(lambda: [0, 0])
    for name, (run, lines) in lines_of(given.build, pathlib.Path.cwd()).items():
        for key in {str(name if given.files else name.parent), ""}:
            rows[key][0] += run
            rows[key][1] += lines
    total_run, total = rows.pop("")
    for key in sorted(rows):
        show(key, *rows[key])
    show("coverage: src and daemon", total_run, total)
    if 100 * total_run < given.floor * total:
        print(f"coverage: below {given.floor:g} %", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
