// SPDX-License-Identifier: Apache-2.0
// What all forms for jobs have: the plan beside them, problems at their fields, one job however
// often it is sent, and the same request as JSON and as a command.
import { Away, Problem, post } from "../../app/api.js";
import { append, fill, h, say, set } from "../../app/dom.js";
import { serverAddress } from "../../app/place.js";
import { go, link } from "../../app/router.js";
import { copyBox } from "../../parts/copy.js";
import { dropDraft, keepDraft, keyOf } from "../../parts/draft.js";
import { clearField, showAtField, showProblem } from "../../parts/notice.js";
import { planBox } from "./plan.js";
import { commandOf, ownFault } from "./specification.js";

/** The request as JSON and as a command, made while it is looked at. */
function requestBox() {
  const body = h("div");
  const node = h("details", { class: "card fold", ontoggle: () => draw() },
                 h("summary", null, h("h2", null, "As a command and as JSON")), body);
  let request = null;
  let drawn = null;

  function draw() {
    const text = JSON.stringify(request, null, 2);
    if (!node.open || text === drawn) return;
    drawn = text;
    fill(body, request === null ? h("p", { class: "quiet" }, "As soon as the form says enough.")
      : [copyBox("The command", commandOf(request, serverAddress())),
         copyBox("The request, as JSON", text)]);
  }

  return { node, update(found) {
    request = found;
    draw();
  } };
}

/** `lack(draft)`: {pointer, detail} of what is not there yet, or null; `request()`: what is sent;
 *  `fields()`: pointer -> input. Returns {node, changed()}. */
export function jobForm({ context, name, draft, sections, lack, request, fields, verb, onplan }) {
  const { signal } = context;
  const notice = h("div", { class: "notices" });
  const button = h("button", { type: "submit", class: "primary large" }, verb);
  const box = requestBox();
  const marked = new Set();
  const plan = planBox({ signal, onplan, onproblem: (problem) => tell(problem, false) });
  let isSending = false;

  function unmark() {
    for (const input of marked) clearField(input);
    marked.clear();
    fill(notice);
  }

  function tell(problem, focus) {
    const all = fields();
    if (showAtField(problem, all, focus)) {
      for (const input of all.values()) if (input.hasAttribute("aria-invalid")) marked.add(input);
      return;
    }
    fill(notice, showProblem(problem));
    if (focus) notice.scrollIntoView({ block: "center" });
  }

  function changed() {
    keepDraft(name, draft);
    unmark();
    const missing = lack(draft);
    const wrong = ownFault(draft);
    const wanted = missing === null && wrong === null ? request() : null;
    if (wrong !== null) tell(wrong, false);
    plan.ask(wanted, missing?.detail ?? "Nothing can be told before what is marked is mended.");
    box.update(wanted);
  }

  async function send(body) {
    isSending = true;
    say(button, "Sending …");
    set(button, { "aria-disabled": "true" });
    try {
      const key = keyOf(draft, "sending", body);
      keepDraft(name, draft);
      const job = await post("jobs", body, { signal, headers: { "Idempotency-Key": key } });
      dropDraft(name);
      go(link("jobs", job.id));
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem) tell(error, true);
      else if (error instanceof Away)
        fill(notice, h("div", { class: "notice bad", role: "alert" },
          h("strong", null, "The server does not answer."),
          h("p", null,
            "Press the button again when it does: however often this is sent, it is one job.")));
      else throw error;
    } finally {
      isSending = false;
      say(button, verb);
      set(button, { "aria-disabled": null });
    }
  }

  function submit(event) {
    event.preventDefault();
    if (isSending) return;
    unmark();
    const wrong = lack(draft) ?? ownFault(draft);
    if (wrong !== null) tell(wrong, true);
    else send(request());
  }

  const node = h("form", { class: "job-form", onsubmit: submit, novalidate: true },
    append(h("div", { class: "form-main" }), ...sections),
    h("div", { class: "form-side" }, plan.node, notice, button, box.node));
  return { node, changed, plan };
}
