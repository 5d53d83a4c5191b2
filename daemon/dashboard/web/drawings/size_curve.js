// SPDX-License-Identifier: Apache-2.0
// The frontier as a slider: a point on it is the size that is asked for. A click, the pointer or
// arrow keys move it; S, M and L catch it when it comes near.
import { h, s, say, set } from "../app/dom.js";
import { fitted } from "./fitted.js";
import { EDGE, HEIGHT, errorAt, frontierGround } from "./frontier.js";

const CATCH = 0.012; // of the width: so near, a mark takes the point
const STEPS = 100; // of arrow keys from end to end
const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

/** `points`, `chosen`, `marks`, `xName`, `formatX`, `tell` as of `frontier`. `pick(x, mark)` is
 *  called with the place, and the mark that took it or null. {node, update(x)}. */
export function sizeCurve({ label, points, chosen, marks, xName, formatX, tell, pick }) {
  const [low, high] = [points[0].x, points.at(-1).x];
  const readout = h("p", { class: "readout size-readout", "aria-hidden": "true" });
  const state = { x: null, place: null, svg: null, isTouch: false };

  function markNear(x) {
    const near = marks.filter((mark) => Math.abs(mark.x - x) <= CATCH * (high - low));
    return near.sort((a, b) => Math.abs(a.x - x) - Math.abs(b.x - x))[0] ?? null;
  }

  function choose(x, isKey) {
    const bound = Math.min(high, Math.max(low, x));
    const mark = isKey && state.x === markNear(bound)?.x ? null : markNear(bound);
    update(mark?.x ?? bound);
    pick(mark?.x ?? bound, mark);
  }

  function words(x) {
    const mark = marks.find((one) => Math.abs(one.x - x) < 1e-9);
    return `${mark === undefined ? "" : `${mark.name}: `}${tell(x, errorAt(points, x))}`;
  }

  function update(x) {
    state.x = x === null || errorAt(points, x) === null ? null : x;
    if (state.x === null) {
      say(readout, x === null ? "Click on the curve to pick a size."
                              : "The size that is asked for lies beyond this curve.");
      if (state.svg !== null) set(state.svg, { "aria-valuetext": "beyond the curve" });
    } else {
      say(readout, words(x));
      if (state.svg !== null)
        set(state.svg, { "aria-valuenow": x.toFixed(4), "aria-valuetext": words(x) });
    }
    state.place?.(state.x);
  }

  function onKey(event) {
    const step = KEYS[event.key];
    const named = marks.find(({ name }) => name === event.key.toUpperCase());
    if (step === undefined && named === undefined && !["Home", "End"].includes(event.key)) return;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    if (named !== undefined) choose(named.x, false);
    else if (event.key === "Home") choose(low, false);
    else if (event.key === "End") choose(high, false);
    else choose((state.x ?? low) + (step * (high - low)) / STEPS, true);
  }

  function draw(width) {
    const { nodes, toX, toY, fromX } = frontierGround(width,
                                                      { points, chosen, marks, xName, formatX });
    const stem = s("line", { class: "picked-stem", y1: EDGE.top, y2: HEIGHT - EDGE.bottom });
    const picked = s("circle", { class: "picked", r: 8 });
    // the same element each time, so that it keeps the focus
    state.svg ??= s("svg",
                    { class: "frontier picks", tabindex: "0", role: "slider", "aria-label": label,
                             "aria-valuemin": low.toFixed(4), "aria-valuemax": high.toFixed(4),
                             onkeydown: onKey, onpointerdown: onPointer, onpointermove: onMove,
                             onclick: onClick });
    set(state.svg, { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` });
    state.svg.replaceChildren(...nodes, stem, picked);
    state.fromX = fromX;
    state.place = (x) => {
      const hidden = x === null ? "none" : null;
      set(stem, { x1: toX(x ?? low), x2: toX(x ?? low), display: hidden });
      set(picked, { cx: toX(x ?? low), cy: toY(errorAt(points, x ?? low)), display: hidden });
    };
    update(state.x);
    return state.svg;
  }

  /** A finger may be about to scroll: only its tap chooses. */
  function onPointer(event) {
    state.isTouch = event.pointerType === "touch";
    if (state.isTouch || event.button !== 0) return;
    state.svg.setPointerCapture(event.pointerId);
    choose(state.fromX(event.offsetX), false);
  }

  function onMove(event) {
    if (event.buttons === 1 && event.pointerType !== "touch")
      choose(state.fromX(event.offsetX), false);
  }

  function onClick(event) {
    if (state.isTouch) choose(state.fromX(event.offsetX), false);
  }

  const drawing = fitted(draw);
  return { node: h("figure", { class: "frontier-figure" }, drawing.node, readout), update };
}
