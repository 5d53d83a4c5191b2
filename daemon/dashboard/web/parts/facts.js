// SPDX-License-Identifier: Apache-2.0
// Names and values side by side; and a card with a heading.
import { append, h } from "../app/dom.js";

/** rows: [[name, value or node]]; empty values are left out. */
export function facts(rows) {
  return h("dl", { class: "facts" }, rows.filter(([, value]) => value !== "" && value !== null &&
      value !== undefined)
    .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

/** A part of a page with its heading. `wide`: over the whole row. */
export function card(title, wide, ...children) {
  return append(h("section", { class: wide ? "card wide" : "card" }, h("h2", null, title)),
                ...children);
}

/** Large numbers with their names below: [[name, value]]. */
export function figures(rows) {
  return h("dl", { class: "figures" }, rows.filter(([, value]) => value !== "" && value !== null)
    .map(([name, value, note]) => h("div", null, h("dt", null, name), h("dd", null, value),
                                    note ? h("dd", { class: "quiet small" }, note) : null)));
}
