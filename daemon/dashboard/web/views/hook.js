// SPDX-License-Identifier: Apache-2.0
// One hook: its definition, what a payload would do, what came and what became of it.
import { Problem, get, post, remove, segment } from "../app/api.js";
import { append, fill, h, keyed, say, set } from "../app/dom.js";
import { formatBytes } from "../app/format.js";
import { serverAddress } from "../app/place.js";
import { watch } from "../app/poll.js";
import { go, link } from "../app/router.js";
import { confirmed } from "../parts/confirm.js";
import { copyBox } from "../parts/copy.js";
import { draftOf, keepDraft } from "../parts/draft.js";
import { facts } from "../parts/facts.js";
import { jsonField } from "../parts/json_field.js";
import { showNothing, showProblem } from "../parts/notice.js";
import { actionButton, foldedForm, listTable, momentOf, showOver } from "../parts/rows.js";
import { stateMark } from "../parts/state.js";
import { EXAMPLES } from "./hook_examples.js";
import { pretty, saveHook } from "./hooks.js";

const SECONDS = 5;
const PAGE = 50;

// ---- dry run ----

function trialTold({ rule, work, plan, error }) {
  if (rule === null && error === null)
    return h("div", { class: "notice" }, h("strong", null, "No rule matches."),
             h("p", null, "Such a delivery is noted as ignored. Compare the conditions of the " +
               "rules with it."));
  return h("div", null,
    error === null ? h("div", { class: "notice good" }, h("strong", null, `Rule ${rule} matches.`),
      plan === null ? null
        : h("p", null, `It gives a merge of at most ${formatBytes(plan.artifact_bytes)}, ` +
                                          `with ${formatBytes(plan.memory_peak_bytes)} of memory.`))
      : h("div", { class: "notice bad", role: "alert" },
          h("strong", null, rule === null ? "The payload cannot be used."
            : `Rule ${rule} matches, but is refused.`),
          h("p", null, error.detail),
          error.pointer ? h("p", { class: "quiet" }, "At: ", h("code", null, error.pointer))
            : null),
    work === null ? null : [h("h3", null, "What it would do"),
                            h("pre", { class: "block", tabindex: "0" }, pretty(work))]);
}

function trialForm(context, hook) {
  const name = `hook-trial-${hook.name}`;
  const example = EXAMPLES[hook.definition.kind] ?? EXAMPLES.generic;
  const draft = draftOf(name, { payload: pretty(example.payload),
                                headers: pretty(example.headers ?? {}) });
  const keep = (key) => (text) => {
    draft[key] = text;
    keepDraft(name, draft);
  };
  const payload = jsonField({ label: "Payload", text: draft.payload, changed: keep("payload"),
                              rows: 10,
                              hint: "As the registry sends it; this is an example of its kind." });
  const headers = jsonField({ label: "Headers", text: draft.headers, changed: keep("headers"),
                              rows: 2,
                              hint: "Those that rules look at; no signature is needed." });
  const result = h("div", { "aria-live": "polite" });
  const form = foldedForm({
    title: "Dry run", verb: "Try", body: [payload.node, headers.node, result],
    async send() {
      const body = { payload: payload.read(), headers: headers.read() };
      if (body.payload === undefined || body.headers === undefined) return;
      fill(result, trialTold(await post(`hooks/${segment(hook.name)}/dry-run`, body,
                                        { signal: context.signal })));
    },
    fail(error) {
      if (!(error instanceof Problem
            && (payload.tell(error, "/payload") || headers.tell(error, "/headers"))))
        fill(result, showProblem(error));
    },
  });
  form.node.open = true;
  return form.node;
}

// ---- definition ----

function definitionForm(context, hook, reload) {
  const notice = h("div");
  const text = jsonField({ label: "Definition", text: pretty(hook.definition), rows: 18,
    hint: "The secret stays, unless one is given as secret or made by \"secret\": true." });
  const form = foldedForm({
    title: "Definition", verb: "Save", body: [text.node, notice],
    async send() {
      fill(notice);
      const value = text.read();
      if (value === undefined) return;
      await saveHook(hook.name, value, context.signal);
      context.announce("Saved");
      await reload();
      fill(notice, h("p", { class: "notice good" }, "Saved."));
    },
    fail(error) {
      if (!(error instanceof Problem && text.tell(error))) fill(notice, showProblem(error));
    },
  });
  return form.node;
}

// ---- deliveries ----

function deliveryRow(first) {
  const mark = stateMark();
  const cells = [h("td"), h("td"), h("td"),
                 h("td", { class: "number" }, momentOf(first.created_at))];
  const open = h("button", { type: "button", "aria-label": `Payload of ${first.id}`,
                             onclick: () => showOver("The payload, its first 2 KiB",
                               h("pre", { class: "block", tabindex: "0" }, first.excerpt)) },
                               "Payload");
  const node = h("tr", null, h("th", { scope: "row" }, first.origin,
    first.sender_id === "" ? null : h("p", { class: "quiet small" }, first.sender_id)),
    h("td", null, mark.node), cells, h("td", null, open));
  return { node, update(delivery) {
    mark.update(delivery.state);
    say(cells[0], delivery.rule ?? "-");
    if (delivery.job === null) say(cells[1], "-");
    else if (cells[1].firstElementChild === null)
      fill(cells[1], h("a", { href: link("jobs", delivery.job) }, delivery.job));
    const { registration } = delivery;
    say(cells[2], [delivery.reason, registration === null ? null
      : registration.error ?? `MLflow: ${registration.state}`].filter(Boolean).join("; ") || "-");
  } };
}

function deliverySection(context, name) {
  const { node: table, body } = listTable("Deliveries",
    ["From", "State", "Rule", "Job", "Note", ["Came", "number"], "Payload"]);
  const place = h("div");
  const notice = h("div");
  watch(`hooks/${segment(name)}/deliveries`, {
    query: { limit: PAGE }, signal: context.signal, seconds: SECONDS,
    show(page) {
      fill(notice);
      if (page.data.length === 0)
        fill(place, showNothing("Nothing came yet.",
                                "Set the address above and the secret at the registry."));
      else if (!table.isConnected) fill(place, table);
      keyed(body, page.data, ({ id }) => id, deliveryRow);
    },
    fail(problem) {
      fill(notice, showProblem(problem));
    },
  });
  return h("section", { class: "card" }, h("h2", null, "Deliveries"),
           h("p", { class: "quiet" }, `The newest ${PAGE}.`), notice, place);
}

// ---- around ----

function told(hook) {
  const mark = stateMark();
  mark.update(hook.definition.enabled === false ? "disabled" : "enabled");
  return [h("p", null, mark.node,
            hook.definition.description ? ` ${hook.definition.description}` : null),
    facts([["Kind", hook.definition.kind],
           ["Rules", hook.definition.rules.map(({ name }) => name).join(", ")],
      ["Made", momentOf(hook.created_at)], ["Changed", momentOf(hook.updated_at)]]),
    copyBox("Address for the registry",
            `${serverAddress()}/v1/hooks/${encodeURIComponent(hook.name)}`),
    (hook.polls ?? []).map(({ source, seen, checked_at: checked, error }) => h("p", null, "Polls ",
      h("code", null, Object.values(source).join(" ")), `: ${seen ?? "nothing seen yet"}, looked `,
      momentOf(checked),
      error === null ? null : h("span", { class: "fault" }, ` ${error}`)))];
}

function actions(context, name, now, changed) {
  const path = `hooks/${segment(name)}`;
  const { signal } = context;
  const poll = actionButton("Poll now", async () => {
    await post(`${path}/poll`, undefined, { signal });
    await changed();
  }, { done: "It looks now" });
  const away = actionButton("Remove", async () => {
    if (!await confirmed("Remove this hook?", "The log of its deliveries goes with it; jobs stay.",
                         "Remove"))
      return false;
    await remove(path, { signal });
    go(link("hooks"));
    return true;
  }, { done: "Removed" });
  return {
    update: () => set(poll.button, { hidden: !now().definition.poll }),
    node: h("div", null, h("div", { class: "row" }, poll.button, away.button), poll.notice,
            away.notice),
  };
}

export async function openHook(context) {
  const { hook: name } = context.parameters;
  const place = h("div", { class: "stack" });
  const about = h("div");
  const state = { hook: null };
  const path = `hooks/${segment(name)}`;
  context.title(name);
  append(context.root, h("p", null, h("a", { href: link("hooks") }, "All hooks")),
         h("h1", { tabindex: "-1" }, name), place);
  const buttons = actions(context, name, () => state.hook, reload);

  async function reload() {
    state.hook = await get(path, { signal: context.signal });
    fill(about, told(state.hook));
    buttons.update();
  }

  try {
    await reload();
    append(place, h("section", { class: "card" }, about, buttons.node),
           trialForm(context, state.hook),
           definitionForm(context, state.hook, reload), deliverySection(context, name));
    context.ready();
  } catch (error) {
    if (context.signal.aborted) return;
    if (error instanceof Problem) context.fail(error);
    else fill(place, showProblem(error));
  }
}
