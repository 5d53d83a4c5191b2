// SPDX-License-Identifier: Apache-2.0
// A grid of cells whose colour tells a number, on a canvas: thousands of cells cost what one does.
import { h, say } from "../app/dom.js";
import { turn } from "../app/frames.js";
import { whileInView } from "./in_view.js";
import { linear } from "./scale.js";

const PALETTES = {
  rising: { light: ["#f3f6fa", "#9fc8e3", "#0072b2", "#062f5c"],
            dark: ["#1d2128", "#1c4a70", "#4aa3d8", "#d3edff"] },
  around: { light: ["#a63f00", "#f0a878", "#f6f6f6", "#86bfe0", "#005a8c"],
            dark: ["#ff9a5c", "#8a4a22", "#262b33", "#1f5d88", "#6cc3f5"] },
};
const MARK = { light: "#d55e00", dark: "#f0b83c" };
const SLICE_MS = 12; // for cells, then what else waits has its turn
const dark = matchMedia("(prefers-color-scheme: dark)");

function channels(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** 256 colours of a palette, from its stops. */
function ramp(stops) {
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(at));
    const [a, b] = [channels(stops[low]), channels(stops[low + 1])];
    return a.map((from, c) => Math.round(linear(0, 1, from, b[c])(at - low)));
  });
}

/** The ink that is read on this colour. */
function inkOn([red, green, blue]) {
  return red * 0.299 + green * 0.587 + blue * 0.114 > 140 ? "#16191f" : "#ffffff";
}

function cellSize(columns, room, prints) {
  const least = prints ? 40 : 3;
  const most = prints ? 64 : 96;
  return Math.max(least, Math.min(most, Math.floor(room / columns)));
}

/** A grid of `columns` (names) by `rows` (names). `cell(column, row)` gives {level: 0..1 or null,
 *  marked, print}; `tell(column, row)` its words. `palette`: "rising" or "around". `signal`:
 *  aborted when the grid is not needed any more; none where it stays as long as the page. It is
 *  drawn while it is in view, slice by slice; `data-drawn` says that it is whole. */
export function heatMap({ label, columns, rows, cell, tell, palette = "rising", prints = false,
                          signal = undefined }) {
  const tall = prints ? 30 : 18;
  const canvas = h("canvas", { tabindex: "0", role: "img", "aria-label":
    `${label}: ${columns.length} by ${rows.length}. Arrow keys read single cells.` });
  const scroll = h("div", { class: "heat-scroll" }, canvas);
  const line = { height: `${tall}px`, "line-height": `${tall}px` };
  const names = h("div", { class: "heat-names", "aria-hidden": "true" },
                  rows.map((name) => h("span", { title: name, style: line }, name)));
  const readout = h("p", { class: "readout quiet", "aria-live": "off" },
                    "Point at a cell, or use the arrow keys.");
  const node = h("div", { class: "heat" },
                 h("div", { class: "heat-body" }, names, scroll), readout);
  const state = { wide: 0, at: null, isSeen: false, round: 0, pen: null };

  /** A pen over an empty canvas, with the colours of now. */
  function penOfNow() {
    const theme = dark.matches ? "dark" : "light";
    const colours = ramp(PALETTES[palette][theme]);
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(state.wide * columns.length * scale);
    canvas.height = Math.round(tall * rows.length * scale);
    const ink = canvas.getContext("2d");
    ink.scale(scale, scale);
    ink.font = "12px system-ui, sans-serif";
    ink.textAlign = "center";
    ink.textBaseline = "middle";
    return { ink, colours, fills: colours.map((colour) => `rgb(${colour.join()})`),
             mark: MARK[theme], dot: theme === "dark" ? "#16191f" : "#ffffff" };
  }

  function paintCell({ ink, colours, fills, mark, dot }, c, r) {
    const { level, marked, print } = cell(c, r);
    if (level === null) return;
    const at = Math.round(Math.min(1, Math.max(0, level)) * 255);
    const [x, y] = [c * state.wide, r * tall];
    ink.fillStyle = marked ? mark : fills[at];
    ink.fillRect(x, y, state.wide - (state.wide > 8 ? 1 : 0), tall - 1);
    if (marked && state.wide > 5) { // a shape too, for whom the colour says nothing
      ink.fillStyle = dot;
      ink.fillRect(x + state.wide / 2 - 2, y + tall / 2 - 2, 3, 3);
    }
    if (prints && print) {
      ink.fillStyle = inkOn(colours[at]);
      ink.fillText(print, x + state.wide / 2, y + tall / 2);
    }
  }

  /** All cells, in slices of so many milliseconds. */
  async function paint(sliceMs) {
    state.round += 1;
    const { round } = state;
    delete node.dataset.drawn;
    state.pen = penOfNow();
    for (let c = 0; c < columns.length;) {
      const end = performance.now() + sliceMs;
      for (; c < columns.length && performance.now() < end; c += 1)
        for (let r = 0; r < rows.length; r += 1) paintCell(state.pen, c, r);
      if (c === columns.length) break;
      await turn();
      if (round !== state.round) return; // begun anew, or out of view
    }
    outline();
    node.dataset.drawn = "yes";
  }

  function outline() {
    if (state.at === null) return;
    const { ink } = state.pen;
    const [c, r] = state.at;
    ink.strokeStyle = getComputedStyle(node).getPropertyValue("--ink");
    ink.lineWidth = 2;
    ink.strokeRect(c * state.wide, r * tall, Math.max(3, state.wide - 1), tall - 1);
  }

  /** Takes the outline away: the cell and those that it touches. */
  function repaintAround([column, row]) {
    const [left, top] = [Math.max(0, column - 1), Math.max(0, row - 1)];
    const [right, bottom] = [Math.min(columns.length, column + 2), Math.min(rows.length, row + 2)];
    state.pen.ink.clearRect(left * state.wide, top * tall, (right - left) * state.wide,
                            (bottom - top) * tall);
    for (let c = left; c < right; c += 1)
      for (let r = top; r < bottom; r += 1) paintCell(state.pen, c, r);
  }

  function choose(at) {
    if (state.pen !== null && state.at !== null) repaintAround(state.at);
    state.at = at;
    if (state.pen !== null) outline();
    say(readout, tell(at[0], at[1]));
  }

  function onPointer(event) {
    const c = Math.floor(event.offsetX / state.wide);
    const r = Math.floor(event.offsetY / tall);
    if (c < 0 || r < 0 || c >= columns.length || r >= rows.length) return;
    if (state.at?.[0] !== c || state.at?.[1] !== r) choose([c, r]);
  }

  function onKey(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move === undefined) return;
    event.preventDefault();
    const from = state.at ?? [move[0] === 0 ? 0 : move[0] < 0 ? columns.length : -1,
                              move[1] === 0 ? 0 : move[1] < 0 ? rows.length : -1];
    const bound = (value, count) => Math.min(count - 1, Math.max(0, value));
    readout.setAttribute("aria-live", "polite");
    choose([bound(from[0] + move[0], columns.length), bound(from[1] + move[1], rows.length)]);
    const left = state.at[0] * state.wide;
    if (left < scroll.scrollLeft || left + state.wide > scroll.scrollLeft + scroll.clientWidth)
      scroll.scrollLeft = left - scroll.clientWidth / 2;
  }

  /** The room it takes, drawn or not; true when that changed. */
  function fit() {
    const wide = scroll.clientWidth === 0 ? state.wide
                                          : cellSize(columns.length, scroll.clientWidth, prints);
    if (wide === state.wide) return false;
    state.wide = wide;
    canvas.style.width = `${wide * columns.length}px`;
    canvas.style.height = `${tall * rows.length}px`;
    return true;
  }

  function enter(isPrinted) {
    state.isSeen = true;
    fit();
    if (state.wide > 0 && (state.pen === null || isPrinted)) paint(isPrinted ? Infinity : SLICE_MS);
  }

  /** Gives the memory of the picture back. */
  function leave() {
    state.isSeen = false;
    state.round += 1;
    state.pen = null;
    canvas.width = 0;
    canvas.height = 0;
    delete node.dataset.drawn;
  }

  const again = () => {
    if (state.isSeen && state.wide > 0) paint(SLICE_MS);
  };
  canvas.addEventListener("pointermove", onPointer);
  canvas.addEventListener("keydown", onKey);
  canvas.addEventListener("blur", () => readout.setAttribute("aria-live", "off"));
  canvas.width = 0;
  canvas.height = 0;
  new ResizeObserver(() => {
    if (fit()) again();
  }).observe(scroll);
  dark.addEventListener("change", again, { signal });
  whileInView(node, { enter, leave, signal });
  return node;
}

/** What the colours mean, from the least to the most. */
export function heatKey(palette, least, most, marked = null) {
  const bar = h("span", { class: `heat-key ${palette}`, "aria-hidden": "true" });
  return h("p", { class: "quiet heat-legend" }, least, bar, most,
           marked === null ? null
             : [h("span", { class: "heat-mark", "aria-hidden": "true" }), marked]);
}
