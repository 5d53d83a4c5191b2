// SPDX-License-Identifier: Apache-2.0
// What happens, told to those who listen rather than look.
import { h, say } from "./dom.js";

const region = h("div", { class: "unseen", "aria-live": "polite" });

/** The element, to be put into the page once. */
export function announcer() {
  return region;
}

export function announce(text) {
  say(region, text);
}
