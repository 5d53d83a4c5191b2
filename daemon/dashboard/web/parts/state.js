// SPDX-License-Identifier: Apache-2.0
// The state of something: a shape, a colour and its word, so that none of them is needed alone.
import { h, s } from "../app/dom.js";

const SHAPES = {
  queued: () => s("circle", { cx: 8, cy: 8, r: 5, class: "line" }),
  running: () => [s("circle", { cx: 8, cy: 8, r: 5, class: "line" }),
                  s("path", { d: "M8 3a5 5 0 0 1 0 10z", class: "area" })],
  succeeded: () => s("path", { d: "M3 8.5l3.5 3.5L13 4.5", class: "line" }),
  failed: () => s("path", { d: "M4 4l8 8M12 4l-8 8", class: "line" }),
  cancelled: () => s("path", { d: "M3 8h10", class: "line" }),
};
const LIKE = { ready: "succeeded", broken: "failed", done: "succeeded", pending: "queued",
               waiting: "queued", ignored: "cancelled", enabled: "succeeded",
               disabled: "cancelled" };

/** {node, update(state, note)}: `note` is said behind the word, as in "running, refine". */
export function stateMark() {
  const icon = s("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" });
  const word = h("span");
  const node = h("span", { class: "state" }, icon, word);
  let shown = null;
  return {
    node,
    update(state, note = "") {
      const text = note === "" ? state : `${state}, ${note}`;
      if (text === shown) return;
      shown = text;
      const shape = LIKE[state] ?? state;
      node.dataset.state = shape;
      word.textContent = text;
      icon.replaceChildren(...[SHAPES[shape]?.() ?? []].flat());
    },
  };
}
