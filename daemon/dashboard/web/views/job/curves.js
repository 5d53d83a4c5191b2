// SPDX-License-Identifier: Apache-2.0
// The curves of a job, as its points come: loss, error and size, a line for each stage.
import { h, say } from "../../app/dom.js";
import { formatNumber } from "../../app/format.js";
import { breath } from "../../app/frames.js";
import { curve } from "../../drawings/curve.js";
import { stageWords } from "./figures.js";

const DRAW_MS = 250; // at most so often

const MEASURES = [
  { key: "loss", label: "Loss", about: "What the fit makes small." },
  { key: "relative_error", label: "Relative error",
    about: "The share that is lost of what the fine-tunes changed." },
  { key: "ratio", label: "Stored, to one model", target: "ratio_target",
    about: "How many times a single model is stored; dotted: what was asked for." },
];

/** Takes points into lines by stage; a later attempt begins the stage anew. */
function gather() {
  const stages = new Map(); // stage -> {attempt, xs, measure -> ys}
  return {
    stages: () => [...stages].filter(([, { xs }]) => xs.length > 0).map(([stage]) => stage),
    add(event) {
      let lines = stages.get(event.stage);
      if (lines === undefined || lines.attempt !== event.attempt) {
        lines = { attempt: event.attempt, xs: [], loss: [], relative_error: [], ratio: [] };
        stages.set(event.stage, lines);
      }
      if (event.step === undefined || lines.xs.at(-1) === event.step) return;
      if (lines.xs.length > 0 && event.step < lines.xs.at(-1)) return; // told late
      lines.xs.push(event.step);
      for (const { key } of MEASURES) lines[key].push(event[key] ?? null);
      if (event.ratio_target !== undefined) lines.target = event.ratio_target;
    },
    lines({ key, target }) {
      const found = [...stages].filter(([, lines]) => lines[key].some((y) => y !== null))
        .map(([stage, lines]) => ({ name: stage, xs: lines.xs, ys: lines[key] }));
      const goal = [...stages.values()].map((lines) => lines.target).find((y) => y !== undefined);
      if (target === undefined || goal === undefined || found.length === 0) return found;
      const last = Math.max(...found.map(({ xs }) => xs.at(-1)));
      const first = Math.min(...found.map(({ xs }) => xs[0]));
      return [...found, { name: "budget", xs: first === last ? [first] : [first, last],
                          ys: first === last ? [goal] : [goal, goal], isTarget: true }];
    },
  };
}

/** Returns {node, add(events)}. */
export function jobCurves(signal) {
  const points = gather();
  const format = (y) => formatNumber(y, 4);
  const plots = MEASURES.map((measure) =>
    [measure, curve({ ...measure, stepName: "layers", format })]);
  const nothing = h("p", { class: "quiet" }, "Points come once it takes layers together.");
  const stages = h("p", { class: "quiet about" });
  const node = h("div", null, stages, nothing,
                 h("div", { class: "curves" }, plots.map(([, plot]) => plot.node)));
  let timer = null; // of a drawing to come, or in progress
  let waiting = false; // for another one after it

  function update([measure, plot]) {
    const lines = points.lines(measure);
    if (lines.length > 0) nothing.remove();
    plot.update(lines);
  }

  async function draw() {
    say(stages, points.stages().map(stageWords).join("; "));
    for (const one of plots) {
      update(one);
      await breath();
      if (signal.aborted) return;
    }
    timer = null;
    if (waiting) later();
  }

  function later() {
    waiting = timer !== null;
    timer ??= setTimeout(draw, DRAW_MS);
  }

  addEventListener("beforeprint", () => plots.forEach(update), { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    for (const [, plot] of plots) plot.close();
  });
  return {
    node,
    add(events) {
      for (const event of events) if (event.kind === "point") points.add(event);
      later();
    },
  };
}
