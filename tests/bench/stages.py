# SPDX-License-Identifier: Apache-2.0
"""The table of stages of a run: what each took, and its share of the sgemm peak."""

import common

WIDTHS = (11, 8, 8, 9, 7, 9, 9)


def share_after_digests(manifest, peak):
    """Share of the peak over the whole run but the digests of its inputs, reading included."""
    stages = manifest["stages"]
    seconds = manifest["seconds"]["total"] - stages["digest"]["seconds"]
    return sum(stage["flops"] for stage in stages.values()) / (peak * max(seconds, 1e-9))


def print_table(manifest, peak):
    """`share` is of `peak`, operations a second of all workers together; `busy` is CPU seconds."""
    common.print_row(WIDTHS, ("stage", "seconds", "busy", "Gflop", "share", "MB read", "peak MB"))
    for name, stage in manifest["stages"].items():
        share = stage["flops"] / (peak * max(stage["seconds"], 1e-9))
        common.print_row(WIDTHS, (name, f"{stage['seconds']:.2f}", f"{stage['cpu_seconds']:.2f}",
                                  f"{stage['flops'] / 1e9:.1f}", f"{share:.0%}",
                                  f"{stage['bytes_read'] / 1e6:.0f}",
                                  f"{stage['peak_memory_bytes'] / 1e6:.0f}"))
    total = list(manifest["stages"].values())
    common.print_row(WIDTHS, ("all", f"{manifest['seconds']['total']:.2f}",
                              f"{sum(stage['cpu_seconds'] for stage in total):.2f}",
                              f"{sum(stage['flops'] for stage in total) / 1e9:.1f}",
                              f"{share_after_digests(manifest, peak):.0%}",
                              f"{sum(stage['bytes_read'] for stage in total) / 1e6:.0f}",
                              f"{manifest['peak_memory_bytes'] / 1e6:.0f}"))
