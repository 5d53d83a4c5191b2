// SPDX-License-Identifier: Apache-2.0
// Points by name: size against what is kept, and a line through those of one kind. Arrow keys walk
// over the points as a pointer does; what a point is stands below.
import { h, s, say, set } from "../app/dom.js";
import { formatNumber } from "../app/format.js";
import { fitted } from "./fitted.js";
import { linear, ticks } from "./scale.js";

const HEIGHT = 320;
const EDGE = { left: 56, right: 16, top: 28, bottom: 44 };
const ROOM = 0.04; // beyond the outermost points

function span(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) * ROOM;
  return [low - room, high + room];
}

function ground(width, toX, toY, { xs, ys, xName, yName }) {
  const bottom = HEIGHT - EDGE.bottom;
  return [
    ...ticks(...xs, Math.max(4, Math.floor(width / 110))).map((x) => [
      s("line", { class: "grid", x1: toX(x), x2: toX(x), y1: EDGE.top, y2: bottom }),
      s("text", { class: "tick", x: toX(x), y: bottom + 16, "text-anchor": "middle" },
        `${formatNumber(x)}×`)]),
    ...ticks(...ys, 5).map((y) => [
      s("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: toY(y), y2: toY(y) }),
      s("text", { class: "tick", x: EDGE.left - 6, y: toY(y) + 4, "text-anchor": "end" },
        formatNumber(y))]),
    s("text", { class: "axis", x: width - EDGE.right, y: HEIGHT - 6, "text-anchor": "end" }, xName),
    s("text", { class: "axis", x: 4, y: 14 }, yName),
  ].flat();
}

function shape({ isLine }, x, y) {
  return isLine ? s("path", { class: "chosen", d: `M${x} ${y - 7}l7 7-7 7-7-7z` })
                : s("circle", { class: "dot", r: 5, cx: x, cy: y });
}

/** {node, update(points)}; points: [{name, x, y, isLine, tell}], those of the line joined. */
export function scatter({ label, xName, yName, pointsName, lineName }) {
  const readout = h("p", { class: "readout quiet", "aria-live": "polite" });
  const state = { points: [], at: null, places: [], mark: null, svg: null };

  function point(index) {
    state.at = index;
    const place = state.places[index];
    if (place === undefined) return;
    set(state.mark, { cx: place.x, cy: place.y });
    say(readout, place.tell);
  }

  function nearest({ offsetX, offsetY }) {
    const far = ({ x, y }) => (x - offsetX) ** 2 + (y - offsetY) ** 2;
    return state.places.reduce((best, place, i) =>
      far(place) < far(state.places[best]) ? i : best, 0);
  }

  function onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -5, PageDown: 5 }[event.key];
    const last = state.places.length - 1;
    if (last < 0 || (step === undefined && !["Home", "End"].includes(event.key))) return;
    event.preventDefault();
    point(event.key === "Home" ? 0 : event.key === "End" ? last
      : Math.min(last, Math.max(0, state.at === null ? 0 : state.at + step)));
  }

  function draw(width) {
    state.svg ??= s("svg", { class: "frontier", tabindex: "0", role: "img", "aria-label": label,
      onkeydown: onKey, onpointermove: (event) => {
        if (state.places.length > 0) point(nearest(event));
      } });
    const [xs, ys] = [span(state.points.map(({ x }) => x)), span(state.points.map(({ y }) => y))];
    const toX = linear(...xs, EDGE.left, width - EDGE.right);
    const toY = linear(...ys, HEIGHT - EDGE.bottom, EDGE.top);
    state.places = state.points.map((one) => ({ ...one, x: toX(one.x), y: toY(one.y) }));
    const path = state.places.filter(({ isLine }) => isLine)
      .map(({ x, y }, i) => `${i === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
    state.mark = s("circle", { class: "cursor hollow", r: 9, cx: -20, cy: -20 });
    set(state.svg, { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` });
    state.svg.replaceChildren(...ground(width, toX, toY, { xs, ys, xName, yName }),
      ...path === "" ? [] : [s("path", { class: "line", d: path })],
      ...state.places.map((place) => shape(place, place.x, place.y)), state.mark);
    if (state.at !== null) point(Math.min(state.at, state.places.length - 1));
    return state.svg;
  }

  const drawing = fitted(draw);
  const node = h("figure", { hidden: true }, h("figcaption", null, label), drawing.node,
    h("p", { class: "quiet keys-line" },
      h("span", { class: "key-dot", "aria-hidden": "true" }, "●"), ` ${pointsName} `,
      h("span", { class: "key-chosen", "aria-hidden": "true" }, "◆"), ` ${lineName}`), readout);
  return { node, update(points) {
    const text = (all) => JSON.stringify(all);
    const wanted = points.toSorted((a, b) => a.x - b.x || a.y - b.y);
    if (text(wanted) === text(state.points)) return;
    state.points = wanted;
    set(node, { hidden: points.length === 0 });
    if (points.length > 0) drawing.again();
  } };
}
