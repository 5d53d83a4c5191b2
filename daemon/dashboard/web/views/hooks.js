// SPDX-License-Identifier: Apache-2.0
// Hooks: what registries may start here.
import { Problem, put, segment } from "../app/api.js";
import { append, fill, h, keyed, say } from "../app/dom.js";
import { watch } from "../app/poll.js";
import { go, link } from "../app/router.js";
import { draftOf, dropDraft, keepDraft } from "../parts/draft.js";
import { choiceOf, field, line, tick } from "../parts/fields.js";
import { jsonField } from "../parts/json_field.js";
import { clearField, showAtField, showNothing, showProblem } from "../parts/notice.js";
import { foldedForm, listTable, momentOf, showSecret } from "../parts/rows.js";
import { stateMark } from "../parts/state.js";
import { EXAMPLES } from "./hook_examples.js";

const SECONDS = 15;

export function pretty(value) {
  return JSON.stringify(value, null, 2);
}

/** Saves a definition under a name, and shows the secret if one was made. */
export async function saveHook(name, definition, signal) {
  const hook = await put(`hooks/${segment(name)}`, definition, { signal });
  if (hook.secret) await showSecret("The hook's secret", hook.secret,
    h("p", null, "Set it at the registry, as docs/hooks.md says."));
  return hook;
}

function hookRow(first) {
  const mark = stateMark();
  const cells = [h("td"), h("td"), h("td", { class: "number" }), h("td", { class: "number" })];
  const about = h("p", { class: "quiet small" });
  const node = h("tr", null, h("th", { scope: "row" },
    h("a", { href: link("hooks", first.name) }, first.name), about), h("td", null, mark.node),
    cells);
  return { node, update({ definition, updated_at: updated, polls }) {
    say(about, definition.description ?? "");
    mark.update(definition.enabled === false ? "disabled" : "enabled");
    say(cells[0], definition.kind);
    say(cells[1], definition.rules.map(({ name }) => name).join(", "));
    say(cells[2], polls?.length ?? 0);
    fill(cells[3], momentOf(updated));
  } };
}

function addForm(context) {
  const draft = draftOf("hook",
                        { name: "", kind: "generic", text: pretty(EXAMPLES.generic.definition),
                                  makesSecret: true });
  const changed = () => keepDraft("hook", draft);
  const fields = new Map();
  const notice = h("div");
  const definition = jsonField({ label: "Definition", text: draft.text, rows: 18,
    hint: "As docs/hooks.md describes it; this is an example of its kind.",
    changed(text) {
      draft.text = text;
      changed();
    } });
  const secret = tick("checkbox", "Have a secret made, and show it once", {
    checked: draft.makesSecret, onchange: () => {
      draft.makesSecret = secret.input.checked;
      changed();
    } });
  const kind = choiceOf(Object.keys(EXAMPLES).map((word) => [word, word]), draft.kind, (word) => {
    draft.kind = word;
    draft.text = pretty(EXAMPLES[word].definition);
    definition.input.value = draft.text;
    clearField(definition.input);
    changed();
  });
  const name = line(draft.name, (text) => {
    draft.name = text;
    changed();
  });
  const form = foldedForm({
    title: "Add a hook", verb: "Add",
    body: [h("div", { class: "grid-fields" },
             field("Name", name,
                   { hint: "Registries call /v1/hooks/NAME.", fields, pointer: "name" }),
             field("Example to begin with", kind)), definition.node, h("p", null, secret.node),
             notice],
    async send() {
      fill(notice);
      clearField(name);
      const value = definition.read();
      if (value === undefined) return;
      if (draft.name.trim() === "") {
        showAtField({ pointer: "name", detail: "Give the hook a name." }, fields);
        return;
      }
      if (draft.makesSecret && value !== null && value.secret === undefined) value.secret = true;
      await saveHook(draft.name.trim(), value, context.signal);
      dropDraft("hook");
      go(link("hooks", draft.name.trim()));
    },
    fail(error) {
      const isName = error instanceof Problem && error.pointer === null && error.status < 500 &&
                     error.kind !== "conflict";
      if (isName && showAtField({ pointer: "name", detail: error.detail, kind: error.kind },
                                fields)) return;
      if (!(error instanceof Problem && definition.tell(error))) fill(notice, showProblem(error));
    },
  });
  return form.node;
}

export function openHooks(context) {
  context.title("Hooks");
  const { node: table, body } = listTable("Hooks",
    ["Name", "State", "Kind", "Rules", ["Polls", "number"], ["Changed", "number"]]);
  const place = h("div");
  const notice = h("div");
  append(context.root, h("h1", { tabindex: "-1" }, "Hooks"),
         h("p", { class: "quiet" },
           "A model registry calls a hook; its rules say which merges that starts."),
         notice, place, h("div", { class: "stack" }, addForm(context)));
  watch("hooks", {
    query: { limit: 200 }, signal: context.signal, seconds: SECONDS,
    show(page) {
      fill(notice);
      if (page.data.length === 0) fill(place, showNothing("No hooks yet.", "Add one below."));
      else if (!table.isConnected) fill(place, table);
      keyed(body, page.data, (hook) => hook.name, hookRow);
      context.ready();
    },
    fail(problem) {
      fill(notice, showProblem(problem));
    },
  });
}
