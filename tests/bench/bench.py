#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: bench.py BUILD [NAME ...], names as in BENCHMARKS below

Prints one table a benchmark; exits with 1 when a figure misses its bar. Timings are of this machine
and this run alone. Environment: DIDI_GLYPH8, directory of a larger suite; DIDI_PEER, a PyTorch
program to compare speed with; DIDI_BENCH_DIR, where families of gigabytes may be written.
"""

import argparse
import os
import pathlib
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "family"), str(TESTS / "dashboard"), str(TESTS / "bench"),
                str(TESTS.parent / "docs")]

import bench_accuracy  # noqa: E402 (the paths above are needed first)
import bench_bakeoff  # noqa: E402
import bench_cluster  # noqa: E402
import bench_crash  # noqa: E402
import bench_dashboard  # noqa: E402
import bench_edge  # noqa: E402
import bench_executors  # noqa: E402
import bench_jobs  # noqa: E402
import bench_load  # noqa: E402
import bench_memory  # noqa: E402
import bench_methods  # noqa: E402
import bench_others  # noqa: E402
import bench_polling  # noqa: E402
import bench_s3  # noqa: E402
import bench_scale  # noqa: E402
import bench_speed  # noqa: E402
import bench_stages  # noqa: E402

BENCHMARKS = {
    "stages": bench_stages.measure,
    "accuracy": bench_accuracy.measure,
    "others": bench_others.measure,
    "methods": bench_methods.measure,
    "bakeoff": bench_bakeoff.measure,
    "speed": bench_speed.measure,
    "memory": bench_memory.measure,
    "scale": bench_scale.measure,
    "cluster": bench_cluster.measure,
    "polling": bench_polling.measure,
    "jobs": bench_jobs.measure,
    "executors": bench_executors.measure,
    "edge": bench_edge.measure,
    "s3": bench_s3.measure,
    "dashboard": bench_dashboard.measure,
    "load": bench_load.measure,
    "crash": bench_crash.measure,
}
LONG = ("scale", "load", "cluster", "executors")  # only when asked for


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("what", nargs="*", metavar="|".join(BENCHMARKS))
    parser.add_argument("--glyph8", default=os.environ.get("DIDI_GLYPH8"), metavar="DIR")
    parser.add_argument("--peer", default=os.environ.get("DIDI_PEER"), metavar="FILE")
    parser.add_argument("--scratch", default=os.environ.get("DIDI_BENCH_DIR"), metavar="DIR")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, metavar="N",
                        help="accuracy, others: first N images a task")
    parser.add_argument("--budgets", default="1.0,1.24,1.4,2.08", help="accuracy: comma-separated")
    parser.add_argument("--bytes", default="0.15,0.20,0.30,0.36,0.51",
                        help="accuracy: budgets of dtype auto, to one model in 16 bits")
    parser.add_argument("--peer-steps", default="2,4", metavar="RANK,REFINE",
                        help="speed: steps the peer really runs; the rest is scaled")
    parser.add_argument("--kills", type=int, default=50, help="crash: how many")
    parser.add_argument("--seconds", type=int, default=600, help="load: how long")
    arguments = parser.parse_args()
    unknown = [word for word in arguments.what if word not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    arguments.build = arguments.build.resolve()
    missed = []
    for name in arguments.what or [name for name in BENCHMARKS if name not in LONG]:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="didi-bench-", dir=arguments.scratch) as scratch:
            if not BENCHMARKS[name](arguments, pathlib.Path(scratch)):
                missed.append(name)
    if missed:
        sys.exit(f"bench: missed a bar: {', '.join(missed)}")


if __name__ == "__main__":
    main()
