// SPDX-License-Identifier: Apache-2.0
// What a merge would take, told by the server while the form is filled in.
import { Away, Problem, post } from "../../app/api.js";
import { fill, h, set } from "../../app/dom.js";
import { formatBudget, formatBytes, formatCount, formatDuration,
         formatMany } from "../../app/format.js";
import { facts } from "../../parts/facts.js";

const CALM_MS = 350; // after the last key

function smallest({ budget_minimum: least, budget_unit: unit, specification }) {
  if (least === null || least === undefined) return null;
  return formatBudget(unit === "parameters" ? least : { [unit]: least },
                      specification.output?.dtype);
}

/** Null where no job like it has finished yet. */
function timeText(seconds) {
  if (seconds === null || seconds === undefined) return null;
  return seconds < 1 ? "about a second" : `about ${formatDuration(seconds)}`;
}

function told(plan) {
  const { tensors } = plan;
  const others = [[tensors.dense, "kept whole"], [tensors.passed_through, "as the base has them"],
                  [tensors.excluded, "left out"]].filter(([count]) => count > 0)
    .map(([count, what]) => `${count} ${what}`);
  return facts([
    ["Result", plan.artifact_bytes > 0 ? `at most ${formatBytes(plan.artifact_bytes)}` : null],
    ["Time", timeText(plan.seconds_estimate)],
    ["Memory", `${formatBytes(plan.memory_peak_bytes)} at most`],
    ["Disk while it runs", formatBytes(plan.disk_bytes)],
    ["To read", formatBytes(plan.bytes_to_read)],
    ["Operations", formatCount(plan.flops)],
    ["Matrices", [formatMany(tensors.low_rank, "matrix", "matrices"), ...others].join(", ")],
    ["Smallest size", smallest(plan)],
    ["Read piece by piece", plan.streamed_layers > 0
      ? `${formatMany(plan.streamed_layers, "matrix", "matrices")}: more than memory_limit holds`
        : null],
  ]);
}

/** {node, ask(request, hint)}: `request` null says `hint` in place of a plan. `onplan(plan)` and
 *  `onproblem(problem)` hear of what came. */
export function planBox({ signal, onplan, onproblem }) {
  const body = h("div", { "aria-busy": "false" });
  const node = h("section", { class: "card plan", "aria-label": "What it takes" },
                 h("h2", null, "What it takes"), body);
  const state = { timer: null, asked: null, running: null };

  async function run(request) {
    state.running?.abort();
    const running = new AbortController();
    state.running = running;
    set(body, { "aria-busy": "true" });
    try {
      const plan = await post("jobs", request,
        { query: { dry_run: true }, signal: AbortSignal.any([signal, running.signal]) });
      fill(body, told(plan));
      onplan(plan);
    } catch (error) {
      if (running.signal.aborted || signal.aborted) return;
      if (error instanceof Problem) onproblem(error);
      fill(body, h("p", { class: "quiet" }, error instanceof Away
        ? "The server does not answer; this is asked again with the next change."
        : "Nothing can be told before what is marked is mended."));
      if (error instanceof Away) state.asked = null;
    } finally {
      if (state.running === running) set(body, { "aria-busy": "false" });
    }
  }

  function ask(request, hint) {
    const text = JSON.stringify(request);
    if (text === state.asked && request !== null) return;
    state.asked = text;
    clearTimeout(state.timer);
    state.running?.abort(); // of another request
    if (request === null) { // the hint may be another one
      fill(body, h("p", { class: "quiet" }, hint));
      return;
    }
    state.timer = setTimeout(() => run(request), CALM_MS);
  }

  signal.addEventListener("abort", () => clearTimeout(state.timer));
  return { node, ask };
}
