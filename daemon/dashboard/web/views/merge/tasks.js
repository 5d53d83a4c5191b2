// SPDX-License-Identifier: Apache-2.0
// The fine-tunes of a base: which there are, which fit it, which are taken, what they are called.
import { append, fill, freshId, h, keyed, say, set } from "../../app/dom.js";
import { formatBytes, formatMany, formatPercent } from "../../app/format.js";
import { link } from "../../app/router.js";
import { line, tick } from "../../parts/fields.js";
import { taskNames } from "./specification.js";

const MANY = 8; // models from which a filter is of use
const LITTLE = 0.5; // of the base's parameters: below, a model shares hardly more than names

/** How a model stands to the base, in words: {word, note, isGood}. */
function fitWords(model) {
  if (model.state !== "ready") return { word: "broken", note: model.reason, isGood: false };
  const { fit } = model;
  if (fit === undefined) return { word: "", note: null, isGood: true };
  if (!fit.fits) return { word: "does not fit", note: fit.reason, isGood: false };
  const notes = [fit.share < LITTLE ? `has ${formatPercent(fit.share)} of the base only` : null,
                 fit.own > 0 ? `${formatMany(fit.own, "tensor")} of its own` : null,
                 fit.missing > 0 ? `lacks ${formatMany(fit.missing, "tensor")}` : null];
  return { word: "fits", note: notes.filter((text) => text !== null).join(", "),
           isGood: fit.share >= LITTLE };
}

function sizeText(model) {
  return model.kind === "adapter" ? `adapter, ${formatBytes(model.bytes)}`
    : formatBytes(model.bytes);
}

function labelled(label, input) {
  return h("span", { class: "with-label" }, h("span", { "aria-hidden": "true" }, label),
           h("div", null, input));
}

/** One model: a checkbox, and where it is taken its name as a task, its weight and, for methods
 *  that need them, its Gram matrices. */
function modelRow(first, hooks) {
  const { name: model } = first;
  const box = tick("checkbox", model, { onchange: () => hooks.toggle(model, box.input.checked) });
  const fit = h("span", { class: "fit" });
  const size = h("span", { class: "quiet" });
  const note = h("p", { class: "hint quiet", hidden: true });
  const name = line("", (text) => hooks.edit(model, { name: text.trim() }),
                    { "aria-label": `Task name of ${model}`, maxlength: "200" });
  const weight = line("", (text) => hooks.edit(model, { weight: text.trim() }),
                      { "aria-label": `Weight of ${model}`, class: "short",
                        inputmode: "decimal", placeholder: "1" });
  const gram = line("", (text) => hooks.edit(model, { gram: text.trim() }),
                    { "aria-label": `Gram matrices of ${model}`, list: hooks.modelNames,
                      placeholder: "a model directory that holds them" });
  const grams = labelled("Gram matrices", gram);
  const more = h("div", { class: "taken", hidden: true }, labelled("Task name", name),
                 labelled("Weight", weight), grams);
  const node = h("li", { class: "model-pick" },
                 h("div", { class: "row" }, box.node, fit, size), note, more);
  return {
    node, box: box.input, name, weight, gram,
    update(item) {
      const { word, note: text, isGood } = fitWords(item.model);
      say(fit, word);
      fit.dataset.good = isGood;
      say(size, sizeText(item.model));
      set(note, { hidden: !text });
      say(note, text ?? "");
      box.input.checked = item.task !== null;
      set(more, { hidden: item.task === null });
      if (item.task === null) return;
      if (document.activeElement !== name) name.value = item.task.name;
      set(name, { placeholder: item.proposed });
      if (document.activeElement !== weight) weight.value = item.task.weight;
      if (document.activeElement !== gram) gram.value = item.task.gram ?? "";
      set(grams, { hidden: !hooks.takesGrams() });
    },
  };
}

const isUnfit = ({ model }) => !fitWords(model).isGood;

/** The list. `draft` has `base` and `tasks`; `changed()` is called when somebody changes it;
 *  `takesGrams()`: whether each task has a `gram` now. {node, draw(), show(models),
 *  fields(): pointer -> input}. */
export function taskPicker({ draft, changed, isTask = () => true, takesGrams = () => false }) {
  const list = h("ul", { class: "model-list" });
  const unfit = h("ul", { class: "model-list" });
  const unfitCount = h("summary");
  const fold = h("details", { class: "unfit", hidden: true }, unfitCount, unfit);
  const all = h("button", { type: "button", onclick: takeAll });
  const none = h("button", { type: "button", class: "plain", onclick: takeNone }, "Take none");
  const filter = h("input", { type: "search", "aria-label": "Filter models", placeholder: "Filter",
                              oninput: () => draw(), onkeydown: (event) => {
                                if (event.key === "Enter") event.preventDefault();
                              } });
  const count = h("p", { class: "quiet", role: "status" });
  const empty = h("div");
  const anchor = h("span", { id: "tasks-place", tabindex: "-1" });
  const names = h("datalist", { id: freshId("models") });
  const node = h("div", { class: "task-picker" }, h("div", { class: "row" }, all, none, filter),
                 count,
                 anchor, empty, list, fold, names);
  const state = { models: null, rows: new Map() }; // null: not known yet

  function edit(model, change) {
    Object.assign(draft.tasks.find((task) => task.model === model), change);
    draw();
    changed();
  }

  function toggle(model, on) {
    draft.tasks = draft.tasks.filter((task) => task.model !== model);
    if (on) draft.tasks.push({ model, name: "", weight: "", gram: "" });
    draw();
    changed();
  }

  function fitting() {
    return state.models.filter((model) => model.name !== draft.base && isTask(model) &&
                                          fitWords(model).isGood);
  }

  function takeAll() {
    const taken = new Set(draft.tasks.map(({ model }) => model));
    for (const { name } of fitting())
      if (!taken.has(name))
        draft.tasks.push({ model: name, name: "", weight: "", gram: "" });
    draw();
    changed();
  }

  function takeNone() {
    draft.tasks = [];
    draw();
    changed();
  }

  function itemsOf() {
    const names = taskNames(draft);
    const taken = new Map(draft.tasks.map((task, i) => [task.model, { task, proposed: names[i] }]));
    const known = state.models.filter(({ name }) => name !== draft.base && isTask({ name }));
    const gone = [...taken.keys()].filter((name) =>
                                          !state.models.some((model) => model.name === name));
    return [...known, ...gone.map((name) => ({ name, state: "gone", kind: "", bytes: NaN,
                                               reason: "there is no such model any more" }))]
      .map((model) => ({ model, task: null, proposed: "", ...taken.get(model.name) }));
  }

  function draw() {
    if (state.models === null) return;
    const wanted = filter.value.trim().toLowerCase();
    const items = itemsOf();
    const seen = items.filter(({ model, task }) => task !== null ||
                                                   model.name.toLowerCase().includes(wanted));
    const create = (item) => {
      const row = modelRow(item.model, { toggle, edit, takesGrams, modelNames: names.id });
      state.rows.set(item.model.name, row);
      return row;
    };
    keyed(list, seen.filter((item) => !isUnfit(item)), ({ model }) => model.name, create);
    keyed(unfit, seen.filter(isUnfit), ({ model }) => model.name, create);
    const others = items.filter(isUnfit).length;
    set(fold, { hidden: others === 0 });
    if (items.some((item) => isUnfit(item) && item.task !== null)) fold.open = true;
    say(unfitCount, `${formatMany(others, "model does", "models do")} not fit`);
    const fit = fitting().length;
    set(all, { hidden: fit === 0, disabled: fit <= draft.tasks.length });
    say(all, fit === 1 ? "Take the one that fits" : `Take all ${fit} that fit`);
    set(none, { hidden: draft.tasks.length === 0 });
    set(filter, { hidden: items.length <= MANY });
    say(count, draft.base === null || draft.base === "" ? ""
        : `${formatMany(draft.tasks.length, "task")} taken`);
    fill(empty, items.length > 0 || draft.base === null || draft.base === "" ? null
      : append(h("p", { class: "nothing" }), "There are no other models. ",
               h("a", { href: link("models") }, "Fetch or rescan models"), "."));
  }

  /** pointer -> input, of the tasks as they stand. */
  function fields() {
    const found = new Map([["/tasks", anchor]]);
    draft.tasks.forEach(({ model }, i) => {
      const row = state.rows.get(model);
      if (row === undefined) return;
      found.set(`/tasks/${i}`, row.name).set(`/tasks/${i}/name`, row.name)
        .set(`/tasks/${i}/model`, row.name).set(`/tasks/${i}/weight`, row.weight);
      if (takesGrams()) found.set(`/tasks/${i}/gram`, row.gram);
    });
    return found;
  }

  return {
    node, draw, fields,
    show(models) {
      state.models = models;
      fill(names, models.map(({ name }) => h("option", { value: name })));
      draw();
    },
  };
}
