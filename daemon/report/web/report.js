// SPDX-License-Identifier: Apache-2.0
// The drawings of a report, of the data that it carries. All that is essential is there without.
import { append, fill, h } from "../../dashboard/web/app/dom.js";
import { formatNumber, formatPercent } from "../../dashboard/web/app/format.js";
import { bars } from "../../dashboard/web/drawings/bars.js";
import { frontier } from "../../dashboard/web/drawings/frontier.js";
import { heatKey, heatMap } from "../../dashboard/web/drawings/heat_map.js";
import { frontierSeries, lostLayers, rankGrid, shortTensor,
         similarityGrid } from "../../dashboard/web/drawings/series.js";
import { jobCurves } from "../../dashboard/web/views/job/curves.js";
import { modelBytes } from "../../dashboard/web/views/job/figures.js";

const LOST_LAYERS = 12;
const PRINTED_TASKS = 10; // so many cosines fit beside each other

function drawFrontier({ job, frontier: found }) {
  const series = frontierSeries(found, job.specification.output?.dtype, modelBytes(job));
  return series.points.length < 2 ? null
    : frontier({ label: "Expected error against size", ...series });
}

function drawErrors({ job }) {
  const errors = Object.entries(job.result?.error?.per_task ?? {});
  return errors.length === 0 ? null : bars({
    caption: "Squared error over squared norm of what the fine-tune changed",
    heads: ["Task", "Error"],
    rows: errors.map(([name, value]) => ({ name, value, text: formatNumber(value) })) });
}

function drawSimilarity({ similarity }) {
  const grid = similarityGrid(similarity);
  return [heatKey("around", "opposite", "alike"),
          heatMap({ label: "Cosines of what the fine-tunes changed", ...grid, palette: "around",
                    prints: similarity.tasks.length <= PRINTED_TASKS })];
}

function drawRanks({ ranks }) {
  const grid = rankGrid(ranks);
  const isWhole = ranks.layers.some(({ dense }) => dense.some(Boolean));
  return [heatKey("rising", "0", String(grid.highest), isWhole ? "kept whole" : null),
          heatMap({ label: "Ranks of layers and tasks", ...grid })];
}

function drawLost({ ranks }) {
  return bars({ caption: "Share of all that was lost, and error of the layer itself",
                heads: ["Layer", "Share", "Own error"],
                rows: lostLayers(ranks, LOST_LAYERS).map(({ name, value, relative }) =>
                  ({ name: h("span", { title: name }, shortTensor(name)), value,
                     text: formatPercent(value), note: formatNumber(relative) })) });
}

function drawCurves({ points }) {
  const curves = jobCurves(new AbortController().signal);
  curves.add(points);
  return curves.node;
}

const DRAWINGS = { frontier: drawFrontier, errors: drawErrors, similarity: drawSimilarity,
                   ranks: drawRanks, lost: drawLost, curves: drawCurves };

const data = JSON.parse(document.getElementById("data").textContent);
for (const place of document.querySelectorAll("[data-drawing]")) {
  const drawing = DRAWINGS[place.dataset.drawing](data);
  if (drawing === null) continue;
  append(fill(place), drawing);
  place.closest("section").hidden = false;
}
