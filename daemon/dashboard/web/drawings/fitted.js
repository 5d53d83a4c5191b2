// SPDX-License-Identifier: Apache-2.0
// A drawing that is made anew for the width it has.
import { h } from "../app/dom.js";

/** `draw(width)` gives a node. Returns {node, again()}. */
export function fitted(draw) {
  const node = h("div", { class: "fitted" });
  let width = 0;
  const again = () => {
    if (width === 0) return;
    const drawing = draw(width);
    if (drawing !== node.firstChild) node.replaceChildren(drawing); // else it would lose the focus
  };
  new ResizeObserver((entries) => {
    const wide = Math.floor(entries.at(-1).contentRect.width);
    if (wide === width || wide === 0) return;
    width = wide;
    again();
  }).observe(node);
  return { node, again };
}
