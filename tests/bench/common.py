# SPDX-License-Identifier: Apache-2.0
"""What benchmarks share: foreground merges, their time and memory, and tables."""

import json
import pathlib
import resource
import subprocess
import threading
import time

import service

FAMILY = pathlib.Path(__file__).resolve().parents[1] / "family" / "glyphmini"
SAMPLE_SECONDS = 0.005


class Outcome:
    """A merge that ended well."""

    def __init__(self, out, seconds, cpu_seconds, peak_anonymous_bytes, peak_resident_bytes):
        self.out = pathlib.Path(out)
        self.seconds = seconds
        self.cpu_seconds = cpu_seconds  # user and system
        self.peak_anonymous_bytes = peak_anonymous_bytes
        self.peak_resident_bytes = peak_resident_bytes
        self.manifest = json.loads((self.out / "manifest.json").read_text())


def command(build, specification, models, out, workers, *options):
    """The words of a foreground merge; writes the specification beside `out`."""
    path = pathlib.Path(out).with_suffix(".json")
    path.write_text(json.dumps(specification))
    return [str(build / "daemon" / "didid"), "run", str(path), "--models", str(models),
            "--out", str(out), "--workers", str(workers), *options]


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def merge(build, specification, models, out, workers, *options):
    """Runs a merge in the foreground, sampling its anonymous memory; raises when it fails."""
    words = command(build, specification, models, out, workers, *options)
    started, before = time.monotonic(), cpu_of_children()
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    peak = [0, 0]

    def sample():
        while process.poll() is None:
            peak[0] = max(peak[0], service.anonymous_bytes(process.pid))
            peak[1] = max(peak[1], service.memory_bytes(process.pid, "VmHWM"))
            time.sleep(SAMPLE_SECONDS)

    sampler = threading.Thread(target=sample)
    sampler.start()
    _, errors = process.communicate()
    seconds = time.monotonic() - started
    sampler.join()
    if process.returncode != 0:
        raise RuntimeError(f"didid run ended with {process.returncode}:\n{errors[-2000:]}")
    return Outcome(out, seconds, cpu_of_children() - before, *peak)


def specification(base, tasks, budget, **fields):
    """A specification whose tasks are `name -> model`."""
    return {"base": base, "budget": budget, **fields,
            "tasks": [{"name": name, "model": model} for name, model in tasks.items()]}


def print_row(widths, cells):
    print("  ".join(f"{cell:<{width}}" if index == 0 else f"{cell:>{width}}"
                    for index, (cell, width) in enumerate(zip(cells, widths))), flush=True)


def verdict(what, value, bar, holds):
    """One line that says whether a figure meets its bar; returns `holds`."""
    print(f"{what}: {value} (bar {bar}): {'met' if holds else 'MISSED'}", flush=True)
    return holds
