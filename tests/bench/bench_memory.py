# SPDX-License-Identifier: Apache-2.0
"""Twelve blocks, 3.1 GB: peak anonymous memory, share of the sgemm peak, the same artifacts at any
number of workers."""

import pathlib

import artifacts
import common
import make_family
import sgemm_peak
import stages

BLOCKS, TASKS, WORKERS = 12, 8, 2
PEAK_BYTES_MAX = 600_000_000
SHARE_MIN = 0.6


def measure(arguments, scratch):
    models = scratch / "models"
    tasks = make_family.write_family(models, "vitb32", BLOCKS, TASKS)
    read = sum(path.stat().st_size for path in pathlib.Path(models).rglob("*.safetensors"))
    text = common.specification("base", {task: task for task in tasks}, 1.24)
    print(f"{TASKS + 1} models, {read / 1e9:.2f} GB", flush=True)
    outcomes = {}
    for workers in (WORKERS, 1):
        outcome = common.merge(arguments.build, text, models, scratch / f"out{workers}", workers)
        outcomes[workers] = outcome
        print(f"{workers} workers: {outcome.seconds:.1f} s, peak RssAnon "
              f"{outcome.peak_anonymous_bytes / 1e6:.0f} MB (manifest: "
              f"{outcome.manifest['peak_memory_bytes'] / 1e6:.0f} MB), "
              f"error {outcome.manifest['error']['relative']:.4f}", flush=True)
    gemm = sgemm_peak.measure(WORKERS)
    print(f"{WORKERS} workers by stage, sgemm peak {gemm / 1e9:.0f} Gflop/s:")
    stages.print_table(outcomes[WORKERS].manifest, gemm)
    share = stages.share_after_digests(outcomes[WORKERS].manifest, gemm)
    peak = outcomes[WORKERS].peak_anonymous_bytes
    held = common.verdict(f"peak anonymous memory, {WORKERS} workers", f"{peak / 1e6:.0f} MB",
                          f"{PEAK_BYTES_MAX / 1e6:.0f} MB", peak <= PEAK_BYTES_MAX)
    held = common.verdict("share of the sgemm peak after the digests", f"{share:.0%}",
                          f"{SHARE_MIN:.0%}", share >= SHARE_MIN) and held
    digests = [artifacts.digests(outcome.out) for outcome in outcomes.values()]
    return common.verdict("artifacts at 1 and 2 workers", "equal" if digests[0] == digests[1]
                          else "different", "equal", digests[0] == digests[1]) and held
