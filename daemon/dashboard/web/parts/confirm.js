// SPDX-License-Identifier: Apache-2.0
// A question before what cannot be undone.
import { append, h } from "../app/dom.js";

/** Asks, and resolves with true when it was confirmed. */
export function confirmed(question, detail, verb) {
  return new Promise((resolve) => {
    const no = h("button", { type: "button", onclick: () => dialog.close() }, "No");
    const yes = h("button", { type: "button", class: "danger",
                              onclick: () => dialog.close("yes") }, verb);
    const heading = h("h2", { id: "question" }, question);
    const dialog = h("dialog", { "aria-labelledby": "question",
                                 onclose: () => {
                                   dialog.remove();
                                   resolve(dialog.returnValue === "yes");
                                 } },
                     heading, h("p", null, detail), h("div", { class: "row" }, no, yes));
    append(document.body, dialog);
    dialog.showModal();
    no.focus();
  });
}
