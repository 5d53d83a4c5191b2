// SPDX-License-Identifier: Apache-2.0
// Bars that are a table: the number stands beside each.
import { h } from "../app/dom.js";

/** rows: [{name, value, text, note}]; bars go from 0 to `most`. `heads`: names of the columns. */
export function bars({ caption, heads, rows, most = null }) {
  const top = most ?? Math.max(...rows.map(({ value }) => value), 0);
  const widthOf = (value) => top > 0 ? `${Math.min(100, Math.max(0, (value / top) * 100))}%` : "0";
  const hasNotes = rows.some(({ note }) => note !== undefined);
  return h("table", { class: "bars" }, h("caption", null, caption),
    h("thead", null, h("tr", null,
      h("th", { scope: "col" }, heads[0]), h("th", { scope: "col", colspan: "2" }, heads[1]),
      hasNotes ? h("th", { scope: "col" }, heads[2]) : null)),
    h("tbody", null, rows.map(({ name, value, text, note }) => h("tr", null,
      h("th", { scope: "row" }, name),
      h("td", { class: "bar-cell", "aria-hidden": "true" },
        h("span", { class: "bar", style: { width: widthOf(value) } })),
      h("td", { class: "number" }, text),
      hasNotes ? h("td", { class: "quiet" }, note ?? "") : null))));
}
