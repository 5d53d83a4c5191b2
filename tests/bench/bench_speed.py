# SPDX-License-Identifier: Apache-2.0
"""Wall time of one ViT-B/32 block with 8 tasks, and of a PyTorch program doing the same.

The peer (DIDI_PEER) takes --base FILE --task NAME=FILE ... --budget X --rank-steps N
--refine-steps N --threads N and prints a JSON object with load_s, svd_s, rank_s, refine_s,
error_truncated and error_refined. Its steps cost the same each, so few are run and the rest scaled.
"""

import json
import shlex
import subprocess
import sys

import common
import make_family
import sgemm_peak
import stages

BUDGET = 1.24
RANK_STEPS, REFINE_STEPS = 100, 200
RATIO_MIN = 200
# What the peer reaches on this very family (seed 0) after all its steps: 475 s on two cores.
PEER_ERROR = 0.0807
REPEATS = 3


def peer_run(arguments, models, tasks, rank_steps, refine_steps):
    words = [sys.executable, arguments.peer, "--base", f"{models}/base/model.safetensors",
             "--budget", str(BUDGET), "--rank-steps", str(rank_steps),
             "--refine-steps", str(refine_steps), "--threads", str(arguments.workers)]
    for task in tasks:
        words += ["--task", f"{task}={models}/{task}/model.safetensors"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def peer_seconds(figures, rank_steps, refine_steps):
    """What the full number of steps would have taken."""
    return (figures["load_s"] + figures["svd_s"] + figures["rank_s"] * RANK_STEPS / rank_steps +
            figures["refine_s"] * REFINE_STEPS / refine_steps)


def wall_seconds(words, out, scratch):
    """Median over runs of the whole command, by hyperfine."""
    report = scratch / "hyperfine.json"
    done = subprocess.run(
        ["hyperfine", "--style", "none", "--warmup", "1", "--runs", str(REPEATS), "--prepare",
         f"rm -rf {shlex.quote(str(out))}", "--export-json", str(report), shlex.join(words)],
        capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(words)}:\n{done.stderr}")
    return json.loads(report.read_text())["results"][0]["median"]


def measure(arguments, scratch):
    models = scratch / "models"
    tasks = make_family.write_family(models, "vitb32", blocks=1, tasks=8)
    # The norm's vector is left to the base: the peer merges matrices alone.
    text = common.specification("base", {task: task for task in tasks}, BUDGET,
                                exclude=["*layernorm*"], output={"dtype": "f32"},
                                ranks={"weighting": "none"})
    out = scratch / "out"
    seconds = wall_seconds(common.command(arguments.build, text, models, out, arguments.workers),
                           out, scratch)
    manifest = json.loads((out / "manifest.json").read_text())
    error = manifest["error"]["relative"]
    peak = sgemm_peak.measure(arguments.workers)
    print(f"didid run: {seconds:.2f} s (median of {REPEATS}, {arguments.workers} workers), "
          f"error {error:.4f}; the last run by stage, sgemm peak {peak / 1e9:.0f} Gflop/s:")
    stages.print_table(manifest, peak)
    if not arguments.peer:
        print("no peer was given (DIDI_PEER): its bar is not measured")
        return True
    rank_steps, refine_steps = (int(word) for word in arguments.peer_steps.split(","))
    figures = peer_run(arguments, models, tasks, rank_steps, refine_steps)
    scaled = peer_seconds(figures, rank_steps, refine_steps)
    print(f"peer: {scaled:.0f} s for {RANK_STEPS} + {REFINE_STEPS} steps, scaled from "
          f"{rank_steps} + {refine_steps}: load {figures['load_s']:.1f}, "
          f"SVD {figures['svd_s']:.1f}, rank step {figures['rank_s'] / rank_steps:.2f}, "
          f"refinement step {figures['refine_s'] / refine_steps:.2f}; "
          f"error {figures['error_truncated']:.4f} truncated, {figures['error_refined']:.4f} "
          f"after {refine_steps} steps")
    held = common.verdict("wall time, peer / didid", f"{scaled / seconds:.0f}x", f"{RATIO_MIN}x",
                          scaled / seconds >= RATIO_MIN)
    full = rank_steps >= RANK_STEPS and refine_steps >= REFINE_STEPS
    bar = figures["error_refined"] if full else PEER_ERROR
    return common.verdict("error, against the peer's after all its steps", f"{error:.4f}",
                          f"{bar:.4f}", error <= bar) and held
