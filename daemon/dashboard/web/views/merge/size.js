// SPDX-License-Identifier: Apache-2.0
// How large the result may be: S, M, L, other sizes, or a point on the curve of error against size.
import { append, fill, h, say, set } from "../../app/dom.js";
import { formatBytes, formatNumber } from "../../app/format.js";
import { MARKS, frontierSeries } from "../../drawings/series.js";
import { errorAt } from "../../drawings/frontier.js";
import { sizeCurve } from "../../drawings/size_curve.js";
import { choiceOf, line, tick } from "../../parts/fields.js";
import { UNITS, budgetOf } from "./specification.js";

const DIGITS = 4; // of a size that was picked from the curve

/** A size from the curve in so many digits, never beyond its ends. */
function rounded(x, low, high) {
  const step = 10 ** (Math.floor(Math.log10(x)) + 1 - DIGITS);
  const near = Math.round(x / step);
  const inward = near * step < low ? 1 : near * step > high ? -1 : 0;
  return formatNumber((near + inward) * step, DIGITS);
}

/** `draft` has `size` and `amount`. {node, update(), drawCurve(frontier, dtype, modelBytes),
 *  dropCurve(), hasCurve(), tellBytes(of one model, or NaN), fields: pointer -> input}. */
export function sizePicker({ draft, changed, label }) {
  const state = { curve: null, series: null, modelBytes: NaN };
  const notes = new Map();
  const sizes = [...MARKS.map(({ name, x }) => [name, `${name}, ${formatNumber(x)} models`]),
                 ["other", "Another size"]];
  const ticks = sizes.map(([value, text]) => {
    const one = tick("radio", text, { name: "size", value, onchange: () => chooseSize(value) });
    const note = h("span", { class: "quiet small" });
    notes.set(value, note);
    return { value, ...one, whole: h("div", { class: "size" }, one.node, note) };
  });
  const amount = line(draft.amount, (text) => {
    draft.amount = text;
    if (/[kmgt]i?b?\s*$/i.test(text)) draft.size = "bytes"; // what was typed says so itself
    told();
  }, { "aria-label": "Size", class: "short", inputmode: "decimal" });
  const unit = choiceOf(UNITS, "models", (value) => {
    draft.size = value;
    told();
  });
  set(unit, { "aria-label": "Unit of the size" });
  const other = h("div", { class: "other-size row" }, h("div", null, amount), unit);
  const anchor = h("span", { id: "size-place", tabindex: "-1" });
  const place = h("div");
  const node = h("div", null,
    h("fieldset", { class: "sizes" }, h("legend", null, label), ticks.map(({ whole }) => whole),
      other),
    anchor, place);

  function told() {
    update();
    changed();
  }

  function chooseSize(value) {
    if (value !== "other") Object.assign(draft, { size: value, amount: "" });
    else Object.assign(draft, { size: "models", amount: String(MARKS.find(({ name }) =>
        name === draft.size)?.x ?? "") });
    told();
    if (value === "other") amount.focus();
  }

  /** Where on the curve the size lies; null where that cannot be told. */
  function placeOf() {
    const mark = MARKS.find(({ name }) => name === draft.size);
    if (mark !== undefined) return mark.x;
    const budget = budgetOf(draft);
    if (typeof budget === "number") return budget;
    const { bytes } = budget;
    return typeof bytes === "number" && state.series?.modelBytes > 0
      ? bytes / state.series.modelBytes : null;
  }

  function update() {
    const isOther = !MARKS.some(({ name }) => name === draft.size);
    for (const { value, input } of ticks)
      input.checked = value === (isOther ? "other" : draft.size);
    set(other, { hidden: !isOther });
    if (isOther) unit.value = draft.size;
    if (document.activeElement !== amount) amount.value = draft.amount;
    state.curve?.update(placeOf());
  }

  function pick(x, mark) {
    const { points } = state.series;
    Object.assign(draft, mark === null
      ? { size: "models", amount: rounded(x, points[0].x, points.at(-1).x) }
      : { size: mark.name, amount: "" });
    told();
  }

  function drawCurve(found, dtype, modelBytes) {
    const series = frontierSeries(found, dtype, modelBytes);
    state.series = { ...series, modelBytes };
    if (series.points.length < 2) {
      fill(place, h("p", { class: "quiet" }, "Of these models no other size is known."));
      return;
    }
    state.curve = sizeCurve({ label: "Size of the result", ...series, pick });
    fill(place, state.curve.node);
    tellNotes();
    update();
  }

  /** Beside S, M and L: how many bytes, and where there is a curve what error. */
  function tellNotes() {
    for (const { name, x } of MARKS) {
      const error = state.series === null ? undefined : errorAt(state.series.points, x);
      const words = [state.modelBytes > 0 ? `about ${formatBytes(x * state.modelBytes)}` : null,
                     error === undefined ? null : error === null ? "beyond the curve"
                       : `error ${formatNumber(error)}`];
      say(notes.get(name), words.filter((one) => one !== null).join(", "));
    }
  }

  function tellBytes(modelBytes) {
    state.modelBytes = modelBytes;
    tellNotes();
  }

  function dropCurve(...instead) {
    state.curve = null;
    state.series = null;
    append(fill(place), ...instead);
    tellNotes();
  }

  update();
  return { node, update, drawCurve, dropCurve, tellBytes, hasCurve: () => state.curve !== null,
           fields: () => new Map([["/budget", MARKS.some(({ name }) => name === draft.size) ? anchor
                                   : amount]]) };
}
