// SPDX-License-Identifier: Apache-2.0
// What went wrong, and what is not there yet, in words.
import { Away, Problem } from "../app/api.js";
import { h } from "../app/dom.js";
import { adviceFor } from "./advice.js";

/** A refusal as the server tells it: what, where, why. Also for any other error. */
export function showProblem(error) {
  if (error instanceof Away)
    return h("div", { class: "notice bad", role: "alert" },
             h("strong", null, "The server does not answer."),
             h("p", null, error.isAsking ? "Try again in a moment."
               : "Whether it did what was asked is not known: look before you try again."));
  if (!(error instanceof Problem))
    return h("div", { class: "notice bad", role: "alert" }, String(error?.message ?? error));
  const where = error.pointer ?? error.parameter ?? error.subject;
  return h("div", { class: "notice bad", role: "alert" },
    h("strong", null, error.title),
    error.detail === null ? null : h("p", null, error.detail),
    adviceFor(error.kind) === null ? null : h("p", null, adviceFor(error.kind)),
    where === null ? null : h("p", { class: "quiet" }, "At: ", h("code", null, where)),
    error.requestId === null ? null
      : h("p", { class: "quiet" }, "Request ", h("code", null, error.requestId)));
}

/** Nothing here yet: says so, and what to do about it. */
export function showNothing(text, ...what) {
  return h("div", { class: "nothing" }, h("p", null, h("strong", null, text)),
           what.length > 0 ? h("p", null, ...what) : null);
}

/** Puts a problem's text beside the field that its `pointer` names. `fields`: pointer -> input; a
 *  pointer below one of them is that field's too. `focus`: go there. Returns false where no field
 *  is named, or the field is not to be seen. */
export function showAtField(problem, fields, focus = true) {
  const pointer = problem.pointer ?? "";
  const name = [...fields.keys()].filter((key) => pointer === key || pointer.startsWith(`${key}/`))
    .sort((a, b) => b.length - a.length)[0];
  if (name === undefined) return false;
  const input = fields.get(name);
  if (!input.isConnected) return false;
  clearField(input);
  const id = `${input.id}-fault`;
  const advice = adviceFor(problem.kind);
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-errormessage", id);
  input.after(h("p", { class: "fault", id, role: "alert" }, problem.detail ?? problem.title,
                advice === null ? null : h("span", { class: "advice" }, ` ${advice}`)));
  for (let fold = input.closest("details"); fold !== null;
       fold = fold.parentElement.closest("details")) fold.open = true;
  if (focus) input.focus();
  return true;
}

/** Takes away what `showAtField` put there. */
export function clearField(input) {
  input.removeAttribute("aria-invalid");
  input.removeAttribute("aria-errormessage");
  if (input.nextElementSibling?.classList.contains("fault")) input.nextElementSibling.remove();
}
