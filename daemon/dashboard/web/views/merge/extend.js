// SPDX-License-Identifier: Apache-2.0
// A finished merge with more tasks, with fewer, or both: what is kept stays as it is.
import { Problem, get, getAll, segment } from "../../app/api.js";
import { append, fill, h, set } from "../../app/dom.js";
import { link } from "../../app/router.js";
import { draftOf } from "../../parts/draft.js";
import { field, choiceOf, line, tick } from "../../parts/fields.js";
import { showProblem } from "../../parts/notice.js";
import { jobForm } from "./form.js";
import { peopleForm } from "./options.js";
import { EMPTY, extensionOf, jobName, taskNames } from "./specification.js";
import { taskPicker } from "./tasks.js";

const BUDGETS = [["models", "models of 16 bits, each"], ["bytes", "bytes each, as 30 MB"]];

/** The tasks there are: a tick keeps one. */
function keptSection({ job, draft, changed }) {
  const fields = new Map();
  const rows = job.specification.tasks.map(({ name, model }) => {
    const one = tick("checkbox", name, { checked: !draft.removed.includes(name), onchange: () => {
      draft.removed = draft.removed.filter((other) => other !== name);
      if (!one.input.checked) draft.removed.push(name);
      changed();
    } });
    fields.set(name, one.input);
    return h("li", { class: "model-pick" }, h("div", { class: "row" }, one.node,
                                              h("span", { class: "quiet" }, model)));
  });
  const anchor = h("span", { id: "kept-place", tabindex: "-1" });
  return {
    node: h("section", { class: "card" }, h("h2", null, "Tasks to keep"),
      h("p", { class: "quiet" }, "Take a tick away to leave a task out."), anchor,
      h("ul", { class: "model-list" }, rows)),
    fields: () => new Map([["/extend/remove", anchor], ["/extend", anchor],
      ...draft.removed.map((name, i) => [`/extend/remove/${i}`, fields.get(name)])]),
  };
}

function sizeSection({ draft, changed }) {
  const fields = new Map();
  const amount = line(draft.amount, (text) => {
    draft.amount = text;
    changed();
  }, { inputmode: "decimal", placeholder: "as an expert there costs on average" });
  const unit = choiceOf(BUDGETS, draft.size, (value) => {
    draft.size = value;
    changed();
  });
  set(unit, { "aria-label": "Unit of the size" });
  const size = h("div", null, field("Size of each task added", amount,
                                    { fields, pointer: "/extend/budget" }), unit);
  const anew = tick("checkbox", "Merge all anew under the same total", {
    checked: draft.rebalance, onchange: () => {
      draft.rebalance = anew.input.checked;
      draw();
      changed();
    } });
  const compare = tick("checkbox", "Also make a full merge, to tell what the extension costs", {
    checked: draft.compare, onchange: () => {
      draft.compare = compare.input.checked;
      changed();
    } });
  const draw = () => set(size, { hidden: draft.rebalance });
  fields.set("/extend/rebalance", anew.input).set("/extend/compare", compare.input);
  draw();
  return { fields: () => fields,
           node: h("section", { class: "card" }, h("h2", null, "Size"), size,
                   h("p", null, anew.node), h("p", null, compare.node)) };
}

function show(context, job, models) {
  const name = `extend-${job.id}`;
  const draft = draftOf(name, { ...EMPTY, base: job.specification.base, size: "models", removed: [],
                                rebalance: false, compare: true });
  const changed = () => {
    people.update();
    form.changed();
  };
  const there = new Set(job.specification.tasks.map(({ model }) => model));
  const kept = keptSection({ job, draft, changed: () => {
    added.draw();
    changed();
  } });
  const isRemoved = (model) => job.specification.tasks.some((task) =>
    task.model === model && draft.removed.includes(task.name));
  const added = taskPicker({ draft, changed,
                             isTask: ({ name: model }) => !there.has(model) || isRemoved(model) });
  const size = sizeSection({ draft, changed });
  const tasks = () => [...job.specification.tasks.map((task) => task.name)
    .filter((task) => !draft.removed.includes(task)), ...taskNames(draft)];
  const propose = () => jobName(draft.base, tasks());
  const people = peopleForm({ draft, changed, propose });
  const form = jobForm({
    context, name, draft, verb: "Start the extension", onplan: () => {},
    sections: [kept.node,
               h("section", { class: "card" }, h("h2", null, "Fine-tunes to add"), added.node),
               size.node, people.node],
    lack: () => draft.tasks.length > 0 || draft.removed.length > 0 ? null
      : { pointer: "/tasks", detail: "Add a fine-tune, or leave a task out." },
    request: () => extensionOf(draft, job.id, propose()),
    fields: () =>
      new Map([...kept.fields(), ...added.fields(), ...size.fields(), ...people.fields()]),
  });
  append(context.root,
    h("p", null, "Of ", h("a", { href: link("jobs", job.id) }, job.name || job.id),
      ", a merge of ", h("strong", null, job.specification.base),
      ". What it shares and the experts kept stay as they are."),
    form.node);
  added.show(models);
  changed();
}

export async function openExtend(context) {
  const waiting = h("p", { class: "quiet waiting" }, "Loading …");
  const { signal } = context;
  context.title("Extend a merge");
  append(context.root, h("h1", { tabindex: "-1" }, "Extend a merge"), waiting);
  try {
    const job = await get(`jobs/${segment(context.query.get("extend"))}`, { signal });
    const base = job.specification.base;
    const models = await getAll("models", { query: { base }, signal }).catch((error) => {
      if (error instanceof Problem) return getAll("models", { signal }); // the base is gone
      throw error;
    });
    waiting.remove();
    show(context, job, models);
    context.ready();
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Problem) context.fail(error);
    else fill(waiting, showProblem(error));
  }
}
