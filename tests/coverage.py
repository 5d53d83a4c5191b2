# SPDX-License-Identifier: Apache-2.0
"""Lines of src and daemon that the tests of builds with counters ran, a row a folder.

usage: coverage.py BUILD [BUILD...] [--floor PERCENT] [--files]

A BUILD is made with -Db_coverage=true, or with -Ddaemon_coverage=true; one without counts adds
nothing. Processes that are killed leave no counts. A line counts once however often it was
compiled. With --floor it fails when less of all lines was run.
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


def counted(build):
    """Whether anything of it ran."""
    return any(next((build / place).rglob("*.gcda"), None) for place in PLACES)


def lines_of(builds, root):
    """Path from the root -> [lines run, lines]."""
    counts = collections.defaultdict(collections.Counter)
    with concurrent.futures.ProcessPoolExecutor() as processes:
        for build in builds:
            notes = [note for place in PLACES for note in sorted((build / place).rglob("*.gcno"))]
            batches = [notes[start:start + BATCH] for start in range(0, len(notes), BATCH)]
            for found in processes.map(counts_of, batches, [build] * len(batches)):
                for file, of in found.items():
                    counts[(build / file).resolve()].update(of)
    lines = {}
    for path, of in counts.items():
        if not path.is_relative_to(root) or any(path.is_relative_to(build) for build in builds):
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
    parser.add_argument("builds", nargs="+", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--floor", type=float, default=0)
    parser.add_argument("--files", action="store_true", help="a row a file")
    given = parser.parse_args()
    builds = [build for build in given.builds if counted(build)]
    if not builds:
        sys.exit("coverage: no build has counts: an old one without them is to be removed")
    rows = collections.defaultdict(lambda: [0, 0])
    for name, (run, lines) in lines_of(builds, pathlib.Path.cwd()).items():
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
