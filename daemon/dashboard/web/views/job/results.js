// SPDX-License-Identifier: Apache-2.0
// What came out of a job: its figures, and the drawings that explain them.
import { h } from "../../app/dom.js";
import { formatBytes, formatMany, formatNumber, formatPercent } from "../../app/format.js";
import { go, link } from "../../app/router.js";
import { may } from "../../app/session.js";
import { bars } from "../../drawings/bars.js";
import { frontier } from "../../drawings/frontier.js";
import { heatKey, heatMap } from "../../drawings/heat_map.js";
import { errorsTold, frontierSeries, lostLayers, rankGrid, shortTensor, similarityGrid }
  from "../../drawings/series.js";
import { card, figures } from "../../parts/facts.js";
import { explained } from "../../parts/help.js";
import { longTable } from "../../parts/long_table.js";
import { bytesOf, errorOf, modelBytes } from "./figures.js";

const LOST_LAYERS = 12;
const SHARED_EXPLAINS = "How much of what this fine-tune changed is in the part that all tasks " +
  "share, without the task's own expert. Below 0: the shared part alone leads away from it.";

/** The figures people ask for first. */
export function resultFigures(job) {
  const budget = job.result?.budget ?? {};
  const tasks = job.specification.tasks?.length ?? 0;
  const saved = budget.bytes > 0 && budget.model_bytes > 0
    ? `in place of ${formatBytes(budget.model_bytes * tasks)} for ${formatMany(tasks, "model")}`
    : "";
  return figures([
    ["Size", formatBytes(bytesOf(job)), saved],
    ["Relative error", formatNumber(errorOf(job)), "measured, of what the fine-tunes changed"],
    ["To one model, 16 bits", formatNumber(budget.bytes_ratio_16bit ?? NaN), "1: a whole model"],
    ["To the base's bytes", formatNumber(budget.bytes_ratio ?? NaN), "1: the base's own files"],
  ].filter(([, value]) => value !== "-" && value !== "?"));
}

/** Error against size; a click goes to a new merge of that size. */
export function frontierCard(job, found) {
  const series = frontierSeries(found, job.specification.output?.dtype, modelBytes(job));
  const rebudget = may("submit") && job.reusable;
  if (series.points.length < 2)
    return card("Error against size", false,
                h("p", { class: "quiet" }, "Nothing is known of other sizes of this merge."));
  return card("Error against size", false,
    h("p", { class: "quiet" }, rebudget
      ? "A click on the curve makes a merge of that size, from the spectra that are kept."
      : "What error to expect of other sizes."),
    frontier({ label: "Expected error against size", ...series,
               pick: rebudget ? (x) => go(link("new", { from: job.id, budget: formatNumber(x) }))
                              : null }),
    h("p", { class: "quiet" }, errorsTold(series.chosen !== null)));
}

/** A bar for each task. */
export function errorsCard(job, similarity) {
  const errors = Object.entries(job.result?.error?.per_task ?? {});
  const shares = new Map((similarity?.tasks ?? []).map((name, i) =>
    [name, similarity.explained_by_shared[i]]));
  const note = (name) => typeof shares.get(name) === "number" ? formatPercent(shares.get(name))
                                                              : undefined;
  const help = explained("Shared explains", SHARED_EXPLAINS);
  return card("Error of each task", false, h("div", { class: "scroll" },
    bars({ caption: "Squared error over squared norm of what the fine-tune changed",
           heads: ["Task", "Error", help.node],
           rows: errors.map(([name, value]) => ({ name, value, text: formatNumber(value),
                                                  note: note(name) })) })),
    help.meaning);
}

/** Ranks of all layers and tasks, until the signal is aborted. */
export function ranksCard(ranks, signal) {
  const grid = rankGrid(ranks);
  return card("Ranks", true,
    h("p", { class: "quiet" }, "How many directions of each layer are stored: of the part that " +
      "all tasks share, and of each task's own expert. More directions, less error."),
    heatKey("rising", "0", String(grid.highest),
            ranks.layers.some(({ dense }) => dense.some(Boolean)) ? "kept whole" : null),
    heatMap({ label: "Ranks of layers and tasks", ...grid, signal }),
    longTable({ summary: "As a table", caption: "Ranks", count: ranks.layers.length,
                heads: ["Layer", ...grid.rows],
                row: (i) => [ranks.layers[i].tensor,
                             ...grid.rows.map((_, r) => grid.text(i, r))] }));
}

/** Which tasks are alike, until the signal is aborted. */
export function similarityCard(similarity, signal) {
  const grid = similarityGrid(similarity);
  const few = similarity.tasks.length <= 12;
  return card("Similarity of tasks", false,
    h("p", { class: "quiet" }, "Whether fine-tunes changed the base in like ways (cosine 1), in " +
      "ways that have nothing in common (0), or against each other (-1)."),
    heatKey("around", "opposite", "alike"),
    heatMap({ label: "Cosines of what the fine-tunes changed", ...grid, palette: "around",
              prints: few, signal }),
    longTable({ summary: "As a table", caption: "Cosines of what the fine-tunes changed",
                count: similarity.tasks.length, heads: ["Task", ...similarity.tasks],
                row: (i) => [similarity.tasks[i],
                             ...similarity.tasks.map((_, c) => grid.text(c, i))] }));
}

/** Where most was lost. */
export function lostCard(ranks) {
  const rows = lostLayers(ranks, LOST_LAYERS);
  return card("Layers that lost most", false, h("div", { class: "scroll" },
    bars({ caption: "Share of all that was lost, and error of the layer itself",
           heads: ["Layer", "Share", "Own error"],
           rows: rows.map(({ name, value, relative }) =>
             ({ name: h("span", { title: name }, shortTensor(name)), value,
                text: formatPercent(value), note: formatNumber(relative) })) })));
}
