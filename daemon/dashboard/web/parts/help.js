// SPDX-License-Identifier: Apache-2.0
// What a word means, for who asks: by keyboard, touch and mouse alike.
import { freshId, h, set } from "../app/dom.js";

/** {node, meaning}: the word with a button behind it, and what it means, hidden until that is
 *  pressed; to be put near. */
export function explained(word, text) {
  const meaning = h("p", { class: "meaning", id: freshId("meaning"), hidden: true }, text);
  const button = h("button", { type: "button", class: "help", "aria-expanded": "false",
                               "aria-controls": meaning.id,
                               "aria-label": `What "${word}" means`, onclick: () => {
                                 set(meaning, { hidden: !meaning.hidden });
                                 set(button, { "aria-expanded": String(!meaning.hidden) });
                               } }, "?");
  return { node: h("span", { class: "explained" }, word, " ", button), meaning };
}
