// SPDX-License-Identifier: Apache-2.0
// Sign-in: a token for this tab, asked for by a page at first, and by a dialog when the token ends
// while somebody works.
import { get } from "../app/api.js";
import { append, fill, h } from "../app/dom.js";
import { keepToken, token } from "../app/session.js";
import { showProblem } from "../parts/notice.js";

const SENDABLE = /^[\x21-\x7e]+$/; // by a header, which fetch throws at otherwise

/** A form that tries a token and keeps it; `done(identity)` is called then. */
function signInForm({ signal, problem, done }) {
  const notice = h("div", null, problem === null ? null : showProblem(problem));
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true,
                             spellcheck: "false", "aria-describedby": "token-help" });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");

  async function submit(event) {
    event.preventDefault();
    const typed = input.value.trim();
    if (!SENDABLE.test(typed)) {
      fill(notice, showProblem(new Error(
        "This is no token: one is didi_ with letters and digits behind it.")));
      input.focus();
      return;
    }
    button.disabled = true;
    try {
      const identity = await get("whoami", { as: typed, signal });
      keepToken(typed);
      done(identity);
    } catch (error) {
      if (signal?.aborted) return;
      fill(notice, showProblem(error));
      input.focus();
    } finally {
      button.disabled = false;
    }
  }

  const node = h("form", { onsubmit: submit }, notice,
    h("label", { for: "token" }, "Token"), input,
    h("p", { id: "token-help", class: "quiet" },
      "It is kept for this tab alone. An administrator makes one with ",
      h("code", null, "didid token create"), "."));
  return { node, input, button };
}

/** The page. `problem`: why the last token was refused, or null. */
export function openSignIn({ root, signal, problem, done }) {
  const form = signInForm({ signal, problem, done });
  append(form.node, form.button);
  append(root, h("div", { class: "view narrow" }, h("h1", null, "Sign in"), form.node));
  form.input.focus();
}

/** Asks over what is open, which stays. Promises the identity, or null when it was dismissed. */
export function askAgain(problem) {
  return new Promise((resolve) => {
    let found = null;
    const before = document.activeElement;
    const form = signInForm({ problem: token() === null ? null : problem, done(identity) {
      found = identity;
      dialog.close();
    } });
    const leave = h("button", { type: "button", onclick: () => dialog.close() }, "Sign out");
    append(form.node, h("div", { class: "row" }, leave, form.button));
    const dialog = h("dialog", { "aria-labelledby": "ask-again", onclose: () => {
      dialog.remove();
      before?.focus?.();
      resolve(found);
    } }, h("h2", { id: "ask-again" }, "Sign in again"),
      h("p", null, "What you see stays as it is, and goes on with the new token."), form.node);
    append(document.body, dialog);
    dialog.showModal();
    form.input.focus();
  });
}
