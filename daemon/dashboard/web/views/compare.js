// SPDX-License-Identifier: Apache-2.0
// Jobs side by side: size, error of each task, where their ranks differ, their frontiers in one
// drawing. "#/compare?job=A&job=B", or jobs=A,B; without, or to add one, a list to pick from.
import { Problem, get, getAll, segment } from "../app/api.js";
import { append, fill, h } from "../app/dom.js";
import { formatAge, formatBudget, formatBytes, formatDuration,
         formatNumber } from "../app/format.js";
import { go, link } from "../app/router.js";
import { curve } from "../drawings/curve.js";
import { COMPARED_MOST as MOST, frontierSeries } from "../drawings/series.js";
import { card } from "../parts/facts.js";
import { tick } from "../parts/fields.js";
import { longTable } from "../parts/long_table.js";
import { showNothing, showProblem } from "../parts/notice.js";
import { hasFigures } from "./job/figures.js";

const LAYERS = 30;

function wantedJobs(query) {
  const ids = [...query.getAll("job"), ...query.getAll("jobs").flatMap((text) => text.split(","))];
  return [...new Set(ids.filter((id) => id !== ""))].slice(0, MOST);
}

/** What is asked of a job; null where it has none of it. */
async function part(path, signal) {
  try {
    return await get(path, { signal });
  } catch (error) {
    if (error instanceof Problem && error.status < 500) return null;
    throw error;
  }
}

async function loadJob(id, signal) {
  const path = `jobs/${segment(id)}`;
  const job = await get(path, { signal });
  const [ranks, frontier] = await Promise.all(["ranks", "frontier"].map((what) =>
    hasFigures(job, what) ? part(`${path}/${what}`, signal) : null));
  return { job, ranks, frontier, name: job.name === "" ? `…${id.slice(-6)}` : job.name };
}

/** Names that tell the jobs apart. */
function tellApart(found) {
  const count = new Map();
  for (const { name } of found) count.set(name, (count.get(name) ?? 0) + 1);
  for (const one of found) if (count.get(one.name) > 1) one.name += ` …${one.job.id.slice(-6)}`;
}

// ---- tables ----

function columnHeads(found) {
  return found.map(({ job, name }) => h("th", { scope: "col" },
                                        h("a", { href: link("jobs", job.id) }, name)));
}

function sideBySide(caption, found, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { class: "compare" }, h("caption", null, caption),
      h("thead", null, h("tr", null, h("td"), columnHeads(found))),
      h("tbody", null,
        rows.map(([name, values, best]) => h("tr", null, h("th", { scope: "row" }, name),
        values.map((text, i) => h("td", { class: "number" }, text,
          best === i ? h("span", { class: "best" }, " least") : null)))))));
}

/** The place of the least number; null where all are alike or none is known. */
function leastOf(numbers) {
  const known = numbers.filter((number) => typeof number === "number");
  const least = Math.min(...known);
  return known.length < 2 || known.every((number) => number === least) ? null
    : numbers.indexOf(least);
}

function numberRow(name, numbers, format) {
  return [name, numbers.map((number) => typeof number === "number" ? format(number) : "-"),
          leastOf(numbers)];
}

function secondsOf({ started_at: begun, finished_at: ended }) {
  return begun && ended ? (Date.parse(ended) - Date.parse(begun)) / 1000 : null;
}

function overview(found) {
  const jobs = found.map(({ job }) => job);
  const budgets = jobs.map(({ result }) => result?.budget);
  const differing = (name, values) => new Set(values).size > 1 ? [[name, values, null]] : [];
  return sideBySide("Size and error", found, [
    ["State", jobs.map(({ state }) => state), null],
    ["Budget",
     jobs.map(({ specification: of }) => formatBudget(of.budget ?? null, of.output?.dtype)), null],
    numberRow("Size", budgets.map((budget) => budget?.bytes), formatBytes),
    numberRow("To one model, 16 bits", budgets.map((budget) => budget?.bytes_ratio_16bit),
              formatNumber),
    numberRow("To the base's bytes", budgets.map((budget) => budget?.bytes_ratio), formatNumber),
    numberRow("Relative error", jobs.map(({ result }) => result?.error?.relative), formatNumber),
    numberRow("Time", jobs.map(secondsOf), formatDuration),
    ...differing("Base", jobs.map(({ specification }) => specification.base)),
    ...differing("Method", jobs.map(({ specification }) => specification.method)),
    ...differing("Stored as", jobs.map(({ specification }) => specification.output?.dtype ?? "-")),
    ...differing("Weighting",
                 jobs.map(({ specification }) => specification.ranks?.weighting ?? "-")),
    ["Submitted", jobs.map(({ created_at: created }) => formatAge(created)), null],
  ]);
}

function errorTable(found) {
  const tasks = [...new Set(found.flatMap(({ job }) =>
                                          Object.keys(job.result?.error?.per_task ?? {})))];
  if (tasks.length === 0) return h("p", { class: "quiet" },
                                   "No job of these has ended with a result.");
  return sideBySide("Relative error of each task", found, tasks.map((task) =>
    numberRow(task, found.map(({ job }) => job.result?.error?.per_task?.[task]), formatNumber)));
}

// ---- ranks ----

const rankSum = (layer) => layer === undefined ? 0
  : layer.shared + layer.experts.reduce((sum, rank) => sum + rank, 0);

function rankText(layer) {
  if (layer === undefined) return "-";
  const whole = layer.dense.filter(Boolean).length;
  return `${layer.shared} + ${layer.experts.join(", ")}${whole > 0 ? ` (${whole} whole)` : ""}`;
}

/** Layers by how far the sums of their ranks lie apart. */
function differingLayers(found) {
  const maps = found.map(({ ranks }) =>
                         new Map(ranks.layers.map((layer) => [layer.tensor, layer])));
  const names = [...new Set(maps.flatMap((map) => [...map.keys()]))];
  return names.map((name) => {
    const layers = maps.map((map) => map.get(name));
    const sums = layers.map(rankSum);
    return { name, layers, apart: Math.max(...sums) - Math.min(...sums) };
  }).sort((a, b) => b.apart - a.apart);
}

function ranksCard(found) {
  const ranked = found.filter(({ ranks }) => ranks !== null);
  if (ranked.length < 2) return null;
  const layers = differingLayers(ranked);
  const most = layers.slice(0, LAYERS).filter(({ apart }) => apart > 0);
  return card("Where ranks differ most", true, most.length === 0
    ? h("p", { class: "quiet" }, "All ranks are the same.")
    : sideBySide("Rank of the shared part + ranks of the experts", ranked,
                 most.map(({ name, layers: rows }) => [name, rows.map(rankText), null])),
    layers.length <= most.length ? null : longTable({
      summary: `All ${layers.length} layers`, caption: "Ranks of all layers", count: layers.length,
      heads: ["Layer", ...ranked.map(({ name }) => name)],
      row: (i) => [layers[i].name, ...layers[i].layers.map(rankText)],
    }));
}

// ---- frontiers ----

function frontierLines(found) {
  return found.filter(({ frontier }) => frontier !== null).map(({ name, job, frontier }) => {
    const budget = job.result?.budget;
    const modelBytes = budget?.bytes > 0 && budget.bytes_ratio_16bit > 0
      ? budget.bytes / budget.bytes_ratio_16bit : NaN;
    const { points, xName } = frontierSeries(frontier, job.specification.output?.dtype, modelBytes);
    return { name, xName, xs: points.map(({ x }) => x),
             ys: points.map(({ error }) => error) };
  });
}

function frontierCard(found, signal) {
  const all = frontierLines(found);
  if (all.length === 0) return null;
  const drawing = curve({ label: "Expected error against size",
                          stepName: [...new Set(all.map(({ xName }) => xName))].join(" or ") });
  signal.addEventListener("abort", () => drawing.close());
  requestAnimationFrame(() => drawing.update(all));
  return card("Error against size", true, drawing.node);
}

// ---- picking ----

/** A finished job to be picked; `toggle(on)` hears of its tick. */
function pickRow(job, isChosen, toggle) {
  const one = tick("checkbox", job.name || job.id, {
    checked: isChosen, onchange: () => toggle(one.input.checked),
  });
  const about = [formatBudget(job.budget, job.dtype), job.base, formatAge(job.created_at),
                 `…${job.id.slice(-6)}`];
  return h("li", { class: "model-pick" }, h("div", { class: "row" }, one.node,
    h("span", { class: "quiet" }, about.join(", "))));
}

function picker(context, wanted, place) {
  const chosen = new Set(wanted);
  const button = h("button", { type: "button", class: "primary", onclick: () =>
    go(link("compare", { job: [...chosen] })) }, "Compare");
  const update = () => { button.disabled = chosen.size < 2 || chosen.size > MOST; };

  function rowOf(job) {
    return pickRow(job, chosen.has(job.id), (on) => {
      if (on) chosen.add(job.id);
      else chosen.delete(job.id);
      update();
    });
  }

  async function load() {
    const { signal } = context;
    try {
      const all = await getAll("jobs", { query: { state: "succeeded" }, signal }, 200);
      const jobs = all.filter(({ survey }) => !survey);
      update();
      fill(place, jobs.length < 2
        ? showNothing("There are not two finished jobs yet.",
                      h("a", { href: link("new") }, "Make a new merge"), ".")
        : [h("fieldset", null, h("legend", null, `Pick two to ${MOST} finished jobs`),
             h("ul", { class: "model-list" }, jobs.map(rowOf))),
           h("p", { class: "form-end" }, button)]);
      context.ready();
    } catch (error) {
      if (!signal.aborted) fill(place, showProblem(error));
    }
  }

  load();
}

function showAll(context, found, place) {
  tellApart(found);
  const more = h("div");
  const fold = h("details", { class: "card fold", ontoggle: () => {
    if (fold.open && more.childElementCount === 0) picker(context, found.map(({ job }) => job.id),
                                                          more);
  } }, h("summary", null, h("h2", null, "Other jobs")), more);
  fill(place, h("div", { class: "cards" },
    card("Side by side", true, overview(found)), card("Errors", true, errorTable(found)),
    frontierCard(found, context.signal), ranksCard(found)), fold);
}

export async function openCompare(context) {
  const wanted = wantedJobs(context.query);
  const place = h("div", null, h("p", { class: "quiet waiting" }, "Loading …"));
  context.title("Compare");
  append(context.root, h("h1", { tabindex: "-1" }, "Compare jobs"), place);
  if (wanted.length < 2) {
    picker(context, wanted, place);
    return;
  }
  try {
    showAll(context, await Promise.all(wanted.map((id) => loadJob(id, context.signal))), place);
    context.ready();
  } catch (error) {
    if (!context.signal.aborted) fill(place, showProblem(error), h("p", null,
        h("a", { href: link("compare") }, "Pick other jobs")));
  }
}
