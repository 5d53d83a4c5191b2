// SPDX-License-Identifier: Apache-2.0
// A command to be copied.
import { announce } from "../app/announce.js";
import { h, say } from "../app/dom.js";

async function put(text, box) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(box); // no clipboard over plain HTTP: Ctrl-C is left
    return false;
  }
}

/** A text in a box with a button that copies it. `label` names it for screen readers. */
export function copyBox(label, text) {
  const box = h("pre", { class: "command", tabindex: "0", "aria-label": label, role: "group" },
                text);
  const button = h("button", {
    type: "button", "aria-label": `Copy: ${label}`,
    onclick: async () => {
      const done = await put(text, box);
      say(button, done ? "Copied" : "Selected");
      announce(done ? `${label}: copied` : `${label}: selected, copy it with the keyboard`);
      setTimeout(() => say(button, "Copy"), 2000);
    },
  }, "Copy");
  return h("div", { class: "copy" }, box, button);
}
