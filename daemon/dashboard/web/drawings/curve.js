// SPDX-License-Identifier: Apache-2.0
// Lines over steps, by uPlot; they grow while somebody looks.
import { h, say, set } from "../app/dom.js";
import { formatNumber } from "../app/format.js";
import { turn } from "../app/frames.js";
import { whileInView } from "./in_view.js";

const HEIGHT = 200;
const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3]];
const dark = matchMedia("(prefers-color-scheme: dark)");

function colour(node, name) {
  return getComputedStyle(node).getPropertyValue(name).trim();
}

/** The name of a line's colour. */
function inkOf(isTarget, i) {
  return isTarget ? "--quiet" : `--c${(i % 6) + 1}`;
}

function axis(node, size) {
  return { stroke: colour(node, "--quiet"), size, font: "12px system-ui, sans-serif",
           grid: { stroke: colour(node, "--line"), width: 1 },
           ticks: { stroke: colour(node, "--line"), width: 1, size: 4 } };
}

/** The steps of all lines, each once, in order. */
function unionOf(lines) {
  const all = [];
  const at = lines.map(() => 0);
  for (;;) {
    const least = Math.min(...lines.map(({ xs }, i) => xs[at[i]] ?? Infinity));
    if (least === Infinity) return all;
    all.push(least);
    lines.forEach(({ xs }, i) => {
      while (xs[at[i]] === least) at[i] += 1;
    });
  }
}

/** {name, xs, ys} of all lines, xs rising -> what uPlot takes. */
function aligned(lines) {
  if (lines.length <= 1) return lines.length === 0 ? [[], []] : [lines[0].xs, lines[0].ys];
  const all = unionOf(lines);
  return [all, ...lines.map(({ xs, ys }) => {
    let i = 0;
    return all.map((x) => {
      if (xs[i] !== x) return null;
      i += 1;
      return ys[i - 1];
    });
  })];
}

const WIDE = 30; // numbers that differ by more are drawn by their logarithms
const ZERO = 1 / 3; // of the least number above 0: there 0 is drawn, which has no logarithm

/** {isLog, floor}: where 0 is drawn by logarithms, or null where no number is 0. */
function scaleOf(lines) {
  let low = Infinity;
  let high = 0;
  let least = Infinity;
  for (const { ys } of lines)
    for (const y of ys) {
      if (y === null) continue;
      if (y < least) least = y;
      if (y > 0 && y < low) low = y;
      if (y > high) high = y;
    }
  const isLog = least >= 0 && high / low > WIDE;
  return { isLog, floor: isLog && least === 0 ? low * ZERO : null };
}

function lifted([xs, ...all], floor) {
  return floor === null ? [xs, ...all]
    : [xs, ...all.map((ys) => ys.map((y) => y === 0 ? floor : y))];
}

/** A curve named `label` over steps called `stepName`; `about`: a sentence on what it shows. It is
 *  drawn while it is in view. Returns {node, update(lines), close()}; lines: [{name, xs, ys,
 *  isTarget}], the number of which may change. */
export function curve({ label, stepName, about = null, format = formatNumber }) {
  const place = h("div", { class: "plot", tabindex: "0", role: "group", "aria-label": label });
  const keys = h("ul", { class: "keys" });
  const readout = h("p", { class: "readout quiet", "aria-live": "off" });
  const zero = h("p", { class: "quiet about", hidden: true },
                 "By logarithms, which 0 has none of: it lies on the lower edge.");
  const node = h("figure", { class: "curve", hidden: true }, h("figcaption", null, label),
                 about === null ? null : h("p", { class: "quiet about" }, about), keys, place, zero,
                 readout);
  const state = { plot: null, shape: "", lines: [], told: [[]], at: null, isSeen: false };
  const ended = new AbortController();

  function describe(index) {
    const data = state.told;
    const parts = state.lines.map(({ name }, i) => {
      const y = data[i + 1][index];
      return y === null || y === undefined ? null : `${name} ${format(y)}`;
    }).filter((text) => text !== null);
    return `${stepName} ${formatNumber(data[0][index], 6)}: ${parts.join(", ")}`;
  }

  function showLast() {
    const said = state.lines.map(({ name, ys }) => [name, ys.findLast((y) => y !== null)])
      .filter(([, y]) => y !== undefined).map(([name, y]) => `${name} ${format(y)}`);
    say(readout, said.length > 0 ? `Last: ${said.join(", ")}` : "No points yet");
  }

  function onCursor(plot) {
    const index = plot.cursor.idx;
    state.at = index ?? null;
    if (index === null || index === undefined) showLast();
    else say(readout, describe(index));
  }

  function build(isLog, data) {
    state.plot?.destroy();
    const series = state.lines.map(({ name, isTarget }, i) => ({
      label: name, stroke: colour(node, inkOf(isTarget, i)),
      width: isTarget ? 1 : 2, dash: isTarget ? [3, 3] : DASHES[i % DASHES.length],
      spanGaps: true, points: { show: false },
    }));
    state.plot = new uPlot({
      width: Math.max(120, place.clientWidth), height: HEIGHT, series: [{}, ...series],
      legend: { show: false }, cursor: { y: false, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { distr: isLog ? 3 : 1 } },
      axes: [axis(node, 30), { ...axis(node, 58), values: (_, all) =>
        all.map((value) => value === null ? "" : formatNumber(value, 3)) }],
      hooks: { setCursor: [onCursor] },
    }, data, place);
    keys.replaceChildren(...state.lines.map(({ name, isTarget }, i) => {
      const key = h("li", null, h("span", { class: "key", "aria-hidden": "true",
                                            "data-dash": isTarget ? "target" : i % 4 }), name);
      key.firstChild.style.setProperty("--key", `var(${inkOf(isTarget, i)})`);
      return key;
    }));
  }

  /** The lines as they are now, if somebody sees them. */
  function draw() {
    if (ended.signal.aborted || !state.isSeen) return;
    if (place.clientWidth === 0 || state.lines.length === 0) return;
    const { isLog, floor } = scaleOf(state.lines);
    const shape = JSON.stringify([isLog, dark.matches, state.lines.map(({ name }) => name)]);
    state.told = aligned(state.lines);
    set(zero, { hidden: floor === null });
    if (shape !== state.shape) {
      state.shape = shape;
      build(isLog, lifted(state.told, floor));
    } else {
      state.plot.setData(lifted(state.told, floor));
    }
  }

  function update(lines) {
    state.lines = lines.filter(({ xs }) => xs.length > 0);
    set(node, { hidden: state.lines.length === 0 });
    draw();
    if (state.at === null || state.plot === null) showLast();
  }

  /** Arrow keys walk over the points, as a mouse does. */
  function onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
    if (state.plot === null || (step === undefined && !["Home", "End"].includes(event.key))) return;
    event.preventDefault();
    const last = state.plot.data[0].length - 1;
    const from = state.at ?? (step > 0 ? -1 : last + 1);
    const index = event.key === "Home" ? 0 : event.key === "End" ? last
                                           : Math.min(last, Math.max(0, from + step));
    readout.setAttribute("aria-live", "polite");
    state.plot.setCursor({ left: state.plot.valToPos(state.plot.data[0][index], "x"), top: 10 });
  }

  function leave() {
    readout.setAttribute("aria-live", "off");
    state.plot?.setCursor({ left: -10, top: -10 });
  }

  const again = () => {
    state.shape = "";
    draw();
  };
  const observer = new ResizeObserver(() => {
    if (state.plot === null) draw();
    else if (place.clientWidth > 0)
      state.plot.setSize({ width: Math.max(120, place.clientWidth), height: HEIGHT });
  });
  place.addEventListener("keydown", onKey);
  place.addEventListener("blur", leave);
  dark.addEventListener("change", again, { signal: ended.signal });
  observer.observe(place);
  whileInView(node, {
    enter(isPrinted) {
      state.isSeen = true;
      if (isPrinted) draw();
      else turn().then(draw); // of several that come into view, one a task
    },
    leave() {
      state.isSeen = false;
    },
    signal: ended.signal,
  });
  return {
    node,
    update,
    close() {
      observer.disconnect();
      ended.abort();
      state.plot?.destroy();
      state.plot = null;
    },
  };
}
