// SPDX-License-Identifier: Apache-2.0
// A table that may have thousands of rows: made when it is opened, a piece a frame.
import { append, h } from "../app/dom.js";
import { breath } from "../app/frames.js";

const CELLS_A_FRAME = 1500;

async function grow(body, count, columns, row) {
  const step = Math.max(1, Math.floor(CELLS_A_FRAME / columns));
  for (let at = 0; at < count; at += step) {
    if (at > 0) await breath();
    if (at > 0 && !body.isConnected) return;
    append(body, Array.from({ length: Math.min(step, count - at) }, (_, i) => row(at + i)));
  }
}

/** A summary that opens into a table of `count` rows; `row(i)` gives its cells, first a name. */
export function longTable({ summary, caption, heads, count, row }) {
  const node = h("details", { class: "long" }, h("summary", null, summary));
  node.addEventListener("toggle", () => {
    if (!node.open || node.childElementCount > 1) return;
    const body = h("tbody");
    append(node, h("div", { class: "scroll tall", tabindex: "0", role: "region",
                            "aria-label": caption },
      h("table", null, h("caption", null, caption),
        h("thead", null, h("tr", null, heads.map((text, i) =>
          h("th", { scope: "col", class: i === 0 ? null : "number" }, text)))), body)));
    grow(body, count, heads.length, (i) => h("tr", null, row(i).map((cell, c) =>
      c === 0 ? h("th", { scope: "row" }, cell) : h("td", { class: "number" }, cell))));
  });
  return node;
}
