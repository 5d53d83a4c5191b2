// SPDX-License-Identifier: Apache-2.0
// From what the interface gives to what drawings take. Pure functions.
import { formatBytes, formatNumber } from "../app/format.js";

export const COMPARED_MOST = 6; // jobs side by side: as many as there are colours

/** What S, M and L stand for: models, in the unit of a budget that is a number. */
export const MARKS = [{ name: "S", x: 1.24 }, { name: "M", x: 1.4 }, { name: "L", x: 2.0 }];

/** The end of a tensor's name, which tells it from others; the whole where it is short. */
export function shortTensor(name) {
  const parts = name.replace(/\.weight$/, "").split(".");
  return parts.length <= 4 ? parts.join(".") : `…${parts.slice(-4).join(".")}`;
}

/** Bytes of one model in 16 bits, as a mark tells them; else what is known already, or NaN. */
function bytesOfModel(found, known) {
  const mark = found.marks?.find(({ unit }) => unit === "bytes_ratio_16bit");
  return known > 0 || mark === undefined ? known : mark.bytes / mark.budget;
}

/** What `frontier` draws: of a job's frontier, its dtype, and the bytes of one model in 16 bits
 *  (NaN where not known). */
export function frontierSeries(found, dtype, knownBytes) {
  const modelBytes = bytesOfModel(found, knownBytes);
  const sized = found.precisions?.[dtype] ?? [];
  const inBytes = dtype === "auto" && sized.length > 1 && modelBytes > 0;
  const points = inBytes
    ? sized.map(({ bytes, error }) => ({ x: bytes / modelBytes, error, bytes }))
    : found.points.map(({ budget, error }) => ({ x: budget, error }));
  const { chosen } = found;
  const at = chosen === null || chosen === undefined ? null
    : { x: inBytes ? chosen.bytes / modelBytes : chosen.budget, error: chosen.error };
  const last = Math.max(points.at(-1)?.x ?? 0, at?.x ?? 0);
  return {
    points, chosen: at,
    marks: MARKS.filter(({ x }) => x <= last && x >= (points[0]?.x ?? 0)),
    xName: inBytes ? "size, in 16-bit models" : "stored parameters, in models",
    formatX: (x) => formatNumber(x, 4),
    tell: (x, error) => inBytes
      ? `${formatNumber(x)} 16-bit models (${formatBytes(x * modelBytes)}): ` +
        `error ${formatNumber(error)} expected`
      : `${formatNumber(x)} models: error ${formatNumber(error)} expected`,
  };
}

/** Which errors beside each other are which. */
export function errorsTold(isMeasured) {
  const line = "Expected: foreseen before factors are fitted and numbers rounded.";
  return isMeasured
    ? `${line} Measured: of what is stored. Both weigh layers as the merge did; the relative ` +
      "error among the figures is measured too, and counts all alike."
    : line;
}

/** Layers by the energy that was lost in them, the worst first: {name, value (share of all that
 *  was lost), relative (of the layer itself)}. */
export function lostLayers(ranks, most) {
  const rows = ranks.layers.map((layer) => {
    const energies = layer.energies ?? layer.errors.map(() => 1);
    const lost = layer.errors.reduce((sum, error, t) => sum + error * energies[t], 0);
    const energy = energies.reduce((sum, one) => sum + one, 0);
    return { name: layer.tensor, lost, relative: energy > 0 ? lost / energy : 0 };
  });
  const all = rows.reduce((sum, { lost }) => sum + lost, 0);
  return rows.sort((a, b) => b.lost - a.lost).slice(0, most)
    .map(({ name, lost, relative }) => ({ name, relative, value: all > 0 ? lost / all : 0 }));
}

/** The ranks as a grid: columns are layers, rows are the shared part and the tasks. */
export function rankGrid(ranks) {
  const highest = Math.max(1, ...ranks.layers.map(({ shared, experts }) =>
    Math.max(shared, ...experts)));
  const rankAt = (c, r) => r === 0 ? ranks.layers[c].shared : ranks.layers[c].experts[r - 1];
  const isWhole = (c, r) => r > 0 && ranks.layers[c].dense[r - 1];
  return {
    highest,
    columns: ranks.layers.map(({ tensor }) => tensor),
    rows: ["shared", ...ranks.tasks],
    cell: (c, r) => ({ level: Math.sqrt(rankAt(c, r) / highest), marked: isWhole(c, r) }),
    text: (c, r) => isWhole(c, r) ? "whole" : String(rankAt(c, r)),
    tell(c, r) {
      const layer = ranks.layers[c];
      const size = `${layer.rows} × ${layer.columns}`;
      const what = isWhole(c, r) ? "kept whole"
                                 : `rank ${rankAt(c, r)} of at most ${layer.rank_limit}`;
      const lost = r > 0 ? `, error ${formatNumber(layer.errors[r - 1])}` : "";
      const whose = r === 0 ? "shared" : ranks.tasks[r - 1];
      return `${layer.tensor} (${size}), ${whose}: ${what}${lost}`;
    },
  };
}

/** Cosines of tasks as a grid. */
export function similarityGrid({ tasks, cosine }) {
  const known = (c, r) => cosine[r][c] !== null;
  return {
    columns: tasks, rows: tasks,
    cell: (c, r) => ({ level: known(c, r) ? (cosine[r][c] + 1) / 2 : null,
                       print: known(c, r) ? cosine[r][c].toFixed(2) : "" }),
    text: (c, r) => known(c, r) ? formatNumber(cosine[r][c]) : "-",
    tell: (c, r) => `${tasks[r]} and ${tasks[c]}: ` +
      (known(c, r) ? `cosine ${formatNumber(cosine[r][c])}` : "not known"),
  };
}
