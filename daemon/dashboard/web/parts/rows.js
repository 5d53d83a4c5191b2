// SPDX-License-Identifier: Apache-2.0
// What lists of things have in common: sections that load, buttons that ask the server, secrets
// that are shown once.
import { announce } from "../app/announce.js";
import { append, fill, freshId, h, say, set } from "../app/dom.js";
import { formatAge, formatMoment } from "../app/format.js";
import { copyBox } from "./copy.js";
import { showProblem } from "./notice.js";

/** A button that does something at the server: off while it is done; what went wrong stands behind
 *  it. `done` is said to those who listen. */
export function actionButton(label, act, { kind = null, done = null, name = null } = {}) {
  const notice = h("div", { class: "action-notice" });
  const button = h("button", { type: "button", class: kind, "aria-label": name, onclick: run },
                   label);

  async function run() {
    if (button.getAttribute("aria-disabled")) return;
    set(button, { "aria-disabled": "true" });
    fill(notice);
    try {
      if (await act() !== false && done !== null) announce(done);
    } catch (error) {
      if (error?.name === "AbortError") return;
      fill(notice, showProblem(error));
    } finally {
      set(button, { "aria-disabled": null });
    }
  }

  return { button, notice, node: h("span", { class: "action" }, button, notice) };
}

/** A moment: how long ago, with the moment itself as a tip; `none` where there is none. */
export function momentOf(text, none = "never") {
  return text === null || text === undefined ? h("span", { class: "quiet" }, none)
    : h("time", { datetime: text, title: formatMoment(text) },
        Date.parse(text) > Date.now() ? formatMoment(text) : formatAge(text));
}

/** Shows something over the page until it is closed. */
export function showOver(title, ...content) {
  return new Promise((resolve) => {
    const id = freshId("over");
    const close = h("button", { type: "button", class: "primary", onclick: () => dialog.close() },
                    "Close");
    const dialog = h("dialog", { class: "over", "aria-labelledby": id, onclose: () => {
      dialog.remove();
      resolve();
    } }, h("h2", { id }, title), content, h("div", { class: "row" }, close));
    append(document.body, dialog);
    dialog.showModal();
    close.focus();
  });
}

/** A secret that is shown this once. */
export function showSecret(title, secret, ...advice) {
  return showOver(title, h("p", null, "It is shown this once. Copy it now."),
                  copyBox(title, secret), advice);
}

/** A form in a fold: {node, close()}. `send()` does it, `fail(error)` shows what went wrong. */
export function foldedForm({ title, verb, body, send, fail }) {
  const button = h("button", { type: "submit", class: "primary" }, verb);
  const node = h("details", { class: "card fold" }, h("summary", null, h("h2", null, title)),
    h("form", { novalidate: true, onsubmit: submit }, body,
      h("div", { class: "row form-end" }, button)));
  let isSending = false;

  async function submit(event) {
    event.preventDefault();
    if (isSending) return;
    isSending = true;
    say(button, "Sending …");
    try {
      await send();
    } catch (error) {
      if (error?.name !== "AbortError") fail(error);
    } finally {
      isSending = false;
      say(button, verb);
    }
  }

  return { node, close: () => { node.open = false; } };
}

/** A table with its caption inside what scrolls: {node, body}. heads: texts, or [text, class]. */
export function listTable(caption, heads) {
  const body = h("tbody");
  const node = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", null, h("caption", { class: "unseen" }, caption),
      h("thead", null, h("tr", null, heads.map((head) => {
        const [text, kind] = [head].flat();
        return h("th", { scope: "col", class: kind ?? null }, text);
      }))), body));
  return { node, body };
}
