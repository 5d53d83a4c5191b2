// SPDX-License-Identifier: Apache-2.0
// The frontier: what error to expect of which size, the sizes S, M and L, and what was chosen.
import { h, s, say } from "../app/dom.js";
import { formatNumber } from "../app/format.js";
import { fitted } from "./fitted.js";
import { linear, logTicks, logarithmic, ticks } from "./scale.js";

export const HEIGHT = 280;
const WIDE = 20; // errors that differ by more are drawn by their logarithms
const ZERO = 1 / 3; // of the least error above 0: there 0 is drawn, which has no logarithm
export const EDGE = { left: 56, right: 16, top: 28, bottom: 44 };

/** The error at `x` on the line through the points, which rise in x; null outside. */
export function errorAt(points, x) {
  for (let i = 1; i < points.length; i += 1) {
    const [a, b] = [points[i - 1], points[i]];
    if (x >= a.x && x <= b.x) return linear(a.x, b.x, a.error, b.error)(x);
  }
  return null;
}

function bounds(points, chosen, marks) {
  const xs = [...points, ...(chosen ? [chosen] : []), ...marks].map(({ x }) => x);
  const errors = [...points, ...(chosen ? [chosen] : [])].map(({ error }) => error);
  const positive = errors.filter((error) => error > 0);
  const most = Math.max(...errors, 1e-12);
  const least = Math.min(...positive, most);
  const isLog = most / least > WIDE;
  const hasZero = isLog && positive.length < errors.length;
  return { low: Math.min(...xs), high: Math.max(...xs), most, isLog, hasZero,
           least: hasZero ? least * ZERO : least };
}

/** What stands over the axis of errors. */
function errorName({ isLog, hasZero }) {
  if (!isLog) return "relative error";
  return hasZero ? "relative error, by logarithms but for 0" : "relative error, by logarithms";
}

function axes(place, toX, toY, range, { xName, formatX }) {
  const { low, high, most, least, isLog, hasZero } = range;
  const bottom = HEIGHT - EDGE.bottom;
  const parts = [];
  for (const x of ticks(low, high, Math.max(4, Math.floor(place.width / 110))))
    parts.push(s("line", { class: "grid", x1: toX(x), x2: toX(x), y1: EDGE.top, y2: bottom }),
               s("text", { class: "tick", x: toX(x), y: bottom + 16, "text-anchor": "middle" },
                 formatX(x)));
  const errors = isLog ? logTicks(hasZero ? least / ZERO : least, most) : ticks(0, most, 5);
  for (const error of hasZero ? [0, ...errors] : errors)
    parts.push(s("line", { class: "grid", x1: EDGE.left, x2: place.width - EDGE.right,
                           y1: toY(error), y2: toY(error) }),
               s("text", { class: "tick", x: EDGE.left - 6, y: toY(error) + 4,
                           "text-anchor": "end" }, formatNumber(error)));
  parts.push(s("text", { class: "axis", x: place.width - EDGE.right, y: HEIGHT - 6,
                         "text-anchor": "end" }, xName),
             s("text", { class: "axis", x: 4, y: 14 }, errorName(range)));
  return parts;
}

function markLine({ x, name }, toX) {
  const at = toX(x);
  return s("g", { class: "budget-mark" },
           s("line", { x1: at, x2: at, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
           s("text", { x: at, y: EDGE.top - 6, "text-anchor": "middle" }, name));
}

/** What lies still: axes, marks, the line, what was chosen; and how places become numbers.
 *  {nodes, toX, toY, fromX}. */
export function frontierGround(width, { points, chosen, marks, xName, formatX }) {
  const range = bounds(points, chosen, marks);
  const toX = linear(range.low, range.high, EDGE.left, width - EDGE.right);
  const [bottom, top] = [HEIGHT - EDGE.bottom, EDGE.top];
  const toY = range.isLog ? logarithmic(range.least, range.most, bottom, top)
                          : linear(0, range.most, bottom, top);
  const path = points.map(({ x, error }, i) => `${i === 0 ? "M" : "L"}${toX(x).toFixed(1)} ` +
                                               toY(error).toFixed(1)).join("");
  const rhomb = (x, y) => `M${x} ${y - 8}l8 8-8 8-8-8z`;
  const dots = width / points.length > 6 ? points : [];
  return {
    toX, toY, fromX: linear(EDGE.left, width - EDGE.right, range.low, range.high),
    nodes: [
      ...axes({ width }, toX, toY, range, { xName, formatX }),
      ...marks.map((mark) => markLine(mark, toX)),
      s("path", { class: "line", d: path }),
      ...dots.map(({ x, error }) =>
        s("circle", { class: "dot", r: 2.5, cx: toX(x), cy: toY(error) })),
      ...chosen === null ? [] : [s("path", { class: "chosen",
                                             d: rhomb(toX(chosen.x), toY(chosen.error)) })],
    ],
  };
}

/** `points`: [{x, error}] rising in x; `chosen`: {x, error} or null; `marks`: [{x, name}]; `tell(x,
 *  error)`: words of a place; `pick(x)`: called when somebody chooses a place, or null.
 *  Returns a node. */
export function frontier({ label, points, chosen, marks, xName, formatX, tell, pick = null }) {
  const low = Math.min(...[...points, ...marks].map(({ x }) => x));
  const high = Math.max(...[...points, ...marks].map(({ x }) => x));
  const readout = h("p", { class: "readout quiet", "aria-live": "polite" });
  const state = { x: chosen?.x ?? null, place: null };

  function showPlace(x) {
    const error = errorAt(points, x);
    if (error === null) return;
    state.x = x;
    state.place?.(x, error);
    say(readout, tell(x, error));
  }

  function draw(width) {
    const what = { points, chosen, marks, xName, formatX };
    const { nodes, toX, toY, fromX } = frontierGround(width, what);
    const cursor = s("circle", { class: "cursor", r: 5, cx: -20, cy: -20 });
    const drawing = s("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`,
                               class: pick ? "frontier picks" : "frontier", tabindex: "0",
                               role: "img", "aria-label": label }, nodes, cursor);
    state.place = (x, error) => {
      cursor.setAttribute("cx", toX(x));
      cursor.setAttribute("cy", toY(error));
    };
    const bound = (x) => Math.min(points.at(-1).x, Math.max(points[0].x, x));
    drawing.addEventListener("pointermove", (event) => showPlace(bound(fromX(event.offsetX))));
    drawing.addEventListener("click", (event) => pick?.(bound(fromX(event.offsetX))));
    drawing.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10 }[event.key];
      if (event.key === "Enter" && state.x !== null) pick?.(state.x);
      if (step === undefined) return;
      event.preventDefault();
      showPlace(bound((state.x ?? low) + (step * (high - low)) / 100));
    });
    return drawing;
  }

  const drawing = fitted(draw);
  return h("figure", { class: "frontier-figure" }, drawing.node,
           h("p", { class: "quiet keys-line" },
             chosen === null ? null
               : [h("span", { class: "key-chosen", "aria-hidden": "true" }, "◆"),
                  " this job, measured "],
             "— expected, of other sizes"),
           readout);
}
